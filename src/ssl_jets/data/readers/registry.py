"""Registry of file formats: the reader of a file is found from its first bytes.

A reader is a module with two functions: `open_tables` lists the tables of a file, `read` returns a range of entries of
some branches. Both raise `DataError`, and nothing else, on a file that is truncated, corrupt or gone.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import cast

from ssl_jets.data.readers.base import Reader, refuse_shortage
from ssl_jets.data.readers.remote import is_remote
from ssl_jets.errors import DataError


@dataclass(frozen=True)
class FileFormat:
    """File format.

    Attributes:
        module: module of the reader in `ssl_jets.data.readers`; imported when the first such file is opened.
        title: name in messages.
        magic: first bytes of such a file.
        suffixes: suffixes of such files, which are taken from a folder without being opened.
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
"""All file formats that are read."""


SUFFIXES = tuple(suffix for file_format in FILE_FORMATS for suffix in file_format.suffixes)
"""Suffixes of files that are taken from a folder without being opened."""


_NPY = b"\x93NUMPY"
"""First bytes of a single array of numpy, which has no name."""

_PIPES = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device"}
"""Types of files that have no place to go back to."""

_HEAD = 512
"""Bytes that identify the format."""


_ZIP_NAME = 30
"""Bytes of a zip archive in front of the name of its first member."""


def reader_of(path: str) -> Reader:
    """Return the reader of a file, found from its first bytes and not from its name.

    Raises:
        DataError: the file cannot be read, or has no known format.
    """
    if is_remote(path):  # only ROOT files are read by URL
        return cast(Reader, import_module("ssl_jets.data.readers.root"))
    try:
        if (kind := _PIPES.get(stat.S_IFMT(os.stat(path).st_mode))) is not None:  # opening it would wait for a writer
            what = "jets are read from files, in which a reader can go back"
            raise DataError(what, where=path, found=kind, hint="write it to a file first")
        head = _first_bytes(path)
    except OSError as error:
        refuse_shortage(error, path)
        raise DataError("the file cannot be read", where=path, found=error.strerror or error) from error
    for file_format in FILE_FORMATS:
        if head.startswith(file_format.magic):
            return cast(Reader, import_module(f"ssl_jets.data.readers.{file_format.module}"))
    raise DataError(
        "the file is of no kind that is read",
        where=path,
        found=f"it begins with {head[:8]!r}" if head else "it is empty",
        allowed=[file_format.title for file_format in FILE_FORMATS],
        hint='numpy.savez("jets.npz", particles=array) keeps names of arrays' if head.startswith(_NPY) else None,
    )


def has_known_bytes(path: str | Path) -> bool:
    """Check whether a file has a known format by its first bytes; a zip archive only if it begins with an array."""
    try:
        head = _first_bytes(path)
    except OSError as error:
        refuse_shortage(error, path)
        return False
    if head.startswith(b"PK"):
        length = int.from_bytes(head[26:28], "little")
        return head[_ZIP_NAME : _ZIP_NAME + length].endswith(b".npy")
    return any(head.startswith(file_format.magic) for file_format in FILE_FORMATS)


def _first_bytes(path: str | Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(_HEAD)
