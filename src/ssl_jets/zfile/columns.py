"""Columns of a z file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ssl_jets.errors import DataError

Level = Literal["jet", "particle"]
Rows = Mapping[str, npt.NDArray[Any]]
"""A block of rows: arrays of equal length by column name."""

VECTORS: dict[Level, str] = {"jet": "z", "particle": "token"}
"""Column of the representation at each level."""

TRUE = "true_"
"""Begins the name of the column of the true label of a target of particles, if some input has it."""

KEY = ("source_file", "source_entry", "source_jet")

COUNTED = (*VECTORS.values(), KEY[0])
"""The first of these columns that a file has gives its number of rows."""


@dataclass(frozen=True)
class Column:
    """Column of a number per row, or of a vector of `width` numbers."""

    name: str
    dtype: str
    width: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return () if self.width is None else (self.width,)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return np.dtype(self.dtype).itemsize * (self.width or 1)

    def empty(self, rows: int) -> npt.NDArray[Any]:
        """Return an uninitialised array for `rows` rows."""
        return np.empty((rows, *self.shape), self.dtype)

    def missing(self, rows: int) -> npt.NDArray[Any]:
        """Return `rows` rows of missing values: NaN, -1 for whole numbers, false."""
        kind = np.dtype(self.dtype).kind
        return np.full((rows, *self.shape), {"b": False, "i": -1}.get(kind, np.nan), self.dtype)


def z_columns(level: Level, dim: int, *, labelled: bool, kept: Iterable[str] = ()) -> tuple[Column, ...]:
    """Return the columns of a z file: z (or tokens) of `dim` numbers, the key, the label and the kept jet columns.

    Example:
        >>> [column.name for column in z_columns("jet", 64, labelled=True, kept=["jet_pt"])]
        ['z', 'source_file', 'source_entry', 'source_jet', 'label', 'jet_pt']
    """
    vector = Column(VECTORS[level], "f4", dim)
    return (vector, *key_columns(level, labelled=labelled), *(Column(name, "f4") for name in kept))


def key_columns(level: Level, *, labelled: bool) -> tuple[Column, ...]:
    """Return the columns that name the jet (or particle) of a row, and its label."""
    columns = [Column("source_file", "i4"), Column("source_entry", "i8"), Column("source_jet", "i4")]
    if level == "particle":
        columns.append(Column("particle", "i4"))
    if labelled:
        columns.append(Column("label", "i8"))
    return tuple(columns)


def spans(start: int, stop: int, rows: int) -> Iterator[tuple[int, int]]:
    """Yield `start` to `stop` in steps of `rows`; at least one span.

    Example:
        >>> list(spans(10, 25, 10)), list(spans(4, 4, 10))
        ([(10, 20), (20, 25)], [(4, 4)])
    """
    for low in range(start, max(stop, start + 1), rows):
        yield low, min(low + rows, stop)


def convert(
    rows: Rows, columns: Iterable[Column], numbers: npt.NDArray[np.int32], path: Path
) -> dict[str, npt.NDArray[Any]]:
    """Convert rows of a part to the columns and file numbers of the whole output.

    Args:
        rows: rows of the part; a column that it lacks is missing in all of them.
        columns: columns of the output.
        numbers: number in the output of each input of the whole list of inputs.
        path: the part, for messages.

    Raises:
        DataError: a whole number beyond 2^53 in a column that is floating point in another part.
    """
    count = len(next(iter(rows.values())))
    converted = {}
    for column in columns:
        values = rows.get(column.name)
        if values is None:
            values = column.missing(count)
        elif column.name == "source_file":
            values = numbers[values]
        elif values.dtype != np.dtype(column.dtype):
            values = _exactly(values, column, path)
        converted[column.name] = values
    return converted


def _exactly(values: npt.NDArray[Any], column: Column, path: Path) -> npt.NDArray[Any]:
    """Convert whole numbers to the floating type that another part has."""
    converted = values.astype(column.dtype)
    if values.dtype.kind == "i" and (np.abs(values) >= 2**53).any():
        where = f"{path}, column {column.name}"
        raise DataError("whole numbers are too large for the floating point of another part", where=where)
    return converted
