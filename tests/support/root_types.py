"""Types of the branches of ROOT files that tests write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import awkward as ak


def branch_types(branches: Mapping[str, Any]) -> dict[str, Any]:
    """Return the type of each branch, a list of numbers an entry or a number.

    As types: uproot parses a text such as `var * float32` several times, which takes longer than writing the file.
    """
    return {name: _type(values) for name, values in branches.items()}


def _type(values: Any) -> Any:
    if not isinstance(values, ak.Array):
        return values.dtype
    if values.ndim == 1:
        return ak.to_numpy(values).dtype
    return ak.types.ListType(ak.types.NumpyType(ak.to_numpy(ak.flatten(values)).dtype.name))
