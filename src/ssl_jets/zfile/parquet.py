"""z files as Parquet: z as a fixed-size list, one row group per block, the metadata under the key `ssl_jets`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ssl_jets.errors import DataError
from ssl_jets.zfile.columns import VECTORS, Column, Rows

METADATA = b"ssl_jets"


class ParquetSink:
    """Writer of one row group per block."""

    def __init__(self, path: Path, columns: Sequence[Column]) -> None:
        self._schema = pa.schema([_field(column) for column in columns])
        # A dictionary saves space for columns of few values, not for the floats of z.
        repeated = [name for name in ("source_file", "source_jet", "label") if name in self._schema.names]
        self._writer = pq.ParquetWriter(path.absolute(), self._schema, use_dictionary=repeated)

    def write(self, rows: Rows) -> None:
        arrays = [_to_arrow(rows[field.name], field.type) for field in self._schema]
        table = pa.Table.from_arrays(arrays, schema=self._schema)
        self._writer.write_table(table, row_group_size=max(len(table), 1))

    def close(self, metadata: str) -> None:
        self._writer.add_key_value_metadata({METADATA: metadata.encode()})
        self._writer.close()

    def abort(self) -> None:
        with suppress(OSError):
            self._writer.close()


class ParquetReading:
    """Reader of record batches."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # pre_buffer would keep the bytes of every row group read so far.
        self._file = pq.ParquetFile(path.absolute(), pre_buffer=False)

    @cached_property
    def metadata(self) -> str | None:
        text = (self._file.metadata.metadata or {}).get(METADATA)
        return None if text is None else text.decode()

    @property
    def rows(self) -> int:
        return int(self._file.metadata.num_rows)

    @cached_property
    def names(self) -> tuple[str, ...]:
        schema = self._file.schema_arrow
        return tuple(field.name for field in schema if field.name in VECTORS.values() or _is_number(field.type))

    def blocks(self, names: Sequence[str], rows: int, start: int, stop: int) -> Iterator[dict[str, npt.NDArray[Any]]]:
        if start == stop:
            yield self._to_numpy(self._file.schema_arrow.empty_table().select(list(names)))
            return
        groups, first = self._row_groups(start, stop)
        for batch in self._file.iter_batches(batch_size=rows, row_groups=groups, columns=list(names)):
            low, high = max(start - first, 0), min(stop - first, len(batch))
            first += len(batch)
            if low < high:
                yield self._to_numpy(pa.Table.from_batches([batch.slice(low, high - low)]))

    def _row_groups(self, start: int, stop: int) -> tuple[list[int], int]:
        """Return the row groups with rows of a range, and the number of their first row.

        Row groups of 10, 10 and 5 rows, rows 12 to 22 -> [1, 2], 10.
        """
        lengths = [self._file.metadata.row_group(group).num_rows for group in range(self._file.num_row_groups)]
        edges = np.cumsum([0, *lengths])
        groups = np.flatnonzero((edges[:-1] < stop) & (edges[1:] > start))
        return groups.tolist(), int(edges[groups[0]])

    @cached_property
    def _with_nulls(self) -> set[str]:
        """Return the columns with missing values, by the statistics of the file or, without them, by the values."""
        found, uncounted = set[str](), set[str]()
        for group in map(self._file.metadata.row_group, range(self._file.num_row_groups)):
            for chunk in map(group.column, range(group.num_columns)):
                statistics = chunk.statistics
                if statistics is None or not statistics.has_null_count:
                    uncounted.add(chunk.path_in_schema)
                elif statistics.null_count:
                    found.add(chunk.path_in_schema)
        for name in uncounted.intersection(self.names):
            found |= {name for batch in self._file.iter_batches(columns=[name]) if batch.column(0).null_count}
        return found

    def _to_numpy(self, table: Any) -> dict[str, npt.NDArray[Any]]:
        return {name: self._column(name, table[name].combine_chunks()) for name in table.column_names}

    def _column(self, name: str, array: Any) -> npt.NDArray[Any]:
        """Convert one column. A missing (null) label becomes -1, no class; any other missing number NaN."""
        if name == "label":
            array = array.fill_null(-1)
        elif name in self._with_nulls:
            array = array.cast(pa.float64())
        return _from_arrow(array, self._path, lambda: self._width(name))

    def _width(self, name: str) -> int:
        """Return the length of the lists of a column, by the first batch that has one."""
        for batch in self._file.iter_batches(columns=[name]):
            if (width := pc.max(pc.list_value_length(batch.column(0))).as_py()) is not None:
                return int(width)
        return 0

    def close(self) -> None:
        self._file.close()


def _field(column: Column) -> Any:
    kind = pa.from_numpy_dtype(np.dtype(column.dtype))
    return pa.field(column.name, kind if column.width is None else pa.list_(kind, column.width), nullable=False)


def _to_arrow(values: npt.NDArray[Any], kind: Any) -> Any:
    if not pa.types.is_fixed_size_list(kind):
        return pa.array(values, type=kind)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1), type=kind.value_type), type=kind)


def _is_number(kind: Any) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _from_arrow(array: Any, path: Path, width_elsewhere: Callable[[], int]) -> npt.NDArray[Any]:
    """Convert one column; lists of one length become a matrix `[row, D]`, with NaN in rows without a list.

    `width_elsewhere` gives D where these rows have no list.
    """
    kind = array.type
    if not hasattr(kind, "value_field"):
        values: npt.NDArray[Any] = array.to_numpy(zero_copy_only=False)
        return values
    lengths = pc.list_value_length(array)
    width = kind.list_size if pa.types.is_fixed_size_list(kind) else pc.max(lengths).as_py()
    width = width_elsewhere() if width is None else width
    if not pc.all(pc.equal(lengths, width), min_count=0).as_py():
        raise DataError("the vectors of a column have different lengths", where=path)
    numbers = np.asarray(array.flatten().to_numpy(zero_copy_only=False)).reshape(len(array) - array.null_count, width)
    if not array.null_count:
        return numbers
    rows = np.full((len(array), width), np.nan, dtype=np.result_type(numbers.dtype, np.float32))
    rows[array.is_valid().to_numpy(zero_copy_only=False)] = numbers
    return rows
