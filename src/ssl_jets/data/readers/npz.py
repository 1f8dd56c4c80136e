"""npz files (zip archives of numpy arrays): ranges of rows, decompressed piece by piece and never unpickled."""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import IO, Any, NamedTuple
from zipfile import ZipFile, ZipInfo

import numpy as np
import numpy.typing as npt

from ssl_jets.arrays import Array
from ssl_jets.data.readers.base import MOST_PLACES, Number, check_read, overclaimed, readable

NOUN = "table"


_PIECE = 1 << 20
"""Bytes that are passed over at once."""


_MOST_HEADER = 1 << 16
"""Bytes in front of the numbers of an array, at most."""


_STEP = 1000
"""Rows between two places at which a read may begin."""


class _Member(NamedTuple):
    """An array of the archive: its type, its shape, the bytes in front of its numbers, and its CRC-32."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    header: int
    checksum: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.dtype.itemsize * math.prod(self.shape[1:])


class Arrays:
    """The arrays of one number of rows; `name[3]` is place 3 of the last axis of an array.

    Args:
        members: the arrays.
        ignored: what else is in the archive, with the reason.
    """

    name = ""

    def __init__(self, members: Mapping[str, _Member], ignored: Mapping[str, str] = {}) -> None:
        self.members, self.ignored = members, ignored
        self.entries = next(iter(members.values())).shape[0]
        inner = [
            f"{name}[{at}]"
            for name, one in members.items()
            if one.shape[1:] and one.shape[-1] <= MOST_PLACES
            for at in range(one.shape[-1])
        ]
        self.branches = tuple(dict.fromkeys((*members, *inner)))

    def stored(self) -> Iterator[object]:
        """Yield name, type, shape and CRC-32 of each array: the archive has a checksum of all bytes."""
        for name, member in self.members.items():
            yield name, member.dtype.descr, member.shape, member.checksum

    def flat(self) -> tuple[str, ...]:
        """Branches with one number per row."""
        return tuple(name for name in self.branches if self.depth(name) == 0)

    def not_lists(self, names: Sequence[str]) -> list[str]:
        """Those of the branches `names` that do not hold a list of numbers per row."""
        return [name for name in names if self.depth(name) != 1]

    def typename(self, name: str) -> str:
        """Type and shape of a branch."""
        member = self.members[self.split(name)[0]]
        return f"{member.dtype}[{', '.join(map(str, member.shape[1:]))}]"

    def number(self, name: str) -> Number:
        """The type of the numbers of a branch."""
        return Number(self.members[self.split(name)[0]].dtype.newbyteorder("="))

    def clusters(self, names: Sequence[str]) -> tuple[int, ...]:
        """Rows at which a read may begin; what lies before them is decompressed and dropped all the same."""
        return (*range(0, self.entries, _STEP), self.entries)

    def lengths(self, name: str) -> npt.NDArray[np.int64]:
        """How many numbers a branch of lists has in each row: as many places in all."""
        return np.full(self.entries, self.members[self.split(name)[0]].shape[1], dtype=np.int64)

    def split(self, name: str) -> tuple[str, int | None]:
        """Split `X[3]` into the array and the place on its last axis."""
        return _split(name, self.members)

    def depth(self, name: str) -> int:
        """Axes of a row of a branch, at most one; -1 of others, and where it holds no numbers."""
        base, at = self.split(name)
        member = self.members[base]
        axes = len(member.shape) - 1 - (at is not None)
        return axes if axes < 2 and member.dtype.kind in "biuf" else -1

    def is_text(self, name: str) -> bool:
        """Whether a branch holds one string per row."""
        member = self.members[self.split(name)[0]]
        return member.dtype.kind in "SU" and len(member.shape) == 1


@contextmanager
def open_tables(path: str, external: bool = False) -> Iterator[list[Arrays]]:
    """The arrays of a file, as a table for each number of rows.

    Raises:
        DataError: the file cannot be read, or is truncated or corrupt.
    """
    with readable(path, "npz"), ZipFile(path) as archive:
        found = {info.filename.removesuffix(".npy"): _member(archive, info) for info in archive.infolist()}
        rows: dict[int, dict[str, _Member]] = {}
        for name, member in found.items():
            if not isinstance(member, str):
                rows.setdefault(member.shape[0], {})[name] = member
        others = {name: one if isinstance(one, str) else f"{one.shape[0]:,} rows" for name, one in found.items()}
        yield [
            Arrays(members, {name: why for name, why in others.items() if name not in members})
            for members in rows.values()
        ]


def read(path: str, table: str, names: Sequence[str], start: int, stop: int) -> dict[str, Array]:
    """Rows `start` to `stop` of the branches `names`; each array is read once.

    Raises:
        DataError: the file cannot be read, or is truncated or corrupt.
    """
    with readable(path, "npz"), ZipFile(path) as archive:
        names_of_arrays = {name.removesuffix(".npy") for name in archive.namelist()}
        places = {name: _split(name, names_of_arrays) for name in names}
        members = {base: _member(archive, archive.getinfo(f"{base}.npy")) for base, _ in places.values()}
        usable = {base: member for base, member in members.items() if not isinstance(member, str)}
        check_read(sum(member.row_bytes for member in usable.values()) * (stop - start), path)
        blocks = {base: _rows(archive, base, member, start, stop) for base, member in usable.items()}
        return {name: blocks[base] if at is None else blocks[base][..., at] for name, (base, at) in places.items()}


def _member(archive: ZipFile, info: ZipInfo) -> _Member | str:
    """An array of the archive, or why it cannot be read row by row."""
    with archive.open(info) as file:
        head = BytesIO(file.read(_MOST_HEADER))  # its length is a number in the file
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
    if name in arrays:
        return name, None
    base, _, at = name.rpartition("[")
    return base, int(at.rstrip("]"))
