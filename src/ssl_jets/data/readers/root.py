"""Reader of ROOT files: trees (TTree or RNTuple), their branches, and ranges of entries as awkward arrays."""

from __future__ import annotations

import os
import re
import struct
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import awkward as ak
import numpy as np
import numpy.typing as npt
import uproot
from uproot.const import RNTupleFieldRole
from uproot.source.file import MultithreadedFileSource

from ssl_jets.data.identity import BLOCK, block, positions
from ssl_jets.data.readers.base import Number, check_rows, readable
from ssl_jets.data.readers.basket_index import BasketIndex, read_indexed, remember
from ssl_jets.data.readers.open_trees import OpenTrees
from ssl_jets.data.readers.remote import is_remote, patiently
from ssl_jets.errors import DataError

NOUN = "tree"

_NTUPLE = "ROOT::RNTuple"

_OPENED = threading.local()

_NUMBERS = {"float": "f4", "double": "f8", "bool": "?", "char": "i1"} | {
    f"std::{u}int{bits}_t": f"{u or 'i'}{bits // 8}" for u in ("", "u") for bits in (8, 16, 32, 64)
}
"""C++ type of a number to its numpy type."""

_LIST = re.compile(r"^(?:std::vector|ROOT::VecOps::RVec|std::array)<(.*?)(?:, *\d+)?>$")
_OPTIONAL = re.compile(r"std::optional<(.*)>")


