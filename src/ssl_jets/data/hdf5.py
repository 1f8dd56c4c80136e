"""HDF5 files: datasets of one entry a row, pandas tables among them, and ranges of rows in bounded memory.

A group that holds datasets is a table. Its branches are the datasets of as many rows as most of them have, and of these
`name[3]`, place 3 of the last axis of an array of numbers; `name.field`, a field of a compound type; for tables of
pandas their columns. Columns numbered from 0 (`E_0`, `E_1`, ...) make a list under the name before the number (`E`);
those that are nothing but numbers (`0`, `1`, ..., a table without names) the list `columns`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from typing import Any, NamedTuple

import h5py
import numpy as np
import numpy.typing as npt

from ssl_jets.data.identity import BLOCK, block, positions
from ssl_jets.data.pandas_table import column_names
from ssl_jets.data.readers import Number, readable
from ssl_jets.errors import DataError

NOUN = "group"

_STEP = 1000
"""Rows between two places at which a read may begin, at least."""

_PLUGINS = {32001: "blosc", 32026: "blosc2", 307: "bzip2", 305: "lzo", 32000: "lzf", 32004: "lz4", 32015: "zstd"}
"""Numbers of compressions that HDF5 itself does not know, as PyTables and others use them."""

Array = npt.NDArray[Any]


class _Place(NamedTuple):
    """Where the numbers of a branch are.

    Attributes:
        dataset: name in the group.
        field: of a compound type; "" otherwise.
        at: place or places on the last axis; None for all.
    """

    dataset: str
    field: str = ""
    at: int | list[int] | None = None


class Group:
    """A group of an open file."""

    def __init__(self, name: str, group: h5py.Group) -> None:
        self.name = name
        self._group = group
        datasets = {key: value for key, value in group.items() if isinstance(value, h5py.Dataset) and value.ndim}
        rows = Counter(len(dataset) for dataset in datasets.values())
        self.entries = max(rows, key=lambda count: (rows[count], count), default=0)
        if "block0_values" in datasets:  # pandas: there are as many names of columns, and perhaps more of them
            self.entries = len(datasets["block0_values"])
        self._places: dict[str, _Place] = {}
        for key, dataset in datasets.items():
            if len(dataset) == self.entries:
                self._places |= _branches(key, dataset)
        series = _numbered(self._places)
        self._in_series = {name for members in series.values() for name in members}
        self._places |= {name: _joined(self._places, members) for name, members in series.items()}
        self.branches = tuple(self._places)

    def flat(self) -> tuple[str, ...]:
        """Branches with one number per row, but for those that make up a list."""
        return tuple(name for name in self.branches if self._axes(name) == 0 and name not in self._in_series)

    def not_lists(self, names: Sequence[str]) -> list[str]:
        """Those of the branches `names` that do not hold a list of numbers per row."""
        return [name for name in names if self._axes(name) != 1]

    def typename(self, name: str) -> str:
        """Type and shape of a branch."""
        place = self._places[name]
        dtype, shape = _cell(self._group[place.dataset], place.field)
        return f"{dtype}[{', '.join(map(str, shape))}]"

    def number(self, name: str) -> Number:
        """The type of the numbers of a branch."""
        place = self._places[name]
        return Number(_cell(self._group[place.dataset], place.field)[0].newbyteorder("="))

    def clusters(self, names: Sequence[str]) -> tuple[int, ...]:
        """Rows at which the chunks of all datasets begin, from 0 to the number of rows."""
        datasets = {self._places[name].dataset for name in names}
        sizes = [dataset.chunks[0] if dataset.chunks else 1 for dataset in map(self._group.__getitem__, datasets)]
        step = min(math.lcm(*sizes), max(self.entries, 1))
        step *= -(-_STEP // step)
        return (*range(0, self.entries, step), self.entries)

    def lengths(self, name: str) -> npt.NDArray[np.int64]:
        """How many numbers a branch of lists has in each row: as many places in all."""
        at = self._places[name].at
        width = len(at) if isinstance(at, list) else _cell(self._group[self._places[name].dataset], "")[1][0]
        return np.full(self.entries, width, dtype=np.int64)

    def read(self, names: Sequence[str], start: int, stop: int) -> dict[str, Array]:
        """Rows `start` to `stop`; each dataset is read once, however many branches come of it."""
        places = {name: self._places[name] for name in names}
        blocks: dict[str, Array] = {}
        found = {}
        for name, place in places.items():
            if place.dataset not in blocks:
                blocks[place.dataset] = self._group[place.dataset][start:stop]
            block = blocks[place.dataset]
            block = block[place.field] if place.field else block
            found[name] = block if place.at is None else block[..., place.at]
        return found

    def stored(self) -> Iterator[object]:
        """Yield names, types and shapes of the datasets, and beginnings of some of their rows or chunks."""
        names = list(dict.fromkeys(place.dataset for place in self._places.values()))
        datasets = [self._group[name] for name in names]
        for name, dataset in zip(names, datasets):
            yield name, dataset.dtype.descr, dataset.shape, dataset.chunks
        for index, at in positions(len(datasets) if self.entries else 0):
            yield from _stored(datasets[index], int(at * self.entries))

    def _axes(self, name: str) -> int:
        """Axes of what a row of a branch holds; -1 where that is not numbers."""
        place = self._places[name]
        dtype, shape = _cell(self._group[place.dataset], place.field)
        return len(shape) - isinstance(place.at, int) if dtype.kind in "biuf" else -1


@contextmanager
def open_tables(path: str) -> Iterator[list[Group]]:
    """All groups of a file that hold datasets; that of the root is called "".

    Raises:
        DataError: the file cannot be read, is truncated or corrupt, or compressed in a way that cannot be read here.
    """
    with readable(path, "HDF5"), h5py.File(path, "r") as file:
        names = [""]
        # Names with an underscore in front hold indices of PyTables.
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Group) else None)
        names = [name for name in names if not any(part.startswith("_i_") for part in name.split("/"))]
        tables = [Group(name, file[name or "/"]) for name in names]
        yield [table for table in tables if table.branches]


def read(path: str, table: str, names: Sequence[str], start: int, stop: int) -> dict[str, Array]:
    """Rows `start` to `stop` of the branches `names`.

    Raises:
        DataError: the file cannot be read, is truncated or corrupt, or compressed in a way that cannot be read here.
    """
    with readable(path, "HDF5"), h5py.File(path, "r") as file:
        group = file[table or "/"]
        _check_compression(group, path)
        return Group(table, group).read(names, start, stop)


def _branches(name: str, dataset: h5py.Dataset) -> dict[str, _Place]:
    """The branches of one dataset."""
    if named := column_names(dataset):
        return {column: _Place(name, field, at) for column, (field, at) in named.items()}
    fields = dataset.dtype.names
    if fields:
        return {f"{name}.{field}": _Place(name, field) for field in fields}
    found = {name: _Place(name)}
    if dataset.ndim > 1:
        found |= {f"{name}[{at}]": _Place(name, "", at) for at in range(dataset.shape[-1])}
    return found


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


def _check_compression(group: h5py.Group, path: str) -> None:
    """Refuse a compression for which there is no plugin; the package hdf5plugin brings those there are."""
    for dataset in (item for item in group.values() if isinstance(item, h5py.Dataset)):
        settings = dataset.id.get_create_plist()
        for index in range(settings.get_nfilters()):
            number = settings.get_filter(index)[0]
            if not h5py.h5z.filter_avail(number) and not _plugin_is_loaded(number):
                name = _PLUGINS.get(number, f"filter {number}")
                raise DataError(
                    f"the file is compressed with {name}, which HDF5 cannot read by itself",
                    where=path,
                    found=f"dataset {dataset.name}",
                    hint="pip install hdf5plugin, and try again",
                )


def _plugin_is_loaded(number: int) -> bool:
    try:
        import hdf5plugin  # noqa: F401  importing it registers its filters
    except ImportError:
        return False
    return bool(h5py.h5z.filter_avail(number))
