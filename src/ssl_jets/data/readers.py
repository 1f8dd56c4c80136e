"""Which reader opens a file, told by how its bytes begin, and what every reader gives.

A reader is a module with two functions: `open_tables` says what a file holds, `read` gives a range of entries of some
branches. Both raise `DataError`, and nothing else, at a file that is truncated, corrupt or gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import numpy.typing as npt

from ssl_jets.data.remote import is_remote
from ssl_jets.errors import DataError, SslJetsError


class Number(NamedTuple):
    """Type of the numbers of a branch.

    Attributes:
        dtype: in the byte order of this machine.
        missing: whether whole numbers or flags may be missing; such a value is read as NaN.
    """

    dtype: np.dtype[Any]
    missing: bool = False


class Table(Protocol):
    """A table of an open file: a tree of ROOT, a group of HDF5, or the only one of Parquet and npz (named "")."""

    @property
    def name(self) -> str: ...
    @property
    def entries(self) -> int: ...
    @property
    def branches(self) -> tuple[str, ...]:
        """Names of all branches (columns, datasets)."""

    def flat(self) -> tuple[str, ...]:
        """Branches with one number per entry, in the order of the file."""

    def not_lists(self, names: Sequence[str]) -> list[str]:
        """Those of `names` that do not hold a list of numbers per entry."""

    def typename(self, name: str) -> str:
        """The type of a branch, for messages."""

    def number(self, name: str) -> Number:
        """The type of the numbers of a branch of `flat`."""

    def clusters(self, names: Sequence[str]) -> tuple[int, ...]:
        """Entries at which a read of the branches `names` may begin without decoding anything twice, from 0 to the
        number of entries."""

    def lengths(self, name: str) -> npt.NDArray[np.int64]:
        """How many numbers a branch of lists has in each entry."""


class StoredTable(Table, Protocol):
    """A table as it is stored in a file."""

    def stored(self) -> Iterator[object]:
        """Yield the structure of the table, and `Block`s of bytes of its branches, the same for every copy of it."""


class Reader(Protocol):
    """A module that reads one kind of file."""

    NOUN: str
    """What a table is called in such files."""

    def open_tables(self, path: str) -> AbstractContextManager[Sequence[StoredTable]]:
        """All tables of a file."""

    def read(self, path: str, table: str, names: Sequence[str], start: int, stop: int) -> dict[str, Any]:
        """Entries `start` to `stop` of the branches `names`: an awkward array of lists or numbers each, or a numpy
        array `[entry]` or `[entry, place]`. A number that the file lacks is NaN (or None), a list is None. Little more
        is in memory than what is returned."""


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        module: name of the reader's module in `ssl_jets.data`; imported when the first such file is opened.
        title: name for people.
        magic: how such a file begins.
        suffixes: of files of a folder that are taken without a look into them.
    """

    module: str
    title: str
    magic: bytes
    suffixes: tuple[str, ...]


KINDS = (
    Kind("root", "ROOT", b"root\0", (".root",)),  # the version behind it is a small number
    Kind("parquet", "Parquet", b"PAR1", (".parquet", ".pq")),
    Kind("hdf5", "HDF5", b"\x89HDF\r\n\x1a\n", (".h5", ".hdf5")),
    Kind("npz", "npz", b"PK\x03\x04", (".npz",)),
)
"""All kinds of files that are read."""

SUFFIXES = tuple(suffix for kind in KINDS for suffix in kind.suffixes)
"""Suffixes of the files of a folder that are taken without a look into them."""

_HEAD = 512
"""Bytes that tell the kinds apart."""

_ZIP_NAME = 30
"""Bytes of a zip archive in front of the name of its first member."""


def reader_of(path: str) -> Reader:
    """The reader of a file, by how its bytes begin, whatever it is called.

    Raises:
        DataError: the file cannot be read, or is of no known kind.
    """
    if is_remote(path):  # only ROOT files are read from elsewhere
        return cast(Reader, import_module("ssl_jets.data.root"))
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise DataError("the file cannot be read", where=path, found=error.strerror or error) from error
    for kind in KINDS:
        if head.startswith(kind.magic):
            return cast(Reader, import_module(f"ssl_jets.data.{kind.module}"))
    raise DataError(
        "the file is of no kind that is read",
        where=path,
        found=f"it begins with {head[:8]!r}" if head else "it is empty",
        allowed=[kind.title for kind in KINDS],
    )


def has_known_bytes(path: str | Path) -> bool:
    """Check whether a file begins like one of a kind that is read; of zip archives only those of arrays do."""
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return False
    if head.startswith(b"PK"):
        length = int.from_bytes(head[26:28], "little")
        return head[_ZIP_NAME : _ZIP_NAME + length].endswith(b".npy")
    return any(head.startswith(kind.magic) for kind in KINDS)


@contextmanager
def readable(path: str, title: str) -> Iterator[None]:
    """Turn whatever the bytes of a bad file make its library raise into one DataError.

    Args:
        path: the file.
        title: its kind, for people.
    """
    try:
        yield
    except (SslJetsError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno:  # the disk, not the bytes
            raise DataError("the file cannot be read", where=path, found=error.strerror or error) from error
        # Corrupt bytes surface as whatever the decoder at hand raises: struct, zlib, lzma, cramjam, KeyError, ...
        reason = str(error).strip().partition("\n")[0]
        state = "truncated" if "truncated" in reason else "corrupt"
        found = f"{type(error).__name__}: {reason}"
        raise DataError(f"the {title} file is {state}", where=path, found=found) from error
