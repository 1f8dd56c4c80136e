"""z file of any format, or an index of parts, opened for checked reads of rows."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from ssl_jets.errors import DataError, nearest
from ssl_jets.runtime.reading import guarded, read_text
from ssl_jets.zfile.checksums import Checksums
from ssl_jets.zfile.formats import SUFFIXES, Reading, format_of
from ssl_jets.zfile.index import IndexReading, is_index
from ssl_jets.zfile.metadata import from_json

ROWS = 16_384

_MARKS = ('"ssl-jets z"', '"ssl-jets scores"', '"checksums": {', '"index": {')
"""Texts at the beginning and at the end of metadata of this package; damage seldom hits both."""


@dataclass(frozen=True)
class Opened:
    """Open z or scores file.

    Attributes:
        path: the file.
        reading: reader of its format.
        metadata: its metadata without checksums; empty for files of other tools.
        checksums: checksums of its rows; None for files of other tools, and for an index: its parts have them.
    """

    path: Path
    reading: Reading
    metadata: dict[str, Any]
    checksums: Checksums | None

    @property
    def names(self) -> tuple[str, ...]:
        """Columns of the file."""
        return self.reading.names

    @property
    def rows(self) -> int:
        """Number of rows of the file."""
        return self.reading.rows

    @property
    def crc32(self) -> int:
        """Checksum of the metadata, and by their checksums of all rows."""
        return zlib.crc32((self.reading.metadata or "").encode())

    @property
    def stored_bytes(self) -> int:
        """Bytes of the file, or of the parts of an index."""
        parts = self.reading.parts if isinstance(self.reading, IndexReading) else [(self.path, 0)]
        return sum(path.stat().st_size for path, _ in parts)

    def check_parts(self) -> None:
        """Check that the parts of an index can be opened and are those that it lists; no rows are read.

        Raises:
            DataError: a part is missing, or another than the index was written for.
        """
        for path, crc32 in self.reading.parts if isinstance(self.reading, IndexReading) else ():
            with _open_part(path, crc32):
                pass

    def blocks(self, names: Sequence[str], start: int, stop: int) -> Iterator[dict[str, npt.NDArray[Any]]]:
        """Yield the rows `start` to `stop`, checked if the file has checksums; at least one block.

        Raises:
            DataError: the rows are not as they were written.
        """
        if self.checksums is None:
            return self.reading.blocks(names, ROWS, start, stop)
        self.checksums.check_columns(names, self.rows, self.path)
        size = self.checksums.block
        return self.checksums.checked(
            lambda low, high: self.reading.blocks(names, size, low, high), start, stop, self.path
        )


@contextmanager
def open_file(path: Path) -> Iterator[Opened]:
    """Open a z or scores file, or an index of parts.

    Raises:
        UsageError: the suffix is none of a z file.
        DataError: there is no such file, or it cannot be read; also while its rows are read.
    """
    name = "an index" if is_index(path) else format_of(path).name
    if not path.is_file():
        siblings = path.parent.iterdir() if path.parent.is_dir() else []
        names = nearest(path.name, [sibling.name for sibling in siblings if not sibling.name.startswith(".")])
        raise DataError("there is no such z file", where=path, allowed=names or None)
    reading: Reading | None = None
    try:
        with guarded(f"the file cannot be read as {name}", path):
            absolute = path.absolute()  # no library takes an absolute path for a URL
            reading = IndexReading(absolute, _rows_of_part) if is_index(path) else format_of(path).reading(absolute)
            text = reading.metadata
            metadata, checksums = ({}, None) if text is None else from_json(text, path)
            yield Opened(path, reading, metadata, checksums)
    finally:
        if reading is not None:
            reading.close()


def is_own(path: Path) -> bool:
    """Check whether a file has metadata of this package, damaged or not; only the metadata are read.

    Returns:
        False also for a file that is not there, or cannot be opened by its suffix.
    """
    if not is_index(path) and (path.suffix.lower() not in SUFFIXES or not path.is_file()):
        return False
    try:
        if is_index(path):
            return _is_marked(read_text(path))
        reading = format_of(path).reading(path.absolute())
    except Exception:  # corrupt bytes can raise any exception
        return False
    with closing(reading):
        try:
            return _is_marked(reading.metadata)
        except DataError:  # Python objects of another tool
            return False
        except Exception:  # metadata that cannot be decoded
            return True


def _is_marked(text: str | None) -> bool:
    return any(mark in (text or "") for mark in _MARKS)


def _rows_of_part(
    path: Path, crc32: int, names: Sequence[str], start: int, stop: int
) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """Yield rows of a part of an index, with the columns among `names` that the part has."""
    with _open_part(path, crc32) as file:
        yield from file.blocks([name for name in names if name in file.names], start, stop)


@contextmanager
def _open_part(path: Path, crc32: int) -> Iterator[Opened]:
    """Open a part of an index.

    Raises:
        DataError: the part is missing, or another than the index was written for.
    """
    with open_file(path) as file:
        if file.crc32 != crc32:
            hint = "ssl-jets merge PART... --out INDEX.json --force"
            raise DataError("a part was written after its index", where=path, hint=hint)
        yield file
