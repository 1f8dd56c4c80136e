"""Identity of a file of jets: a digest of its contents, the same for a copy of any name in any folder.

The digest covers the number of entries, the structure of the table that holds the jets, and at most `BLOCKS` blocks of
the bytes that store its numbers. Positions in the file, unused space and other tables do not enter.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ssl_jets.data.readers.base import StoredTable
from ssl_jets.data.readers.remote import is_remote, read_ranges

BLOCKS, BLOCK = 32, 512
"""Blocks of a table that enter its digest, and most bytes of one: 16 kB of a file of any size."""

_AT_ONCE = 1 << 18
"""Blocks that lie within so many bytes are read at once: each read lets another thread take the interpreter."""

_GOLDEN = 0.6180339887498949
"""Multiples of it, modulo 1, are spread evenly and have no period, unlike rows with padded places."""


class FileId(NamedTuple):
    """Name without the folder, size [bytes] and digest of the contents, which a model stores of its training files."""

    name: str
    bytes: int
    digest: str


class FileBlock(NamedTuple):
    """Bytes of a file, from `start` to `stop`."""

    start: int
    stop: int


def block(start: int, size: int) -> FileBlock:
    """Return the first `BLOCK` of `size` bytes that begin at `start`."""
    return FileBlock(start, start + min(size, BLOCK))


def positions(branches: int) -> Iterator[tuple[int, float]]:
    """Yield the index of a branch and the relative position in it, in [0, 1), for each block.

    2 branches: 16 positions in each; 64 branches: one position in every second one.
    """
    if branches:
        for number in range(BLOCKS):
            yield number * branches // BLOCKS, number * _GOLDEN % 1


def digest_of(path: str, table: StoredTable) -> str:
    """Return the digest of a table, 32 hexadecimal digits."""
    items = [table.entries, *table.stored()]
    contents = iter(_read(path, [item for item in items if isinstance(item, FileBlock)]))
    digest = hashlib.sha256()
    for item in items:
        content = next(contents) if isinstance(item, FileBlock) else repr(item).encode()
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()[:32]


def version_of(path: str) -> tuple[int, int]:
    """Return size and time of the last change of a local file, [bytes, ns]; zeros if it is remote or gone."""
    try:
        status = None if is_remote(path) else os.stat(path)
    except OSError:  # the reader reports it
        status = None
    return (0, 0) if status is None else (status.st_size, status.st_mtime_ns)


def _read(path: str, blocks: Sequence[FileBlock]) -> list[bytes]:
    if is_remote(path):
        return read_ranges(path, blocks)
    low, high = min((one.start for one in blocks), default=0), max((one.stop for one in blocks), default=0)
    with open(path, "rb") as file:
        if high - low <= _AT_ONCE:
            near = os.pread(file.fileno(), high - low, low)
            return [near[start - low : stop - low] for start, stop in blocks]
        return [os.pread(file.fileno(), stop - start, start) for start, stop in blocks]
