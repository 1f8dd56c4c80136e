"""Formats of z files and their suffixes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ssl_jets.errors import UsageError, in_shell, nearest
from ssl_jets.zfile import hdf5, npz, parquet, root
from ssl_jets.zfile.columns import Column, Rows


class Sink(Protocol):
    """Writer of blocks of rows to one file, made from its path and columns."""

    def write(self, rows: Rows) -> None:
        """Append a block."""

    def close(self, metadata: str) -> None:
        """Complete the file with its metadata, a JSON text."""

    def abort(self) -> None:
        """Abandon an unfinished file; never raises an `OSError`."""


class Reading(Protocol):
    """Open z file. Opening it reads little; its table is opened and its arrays are read on demand."""

    @property
    def rows(self) -> int:
        """Number of rows."""

    @property
    def names(self) -> tuple[str, ...]:
        """Columns with a number or a vector per row; other columns of a foreign file are not listed."""

    @property
    def metadata(self) -> str | None:
        """JSON text, or None."""

    def blocks(self, names: Sequence[str], rows: int, start: int, stop: int) -> Iterator[dict[str, npt.NDArray[Any]]]:
        """Yield the rows `start` to `stop` in blocks of at most `rows` rows; one empty block if there are none.

        Only the baskets, row groups or chunks with these rows are read.
        """

    def close(self) -> None:
        """Close the file."""


@dataclass(frozen=True)
class Format:
    """Writer and reader of one format.

    Attributes:
        name: name of the format in messages.
        sink: writer of a file.
        reading: reader of a file.
        refused: regular expression that matches in column names that the format cannot store unchanged.
        half: whether it has numbers of half precision, which are float32 otherwise.
    """

    name: str
    sink: Callable[[Path, Sequence[Column]], Sink]
    reading: Callable[[Path], Reading]
    refused: str = r"\0"
    half: bool = True

    def stored(self, column: Column) -> Column:
        """Return a column with the type that the format stores it by."""
        return replace(column, dtype="f4") if np.dtype(column.dtype) == np.float16 and not self.half else column


_HDF5 = Format("HDF5", hdf5.Hdf5Sink, hdf5.Hdf5Reading, r"\0|(^|/)\.?(/|$)")  # "/" makes groups
SUFFIXES: dict[str, Format] = {
    ".root": Format("ROOT", root.RootSink, root.RootReading, r"\0|^/|\[\d*\]", half=False),
    ".parquet": Format("Parquet", parquet.ParquetSink, parquet.ParquetReading),
    ".h5": _HDF5,
    ".hdf5": _HDF5,
    ".npz": Format("npz", npz.NpzSink, npz.NpzReading, r"\0|^metadata$"),
}

RNTUPLE = Format("ROOT", root.RNTupleSink, root.RootReading, r"\0|^$|[.]|\[\d*\]", half=False)
"""ROOT files with an RNTuple; a dot in a name would make a field of a field."""


def check_names(path: Path, names: Iterable[str], *, rntuple: bool = False) -> None:
    """Check that the format of `path` can store the column names unchanged.

    Raises:
        UsageError: it cannot.
    """
    own, columns = format_of(path, rntuple=rntuple), set(names)
    for name in columns:
        in_column = own is _HDF5 and any(name.startswith(f"{other}/") for other in columns)  # a group and a dataset
        if in_column or re.search(own.refused, name) or name.encode(errors="replace").decode() != name:
            able = (suffix for suffix, other in SUFFIXES.items() if not re.search(other.refused, name))
            hint = next((in_shell("--out", path.with_suffix(suffix)) for suffix in able), "rename the column")
            raise UsageError(f"{own.name} cannot keep a column of this name", where=path, found=repr(name), hint=hint)


def format_of(path: Path, *, rntuple: bool = False) -> Format:
    """Return the format of the suffix of `path`; of ROOT with `rntuple` the one that writes an RNTuple.

    Raises:
        UsageError: an unknown suffix, standard input or output (`-`), or `rntuple` with another format than ROOT.
    """
    if str(path) == "-":
        hint = "the paths of z files; a list on standard input goes with --data"
        raise UsageError("a z file is no stream", where=path, found="standard input or output", hint=hint)
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
    if rntuple and suffix != ".root":
        raise UsageError(
            "an RNTuple is written to a ROOT file", where="out.rntuple", found=path, hint=str(path.with_suffix(".root"))
        )
    return RNTUPLE if rntuple else SUFFIXES[suffix]
