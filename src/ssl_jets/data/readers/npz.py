"""Reader of npz files (zip archives of numpy arrays), decompressed piece by piece and never unpickled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import IO, Any, NamedTuple
from zipfile import ZipFile, ZipInfo

import numpy as np

from ssl_jets.arrays import Array
from ssl_jets.data.readers.arrays import MIN_STEP, ArrayTable, branches_of, by_rows, located, row_bytes
from ssl_jets.data.readers.base import overclaimed, readable

NOUN = "table"


_PIECE = 1 << 20
"""Bytes that are skipped at once."""


_MOST_HEADER = 1 << 16
"""Bytes of the header of an array, at most."""


class _Member(NamedTuple):
    """An array of the archive: its type, its shape, the bytes of its header, and its entry in the directory."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    header: int
    info: ZipInfo


class Arrays(ArrayTable):
    """Arrays with the same number of rows.

    Args:
        members: the arrays.
        ignored: all other members of the archive, with the reason.
    """

    name = ""

    def __init__(self, members: Mapping[str, _Member], ignored: Mapping[str, str] = {}) -> None:
        locations, ambiguous = located(branches_of(name, member) for name, member in members.items())
        super().__init__(members, locations, {**ignored, **ambiguous})
        self._members = members

    def stored(self) -> Iterator[object]:
        """Yield name, type, shape and CRC-32 of each array: the archive has a checksum of all bytes."""
        for name, member in self._members.items():
            yield name, member.dtype.descr, member.shape, member.info.CRC

    def boundaries(self, names: Sequence[str]) -> tuple[int, ...]:
        """Return the rows at which a read may begin; the bytes of an array before them are decompressed and dropped."""
        return (*range(0, self.entries, MIN_STEP), self.entries)

    def read(self, archive: ZipFile, names: Sequence[str], start: int, stop: int, where: object) -> dict[str, Array]:
        """Read rows `start` to `stop`."""

        def rows(name: str) -> Array:
            return _rows(archive, self._members[name], start, stop)

        return self.read_arrays(names, stop - start, rows, where)


@contextmanager
def open_tables(path: str, external: bool = False) -> Iterator[list[Arrays]]:
    """Open the arrays of a file as one table for each number of rows.

    Raises:
        DataError: the file cannot be read, or is truncated or corrupt.
    """
    with readable(path, "npz"), ZipFile(path) as archive:
        yield list(_tables(archive))


def read(path: str, table: str, names: Sequence[str], start: int, stop: int) -> dict[str, Array]:
    """Read rows `start` to `stop` of the branches `names`, each array once.

    Raises:
        DataError: the file cannot be read, or is truncated or corrupt.
    """
    with readable(path, "npz"), ZipFile(path) as archive:
        arrays = next(arrays for arrays in _tables(archive) if {*names} <= {*arrays.branches})
        return arrays.read(archive, names, start, stop, path)


def _tables(archive: ZipFile) -> Iterator[Arrays]:
    """Yield the tables of an archive, one for each number of rows."""
    members = {info.filename.removesuffix(".npy"): _member(archive, info) for info in archive.infolist()}
    usable = {name: member for name, member in members.items() if not isinstance(member, str)}
    rows = {name: member if isinstance(member, str) else member.shape[0] for name, member in members.items()}
    for names, ignored in by_rows(rows):
        yield Arrays({name: usable[name] for name in names}, ignored)


def _member(archive: ZipFile, info: ZipInfo) -> _Member | str:
    """Return an array of the archive, or the reason why it cannot be read row by row."""
    with archive.open(info) as file:
        head = BytesIO(file.read(_MOST_HEADER))  # bounded: its length is a number in the file
    try:
        version = np.lib.format.read_magic(head)
        reading = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = reading(head)
    except ValueError:
        return "no array of numpy"
    if dtype.hasobject:
        return "pickled objects: save numbers or strings instead"
    if not shape:
        return "no rows"
    if fortran and len(shape) > 1:
        return "stored column by column: save it anew in C order"
    member = _Member(dtype, shape, head.tell(), info)
    claimed = row_bytes(member) * shape[0]
    if claimed != info.file_size - member.header:
        return f"its header claims {claimed:,} bytes, of which {info.file_size - member.header:,} are stored"
    return overclaimed(claimed, info.compress_size) or member


def _rows(archive: ZipFile, member: _Member, start: int, stop: int) -> Array:
    with archive.open(member.info) as file:
        _skip(file, member.header + start * row_bytes(member))
        content = file.read((stop - start) * row_bytes(member))
    return np.frombuffer(content, member.dtype).reshape(stop - start, *member.shape[1:])


def _skip(file: IO[bytes], bytes_: int) -> None:
    while bytes_ > 0:
        bytes_ -= len(file.read(min(bytes_, _PIECE))) or bytes_
