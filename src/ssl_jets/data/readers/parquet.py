"""Reader of Parquet files: columns and ranges of rows in bounded memory, decoded batch by batch."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
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
from ssl_jets.data.readers.base import Number, check_read, check_rows, readable

NOUN = "table"

_BATCH = 4096
"""Rows that are decoded at once."""

_TEXTS = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_binary,
    pa.types.is_large_binary,
)
"""Checks for types of strings; some programs write them as bytes."""

Fields = tuple[str, ...]
"""Path of a name: a column of the file, and fields of the records in it."""


class Columns:
    """Columns of a file; a field of a record, or of a list of records, is named after a dot.

    Attributes:
        edges: first row of each row group, and the number of rows; row groups without rows repeat an edge.
    """

    name = ""

    def __init__(self, file: pq.ParquetFile) -> None:
        self._file = file
        leaves = [leaf for field in file.schema_arrow for leaf in _leaves((field.name,), field.type)]
        names = [".".join(fields) for fields, _ in leaves]
        numbers = Counter(names)
        # pyarrow cannot read one of several columns of a name.
        self.ignored = {name: f"a name of {number} columns" for name, number in numbers.items() if number > 1}
        self._types = {name: dtype for name, (_, dtype) in zip(names, leaves) if name not in self.ignored}
        self._fields = {name: fields for name, (fields, _) in zip(names, leaves)}
        stored = [_stored_columns(dtype) for _, dtype in leaves]
        first = [end - own for end, own in zip(accumulate(stored), stored, strict=True)]
        self._indices = dict(zip(names, first, strict=True))
        self.branches = tuple(self._types)
        self.entries = int(file.metadata.num_rows)
        groups = range(file.metadata.num_row_groups)
        self.edges = (0, *accumulate(int(file.metadata.row_group(group).num_rows) for group in groups))

    def index(self, path: str) -> None:
        """Return nothing: `read` opens the file again."""

    def stored(self) -> Iterator[object]:
        """Yield names and types of columns, sizes of row groups, and the first bytes of some column chunks."""
        metadata = self._file.metadata
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        yield [(name, str(dtype)) for name, dtype in self._types.items()]
        yield [(group.num_rows, group.total_byte_size) for group in groups]
        for index, at in positions(metadata.num_columns if groups else 0):
            column = groups[int(at * len(groups))].column(index)
            yield column.total_compressed_size
            yield block(column.data_page_offset, column.total_compressed_size)

    def flat(self) -> tuple[str, ...]:
        return tuple(name for name, dtype in self._types.items() if _is_number(dtype))

    def depth(self, name: str) -> int:
        inner, levels = _without_lists(self._types[name])
        return levels if _is_number(inner) else -1

    def is_text(self, name: str) -> bool:
        dtype = self._types[name]
        dtype = dtype.value_type if pa.types.is_dictionary(dtype) else dtype
        return any(is_kind(dtype) for is_kind in _TEXTS)

    def typename(self, name: str) -> str:
        return str(self._types[name])

    def number(self, name: str) -> Number:
        """Return the type of the numbers of a column, and whether values are missing (null)."""
        inner, _ = _without_lists(self._types[name])
        dtype = np.dtype(inner.to_pandas_dtype())
        return Number(dtype, dtype.kind != "f" and self._has_nulls(name))

    def _has_nulls(self, name: str) -> bool:
        """Check the statistics of the file for missing values, or the values if it has no statistics."""
        groups = map(self._file.metadata.row_group, range(self._file.metadata.num_row_groups))
        statistics = [group.column(self._indices[name]).statistics for group in groups]
        if all(of_group is not None and of_group.has_null_count for of_group in statistics):
            return any(of_group.null_count for of_group in statistics)
        return any(_leaf(table, self._fields[name])[0].null_count for table in self._batches(name))

    def _batches(self, name: str) -> Iterator[pa.Table]:
        """Yield a column in batches of rows."""
        for batch in self._file.iter_batches(_BATCH, columns=self.paths([name]), use_threads=False):
            yield pa.Table.from_batches([batch])

    def paths(self, names: Sequence[str]) -> list[str]:
        """Return the Parquet paths of columns: `part_px.list.element` of `part_px`."""
        return [self._file.schema.column(self._indices[name]).path for name in names]

    def values(self, table: pa.Table, name: str) -> Any:
        """Return a column as a numpy array of numbers, or an awkward array of lists or of lists of lists.

        A missing (null) number is NaN, a missing list None.
        """
        array, levels = _leaf(table, self._fields[name])
        if pa.types.is_boolean(array.type) and array.null_count:
            array = array.cast(pa.float64())
        numbers = array.to_numpy(zero_copy_only=False)
        return ak.Array(reduce(_lists, reversed(levels), ak.contents.NumpyArray(numbers))) if levels else numbers

    def boundaries(self, names: Sequence[str]) -> tuple[int, ...]:
        """Return the rows at which the row groups begin, from 0 to the number of rows."""
        return tuple(sorted({*self.edges, self.entries}))

    def lengths(self, name: str) -> npt.NDArray[np.int64]:
        counts = [ak.num(self.values(table, name)) for table in self._batches(name)]
        if not counts:
            return np.zeros(0, dtype=np.int64)
        lengths: npt.NDArray[np.int64] = ak.to_numpy(ak.fill_none(ak.concatenate(counts), 0))
        return lengths


@contextmanager
def open_tables(path: str, external: bool = False) -> Iterator[list[Columns]]:
    """Open the columns of a file, as its only table.

    Raises:
        DataError: the file cannot be read, or is truncated or corrupt.
    """
    # An absolute path: pyarrow takes `s3:x` for an address.
    with readable(path, "Parquet"), pq.ParquetFile(os.path.abspath(path)) as file:
        yield [Columns(file)]


def read(path: str, table: str, names: Sequence[str], start: int, stop: int) -> dict[str, Any]:
    """Read rows `start` to `stop` of the columns `names`.

    Row groups before `start` are skipped; in its own row group, the rows before it are decoded and dropped.

    Raises:
        DataError: the file cannot be read, or is truncated or corrupt.
    """
    # Mapped: otherwise pyarrow reads the columns of a whole row group for a few of its rows.
    with readable(path, "Parquet"), pq.ParquetFile(os.path.abspath(path), memory_map=True) as file:
        columns = Columns(file)
        edges = columns.edges
        groups = [group for group, edge in enumerate(edges[:-1]) if edge < stop and edges[group + 1] > start]
        _check_values(file, groups, path)
        row, pieces = edges[groups[0]] if groups else 0, []
        # Without threads of pyarrow: the shuffle buffer has its own.
        for batch in file.iter_batches(_BATCH, row_groups=groups, columns=columns.paths(names), use_threads=False):
            # Rows 5,000 to 6,000: of the batch of rows 4,096 to 8,192 those from 904 to 1,904.
            first, last = max(start - row, 0), min(stop - row, len(batch))
            if first < last:
                pieces.append(batch.slice(first, last - first))
            row += len(batch)
            if row >= stop:
                break
        kept = pa.Table.from_batches(pieces) if pieces else file.schema_arrow.empty_table()
        result = {name: columns.values(kept, name) for name in names}
        check_rows(result, stop - start)
        return result


def _check_values(file: pq.ParquetFile, groups: Sequence[int], path: str) -> None:
    """Check that a batch of rows of these row groups fits in memory: a few bytes can repeat a number many times."""
    for group in map(file.metadata.row_group, groups):
        most = max((group.column(index).num_values for index in range(group.num_columns)), default=0)
        check_read(most * 8 * min(_BATCH, group.num_rows) // max(group.num_rows, 1), path)


def _leaf(table: pa.Table, fields: Sequence[str]) -> tuple[pa.Array, list[pa.Array]]:
    """Return the numbers at the path `fields`, end to end, and the list lengths of each level (null: missing).

    `[[1.5, 2.5], null, [3.5]]` -> `[1.5, 2.5, 3.5]` and `[[2, null, 1]]`.
    """
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
    """Return `content`, which lies end to end, as lists of these lengths (null: a missing list)."""
    offsets = np.concatenate([[0], np.cumsum(counts.fill_null(0).to_numpy(zero_copy_only=False), dtype=np.int64)])
    lists = ak.contents.ListOffsetArray(ak.index.Index64(offsets), content)
    if not counts.null_count:
        return lists
    present = counts.is_valid().to_numpy(zero_copy_only=False).astype(np.int8)
    return ak.contents.ByteMaskedArray(ak.index.Index8(present), lists, valid_when=True)


def _leaves(fields: Fields, dtype: pa.DataType, lists: int = 0) -> Iterator[tuple[Fields, pa.DataType]]:
    """Yield path and type of each innermost column; a list of records gives the lists of their fields.

    `cands: list<struct<pt: float, eta: float>>` -> `cands.pt: list<float>`, `cands.eta: list<float>`.
    """
    if _is_list(dtype):
        yield from _leaves(fields, dtype.value_type, lists + 1)
    elif pa.types.is_struct(dtype):
        for field in dtype:
            yield from _leaves((*fields, field.name), field.type, lists)
    else:
        for _ in range(lists):
            dtype = pa.list_(dtype)
        yield fields, dtype


def _stored_columns(dtype: pa.DataType) -> int:
    """Return the number of columns that store a type in the file: of a map two, its keys and its values."""
    if isinstance(dtype, pa.BaseExtensionType):
        return _stored_columns(dtype.storage_type)
    if _is_list(dtype):
        return _stored_columns(dtype.value_type)
    if pa.types.is_map(dtype):
        return _stored_columns(dtype.key_type) + _stored_columns(dtype.item_type)
    return sum(_stored_columns(field.type) for field in dtype) if pa.types.is_struct(dtype) else 1


def _without_lists(dtype: pa.DataType) -> tuple[pa.DataType, int]:
    """Return the type inside all lists, and the levels of lists."""
    levels = 0
    while _is_list(dtype):
        dtype, levels = dtype.value_type, levels + 1
    return dtype, levels


def _is_list(dtype: pa.DataType) -> bool:
    return bool(pa.types.is_list(dtype) or pa.types.is_large_list(dtype) or pa.types.is_fixed_size_list(dtype))


def _is_number(dtype: pa.DataType) -> bool:
    return bool(pa.types.is_integer(dtype) or pa.types.is_floating(dtype) or pa.types.is_boolean(dtype))
