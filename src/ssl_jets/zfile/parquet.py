"""z files as Parquet: z as a fixed-size list, one row group per block, our metadata under a key of the file's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ssl_jets.errors import DataError
from ssl_jets.zfile.columns import VECTORS, Column, Rows

METADATA = b"ssl_jets"


class ParquetSink:
    """Writes one row group per block."""

    def __init__(self, path: Path, columns: Sequence[Column]) -> None:
        self._schema = pa.schema([_field(column) for column in columns])
        # A dictionary pays where few values repeat, not for the floats of z.
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
    """Streams record batches."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # pre_buffer would keep the bytes of every row group read so far.
        self._file = pq.ParquetFile(path.absolute(), pre_buffer=False)
        schema = self._file.schema_arrow
        self.rows = int(self._file.metadata.num_rows)
        self.names = tuple(field.name for field in schema if field.name in VECTORS.values() or _is_number(field.type))
        text = (self._file.metadata.metadata or {}).get(METADATA)
        self.metadata = None if text is None else text.decode()

    def blocks(self, names: Sequence[str], rows: int) -> Iterator[dict[str, npt.NDArray[Any]]]:
        if self.rows == 0:
            yield self._to_numpy(self._file.schema_arrow.empty_table().select(list(names)))
        for batch in self._file.iter_batches(batch_size=rows, columns=list(names)):
            yield self._to_numpy(pa.Table.from_batches([batch]))

    def _to_numpy(self, table: Any) -> dict[str, npt.NDArray[Any]]:
        return {name: _from_arrow(table[name].combine_chunks(), self._path) for name in table.column_names}

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


def _from_arrow(array: Any, path: Path) -> npt.NDArray[Any]:
    """One column; a list of numbers per row, all of one length, becomes a matrix."""
    kind = array.type
    if not hasattr(kind, "value_field"):
        values: npt.NDArray[Any] = array.to_numpy(zero_copy_only=False)
        return values
    numbers = array.flatten()
    if pa.types.is_fixed_size_list(kind):
        width = kind.list_size
    else:
        width = len(numbers) // max(len(array), 1)
        if pa.compute.any(pa.compute.not_equal(array.value_lengths(), width)).as_py():
            raise DataError("the vectors of a column have different lengths", where=path)
    if array.null_count or len(numbers) != len(array) * width:
        raise DataError("a vector of the file is missing (null)", where=path)
    return np.asarray(numbers.to_numpy(zero_copy_only=False)).reshape(len(array), width)
