"""Parquet files: their columns, and ranges of rows in bounded memory, decoded batch by batch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import reduce
from itertools import accumulate
from typing import Any

import awkward as ak
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ssl_jets.data.identity import block, positions
from ssl_jets.data.readers.base import Number, check_read, readable

NOUN = "table"

_BATCH = 4096
"""Rows that are decoded at once."""

Fields = tuple[str, ...]
"""A column of the file, and the fields of records in it, that a name leads to."""


class Columns:
    """The columns of a file; a field of a record, or of a list of records, is named behind a dot."""

    name = ""
    ignored: Mapping[str, str] = {}

    def __init__(self, file: pq.ParquetFile) -> None:
        self._file = file
        leaves = [leaf for field in file.schema_arrow for leaf in _leaves((field.name,), field.type)]
        self._types = {".".join(fields): kind for fields, kind in leaves}
        self._fields = {".".join(fields): fields for fields, _ in leaves}
        self._places = {".".join(fields): place for place, (fields, _) in enumerate(leaves)}
        self.branches = tuple(self._types)
        self.entries = int(file.metadata.num_rows)
        groups = range(file.metadata.num_row_groups)
        self._edges = (0, *accumulate(int(file.metadata.row_group(group).num_rows) for group in groups))

    def stored(self) -> Iterator[object]:
        """Yield names and types of columns, sizes of row groups, and beginnings of some column chunks."""
        metadata = self._file.metadata
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        yield [(name, str(kind)) for name, kind in self._types.items()]
        yield [(group.num_rows, group.total_byte_size) for group in groups]
        for index, at in positions(metadata.num_columns if groups else 0):
            column = groups[int(at * len(groups))].column(index)
            yield column.total_compressed_size
            yield block(column.data_page_offset, column.total_compressed_size)

    def flat(self) -> tuple[str, ...]:
        """Columns with one number per row."""
        return tuple(name for name, kind in self._types.items() if _is_number(kind))

    def not_lists(self, names: Sequence[str]) -> list[str]:
        """Those of the columns `names` that do not hold a list of numbers per row."""
        return [
            name for name in names if not (_is_list(self._types[name]) and _is_number(self._types[name].value_type))
        ]

    def depth(self, name: str) -> int:
        """Levels of lists around the numbers of a row; -1 where it holds no numbers."""
        kind, levels = self._types[name], 0
        while _is_list(kind):
            kind, levels = kind.value_type, levels + 1
        return levels if _is_number(kind) else -1

    def is_text(self, name: str) -> bool:
        """Whether a column holds one string per row."""
        kind = self._types[name]
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))

    def typename(self, name: str) -> str:
        """The Arrow type of a column."""
        return str(self._types[name])

    def number(self, name: str) -> Number:
        """The type of the numbers of a column, and whether values are missing (null)."""
        kind = self._types[name]
        while _is_list(kind):
            kind = kind.value_type
        dtype = np.dtype(kind.to_pandas_dtype())
        return Number(dtype, dtype.kind != "f" and self._has_nulls(name))

    def _has_nulls(self, name: str) -> bool:
        """Check the statistics of the file for missing values; where it has none, the values."""
        groups = map(self._file.metadata.row_group, range(self._file.metadata.num_row_groups))
        found = [group.column(self._places[name]).statistics for group in groups]
        if all(one is not None and one.has_null_count for one in found):
            return any(one.null_count for one in found)
        batches = self._file.iter_batches(_BATCH, columns=self.paths([name]), use_threads=False)
        return any(_leaf(pa.Table.from_batches([batch]), self._fields[name])[0].null_count for batch in batches)

    def paths(self, names: Sequence[str]) -> list[str]:
        """Return the Parquet paths of columns: `part_px.list.element` of `part_px`."""
        return [self._file.schema.column(self._places[name]).path for name in names]

    def values(self, table: pa.Table, name: str) -> Any:
        """Return a column as a numpy array of numbers, or an awkward array of lists or of lists of lists.

        A number that is missing (null) is NaN, a list that is missing is None.
        """
        array, levels = _leaf(table, self._fields[name])
        if pa.types.is_boolean(array.type) and array.null_count:
            array = array.cast(pa.float64())
        numbers = array.to_numpy(zero_copy_only=False)
        return ak.Array(reduce(_lists, reversed(levels), ak.contents.NumpyArray(numbers))) if levels else numbers

    def clusters(self, names: Sequence[str]) -> tuple[int, ...]:
        """Rows at which the row groups begin, from 0 to the number of rows."""
        return tuple(sorted({*self._edges, 0, self.entries}))

    def lengths(self, name: str) -> npt.NDArray[np.int64]:
        """How many numbers a column of lists has in each row."""
        batches = self._file.iter_batches(_BATCH, columns=self.paths([name]), use_threads=False)
        counts = [ak.num(self.values(pa.Table.from_batches([batch]), name)) for batch in batches]
        found = ak.to_numpy(ak.fill_none(ak.concatenate(counts), 0)) if counts else np.zeros(0, dtype=np.int64)
        lengths: npt.NDArray[np.int64] = found
        return lengths


@contextmanager
def open_tables(path: str, external: bool = False) -> Iterator[list[Columns]]:
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
        DataError: the file cannot be read, or is truncated or corrupt.
    """
    with readable(path, "Parquet"), pq.ParquetFile(os.path.abspath(path), memory_map=True) as file:
        columns = Columns(file)
        edges = columns.clusters(())
        groups = [group for group, edge in enumerate(edges[:-1]) if edge < stop and edges[group + 1] > start]
        _check_values(file, groups, path)
        place, pieces = edges[groups[0]] if groups else 0, []
        # One thread: those that read several chunks at once are ours.
        for batch in file.iter_batches(_BATCH, row_groups=groups, columns=columns.paths(names), use_threads=False):
            first, last = max(start - place, 0), min(stop - place, len(batch))
            if first < last:
                pieces.append(batch.slice(first, last - first))
            place += len(batch)
            if place >= stop:
                break
        kept = pa.Table.from_batches(pieces) if pieces else file.schema_arrow.empty_table()
        return {name: columns.values(kept, name) for name in names}


