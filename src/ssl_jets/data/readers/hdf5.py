"""Reader of HDF5 files: datasets with one entry a row, pandas tables among them, in bounded memory.

The datasets with the same number of rows in a group, and in the groups below it, are a table: `name.below` is a dataset
of a group below. A table of pandas has its columns as branches, other datasets are as in `arrays.py`. Columns numbered
from 0 (`E_0`, `E_1`, ...) make a list under the name before the number (`E`); columns named by numbers alone (`0`, `1`,
..., a table without names) make the list `columns`.

Other files that a file refers to (external links, virtual datasets, external storage) are opened only if the user asks
for it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import takewhile
from typing import Any

import awkward as ak
import h5py
import numpy as np
import numpy.typing as npt

from ssl_jets.arrays import Array
from ssl_jets.data.identity import BLOCK, block, positions
from ssl_jets.data.readers.arrays import MIN_STEP, ArrayTable, Cell, Location, branches_of, by_rows, located
from ssl_jets.data.readers.base import readable
from ssl_jets.data.readers.hdf5_datasets import check_compression, datasets, unusable
from ssl_jets.data.readers.pandas import column_names

NOUN = "group"

_STEP = 10_000
"""Rows of lists that are read at once to count their values."""


class Group(ArrayTable):
    """Datasets with the same number of rows in a group of an open file, and in the groups below it.

    Args:
        name: name of the group; "" for the root group.
        datasets: the datasets, by their names from the group on, joined by dots.
        ignored: all other datasets, with the reason.
    """

    def __init__(self, name: str, datasets: Mapping[str, h5py.Dataset], ignored: Mapping[str, str] = {}) -> None:
        locations, ambiguous = located(_branches(key, dataset) for key, dataset in datasets.items())
        series = _numbered(locations)
        self._in_series = {name for members in series.values() for name in members}
        locations |= {name: _joined(locations, members) for name, members in series.items()}
        super().__init__(datasets, locations, {**ignored, **ambiguous})
        self.name, self._datasets = name, datasets

    def flat(self) -> tuple[str, ...]:
        """Return branches with one number per row, without those that make up a list."""
        return tuple(name for name in super().flat() if name not in self._in_series)

    def cell(self, name: str) -> Cell:
        """Return type and shape of one row of a branch; a list of its own length is one more axis, of length -1."""
        cell = super().cell(name)
        numbers = h5py.check_vlen_dtype(cell.dtype)
        # h5py returns the bytes of numbers of the other byte order as they are: such lists are no numbers.
        if numbers is None or h5py.check_string_dtype(cell.dtype) is not None or not np.dtype(numbers).isnative:
            return cell
        return Cell(np.dtype(numbers), (*cell.shape, -1), cell.at)

    def lengths(self, name: str) -> npt.NDArray[np.int64]:
        if -1 not in self.cell(name).shape:
            return super().lengths(name)
        steps = range(0, self.entries, _STEP)
        lists = (self.read([name], start, min(start + _STEP, self.entries), name)[name] for start in steps)
        return np.concatenate([np.zeros(0, np.int64), *(ak.num(some).to_numpy() for some in lists)])

    def is_text(self, name: str) -> bool:
        cell = self.cell(name)
        return h5py.check_string_dtype(cell.dtype) is not None and cell.axes == 0

    def boundaries(self, names: Sequence[str]) -> tuple[int, ...]:
        """Return the rows at which the chunks of all datasets begin, from 0 to the number of rows."""
        # Chunks of 100 and 300 rows begin together every 300 rows -> a step of 1,200, the first multiple above 1,000.
        sizes = []
        for key in {self._locations[name].array for name in names}:
            chunks = self._datasets[key].chunks
            sizes.append(chunks[0] if chunks else 1)
        step = min(math.lcm(*sizes), max(self.entries, 1))
        step *= -(-MIN_STEP // step)
        return (*range(0, self.entries, step), self.entries)

    def read(self, names: Sequence[str], start: int, stop: int, where: object) -> dict[str, Any]:
        """Read rows `start` to `stop`."""

        def rows(name: str) -> Array:
            check_compression(self._datasets[name], where)
            block: Array = self._datasets[name][start:stop]
            return block

        arrays = self.read_arrays(names, stop - start, rows, where)
        cells = {name: self.cell(name) for name in names}
        return {
            name: _lists(arrays[name], cell.dtype) if -1 in cell.shape else arrays[name] for name, cell in cells.items()
        }

    def stored(self) -> Iterator[object]:
        """Yield names, types and shapes of the datasets, and the first bytes of some rows or chunks."""
        members = list(self._datasets.items())
        for name, dataset in members:
            yield name, dataset.dtype.descr, dataset.shape, dataset.chunks
        for index, at in positions(len(members) if self.entries else 0):
            yield from _stored(members[index][1], int(at * self.entries))


@contextmanager
def open_tables(path: str, external: bool = False) -> Iterator[list[Group]]:
    """Open all tables of a file; groups below a group belong to its tables as well.

    Raises:
        DataError: the file cannot be read, is truncated or corrupt, or refers to other files.
    """
    with readable(path, "HDF5"), h5py.File(path, "r") as file:
        paths = datasets(file, path, external)
        yield list(_tables(paths, {name: unusable(dataset, path, external) for name, dataset in paths.items()}))


def read(path: str, table: str, names: Sequence[str], start: int, stop: int) -> dict[str, Any]:
    """Read rows `start` to `stop` of the branches `names`, of a file that was opened before.

    Raises:
        DataError: the file cannot be read, is truncated or corrupt, or compressed in a way that cannot be read here.
    """
    with readable(path, "HDF5"), h5py.File(path, "r") as file:
        found = datasets(file[table or "/"], path, external=True)
        usable = {name: dataset for name, dataset in found.items() if dataset.ndim}
        of_group = (group for group in _tables(usable, dict.fromkeys(usable)) if not group.name)
        return next(group for group in of_group if {*names} <= {*group.branches}).read(names, start, stop, path)


def _tables(paths: Mapping[str, h5py.Dataset], reasons: Mapping[str, str | None]) -> Iterator[Group]:
    """Yield the tables of each group, one for each number of rows.

    Args:
        paths: all datasets by their paths.
        reasons: why a dataset cannot be used; None if it can.
    """
    groups: dict[str, dict[str, list[str]]] = {}
    for path in paths:
        parts = path.split("/")
        for depth in range(len(parts)):  # a/b/c -> b.c of the group a, ...
            groups.setdefault("/".join(parts[:depth]), {}).setdefault(".".join(parts[depth:]), []).append(path)
    for group, names in groups.items():
        rows = {
            name: reasons[path] or len(paths[path]) if not more else f"a name of {1 + len(more)} datasets"
            for name, (path, *more) in names.items()
        }
        for members, ignored in by_rows(rows):
            yield Group(group, {name: paths[names[name][0]] for name in members}, ignored)


def _branches(name: str, dataset: h5py.Dataset) -> dict[str, Location]:
    """Return the branches of one dataset."""
    named = column_names(dataset)
    if not named:
        return branches_of(name, dataset)
    group = name[: name.rfind(".") + 1]
    return {f"{group}{column}": Location(name, fields, at) for column, (fields, at) in named.items()}


def _lists(rows: Array, dtype: np.dtype[Any]) -> ak.Array:
    """Return rows, each an array of its own length, as lists."""
    contents = np.concatenate([np.empty(0, dtype), *rows])
    return ak.unflatten(contents, np.array([len(one) for one in rows], dtype=np.int64))


def _stored(dataset: h5py.Dataset, row: int) -> Iterator[object]:
    """Yield the bytes from a row on, or the size and the bytes of its chunk, which are the same in every copy."""
    if dataset.chunks:
        first = (row // dataset.chunks[0] * dataset.chunks[0], *(0,) * (dataset.ndim - 1))
        chunk = dataset.id.get_chunk_info_by_coord(first)
        start, size = chunk.byte_offset, chunk.size
        yield size
    else:
        width = dataset.dtype.itemsize * math.prod(dataset.shape[1:])
        start, size = dataset.id.get_offset(), (len(dataset) - row) * width
        start = None if start is None else start + row * width
    if start is not None:
        yield block(start, size)
    elif not dataset.dtype.hasobject:  # in the header, in other files, or never written
        yield dataset[row].tobytes()[:BLOCK]


def _numbered(locations: dict[str, Location]) -> dict[str, list[str]]:
    """Return the lists that numbered columns of one block make up: `E_0`, `E_1`, `E_3` -> `E`: `E_0`, `E_1`."""
    series: dict[str, dict[int, str]] = {}
    for name, location in locations.items():
        if isinstance(location.at, int) and (match := re.fullmatch(r"(?:(.+)_)?(0|[1-9]\d*)", name)):
            series.setdefault(match[1] or "columns", {})[int(match[2])] = name
    lists = {}
    for name, members in series.items():
        run = [members[number] for number in takewhile(members.__contains__, range(len(members)))]
        if len(run) > 1 and len({locations[member][:2] for member in run}) == 1 and name not in locations:
            lists[name] = run
    return lists


def _joined(locations: dict[str, Location], members: Sequence[str]) -> Location:
    """Return the location of a list from the locations of its columns."""
    columns = [locations[member] for member in members]
    return columns[0]._replace(at=[column.at for column in columns if isinstance(column.at, int)])
