"""Parquet files: their columns, and ranges of rows in bounded memory, decoded batch by batch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

import awkward as ak
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ssl_jets.data.readers import readable
from ssl_jets.errors import DataError

NOUN = "table"

_BATCH = 4096
"""Rows that are decoded at once."""


class Columns:
    """The columns of a file; a field of a record, or of a list of records, is named behind a dot."""

    name = ""

    def __init__(self, file: pq.ParquetFile) -> None:
        self._file = file
        self._types = {name: kind for field in file.schema_arrow for name, kind in _leaves(field.name, field.type)}
        self.branches = tuple(self._types)
        self.entries = int(file.metadata.num_rows)
        groups = range(file.metadata.num_row_groups)
        self._edges = (0, *accumulate(int(file.metadata.row_group(group).num_rows) for group in groups))

    def flat(self) -> tuple[str, ...]:
        """Columns with one number per row."""
        return tuple(name for name, kind in self._types.items() if _is_number(kind))

    def not_lists(self, names: Sequence[str]) -> list[str]:
        """Those of the columns `names` that do not hold a list of numbers per row."""
        return [
            name for name in names if not (_is_list(self._types[name]) and _is_number(self._types[name].value_type))
        ]

    def typename(self, name: str) -> str:
        """The Arrow type of a column."""
        return str(self._types[name])

    def clusters(self, names: Sequence[str]) -> tuple[int, ...]:
        """Rows at which the row groups begin, from 0 to the number of rows."""
        return tuple(sorted({*self._edges, 0, self.entries}))

    def lengths(self, name: str) -> npt.NDArray[np.int64]:
        """How many numbers a column of lists has in each row."""
        batches = self._file.iter_batches(_BATCH, columns=_paths(self._file, [name]), use_threads=False)
        counts = [ak.num(_values(pa.Table.from_batches([batch]), name, "")) for batch in batches]
        found: npt.NDArray[np.int64] = ak.to_numpy(ak.concatenate(counts)) if counts else np.zeros(0, dtype=np.int64)
        return found


@contextmanager
def open_tables(path: str) -> Iterator[list[Columns]]:
    """The columns of a file, as its only table. (An absolute path: pyarrow takes `s3:x` for an address.)

    Raises:
        DataError: the file cannot be read, or is truncated or corrupt.
    """
    with readable(path, "Parquet"), pq.ParquetFile(os.path.abspath(path)) as file:
        yield [Columns(file)]


def read(path: str, table: str, names: Sequence[str], start: int, stop: int) -> dict[str, Any]:
    """Rows `start` to `stop` of the columns `names`.

    Row groups before `start` are passed over; of the one it lies in, the rows in front of it are decoded and dropped.

    Raises:
        DataError: the file cannot be read, or is truncated or corrupt, or a value is missing (null).
    """
    with readable(path, "Parquet"), pq.ParquetFile(os.path.abspath(path), memory_map=True) as file:
        edges = Columns(file).clusters(())
        groups = [group for group, edge in enumerate(edges[:-1]) if edge < stop and edges[group + 1] > start]
        roots = list(dict.fromkeys(name.split(".")[0] for name in names))
        place, pieces = edges[groups[0]] if groups else 0, []
        # One thread: those that read several chunks at once are ours.
        for batch in file.iter_batches(_BATCH, row_groups=groups, columns=_paths(file, names), use_threads=False):
            first, last = max(start - place, 0), min(stop - place, len(batch))
            if first < last:
                pieces.append(batch.slice(first, last - first))
            place += len(batch)
            if place >= stop:
                break
        kept = pa.Table.from_batches(pieces) if pieces else file.schema_arrow.empty_table().select(roots)
        return {name: _values(kept, name, path) for name in names}


def _paths(file: pq.ParquetFile, names: Sequence[str]) -> list[str]:
    """The Parquet paths of columns: `part_px.list.element` of `part_px`."""
    leaves = [name for field in file.schema_arrow for name, _ in _leaves(field.name, field.type)]
    return [file.schema.column(leaves.index(name)).path for name in names]


def _values(table: pa.Table, name: str, path: str) -> Any:
    """A column as a numpy array of numbers or an awkward array of lists."""
    root, *fields = name.split(".")
    array, offsets = table.column(root).combine_chunks(), None
    while True:
        if array.null_count:
            raise DataError("a value of the file is missing (null)", where=f"{path}, column {name}")
        if pa.types.is_struct(array.type):
            array, fields = array.field(fields[0]), fields[1:]
        elif _is_list(array.type):
            offsets, array = _offsets(array), array.flatten()
        else:
            break
    values = array.to_numpy(zero_copy_only=False)
    if offsets is None:
        return values
    return ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(offsets), ak.contents.NumpyArray(values)))


def _offsets(array: pa.Array) -> npt.NDArray[np.int64]:
    """Offsets of the lists, from 0: those of a slice begin elsewhere."""
    if pa.types.is_fixed_size_list(array.type):
        size: int = array.type.list_size
        return np.arange(len(array) + 1, dtype=np.int64) * size
    offsets: npt.NDArray[np.int64] = np.asarray(array.offsets, dtype=np.int64)
    from_zero: npt.NDArray[np.int64] = offsets - offsets[0]
    return from_zero


def _leaves(name: str, kind: pa.DataType, lists: int = 0) -> Iterator[tuple[str, pa.DataType]]:
    """Names of all innermost columns, with their type: of a list of records, the lists of their fields."""
    if _is_list(kind):
        yield from _leaves(name, kind.value_type, lists + 1)
    elif pa.types.is_struct(kind):
        for field in kind:
            yield from _leaves(f"{name}.{field.name}", field.type, lists)
    else:
        for _ in range(lists):
            kind = pa.list_(kind)
        yield name, kind


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))
