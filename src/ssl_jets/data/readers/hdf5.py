"""HDF5 files: datasets of one entry a row, pandas tables among them, and ranges of rows in bounded memory.

The datasets of one number of rows in a group, and in the groups below it, are a table: `name.below` is a dataset of a
group below. Its branches are the datasets, and of these `name[3]`, place 3 of the last axis of an array of numbers;
`name.field`, a field of a compound type; for tables of pandas their columns. Columns numbered from 0 (`E_0`, `E_1`,
...) make a list under the name before the number (`E`); those that are nothing but numbers (`0`, `1`, ..., a table
without names) the list `columns`.

Other files that a file leads to (external links, virtual datasets, external storage) are opened only where the user
asks for it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import takewhile
from typing import Any, NamedTuple

import h5py
import numpy as np
import numpy.typing as npt

from ssl_jets.arrays import Array
from ssl_jets.data.identity import BLOCK, block, positions
from ssl_jets.data.readers.base import MOST_PLACES, Number, check_read, readable
from ssl_jets.data.readers.hdf5_datasets import check_compression, datasets, row_bytes, unusable
from ssl_jets.data.readers.pandas import column_names

NOUN = "group"


_STEP = 1000
"""Rows between two places at which a read may begin, at least."""


class _Place(NamedTuple):
    """Where the numbers of a branch are.

    Attributes:
        dataset: name from the group on.
        field: of a compound type; "" otherwise.
        at: place or places on the last axis; None for all.
    """

    dataset: str
    field: str = ""
    at: int | list[int] | None = None


class Group:
    """The datasets of one number of rows in a group of an open file, and in the groups below it.

    Args:
        name: the group; that of the root is called "".
        datasets: the datasets, by their names from the group on with dots between.
        ignored: datasets that are not among them, with the reason.
    """

    def __init__(self, name: str, datasets: Mapping[str, h5py.Dataset], ignored: Mapping[str, str] = {}) -> None:
        self.name, self.ignored = name, ignored
        self.entries = len(next(iter(datasets.values())))
        self._datasets = datasets
        self._places: dict[str, _Place] = {}
        for key, dataset in datasets.items():
            self._places |= _branches(key, dataset)
        series = _numbered(self._places)
        self._in_series = {name for members in series.values() for name in members}
        self._places |= {name: _joined(self._places, members) for name, members in series.items()}
        self.branches = tuple(self._places)

    def flat(self) -> tuple[str, ...]:
        """Branches with one number per row, but for those that make up a list."""
        return tuple(name for name in self.branches if self.depth(name) == 0 and name not in self._in_series)

    def not_lists(self, names: Sequence[str]) -> list[str]:
        """Those of the branches `names` that do not hold a list of numbers per row."""
        return [name for name in names if self.depth(name) != 1]

    def typename(self, name: str) -> str:
        """Type and shape of a branch."""
        place = self._places[name]
        dtype, shape = _cell(self._datasets[place.dataset], place.field)
        return f"{dtype}[{', '.join(map(str, shape))}]"

    def number(self, name: str) -> Number:
        """The type of the numbers of a branch."""
        place = self._places[name]
        return Number(_cell(self._datasets[place.dataset], place.field)[0].newbyteorder("="))

    def clusters(self, names: Sequence[str]) -> tuple[int, ...]:
        """Rows at which the chunks of all datasets begin, from 0 to the number of rows."""
        datasets = {self._places[name].dataset for name in names}
        sizes = [dataset.chunks[0] if dataset.chunks else 1 for dataset in map(self._datasets.__getitem__, datasets)]
        step = min(math.lcm(*sizes), max(self.entries, 1))
        step *= -(-_STEP // step)
        return (*range(0, self.entries, step), self.entries)

    def lengths(self, name: str) -> npt.NDArray[np.int64]:
        """How many numbers a branch of lists has in each row: as many places in all."""
        at = self._places[name].at
        width = len(at) if isinstance(at, list) else _cell(self._datasets[self._places[name].dataset], "")[1][0]
        return np.full(self.entries, width, dtype=np.int64)

    def read(self, names: Sequence[str], start: int, stop: int, where: object) -> dict[str, Array]:
        """Rows `start` to `stop`; each dataset is read once, however many branches come of it."""
        places = {name: self._places[name] for name in names}
        needed = {place.dataset: self._datasets[place.dataset] for place in places.values()}
        for dataset in needed.values():
            check_compression(dataset, where)
        check_read(sum(row_bytes(dataset) for dataset in needed.values()) * (stop - start), where)
        blocks = {name: dataset[start:stop] for name, dataset in needed.items()}
        result = {}
        for name, place in places.items():
            block = blocks[place.dataset]
            block = block[place.field] if place.field else block
            result[name] = block if place.at is None else block[..., place.at]
        return result

    def stored(self) -> Iterator[object]:
        """Yield names, types and shapes of the datasets, and beginnings of some of their rows or chunks."""
        members = list(self._datasets.items())
        for name, dataset in members:
            yield name, dataset.dtype.descr, dataset.shape, dataset.chunks
        for index, at in positions(len(members) if self.entries else 0):
            yield from _stored(members[index][1], int(at * self.entries))

    def depth(self, name: str) -> int:
        """Axes of a row of a branch, at most one; -1 of others, and where it holds no numbers."""
        place = self._places[name]
        dtype, shape = _cell(self._datasets[place.dataset], place.field)
        axes = len(shape) - isinstance(place.at, int)
        return axes if axes < 2 and dtype.kind in "biuf" else -1

    def is_text(self, name: str) -> bool:
        """Whether a branch holds one string per row."""
        place = self._places[name]
        dtype, shape = _cell(self._datasets[place.dataset], place.field)
        return h5py.check_string_dtype(dtype) is not None and len(shape) == (0 if place.at is None else 1)


@contextmanager
def open_tables(path: str, external: bool = False) -> Iterator[list[Group]]:
    """All tables of a file; groups below a group belong to its tables as well.

    Args:
        path: the file.
        external: whether to open other files that it leads to.

    Raises:
        DataError: the file cannot be read, is truncated or corrupt, or leads to other files.
    """
    with readable(path, "HDF5"), h5py.File(path, "r") as file:
        paths = datasets(file, path, external)
        yield list(_tables(paths, {name: unusable(dataset, path, external) for name, dataset in paths.items()}))


def read(path: str, table: str, names: Sequence[str], start: int, stop: int) -> dict[str, Array]:
    """Rows `start` to `stop` of the branches `names`, of a file that was opened before.

    Raises:
        DataError: the file cannot be read, is truncated or corrupt, or compressed in a way that cannot be read here.
    """
    with readable(path, "HDF5"), h5py.File(path, "r") as file:
        paths = {name: one for name, one in datasets(file[table or "/"], path, external=True).items() if one.ndim}
        of_group = (one for one in _tables(paths, dict.fromkeys(paths)) if not one.name)
        return next(one for one in of_group if {*names} <= {*one.branches}).read(names, start, stop, path)


def _tables(paths: Mapping[str, h5py.Dataset], reasons: Mapping[str, str | None]) -> Iterator[Group]:
    """The tables of each group, one for each number of rows.

    Args:
        paths: all datasets by their paths.
        reasons: why a dataset cannot be used; None where it can.
    """
    groups: dict[str, dict[str, str]] = {}
    for path in paths:
        parts = path.split("/")
        for depth in range(len(parts)):  # a/b/c -> b.c of the group a, ...
            groups.setdefault("/".join(parts[:depth]), {})[".".join(parts[depth:])] = path
    for group, names in groups.items():
        rows: dict[int, dict[str, h5py.Dataset]] = {}
        for name, path in names.items():
            if reasons[path] is None:
                rows.setdefault(len(paths[path]), {})[name] = paths[path]
        for members in rows.values():
            others = {name: path for name, path in names.items() if name not in members}
            ignored = {name: reasons[path] or f"{len(paths[path]):,} rows" for name, path in others.items()}
            yield Group(group, members, ignored)


def _branches(name: str, dataset: h5py.Dataset) -> dict[str, _Place]:
    """The branches of one dataset."""
    if named := column_names(dataset):
        group = name[: name.rfind(".") + 1]
        return {f"{group}{column}": _Place(name, field, at) for column, (field, at) in named.items()}
    fields = dataset.dtype.names
    if fields:
        return {f"{name}.{field}": _Place(name, field) for field in fields}
    branches = {name: _Place(name)}
    if dataset.ndim > 1 and dataset.shape[-1] <= MOST_PLACES:
        branches |= {f"{name}[{at}]": _Place(name, "", at) for at in range(dataset.shape[-1])}
    return branches


def _stored(dataset: h5py.Dataset, row: int) -> Iterator[object]:
    """Yield the bytes from a row on, or the size and the bytes of its chunk; they are the same in every copy."""
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


def _numbered(places: dict[str, _Place]) -> dict[str, list[str]]:
    """Names of lists, each with the columns that make it up: numbered from 0, and in one block."""
    series: dict[str, dict[int, str]] = {}
    for name, place in places.items():
        if isinstance(place.at, int) and (match := re.fullmatch(r"(?:(.+)_)?(0|[1-9]\d*)", name)):
            series.setdefault(match[1] or "columns", {})[int(match[2])] = name
    found = {}
    for name, members in series.items():
        run = [members[number] for number in takewhile(members.__contains__, range(len(members)))]
        if len(run) > 1 and len({places[member][:2] for member in run}) == 1 and name not in places:
            found[name] = run
    return found


def _joined(places: dict[str, _Place], members: Sequence[str]) -> _Place:
    return places[members[0]]._replace(
        at=[at for at in (places[member].at for member in members) if isinstance(at, int)]
    )


def _cell(dataset: h5py.Dataset, field: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Type of the numbers and shape of one row."""
    dtype = dataset.dtype[field] if field else dataset.dtype
    base, inner = dtype.subdtype or (dtype, ())
    return base, (*dataset.shape[1:], *inner)
