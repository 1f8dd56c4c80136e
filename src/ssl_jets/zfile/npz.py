"""z files as npz: one array per column and the metadata as a text array `metadata`; `numpy.load` reads it, no pickles.

The header of an array has its length before its first row, so columns are first spooled to files in the folder of the
output and then copied into the archive.
"""

from __future__ import annotations

import math
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ssl_jets.errors import DataError
from ssl_jets.zfile.columns import COUNTED, VECTORS, Column, Rows, spans

METADATA = "metadata"
COPY_BYTES = 2**22


class NpzSink:
    """Writer that spools each column and assembles the archive when closed."""

    def __init__(self, path: Path, columns: Sequence[Column]) -> None:
        self._path, self._columns = path, columns
        self._rows = 0
        self._spools: dict[str, IO[bytes]] = {}
        for number, column in enumerate(columns):
            self._spools[column.name] = path.with_name(f"column{number}").open("w+b")

    def write(self, rows: Rows) -> None:
        for column in self._columns:
            values = np.ascontiguousarray(rows[column.name], np.dtype(column.dtype).newbyteorder("<"))
            self._spools[column.name].write(values.data.cast("B") if values.size else b"")
        self._rows += len(rows[self._columns[0].name])

    def close(self, metadata: str) -> None:
        with zipfile.ZipFile(self._path, "w", zipfile.ZIP_STORED) as archive:
            for column in self._columns:
                with archive.open(_member(column.name), "w", force_zip64=True) as target:
                    self._copy(column, target)
            with archive.open(_member(METADATA), "w") as target:
                np.lib.format.write_array(target, np.array(metadata), allow_pickle=False)

    def _copy(self, column: Column, target: IO[bytes]) -> None:
        shape = (self._rows, *column.shape)
        descr = np.dtype(column.dtype).newbyteorder("<").str
        np.lib.format.write_array_header_1_0(target, {"descr": descr, "fortran_order": False, "shape": shape})
        spool = self._spools[column.name]
        spool.seek(0)
        shutil.copyfileobj(spool, target, COPY_BYTES)
        self._discard(column.name)

    def _discard(self, name: str) -> None:
        spool = self._spools.pop(name)
        spool.close()
        Path(spool.name).unlink()

    def abort(self) -> None:
        for name in list(self._spools):
            with suppress(OSError):
                self._discard(name)


class NpzReading:
    """Reader that maps the arrays of the archive into memory; compressed arrays are loaded whole."""

    def __init__(self, path: Path) -> None:
        self._path, self._archive = path, zipfile.ZipFile(path)
        members = [info for info in self._archive.infolist() if info.filename.endswith(".npy")]
        self._members = {info.filename.removesuffix(".npy"): info for info in members}

    @cached_property
    def metadata(self) -> str | None:
        if METADATA not in self._members:
            return None
        text = self._array(METADATA)
        return str(text) if text.dtype.kind == "U" and text.ndim == 0 else None

    @cached_property
    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {name: self._array(name) for name in self._members if name != METADATA}

    @property
    def rows(self) -> int:
        arrays = self._arrays
        return next((len(arrays[name]) for name in COUNTED if name in arrays and arrays[name].ndim), 0)

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, array in self._arrays.items() if self._is_column(name, array))

    def _is_column(self, name: str, array: npt.NDArray[Any]) -> bool:
        return name in VECTORS.values() or (array.shape == (self.rows,) and array.dtype.kind in "biuf")

    def blocks(self, names: Sequence[str], rows: int, start: int, stop: int) -> Iterator[dict[str, npt.NDArray[Any]]]:
        for low, high in spans(start, stop, rows):
            yield {name: np.array(self._arrays[name][low:high]) for name in names}

    def close(self) -> None:
        self.__dict__.pop("_arrays", None)
        self._archive.close()

    def _array(self, name: str) -> npt.NDArray[Any]:
        """Return an array: mapped into memory, or loaded if it is compressed.

        Raises:
            DataError: it holds Python objects, or is longer than the file.
        """
        path, info = self._path, self._members[name]
        with self._archive.open(info) as member:
            version = np.lib.format.read_magic(member)
            one, two = np.lib.format.read_array_header_1_0, np.lib.format.read_array_header_2_0
            shape, fortran, dtype = (one if version == (1, 0) else two)(member)
            if dtype.hasobject:
                raise DataError("an array holds Python objects, which are not read", where=f"{path}, {info.filename}")
            header = member.tell()
            if header + dtype.itemsize * math.prod(shape) > info.file_size:
                raise DataError("an array is longer than its file", where=f"{path}, {info.filename}", found=shape)
        if info.compress_type != zipfile.ZIP_STORED or 0 in shape or dtype.kind not in "biuf":
            with self._archive.open(info) as member:
                loaded: npt.NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
                return loaded
        order: Any = "F" if fortran else "C"
        return np.memmap(path, dtype, "r", _data_start(path, info) + header, shape, order)


def _member(name: str) -> zipfile.ZipInfo:
    """Return a member without a date, so that equal contents make equal files."""
    return zipfile.ZipInfo(f"{name}.npy")


def _data_start(path: Path, info: zipfile.ZipInfo) -> int:
    """Return the offset of a member's bytes: after its local header of 30 bytes, its name and its extra field."""
    with path.open("rb") as file:
        file.seek(info.header_offset + 26)
        lengths = file.read(4)
    return info.header_offset + 30 + int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
