"""Tables of arrays with one entry a row, as HDF5 datasets and npz arrays make them up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ssl_jets.data.readers.base import Number

MIN_STEP = 1000
"""Rows between two boundaries, at least."""


class Cell(NamedTuple):
    """One row of a branch.

    Attributes:
        dtype: type of its values.
        shape: shape of a row of the array that holds it.
        at: position or positions on the last axis that make up the branch; None for all.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    at: int | list[int] | None = None


class ArrayTable:
    """Branches of arrays with the same number of rows; subclasses find the cell of a branch."""

    entries: int

    def index(self, path: str) -> None:
        """Return nothing: `read` opens the file again."""

    def cell(self, name: str) -> Cell:
        """Return type and shape of one row of a branch."""
        raise NotImplementedError

    def depth(self, name: str) -> int:
        """Return the axes of a row of a branch: 0 or 1; -1 for more, and for other values than numbers."""
        dtype, shape, at = self.cell(name)
        axes = len(shape) - isinstance(at, int)
        return axes if axes < 2 and dtype.kind in "biuf" else -1

    def typename(self, name: str) -> str:
        dtype, shape, _ = self.cell(name)
        return f"{dtype}[{', '.join(map(str, shape))}]"

    def number(self, name: str) -> Number:
        return Number(self.cell(name).dtype.newbyteorder("="))

    def lengths(self, name: str) -> npt.NDArray[np.int64]:
        """Return the length of the last axis for each row: every row has the same."""
        _, shape, at = self.cell(name)
        return np.full(self.entries, len(at) if isinstance(at, list) else shape[0], dtype=np.int64)


def by_rows(arrays: Mapping[str, int | str]) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Group arrays into tables by their number of rows.

    Args:
        arrays: rows of each array, or why it cannot be used.

    Yields:
        Names of the arrays of one table, and the reason for each other array to be ignored in it.

    Example:
        >>> list(by_rows({"pt": 5, "eta": 5, "run": 2, "note": "no rows"}))[0]
        (['pt', 'eta'], {'run': '2 rows', 'note': 'no rows'})
    """
    for rows in dict.fromkeys(value for value in arrays.values() if isinstance(value, int)):
        members = [name for name, value in arrays.items() if value == rows]
        ignored = {}
        for name, value in arrays.items():
            if value != rows:
                ignored[name] = value if isinstance(value, str) else f"{value:,} rows"
        yield members, ignored