class Tree:
    """TTree of an open file."""

    def __init__(self, name: str, tree: Any) -> None:
        self.name, self.ignored = name, dict[str, str]()
        self._tree = tree
        # One text for the branches of all files: of 2,000 files with 300 branches they would take 40 MB.
        self.branches: tuple[str, ...] = tuple(map(sys.intern, dict.fromkeys(tree.keys(full_paths=False))))
        self.entries = int(tree.num_entries)

    def index(self, path: str) -> BasketIndex | None:
        """Index the baskets of a local file: `read` then needs no tree, as long as the index is referred to."""
        if is_remote(path):
            return None
        return remember(path, self.name, BasketIndex.of(self._tree))

    def flat(self) -> tuple[str, ...]:
        """Return the branches with one number per entry, without the counters of jagged branches."""
        names = [name for name in self.branches if _is_number(self._tree[name].interpretation)]
        return tuple(name for name in names if not self._is_counter(name))

    def _is_counter(self, name: str) -> bool:
        return any(leaf.member("fIsRange") for leaf in self._tree[name].member("fLeaves"))

    def depth(self, name: str) -> int:
        interpretation = self._tree[name].interpretation
        if _is_number(interpretation):
            return 0
        return 1 if _is_list_of_numbers(interpretation) else _levels(self.typename(name))

    def is_text(self, name: str) -> bool:
        return isinstance(self._tree[name].interpretation, uproot.AsStrings)

    def typename(self, name: str) -> str:
        return str(self._tree[name].typename)

    def number(self, name: str) -> Number:
        interpretation = self._tree[name].interpretation
        inner = interpretation.content if isinstance(interpretation, uproot.AsJagged) else interpretation
        return Number(np.dtype(np.dtype(inner.to_dtype).base.newbyteorder("=").str))  # the one object of this type

    def boundaries(self, names: Sequence[str]) -> tuple[int, ...]:
        """Return the entries at which the baskets of all branches `names` begin, from 0 to the number of entries."""
        # Baskets at 0, 20, 40 of one branch and at 0, 40 of another -> 0, 40 and the number of entries.
        common: set[int] | None = None
        for name in names:
            offsets = set(self._tree[name].entry_offsets)
            common = offsets if common is None else common & offsets
        return tuple(sorted((common or set()) | {0, self.entries}))

    def lengths(self, name: str) -> npt.NDArray[np.int64]:
        return _lengths(self._tree[name].array(array_cache=None))

    def stored(self) -> Iterator[object]:
        """Yield names of branches, sizes of their baskets, and the last bytes of some: the first hold dates."""
        filled = []
        for name in self.branches:
            branch = self._tree[name]
            on_disk = int(np.count_nonzero(branch.member("fBasketSeek")[: branch.num_baskets]))
            sizes = branch.member("fBasketBytes")[:on_disk].tolist()
            yield name, sizes
            # Baskets of a tree that was never closed properly are in the header of the tree.
            yield from (bytes(basket.data[:BLOCK]) for basket in branch.embedded_baskets)
            filled += [(branch.member("fBasketSeek"), sizes)] if sizes else []
        for index, at in positions(len(filled)):
            seek, sizes = filled[index]
            basket = int(at * len(sizes))
            taken = min(sizes[basket] // 2, BLOCK)
            yield block(int(seek[basket]) + sizes[basket] - taken, taken)


class NTuple:
    """RNTuple (the successor of TTree) of an open file. Names of inner fields have dots."""

    def __init__(self, name: str, ntuple: Any) -> None:
        self.name, self.ignored = name, dict[str, str]()
        self._ntuple = ntuple
        self._items = dict(ntuple.items(recursive=True))
        self.branches: tuple[str, ...] = tuple(self._items)
        self.entries = int(ntuple.num_entries)

    def index(self, path: str) -> None:
        """Return nothing: an RNTuple is opened again by `read`."""

    def flat(self) -> tuple[str, ...]:
        return tuple(name for name in self.branches if self._plain(name) in _NUMBERS and not self._lists_around(name))

    def _lists_around(self, name: str) -> int:
        """Count the lists of records, also of fixed length, that a field is part of: 2 for `list<list<{name}>>`."""
        records, record, lists = self._ntuple.field_records, self._items[name].record, 0
        while (outer := records[record.parent_field_id]) is not record:  # the parent of a top-level field is itself
            record = outer
            is_list = record.struct_role == RNTupleFieldRole.COLLECTION and not _OPTIONAL.match(record.type_name)
            lists += is_list or record.repetition > 0
        return lists

    def depth(self, name: str) -> int:
        levels = _levels(self._plain(name))
        return levels + self._lists_around(name) if levels >= 0 else levels

    def is_text(self, name: str) -> bool:
        return self._plain(name) == "std::string" and not self._lists_around(name)

    def typename(self, name: str) -> str:
        return str(self._items[name].typename)

    def _plain(self, name: str) -> str:
        """Return the C++ type of a field without `std::optional`."""
        typename = self.typename(name)
        while (shorter := _OPTIONAL.sub(r"\1", typename)) != typename:
            typename = shorter
        return typename

    def number(self, name: str) -> Number:
        """Return the type of the numbers of a field or of its lists; numbers of an optional field may be missing."""
        dtype = np.dtype(_NUMBERS[_LIST.sub(r"\1", self._plain(name))])
        return Number(dtype, dtype.kind != "f" and self._plain(name) != self.typename(name))

    def boundaries(self, names: Sequence[str]) -> tuple[int, ...]:
        """Return the entries at which clusters begin, from 0 to the number of entries."""
        starts = {int(summary.num_first_entry) for summary in self._ntuple.cluster_summaries}
        return tuple(sorted(starts | {0, self.entries}))

    def lengths(self, name: str) -> npt.NDArray[np.int64]:
        return _lengths(self._items[name].array())

    def stored(self) -> Iterator[object]:
        """Yield names of fields, sizes of the pages of each cluster, and the first bytes of some pages."""
        clusters = [[column.pages for column in columns] for columns in self._ntuple.page_link_list]
        yield self.branches
        yield [[[page.locator.num_bytes for page in pages] for pages in columns] for columns in clusters]
        for index, at in positions(len(self._ntuple.column_records)):
            columns = clusters[int(at * len(clusters))] if clusters else []
            if index < len(columns) and columns[index]:
                page = columns[index][0].locator
                yield block(page.offset, page.num_bytes)


@contextmanager
def open_tables(path: str, external: bool = False) -> Iterator[list[Tree | NTuple]]:
    """Open all trees of a file, the newest cycle of each.

    Raises:
        DataError: the file cannot be read, is not a ROOT file, or is truncated or corrupt.
    """
    with readable(path, "ROOT"), _open(path) as file:
        classes = file.classnames(cycle=False, filter_classname=lambda name: name in ("TTree", _NTUPLE))
        yield [(NTuple if classname == _NTUPLE else Tree)(name, file[name]) for name, classname in classes.items()]


def read(path: str, tree: str, branches: Sequence[str], start: int, stop: int) -> dict[str, ak.Array]:
    """Read entries `start` to `stop` of the given branches.

    Raises:
        DataError: the file cannot be read, or is truncated or corrupt.
    """
    names = set(branches)
    with readable(path, "ROOT"):
        arrays: Mapping[str, ak.Array] | None = None
        if not is_remote(path):
            arrays = read_indexed(path, tree, names, start, stop)
        if arrays is None:
            read_tree = partial(_read_opened, path, tree, names, start, stop)
            arrays = patiently(read_tree, path, lambda: _OPENED.__dict__.pop("trees", None))
        check_rows(arrays, stop - start)
    return dict(arrays)


def _read_opened(path: str, tree: str, names: set[str], start: int, stop: int) -> Mapping[str, ak.Array]:
    """Read entries of any branches with the tree itself."""
    opened, entries = _opened(path, tree), {"entry_start": start, "entry_stop": stop}
    caches, inner = {"array_cache": None}, set[str]()
    if opened.classname == _NTUPLE:
        caches, inner = {}, names - set(opened.keys(recursive=False))
    chosen = (names - inner).__contains__
    arrays: dict[str, ak.Array] = opened.arrays(filter_name=chosen, library="ak", how=dict, **entries, **caches)
    # Read together, fields of one record would come as the record.
    return arrays | {name: opened[name].array(**entries) for name in inner}


def _opened(path: str, tree: str) -> Any:
    """Return a tree, kept open in this thread."""
    # Size and time in the key: a file that was written anew is opened anew. (For a remote file this would cost a
    # request per chunk.)
    status = None if is_remote(path) else os.stat(path)
    key = (path, tree, status.st_size, status.st_mtime_ns) if status else (path, tree, 0, 0)
    trees: OpenTrees = _OPENED.__dict__.setdefault("trees", OpenTrees())
    return trees.get(key, lambda: _open(path)[tree])


def _open(path: str) -> Any:
    # Without uproot's caches, which would keep up to 100 MB of arrays.
    caches = {"object_cache": None, "array_cache": None}
    if is_remote(path):
        return uproot.open(path, **caches)
    _check_header(path)
    # Not by memory map: if a mapped file is cut short, or its disk fails, the process is killed by SIGBUS.
    # As {file: no object}: a colon in the file name then names no tree, and `a::b` is no address.
    local = {"handler": MultithreadedFileSource, "use_threads": False, "num_workers": 1}
    return uproot.open({os.path.abspath(path): None}, **local, **caches)


def _check_header(path: str) -> None:
    """Check that a file is a ROOT file, and as long as its header claims (a copy may be cut off)."""
    with open(path, "rb") as file:
        header = file.read(20)
    if header[:4] != b"root":
        raise DataError("this is not a ROOT file", where=path, found=f"it begins with {header[:8]!r}")
    size = os.path.getsize(path)
    if len(header) < 20:
        raise DataError("the ROOT file is truncated", where=path, found=f"{size} bytes")
    version: int = struct.unpack(">i", header[4:8])[0]
    # Files over 2 GB have a version above a million, and their end as 64 bits.
    end: int = struct.unpack(">q", header[12:20])[0] if version >= 1_000_000 else struct.unpack(">i", header[12:16])[0]
    if size < end:
        raise DataError(
            "the ROOT file is truncated",
            where=path,
            found=f"{size} bytes, its header claims {end}",
            hint="copy or download the file again",
        )


def _lengths(lists: ak.Array) -> npt.NDArray[np.int64]:
    return np.asarray(ak.fill_none(ak.num(lists, axis=1), 0), dtype=np.int64)


def _levels(typename: str) -> int:
    """Return the levels of lists in a C++ type: `std::vector<std::vector<float>>` -> 2, `float` -> 0, `TRef` -> -1."""
    levels = 0
    while (inner := _LIST.match(typename)) is not None:
        typename, levels = inner[1], levels + 1
    return levels if typename in _NUMBERS or f"std::{typename}" in _NUMBERS else -1


def _is_number(interpretation: object) -> bool:
    """Check for one number per entry."""
    if not isinstance(interpretation, uproot.AsDtype):
        return False
    dtype = np.dtype(interpretation.to_dtype)
    return dtype.shape == () and dtype.kind in "biuf"


def _is_list_of_numbers(interpretation: object) -> bool:
    """Check for a list of numbers per entry, of variable or of fixed length."""
    if isinstance(interpretation, uproot.AsJagged):
        return _is_number(interpretation.content)
    if not isinstance(interpretation, uproot.AsDtype):
        return False
    dtype = np.dtype(interpretation.to_dtype)
    return len(dtype.shape) == 1 and dtype.base.kind in "biuf"
