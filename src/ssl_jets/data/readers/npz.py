"""Reader of npz files (zip archives of numpy arrays), decompressed piece by piece and never unpickled."""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import IO, Any, NamedTuple
from zipfile import ZipFile, ZipInfo

import numpy as np

from ssl_jets.arrays import Array
from ssl_jets.data.readers.arrays import MIN_STEP, ArrayTable, Cell, by_rows
from ssl_jets.data.readers.base import MOST_PLACES, check_read, overclaimed, readable

NOUN = "table"


_PIECE = 1 << 20
"""Bytes that are skipped at once."""


_MOST_HEADER = 1 << 16
"""Bytes of the header of an array, at most."""


class _Member(NamedTuple):
    """An array of the archive: its type, its shape, the bytes of its header, and its CRC-32."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    header: int
    checksum: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.dtype.itemsize * math.prod(self.shape[1:])


class Arrays(ArrayTable):
    """Arrays with the same number of rows; `name[3]` is position 3 on the last axis of an array.

    Args:
        members: the arrays.
        ignored: all other members of the archive, with the reason.
    """

    name = ""

    def __init__(self, members: Mapping[str, _Member], ignored: Mapping[str, str] = {}) -> None:
        self.members, self.ignored = members, ignored
        self.entries = next(iter(members.values())).shape[0]
        names = list(members)
        for name, member in members.items():
            if member.shape[1:] and member.shape[-1] <= MOST_PLACES:
                names += [f"{name}[{at}]" for at in range(member.shape[-1])]
        self.branches = tuple(dict.fromkeys(names))

    def stored(self) -> Iterator[object]:
        """Yield name, type, shape and CRC-32 of each array: the archive has a checksum of all bytes."""
        for name, member in self.members.items():
            yield name, member.dtype.descr, member.shape, member.checksum

    def flat(self) -> tuple[str, ...]:
        return tuple(name for name in self.branches if self.depth(name) == 0)

    def cell(self, name: str) -> Cell:
        base, at = _split(name, self.members)
        member = self.members[base]
        return Cell(member.dtype, member.shape[1:], at)

    def is_text(self, name: str) -> bool:
        dtype, shape, _ = self.cell(name)
        return dtype.kind in "SU" and not shape

    def boundaries(self, names: Sequence[str]) -> tuple[int, ...]:
        """Return the rows at which a read may begin; the bytes of an array before them are decompressed and dropped."""
        return (*range(0, self.entries, MIN_STEP), self.entries)


@contextmanager
def open_tables(path: str, external: bool = False) -> Iterator[list[Arrays]]:
    """Open the arrays of a file as one table for each number of rows.

    Raises:
        DataError: the file cannot be read, or is truncated or corrupt.
    """
    with readable(path, "npz"), ZipFile(path) as archive:
        usable: dict[str, _Member] = {}
        rows: dict[str, int | str] = {}
        for info in archive.infolist():
            name, member = info.filename.removesuffix(".npy"), _member(archive, info)
            rows[name] = member if isinstance(member, str) else member.shape[0]
            if not isinstance(member, str):
                usable[name] = member
        yield [Arrays({name: usable[name] for name in names}, ignored) for names, ignored in by_rows(rows)]


def read(path: str, table: str, names: Sequence[str], start: int, stop: int) -> dict[str, Array]:
    """Read rows `start` to `stop` of the branches `names`, each array once.

    Raises:
        DataError: the file cannot be read, or is truncated or corrupt.
    """
    with readable(path, "npz"), ZipFile(path) as archive:
        names_of_arrays = {name.removesuffix(".npy") for name in archive.namelist()}
        locations = {name: _split(name, names_of_arrays) for name in names}
        members = {base: _member(archive, archive.getinfo(f"{base}.npy")) for base, _ in locations.values()}
        usable = {base: member for base, member in members.items() if not isinstance(member, str)}
        check_read(sum(member.row_bytes for member in usable.values()) * (stop - start), path)
        blocks = {base: _rows(archive, base, member, start, stop) for base, member in usable.items()}
        return {name: blocks[base] if at is None else blocks[base][..., at] for name, (base, at) in locations.items()}


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
    member = _Member(dtype, shape, head.tell(), info.CRC)
    claimed = member.row_bytes * shape[0]
    if claimed != info.file_size - member.header:
        return f"its header claims {claimed:,} bytes, of which {info.file_size - member.header:,} are stored"
    return overclaimed(claimed, info.compress_size) or member


def _rows(archive: ZipFile, name: str, member: _Member, start: int, stop: int) -> Array:
    with archive.open(f"{name}.npy") as file:
        _skip(file, member.header + start * member.row_bytes)
        content = file.read((stop - start) * member.row_bytes)
    return np.frombuffer(content, member.dtype).reshape(stop - start, *member.shape[1:])


def _skip(file: IO[bytes], bytes_: int) -> None:
    while bytes_ > 0:
        bytes_ -= len(file.read(min(bytes_, _PIECE))) or bytes_


def _split(name: str, arrays: Container[str]) -> tuple[str, int | None]:
    """Split `X[3]` into the array and the position on its last axis, unless an array has the whole name."""
    if name in arrays:
        return name, None
    base, _, at = name.rpartition("[")
    return base, int(at.rstrip("]"))