def _check_values(file: pq.ParquetFile, groups: Sequence[int], path: str) -> None:
    """Refuse row groups whose rows hold more numbers than a batch has room for: few bytes can repeat a number often."""
    for group in map(file.metadata.row_group, groups):
        most = max((group.column(place).num_values for place in range(group.num_columns)), default=0)
        check_read(most * 8 * min(_BATCH, group.num_rows) // max(group.num_rows, 1), path)


def _leaf(table: pa.Table, fields: Sequence[str]) -> tuple[pa.Array, list[pa.Array]]:
    """Return the numbers that `fields` lead to, end to end, and the lengths of the lists, null for none, by level."""
    root, *inner = fields
    array, levels = table.column(root).combine_chunks(), list[pa.Array]()
    while True:
        if pa.types.is_struct(array.type):
            array, inner = array.flatten()[array.type.get_field_index(inner[0])], inner[1:]
        elif _is_list(array.type):
            levels.append(pc.list_value_length(array))
            array = array.flatten()
        else:
            return array, levels


def _lists(content: Any, counts: pa.Array) -> Any:
    """Return lists of these lengths (null: a list that is missing) of what lies end to end."""
    offsets = np.concatenate([[0], np.cumsum(counts.fill_null(0).to_numpy(zero_copy_only=False), dtype=np.int64)])
    lists = ak.contents.ListOffsetArray(ak.index.Index64(offsets), content)
    if not counts.null_count:
        return lists
    present = counts.is_valid().to_numpy(zero_copy_only=False).astype(np.int8)
    return ak.contents.ByteMaskedArray(ak.index.Index8(present), lists, valid_when=True)


def _leaves(
    fields: tuple[str, ...], kind: pa.DataType, lists: int = 0
) -> Iterator[tuple[tuple[str, ...], pa.DataType]]:
    """Names that lead to all innermost columns, with their type: of a list of records, the lists of their fields."""
    if _is_list(kind):
        yield from _leaves(fields, kind.value_type, lists + 1)
    elif pa.types.is_struct(kind):
        for field in kind:
            yield from _leaves((*fields, field.name), field.type, lists)
    else:
        for _ in range(lists):
            kind = pa.list_(kind)
        yield fields, kind


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))
