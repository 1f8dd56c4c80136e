"""`Jets` as bytes: every field, of nested jets too, as a safetensors block with a checksum of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from ssl_jets.jets import Jets

_PLAIN = "plain"
"""Key of the values that are no tensors, as JSON, in the metadata of the block."""


def to_bytes(jets: Jets) -> bytes:
    """Pack jets.

    Raises:
        TypeError: a field is of a type that cannot be packed.

    Example:
        >>> jets = Jets.of([[[310.0, 0.02, -0.01]], [[50.0, 0.1, 0.2]]], columns=("pt", "deta", "dphi"))
        >>> from_bytes(to_bytes(jets)).column("pt").tolist()
        [310.0, 50.0]
    """
    tensors: dict[str, Tensor] = {}
    plain = _described(jets, "", tensors)
    return save(tensors, {_PLAIN: json.dumps(plain)})


def from_bytes(data: bytes) -> Jets:
    """Unpack jets. Damaged bytes raise any exception of the decoder, unless a checksum found them before."""
    length = int.from_bytes(data[:8], "little")
    plain = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][_PLAIN])
    jets = _built(plain, load(data))
    if not isinstance(jets, Jets):
        raise TypeError(f"a block holds a {type(jets).__name__}")
    return jets


def _described(value: object, name: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Return a value as JSON; its tensors are added to `tensors`, under names that begin with `name`."""
    if isinstance(value, Tensor):
        tensors[name] = value.contiguous()
        return {"tensor": name}
    if isinstance(value, Jets):
        inner = {field.name: getattr(value, field.name) for field in fields(Jets)}
        return {"jets": _described(inner, name, tensors)["items"]}
    if isinstance(value, Mapping):
        # By number, as the names of branches may have any characters.
        items = [
            [key, _described(item, f"{name}.{number}", tensors)] for number, (key, item) in enumerate(value.items())
        ]
        return {"items": items}
    if value is None:
        return {}
    if isinstance(value, tuple) and all(isinstance(item, str) for item in value):
        return {"names": list(value)}
    raise TypeError(f"jets with a {type(value).__name__} cannot be packed")


def _built(plain: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Any:
    """Return the value that `_described` was given."""
    match plain:
        case {"tensor": name}:
            return tensors[name]
        case {"jets": items}:
            return Jets(**{key: _built(item, tensors) for key, item in items})
        case {"items": items}:
            return {key: _built(item, tensors) for key, item in items}
        case {"names": names}:
            return tuple(names)
    return None
