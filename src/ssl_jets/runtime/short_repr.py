"""One-line representation of results for notebooks, with arrays and collections by their size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MAX_CHARACTERS = 80
"""Characters of a text that are shown."""

_MAX_ENTRIES = 4
"""Entries of a collection that are shown."""


class ShortRepr:
    """Base class of dataclasses (with `repr=False`) and models with large contents.

    >>> from dataclasses import dataclass
    >>> @dataclass(repr=False)
    ... class Result(ShortRepr):
    ...     accuracy: float
    ...     scores: list[float]
    >>> Result(0.75, [0.0] * 1000)
    Result(accuracy=0.75, scores=<1000 entries>)
    """

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={_short(value)}" for name, value in vars(self).items())
        return f"{type(self).__name__}({shown})"


def _short(value: Any) -> str:
    if hasattr(value, "shape"):
        return f"<{value.dtype} {list(value.shape)}>"
    if hasattr(value, "low95") and value.value is not None:  # an estimate
        return f"{value.value:.4g}"
    if isinstance(value, Mapping):
        names = ", ".join(str(name)[:_MAX_CHARACTERS] for name in list(value)[:_MAX_ENTRIES])
        return f"<{len(value)}: {names}{', ...' if len(value) > _MAX_ENTRIES else ''}>"
    if isinstance(value, list | tuple):
        few = len(value) <= _MAX_ENTRIES and all(isinstance(entry, str | int | float) for entry in value)
        return _cut(repr(value)) if few else f"<{len(value)} entries>"
    plain = value is None or isinstance(value, str | int | float) or hasattr(value, "__fspath__")
    return _cut(repr(value)) if plain else f"<{type(value).__name__}>"


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_CHARACTERS else f"{text[: _MAX_CHARACTERS - 3]}..."
