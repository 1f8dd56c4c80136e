"""Which reader opens a file, told by how its bytes begin, and what every reader gives.

A reader is a module with two functions: `open_tables` says what a file holds, `read` gives a range of entries of some
branches. Both raise `DataError`, and nothing else, at a file that is truncated, corrupt or gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from ssl_jets.data.remote import is_remote
from ssl_jets.errors import DataError, SslJetsError


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
        array `[entry]` or `[entry, place]`. Little more is in memory than what is returned."""


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        module: name of the reader's module in `ssl_jets.data`; imported when the first such file is opened.
        title: name for people.
        magic: how such a file begins.
        suffixes: suffixes for which a folder is searched.
    """

    module: str
    title: str
    magic: bytes
    suffixes: tuple[str, ...]


KINDS = (
    Kind("root", "ROOT", b"root", (".root",)),
    Kind("parquet", "Parquet", b"PAR1", (".parquet", ".pq")),
    Kind("hdf5", "HDF5", b"\x89HDF\r\n\x1a\n", (".h5", ".hdf5")),
    Kind("npz", "npz", b"PK\x03\x04", (".npz",)),
)
"""All kinds of files that are read."""

SUFFIXES = tuple(suffix for kind in KINDS for suffix in kind.suffixes)
"""Suffixes of the files that are looked for in a folder."""

_HEAD = 16
"""Bytes that tell the kinds apart."""


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
