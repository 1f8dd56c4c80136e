"""Results as one line, for notebooks: numbers as they are, arrays and collections by their size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_LONGEST = 80
"""Characters of a text that are shown."""

_MOST = 4
"""Entries of a collection that are shown."""


class ShortRepr:
    """Base of a dataclass (with `repr=False`), or of a model, whose contents would fill pages."""

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={_short(value)}" for name, value in vars(self).items())
        return f"{type(self).__name__}({shown})"


def _short(value: Any) -> str:
    if hasattr(value, "shape"):
        return f"<{value.dtype} {list(value.shape)}>"
    if hasattr(value, "low95") and value.value is not None:  # an estimate
        return f"{value.value:.4g}"
    if isinstance(value, Mapping):
        names = ", ".join(str(name)[:_LONGEST] for name in list(value)[:_MOST])
        return f"<{len(value)}: {names}{', ...' if len(value) > _MOST else ''}>"
    if isinstance(value, list | tuple):
        few = len(value) <= _MOST and all(isinstance(entry, str | int | float) for entry in value)
        return _cut(repr(value)) if few else f"<{len(value)} entries>"
    plain = value is None or isinstance(value, str | int | float) or hasattr(value, "__fspath__")
    return _cut(repr(value)) if plain else f"<{type(value).__name__}>"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
