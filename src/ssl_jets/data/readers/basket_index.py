"""Index of the baskets of a ROOT tree: a file that was opened once is read without parsing its tree again.

Opening a tree takes about 10 ms, as each of its branches and leaves becomes an object; decoding 50 jets takes less. The
index keeps what a read needs: the positions of the baskets and the interpretation of each branch.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeAlias
from weakref import WeakValueDictionary

import awkward as ak
import numpy as np
from awkward.contents import ListOffsetArray, NumpyArray
from awkward.index import Index64
from uproot import AsDtype, AsJagged
from uproot.compression import decompress
from uproot.interpretation.jagged import JaggedArray
from uproot.interpretation.library import Awkward
from uproot.source.chunk import Chunk
from uproot.source.cursor import Cursor

from ssl_jets.arrays import Array

_MOST_BASKETS = 8192
"""Baskets of a tree in its index, at most: 100 kB. A read of other branches opens the tree."""

_KEY, _BASKET = struct.Struct(">ihiIhh"), struct.Struct(">Hiiii")
"""Beginning and end of the header of a basket (TKey and TBasket)."""


class _Library(Awkward):  # type: ignore[misc]
    """Arrays as uproot makes them for awkward, but numbers and lists of numbers without its general conversion.

    The conversion takes longer than decoding the jets of a small file.
    """

    def finalize(self, array: Any, *more: Any) -> Any:
        """Return a numpy array `[entry]` of numbers, or an awkward array."""
        if isinstance(array, np.ndarray) and array.ndim == 1:
            return array
        if isinstance(array, JaggedArray) and array.offsets.dtype == np.int64 and array.content.ndim == 1:
            return ak.Array(ListOffsetArray(Index64(array.offsets), NumpyArray(array.content)))
        return super().finalize(array, *more)


_LIBRARY = _Library()


Interpretation: TypeAlias = "AsDtype | AsJagged"
Branches = Mapping[str, tuple[int, Interpretation]]
"""Name of each branch, in the order of the tree, to its row in an index and its interpretation."""


class BasketIndex:
    """Positions of the baskets of a tree, for its branches of numbers and of lists of numbers.

    Attributes:
        branches: their names and interpretations, one object for all files of the same layout.
    """

    def __init__(self, branches: Sequence[Any]) -> None:
        self.branches = _layout(tuple((branch.name, _Typed(branch.interpretation)) for branch in branches))
        counts = [branch.num_baskets for branch in branches]
        self._first = np.cumsum([0, *counts])  # [branch + 1]
        # The baskets of all branches end to end, `[basket]`.
        self._seek = _joined(branch.member("fBasketSeek")[:count] for branch, count in zip(branches, counts))
        self._size = _joined(branch.member("fBasketBytes")[:count] for branch, count in zip(branches, counts))
        of_branches = [branch.member("fBasketEntry")[: count + 1] for branch, count in zip(branches, counts)]
        shared: dict[bytes, Array] = {}  # the edges are mostly the same for all branches
        self._edges = [shared.setdefault(edges.tobytes(), edges.astype(np.int64)) for edges in of_branches]

    @classmethod
    def of(cls, tree: Any) -> BasketIndex:
        """Index a tree: lists first, then numbers, until `_MOST_BASKETS` are reached."""
        simple = [branch for branch in tree.branches if _is_simple(branch)]
        names = [branch.name for branch in simple]
        chosen, baskets = set[str](), 0
        for branch in sorted(simple, key=lambda branch: isinstance(branch.interpretation, AsDtype)):
            baskets += branch.num_baskets
            if baskets > _MOST_BASKETS:
                break
            chosen.add(branch.name)
        return cls([branch for branch in simple if branch.name in chosen and names.count(branch.name) == 1])

    def read(self, file: int, names: Collection[str], start: int, stop: int) -> dict[str, ak.Array] | None:
        """Read entries `start` to `stop` of branches, in the order of the tree; None if the index lacks one of them.

        Raises:
            ValueError: a basket is not one, or holds other numbers than the tree claims.
        """
        if not all(name in self.branches for name in names):
            return None
        arrays = {}
        for name, (row, interpretation) in self.branches.items():
            if name in names:
                array = self._branch(file, name, row, interpretation, start, stop)
                if array is None:
                    return None
                arrays[name] = array
        return arrays

    def _branch(
        self, file: int, name: str, row: int, interpretation: Interpretation, start: int, stop: int
    ) -> ak.Array | None:
        # Baskets that end at 20, 40, 60 and entries 25 to 60 -> baskets 1 and 2, with the edges 20, 40, 60.
        edges = self._edges[row]
        low = int(np.searchsorted(edges, start, "right")) - 1
        high = max(low, int(np.searchsorted(edges, stop, "left"))) if start < stop else low
        decoded = {}
        for number, at in enumerate(range(self._first[row] + low, self._first[row] + high)):
            data, offsets, entries = _basket(file, int(self._seek[at]), int(self._size[at]))
            if offsets is None and isinstance(interpretation, AsJagged):
                return None  # the lengths are in another branch
            array = interpretation.basket_array(data, offsets, None, None, {}, 0, _LIBRARY, {})
            if len(array) != entries:
                raise ValueError(f"a basket of the branch {name} has {len(array)} entries and claims {entries}")
            decoded[number] = array
        return interpretation.final_array(
            decoded, start, stop, edges[low : high + 1].tolist(), _LIBRARY, None, {"ak_add_doc": False}
        )


_INDICES: WeakValueDictionary[tuple[str, str, int, int], BasketIndex] = WeakValueDictionary()
"""Index by path, tree, size and time of the file: a file that was written anew has none."""


def remember(path: str, tree: str, index: BasketIndex) -> BasketIndex:
    """Use an index for reads of a tree of a local file, as long as the returned one is referred to."""
    return _INDICES.setdefault((path, tree, *_version(os.stat(path))), index)


def read_indexed(path: str, tree: str, names: Collection[str], start: int, stop: int) -> dict[str, ak.Array] | None:
    """Read entries of branches of a local file by its index; None if there is none, or it lacks a branch.

    Raises:
        OSError: the file cannot be read.
        ValueError: a basket is damaged.
    """
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        index = _INDICES.get((path, tree, *_version(os.fstat(file))))
        return None if index is None else index.read(file, names, start, stop)
    finally:
        os.close(file)


def _version(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


def _basket(file: int, seek: int, size: int) -> tuple[Array, Array | None, int]:
    """Read a basket: its bytes, the offset of each entry and of the end in them (None if not stored), its entries."""
    raw = os.pread(file, size, seek)
    if len(raw) < size or size < _KEY.size + _BASKET.size + 1:
        raise ValueError(f"the file is truncated: a basket of {size} bytes at byte {seek} has {len(raw)}")
    stored, _, claimed, _, header, _ = _KEY.unpack_from(raw)
    if stored != size or not _KEY.size + _BASKET.size < header < size:
        raise ValueError(f"there is no basket of {size} bytes at byte {seek}")
    _, _, _, entries, last = _BASKET.unpack_from(raw, header - 1 - _BASKET.size)
    data = np.frombuffer(raw, np.uint8, offset=header)
    if claimed != size - header:
        whole = decompress(Chunk.wrap(None, data), Cursor(0), {}, size - header, claimed)
        data = whole.get(0, claimed, Cursor(0), {})
    border = last - header
    if border == len(data):
        return data, None, entries
    offsets = data[border:].view(">i4")[1:] - header  # in the byte order of this machine
    offsets[-1] = border
    return data[:border], offsets, entries


class _Typed:
    """Interpretation that equals any other one of the same type of numbers."""

    def __init__(self, interpretation: Interpretation) -> None:
        self.interpretation = interpretation
        self._key = interpretation.cache_key

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Typed) and self._key == other._key


@lru_cache(maxsize=64)
def _layout(branches: tuple[tuple[str, _Typed], ...]) -> Branches:
    return {name: (row, typed.interpretation) for row, (name, typed) in enumerate(branches)}


def _joined(arrays: Iterable[Array]) -> Array:
    return np.concatenate([np.empty(0, np.int64), *arrays])


def _is_simple(branch: Any) -> bool:
    """Check for a branch of numbers, or of lists of numbers, with all of its baskets in the file."""
    interpretation = branch.interpretation
    inner = interpretation.content if isinstance(interpretation, AsJagged) else interpretation
    return (
        type(inner) is AsDtype
        and inner.to_dtype.base.names is None
        and not branch.branches
        and not branch.embedded_baskets
        and branch.member("fBasketEntry")[branch.num_baskets] == branch.num_entries
    )
