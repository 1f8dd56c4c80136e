"""z files as ROOT: a TTree or RNTuple `jets` with z as a fixed-size array, and the metadata as a TObjString."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import numpy.typing as npt
import uproot
from uproot.source.file import MultithreadedFileSource

from ssl_jets.errors import DataError
from ssl_jets.zfile.columns import VECTORS, Column, Rows, spans

TREE = "jets"
METADATA = "metadata"
RNTUPLE = "ROOT::RNTuple"


class RootSink:
    """Writer of one basket per branch and block."""

    def __init__(self, path: Path, columns: Sequence[Column]) -> None:
        # Opened here: uproot takes `a::b.root` and `s3:x` for addresses.
        self._raw = path.open("w+b")
        # zstd is read by ROOT 6.20 and later, and is faster here than no compression.
        self._file = uproot.recreate(self._raw, compression=uproot.ZSTD(1))
        try:
            self._tree = self._new_tree(columns)
        except OSError:
            self.abort()
            raise

    def _new_tree(self, columns: Sequence[Column]) -> Any:
        return self._file.mktree(TREE, {column.name: np.dtype((column.dtype, column.shape)) for column in columns})

    def write(self, rows: Rows) -> None:
        self._tree.extend(dict(rows))

    def close(self, metadata: str) -> None:
        self._file[METADATA] = metadata
        self._file.close()
        self._raw.close()

    def abort(self) -> None:
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._raw.close()


class RNTupleSink(RootSink):
    """Writer of an RNTuple instead of a TTree, one cluster per block."""

    def _new_tree(self, columns: Sequence[Column]) -> Any:
        forms = []
        for column in columns:
            number = ak.forms.NumpyForm(np.dtype(column.dtype).name)
            forms.append(number if column.width is None else ak.forms.RegularForm(number, column.width))
        return self._file.mkrntuple(TREE, ak.forms.RecordForm(forms, [column.name for column in columns]))

    def write(self, rows: Rows) -> None:
        self._tree.extend(ak.Array(dict(rows)))


class RootReading:
    """Reader of the TTree or RNTuple `jets`, or of the only TTree of a foreign file."""

    def __init__(self, path: Path) -> None:
        # As {file: None}, uproot takes no colon of the path for a tree; with a local source it takes it for no address.
        local = {"handler": MultithreadedFileSource, "use_threads": False, "num_workers": 1}
        self._path, self._file = path, uproot.open({str(path.absolute()): None}, array_cache=None, **local)
        self._classes: dict[str, str] = self._file.classnames()  # at the end of the file: none in a truncated one

    @cached_property
    def metadata(self) -> str | None:
        is_text = self._classes.get(f"{METADATA};1") == "TObjString"
        return str(self._file[METADATA]) if is_text else None

    @cached_property
    def _tree(self) -> Any:
        return self._file[_tree_name(self._classes, self._path)]

    @property
    def _rntuple(self) -> bool:
        return not isinstance(self._tree, uproot.TTree)

    @property
    def rows(self) -> int:
        return int(self._tree.num_entries)

    @cached_property
    def names(self) -> tuple[str, ...]:
        if self._rntuple:
            return tuple(self._tree.keys(recursive=False))
        return tuple(branch.name for branch in self._tree.branches if _is_column(branch))

    def blocks(self, names: Sequence[str], rows: int, start: int, stop: int) -> Iterator[dict[str, npt.NDArray[Any]]]:
        for low, high in spans(start, stop, rows):
            if self._rntuple:
                arrays = self._tree.arrays(list(names), entry_start=low, entry_stop=high)
                yield {name: ak.to_numpy(arrays[name]) for name in names}
            else:
                yield self._tree.arrays(list(names), entry_start=low, entry_stop=high, library="np")

    def close(self) -> None:
        self._file.close()


def _tree_name(classes: Mapping[str, str], path: Path) -> str:
    trees: list[str] = sorted({key.split(";")[0] for key, kind in classes.items() if kind == "TTree"})
    if TREE in trees or classes.get(f"{TREE};1") == RNTUPLE:
        return TREE
    if len(trees) != 1:
        raise DataError("a z file in ROOT has a TTree `jets`", where=path, found=", ".join(trees) or "no TTree")
    return trees[0]


def _is_column(branch: Any) -> bool:
    """Check for a number per entry; for z also for a fixed-size array or a vector per entry."""
    if branch.name in VECTORS.values():
        return True
    return isinstance(branch.interpretation, uproot.AsDtype) and branch.interpretation.to_dtype.shape == ()
