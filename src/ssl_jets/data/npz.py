"""npz files (zip archives of numpy arrays): ranges of rows, decompressed piece by piece and never unpickled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any, NamedTuple
from zipfile import ZipFile

import numpy as np
import numpy.typing as npt

from ssl_jets.data.readers import Number, readable
from ssl_jets.errors import DataError

NOUN = "table"

_PIECE = 1 << 20
"""Bytes that are passed over at once."""

_STEP = 1000
"""Rows between two places at which a read may begin."""

Array = npt.NDArray[Any]


class _Member(NamedTuple):
    """An array of the archive: its type, its shape, and the bytes in front of its numbers."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    header: int


class Arrays:
    """The arrays of as many rows as the longest; `name[3]` is place 3 of the last axis of an array."""

    name = ""

    def __init__(self, archive: ZipFile) -> None:
        members = {name.removesuffix(".npy"): _member(archive, name) for name in archive.namelist()}
        self.entries = max((member.shape[0] for member in members.values() if member.shape), default=0)
        self.members = {name: one for name, one in members.items() if one.shape and one.shape[0] == self.entries}
        inner = [f"{name}[{at}]" for name, one in self.members.items() if one.shape[1:] for at in range(one.shape[-1])]
        self.branches = tuple(dict.fromkeys((*self.members, *inner)))
        self._checksums = {info.filename.removesuffix(".npy"): info.CRC for info in archive.infolist()}

    def stored(self) -> Iterator[object]:
        """Yield name, type, shape and CRC-32 of each array: the archive has a checksum of all bytes."""
        for name, member in self.members.items():
            yield name, member.dtype.descr, member.shape, self._checksums[name]

    def flat(self) -> tuple[str, ...]:
        """Branches with one number per row."""
        return tuple(name for name in self.branches if self._axes(name) == 0)

    def not_lists(self, names: Sequence[str]) -> list[str]:
        """Those of the branches `names` that do not hold a list of numbers per row."""
        return [name for name in names if self._axes(name) != 1]

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
        if name in self.members:
            return name, None
        base, _, at = name.rpartition("[")
        return base, int(at.rstrip("]"))

    def _axes(self, name: str) -> int:
        base, at = self.split(name)
        member = self.members[base]
        return len(member.shape) - 1 - (at is not None) if member.dtype.kind in "biuf" else -1


@contextmanager
def open_tables(path: str) -> Iterator[list[Arrays]]:
    """The arrays of a file, as its only table.

    Raises:
        DataError: the file cannot be read, is truncated or corrupt, or holds pickled objects.
    """
    with readable(path, "npz"), ZipFile(path) as archive:
        yield [Arrays(archive)]


def read(path: str, table: str, names: Sequence[str], start: int, stop: int) -> dict[str, Array]:
    """Rows `start` to `stop` of the branches `names`; each array is read once.

    Raises:
        DataError: the file cannot be read, is truncated or corrupt, or holds pickled objects.
    """
    with readable(path, "npz"), ZipFile(path) as archive:
        arrays = Arrays(archive)
        places = {name: arrays.split(name) for name in names}
        bases = dict.fromkeys(base for base, _ in places.values())
        blocks = {base: _rows(archive, base, arrays.members[base], start, stop) for base in bases}
        return {name: blocks[base] if at is None else blocks[base][..., at] for name, (base, at) in places.items()}


def _member(archive: ZipFile, name: str) -> _Member:
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        reading = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = reading(file)
        if dtype.hasobject or (fortran and len(shape) > 1):
            raise DataError(
                "an array of the file cannot be read row by row",
                where=f"{archive.filename}, {name}",
                found="pickled objects" if dtype.hasobject else "an array stored column by column",
                hint="save it anew with numpy.savez: arrays of numbers, in C order",
            )
        return _Member(dtype, shape, file.tell())


def _rows(archive: ZipFile, name: str, member: _Member, start: int, stop: int) -> Array:
    row = member.dtype.itemsize * int(np.prod(member.shape[1:], dtype=np.int64))
    with archive.open(f"{name}.npy") as file:
        _skip(file, member.header + start * row)
        content = file.read((stop - start) * row)
    return np.frombuffer(content, member.dtype).reshape(stop - start, *member.shape[1:])


def _skip(file: IO[bytes], bytes_: int) -> None:
    while bytes_ > 0:
        bytes_ -= len(file.read(min(bytes_, _PIECE))) or bytes_
