"""Columns of a z file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Level = Literal["jet", "particle"]
Rows = Mapping[str, npt.NDArray[Any]]
"""A block of rows: arrays of equal length by column name."""

VECTORS: dict[Level, str] = {"jet": "z", "particle": "token"}
"""Column of the representation at each level."""

KEY = ("source_file", "source_entry", "source_jet")

COUNTED = (*VECTORS.values(), KEY[0])
"""Columns of which the first that a file has gives its number of rows."""


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
