"""The formats of z files and their suffixes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from ssl_jets.errors import UsageError, nearest
from ssl_jets.zfile import hdf5, npz, parquet, root
from ssl_jets.zfile.columns import Column, Rows


class Sink(Protocol):
    """Writes blocks of rows to one file. Its constructor takes the path and the columns."""

    def write(self, rows: Rows) -> None:
        """Append a block."""

    def close(self, metadata: str) -> None:
        """Complete the file, with the metadata as JSON."""

    def abort(self) -> None:
        """Let go of an unfinished file; never raises an `OSError`."""


class Reading(Protocol):
    """An open z file.

    Attributes:
        rows: its number of rows.
        names: the columns that hold a number or a vector per row; others of a foreign file are not offered.
        metadata: its JSON text, or None.
    """

    rows: int
    names: tuple[str, ...]
    metadata: str | None

    def blocks(self, names: Sequence[str], rows: int) -> Iterator[dict[str, npt.NDArray[Any]]]:
        """Blocks of at most `rows` rows; one empty block for a file without rows."""

    def close(self) -> None:
        """Close the file."""


@dataclass(frozen=True)
class Format:
    """How one format is written and read.

    Attributes:
        name: for people.
        sink: writes a file.
        reading: reads a file.
        refused: a regular expression that matches in names of columns that the format cannot keep as they are.
    """

    name: str
    sink: Callable[[Path, Sequence[Column]], Sink]
    reading: Callable[[Path], Reading]
    refused: str = r"\0"


_HDF5 = Format("HDF5", hdf5.Hdf5Sink, hdf5.Hdf5Reading, r"\0|(^|/)\.?(/|$)")  # "/" makes groups
SUFFIXES: dict[str, Format] = {
    ".root": Format("ROOT", root.RootSink, root.RootReading, r"\0|^/|\[\d*\]"),
    ".parquet": Format("Parquet", parquet.ParquetSink, parquet.ParquetReading),
    ".h5": _HDF5,
    ".hdf5": _HDF5,
    ".npz": Format("npz", npz.NpzSink, npz.NpzReading, r"\0|^metadata$"),
}


def check_names(path: Path, names: Iterable[str]) -> None:
    """Check that the format of `path` keeps the names of columns as they are.

    Raises:
        UsageError: it does not.
    """
    kind, columns = format_of(path), set(names)
    for name in columns:
        in_column = kind is _HDF5 and any(name.startswith(f"{other}/") for other in columns)  # a group and a dataset
        if in_column or re.search(kind.refused, name) or name.encode(errors="replace").decode() != name:
            able = (suffix for suffix, other in SUFFIXES.items() if not re.search(other.refused, name))
            hint = next((f"--out {path.with_suffix(suffix)}" for suffix in able), "rename the column")
            raise UsageError(f"{kind.name} cannot keep a column of this name", where=path, found=repr(name), hint=hint)


def format_of(path: Path) -> Format:
    """The format that the suffix of `path` names.

    Raises:
        UsageError: another suffix.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        allowed = nearest(suffix, SUFFIXES)
        raise UsageError(
            "the suffix of a z file names its format",
            where=path,
            found=suffix or "no suffix",
            allowed=allowed,
            hint=str(path.with_suffix(allowed[0])) if path.name else None,
        )
    return SUFFIXES[suffix]
