"""Interfaces of a reader and of a table, and the guard that turns errors of libraries into one message."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ssl_jets.errors import DataError, SslJetsError


class Number(NamedTuple):
    """Type of the numbers of a branch.

    Attributes:
        dtype: numpy type, in the byte order of this machine.
        missing: whether integers or flags may be missing; a missing value is read as NaN.
    """

    dtype: np.dtype[Any]
    missing: bool = False


class Table(Protocol):
    """Table of an open file: a tree of ROOT, a group of HDF5, or the unnamed table ("") of Parquet and npz."""

    @property
    def name(self) -> str: ...
    @property
    def entries(self) -> int: ...
    @property
    def branches(self) -> tuple[str, ...]:
        """Names of all branches (columns, datasets)."""

    @property
    def ignored(self) -> Mapping[str, str]:
        """Arrays of the file that are no branches of the table, with the reason."""

    def flat(self) -> tuple[str, ...]:
        """Return the branches with one number per entry, in the order of the file."""

    def depth(self, name: str) -> int:
        """Return the levels of lists around the numbers of an entry: 0 for one number, 1 for a list; -1 for no numbers.

        `float` -> 0, `vector<float>` -> 1, `vector<vector<float>>` -> 2, `string` -> -1.
        """

    def is_text(self, name: str) -> bool:
        """Check whether a branch holds one string per entry."""

    def typename(self, name: str) -> str:
        """Return the type of a branch, for messages."""

    def number(self, name: str) -> Number:
        """Return the type of the numbers of a branch of `flat`."""

    def boundaries(self, names: Sequence[str]) -> tuple[int, ...]:
        """Return the cluster boundaries of branches, from 0 to the number of entries.

        A read that begins at a boundary decodes nothing twice.
        """

    def lengths(self, name: str) -> npt.NDArray[np.int64]:
        """Return the number of values of a branch of lists in each entry, `[entry]`."""


class StoredTable(Table, Protocol):
    """Table as it is stored in a file."""

    def stored(self) -> Iterator[object]:
        """Yield the structure of the table, and `FileBlock`s of bytes of its branches, equal in every copy of it."""

    def index(self, path: str) -> object:
        """Return an index that spares `read` opening the table while the caller keeps it; None if there is none."""


class Reader(Protocol):
    """Module that reads one file format."""

    NOUN: str
    """Name of a table in such files: tree, group, table."""

    def open_tables(self, path: str, external: bool = False) -> AbstractContextManager[Sequence[StoredTable]]:
        """Open all tables of a file, with `external` also of other files that it refers to (HDF5)."""

    def read(self, path: str, table: str, names: Sequence[str], start: int, stop: int) -> dict[str, Any]:
        """Read entries `start` to `stop` of the branches `names`, with little more memory than the result.

        Each is an awkward array of lists or numbers, or a numpy array `[entry]` or `[entry, position]`. A missing
        number is NaN (or None), a missing list None.
        """


MOST_PLACES = 20_000
"""Longest last axis of an array that is split into branches (`name[3]`)."""


MOST_READ = 4 << 30
"""Bytes of arrays in one read of about 10,000 entries, at most."""


_FREE_BYTES = 64 << 20
"""Bytes that every array may claim."""

_MAX_COMPRESSION = 10_000
"""Largest compression ratio of a larger array (zlib reaches 1,032)."""


_ENTRIES_PER_BYTE = 100
"""Entries per byte of a file, at most."""


def check_entries(entries: int, bytes_: int, where: object) -> None:
    """Check that a table has no more entries than its file can hold.

    Args:
        entries: entries of the table.
        bytes_: size of the file; 0 if a server does not report it.
        where: the file, for messages.

    Raises:
        DataError: more entries; the message has both numbers.
    """
    if bytes_ and not 0 <= entries <= _ENTRIES_PER_BYTE * bytes_:
        found = f"{entries:,} entries in {bytes_:,} bytes"
        raise DataError("the file claims more entries than it can hold", where=where, found=found)


def overclaimed(claimed: int, stored: int) -> str | None:
    """Return the reason to refuse an array that claims more bytes than its stored bytes can fill, or None."""
    if claimed <= max(_FREE_BYTES, _MAX_COMPRESSION * stored):
        return None
    return f"it claims {claimed:,} bytes, of which {stored:,} are stored"


def check_read(bytes_: int, where: object) -> None:
    """Check that one read takes at most `MOST_READ` bytes.

    Raises:
        DataError: more; the message has the size.
    """
    if bytes_ > MOST_READ:
        found = f"{bytes_:,} bytes for the entries of one read"
        raise DataError("the entries of the file are too large", where=where, found=found, allowed=[f"{MOST_READ:,}"])


def check_rows(arrays: Mapping[str, Any], rows: int) -> None:
    """Check that each array that a library returned has all the rows that were asked for.

    Objects of ROOT that are decoded one by one can end early without an error, and so can pages of Parquet.

    Raises:
        ValueError: an array has another number of rows.
    """
    for name, array in arrays.items():
        if len(array) != rows:
            raise ValueError(f"{len(array)} of {rows} rows of {name} can be decoded")


def refuse_shortage(error: Exception, where: object) -> None:
    """Stop if no more files can be opened: no file is to blame, and none may be left out for it.

    Raises:
        SslJetsError: the error is of a limit of this process, or of the machine.
    """
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        hint = "ulimit -n 4096 before the command, or fewer --set data.workers"
        raise SslJetsError("too many files are open", where=where, found=error.strerror, hint=hint) from error


@contextmanager
def readable(path: str, title: str) -> Iterator[None]:
    """Turn every error that a library raises on a bad file into one DataError."""
    try:
        yield
    except SslJetsError:
        raise
    except MemoryError as error:
        raise DataError(
            f"the {title} file asks for more memory than there is", where=path, found=error or None
        ) from error
    except Exception as error:
        refuse_shortage(error, path)
        if isinstance(error, OSError) and error.errno:  # the disk, not the bytes
            raise DataError("the file cannot be read", where=path, found=error.strerror or error) from error
        # Corrupt bytes surface as whatever the decoder at hand raises: struct, zlib, lzma, cramjam, KeyError, ...
        reason = str(error).strip().partition("\n")[0]
        state = "truncated" if "truncated" in reason else "corrupt"
        found = f"{type(error).__name__}: {reason}"
        raise DataError(f"the {title} file is {state}", where=path, found=found) from error
