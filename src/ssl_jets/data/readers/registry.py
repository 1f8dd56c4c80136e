"""Which reader opens a file, told by how its bytes begin, and what every reader gives.

A reader is a module with two functions: `open_tables` says what a file holds, `read` gives a range of entries of some
branches. Both raise `DataError`, and nothing else, at a file that is truncated, corrupt or gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import cast

from ssl_jets.data.readers.base import Reader
from ssl_jets.data.readers.remote import is_remote
from ssl_jets.errors import DataError


@dataclass(frozen=True)
class FileFormat:
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


FILE_FORMATS = (
    FileFormat("root", "ROOT", b"root\0", (".root",)),  # the version behind it is a small number
    FileFormat("parquet", "Parquet", b"PAR1", (".parquet", ".pq")),
    FileFormat("hdf5", "HDF5", b"\x89HDF\r\n\x1a\n", (".h5", ".hdf5")),
    FileFormat("npz", "npz", b"PK\x03\x04", (".npz",)),
)
"""All kinds of files that are read."""


SUFFIXES = tuple(suffix for kind in FILE_FORMATS for suffix in kind.suffixes)
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
        return cast(Reader, import_module("ssl_jets.data.readers.root"))
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise DataError("the file cannot be read", where=path, found=error.strerror or error) from error
    for kind in FILE_FORMATS:
        if head.startswith(kind.magic):
            return cast(Reader, import_module(f"ssl_jets.data.readers.{kind.module}"))
    raise DataError(
        "the file is of no kind that is read",
        where=path,
        found=f"it begins with {head[:8]!r}" if head else "it is empty",
        allowed=[kind.title for kind in FILE_FORMATS],
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
    return any(head.startswith(kind.magic) for kind in FILE_FORMATS)
