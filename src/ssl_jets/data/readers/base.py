"""The interfaces of a reader and of a table, and the guard that turns errors of libraries into one message."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

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

    @property
    def ignored(self) -> Mapping[str, str]:
        """Arrays beside the table that are no branches of it, with the reason."""

    def flat(self) -> tuple[str, ...]:
        """Branches with one number per entry, in the order of the file."""

    def not_lists(self, names: Sequence[str]) -> list[str]:
        """Those of `names` that do not hold a list of numbers per entry."""

    def depth(self, name: str) -> int:
        """Levels of lists around the numbers of an entry: 0 for one number, 1 for a list; -1 for no numbers."""

    def is_text(self, name: str) -> bool:
        """Whether a branch holds one string per entry."""

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

    def open_tables(self, path: str, external: bool = False) -> AbstractContextManager[Sequence[StoredTable]]:
        """All tables of a file, with `external` also of the other files that it leads to (HDF5)."""

    def read(self, path: str, table: str, names: Sequence[str], start: int, stop: int) -> dict[str, Any]:
        """Entries `start` to `stop` of the branches `names`: an awkward array of lists or numbers each, or a numpy
        array `[entry]` or `[entry, place]`. A number that the file lacks is NaN (or None), a list is None. Little more
        is in memory than what is returned."""


MOST_PLACES = 20_000
"""Longest last axis of an array whose places have names (`name[3]`)."""


MOST_READ = 4 << 30
"""Bytes of arrays in one read of about 10,000 entries, at most."""


_FREE, _MOST_RATIO = 64 << 20, 10_000
"""Bytes that an array may claim whatever it stores, and how far compression shrinks one at most (zlib: 1,032)."""


_ENTRIES_PER_BYTE = 100
"""Entries that a byte of a file stands for at most."""


def check_entries(entries: int, bytes_: int, where: object) -> None:
    """Refuse a table with more entries than its file has room for.

    Args:
        entries: entries of the table.
        bytes_: size of the file; 0 where a server does not name it.
        where: the file, for messages.

    Raises:
        DataError: it names both numbers.
    """
    if bytes_ and not 0 <= entries <= _ENTRIES_PER_BYTE * bytes_:
        found = f"{entries:,} entries in {bytes_:,} bytes"
        raise DataError("the file claims more entries than it can hold", where=where, found=found)


def overclaimed(claimed: int, stored: int) -> str | None:
    """Return why an array cannot be read that asks for more memory than its bytes in the file can fill, or None."""
    if claimed <= max(_FREE, _MOST_RATIO * stored):
        return None
    return f"it claims {claimed:,} bytes, of which {stored:,} are stored"


def check_read(bytes_: int, where: object) -> None:
    """Refuse to read more at once than `MOST_READ` bytes.

    Raises:
        DataError: it names the size.
    """
    if bytes_ > MOST_READ:
        found = f"{bytes_:,} bytes for the entries of one read"
        raise DataError("the entries of the file are too large", where=where, found=found, allowed=[f"{MOST_READ:,}"])


@contextmanager
def readable(path: str, title: str) -> Iterator[None]:
    """Turn whatever the bytes of a bad file make its library raise into one DataError.

    Args:
        path: the file.
        title: its kind, for people.
    """
    try:
        yield
    except SslJetsError:
        raise
    except MemoryError as error:
        raise DataError(
            f"the {title} file asks for more memory than there is", where=path, found=error or None
        ) from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno:  # the disk, not the bytes
            raise DataError("the file cannot be read", where=path, found=error.strerror or error) from error
        # Corrupt bytes surface as whatever the decoder at hand raises: struct, zlib, lzma, cramjam, KeyError, ...
        reason = str(error).strip().partition("\n")[0]
        state = "truncated" if "truncated" in reason else "corrupt"
        found = f"{type(error).__name__}: {reason}"
        raise DataError(f"the {title} file is {state}", where=path, found=found) from error
