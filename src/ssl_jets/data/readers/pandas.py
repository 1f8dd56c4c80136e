"""Names of the columns of a pandas DataFrame in HDF5, in both of its layouts, without pandas and without unpickling.

`format="table"` is a dataset of a compound type: `index`, blocks `values_block_0` of numbers, and single columns; the
column names of a block are a pickled list in an attribute. `format="fixed"` has a dataset `block0_values` of numbers
for each type, and the column names in `block0_items`.
"""

from __future__ import annotations

import pickletools
import re
from typing import Any

import h5py

from ssl_jets.data.readers.base import MOST_PLACES

_INTEGERS = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4")
"""Opcodes of pickled integers, the names of columns without names."""


Column = tuple[tuple[str, ...], int | None]
"""Fields of a compound type that hold a column (none of a plain dataset), and its position there (None: the whole)."""


def column_names(dataset: h5py.Dataset) -> dict[str, Column]:
    """Return the place of each column; empty for a dataset that pandas did not make.

    A block of the columns `pt` and `eta` -> `{"pt": (("values_block_0",), 0), "eta": (("values_block_0",), 1)}`.
    """
    fields = dataset.dtype.names
    if fields and any(f"{field}_kind" in dataset.attrs for field in fields):
        columns: dict[str, Column] = {}
        for field in fields:
            columns |= _of_field(dataset, field)
        return columns
    block = re.fullmatch(r"(block\d+)_values", dataset.name.rsplit("/", 1)[-1])
    items = block and dataset.parent.get(f"{block[1]}_items")
    if items is None or items.shape != dataset.shape[1:] or len(items) > MOST_PLACES or items.dtype.kind not in "Siu":
        return {}  # not of pandas, or names of several kinds, which are pickled
    names = [name.decode() if isinstance(name, bytes) else str(name) for name in items[:].tolist()]
    return {name: ((), at) for at, name in enumerate(names)}


def _of_field(dataset: h5py.Dataset, field: str) -> dict[str, Column]:
    pickled, block = dataset.attrs.get(f"{field}_kind"), dataset.dtype[field].subdtype
    names = [] if block is None or pickled is None else _names(pickled)
    # Names of another kind, such as those of a MultiIndex, leave a block without names.
    if block is None or block[1] != (len(names),):
        return {field: ((field,), None)}
    return {name: ((field,), at) for at, name in enumerate(names)}


def _names(pickled: Any) -> list[str]:
    """Return the strings and integers of a pickled list, read from its opcodes: nothing in it is executed."""
    content = pickled if isinstance(pickled, bytes) else bytes(pickled)
    names = []
    for code, argument, _ in pickletools.genops(content):
        if "UNICODE" in code.name or "STRING" in code.name or code.name in _INTEGERS:
            names.append(argument.decode() if isinstance(argument, bytes) else str(argument))
    return names
