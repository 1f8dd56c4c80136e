"""Tables of arrays with one entry a row, as HDF5 datasets and npz arrays make them up.

Branches are the arrays; `name[3]`, position 3 on the last axis of an array of numbers; and `name.field`, a field of a
compound type, which may be compound or an array itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ssl_jets.arrays import Array
from ssl_jets.data.readers.base import MOST_PLACES, Number, check_read

MIN_STEP = 1000
"""Rows between two boundaries, at least."""


class StoredArray(Protocol):
    """Array with one entry a row, in a file."""

    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def shape(self) -> tuple[int, ...]: ...


class Location(NamedTuple):
    """Location of the numbers of a branch.

    Attributes:
        array: name of the array that holds them.
        fields: fields of compound types, the outermost first; none for other types.
        at: position or positions on the last axis; None for all.
    """

    array: str
    fields: tuple[str, ...] = ()
    at: int | list[int] | None = None


class Cell(NamedTuple):
    """One row of a branch.

    Attributes:
        dtype: type of its values.
        shape: shape of a row of the array, or field, that holds it.
        at: position or positions on the last axis that make up the branch; None for all.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    at: int | list[int] | None = None

    @property
    def axes(self) -> int:
        """Axes of a row of the branch."""
        return len(self.shape) - isinstance(self.at, int)


class ArrayTable:
    """Branches of arrays with the same number of rows.

    Args:
        arrays: the arrays by name.
        locations: location of each branch.
        ignored: all other arrays, with the reason.
    """

    def __init__(
        self, arrays: Mapping[str, Any], locations: Mapping[str, Location], ignored: Mapping[str, str] = {}
    ) -> None:
        self._arrays, self._locations, self.ignored = arrays, locations, ignored
        self.entries = int(next(iter(arrays.values())).shape[0])
        self.branches = tuple(locations)

    def index(self, path: str) -> None:
        """Return nothing: `read` opens the file again."""

    def flat(self) -> tuple[str, ...]:
        return tuple(name for name in self.branches if self.depth(name) == 0)

    def cell(self, name: str) -> Cell:
        """Return type and shape of one row of a branch."""
        location = self._locations[name]
        array = self._arrays[location.array]
        dtype, shape = array.dtype, array.shape[1:]
        for field in location.fields:
            base, inner = _plain(dtype)
            dtype, shape = base[field], (*shape, *inner)
        base, inner = _plain(dtype)
        return Cell(base, (*shape, *inner), location.at)

    def depth(self, name: str) -> int:
        """Return the axes of a row of a branch: 0 or 1; -1 for more, and for other values than numbers."""
        cell = self.cell(name)
        return cell.axes if cell.axes < 2 and cell.dtype.kind in "biuf" else -1

    def is_text(self, name: str) -> bool:
        cell = self.cell(name)
        return cell.dtype.kind in "SU" and cell.axes == 0

    def typename(self, name: str) -> str:
        dtype, shape, _ = self.cell(name)
        lengths = ", ".join(str(length) if length >= 0 else "any" for length in shape)
        return f"{dtype}[{lengths}]"

    def number(self, name: str) -> Number:
        return Number(self.cell(name).dtype.newbyteorder("="))

    def lengths(self, name: str) -> npt.NDArray[np.int64]:
        """Return the length of the last axis for each row: every row has the same."""
        _, shape, at = self.cell(name)
        return np.full(self.entries, len(at) if isinstance(at, list) else shape[0], dtype=np.int64)

    def read_arrays(
        self, names: Sequence[str], rows: int, read: Callable[[str], Array], where: object
    ) -> dict[str, Array]:
        """Read branches of so many rows, each array once, also for several branches of it."""
        locations = {name: self._locations[name] for name in names}
        needed = dict.fromkeys(location.array for location in locations.values())
        check_read(sum(row_bytes(self._arrays[array]) for array in needed) * rows, where)
        blocks = {array: read(array) for array in needed}
        return {name: _part(blocks[location.array], location) for name, location in locations.items()}


def row_bytes(array: StoredArray) -> int:
    """Return the bytes of one row in memory."""
    return int(array.dtype.itemsize * math.prod(array.shape[1:]))


def branches_of(name: str, array: StoredArray) -> dict[str, Location]:
    """Return the branches of one array: itself or its fields, and places of these."""
    return dict(_branches(name, Location(name), array.dtype, array.shape[1:]))


def located(branches: Iterable[Mapping[str, Location]]) -> tuple[dict[str, Location], dict[str, str]]:
    """Join the branches of several arrays; names of more than one are left out, and returned with the reason.

    An array of the name `a[3]` comes before position 3 of an array `a`.
    """
    named: dict[str, list[Location]] = {}
    places: dict[str, list[Location]] = {}
    for name, location in (item for own in branches for item in own.items()):
        (places if name.endswith(f"[{location.at}]") else named).setdefault(name, []).append(location)
    found = named | {name: several for name, several in places.items() if name not in named}
    ambiguous = {name: f"a name of {len(several)} arrays" for name, several in found.items() if len(several) > 1}
    return {name: several[0] for name, several in found.items() if name not in ambiguous}, ambiguous


def _branches(
    name: str, location: Location, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> Iterator[tuple[str, Location]]:
    """Yield the branches of an array, or of a field with this shape of its own."""
    base, inner = _plain(dtype)
    if base.names:
        for field in base.names:
            yield from _branches(
                f"{name}.{field}", location._replace(fields=(*location.fields, field)), base[field], ()
            )
        return
    yield name, location
    shape = (*shape, *inner)
    if shape and shape[-1] <= MOST_PLACES:
        yield from ((f"{name}[{at}]", location._replace(at=at)) for at in range(shape[-1]))


def _plain(dtype: np.dtype[Any]) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Return the type of the values of an array type, and its shape; of any other type itself."""
    return dtype.subdtype or (dtype, ())


def _part(block: Array, location: Location) -> Array:
    """Return the numbers of a branch from rows of its array."""
    for field in location.fields:
        block = block[field]
    # A copy: a view of one row has the strides of the compound type, which torch refuses.
    block = block.copy() if location.fields else block
    return block if location.at is None else block[..., location.at]


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
