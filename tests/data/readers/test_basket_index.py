"""Index of baskets: the arrays of uproot to the last bit, and one opening for all reads of a file."""

from __future__ import annotations

import gc
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import awkward as ak
import pytest
import uproot

from ssl_jets.data.chunks import ChangedFileError
from ssl_jets.data.files import JetFile, open_files, whole
from ssl_jets.data.loading.stream import TrainStream, ordered
from ssl_jets.data.profile import find_suspicions
from ssl_jets.data.readers import root
from ssl_jets.data.readers.basket_index import BasketIndex, read_indexed
from ssl_jets.data.request import Request
from ssl_jets.data.sources import Source
from ssl_jets.errors import DataError
from ssl_jets.jets import concatenate
from support.jetclass_files import jetclass_branches
from support.vector_root_file import write_vector_tree

REAL = Path(__file__).parents[2] / "support" / "real"
RANGES = ((0, 50), (0, 20), (19, 21), (25, 45), (49, 50), (30, 30))
"""Entries of a file with baskets of 20."""


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the openings of each file, by its name."""
    counter, open_file = Counter[str](), root._open

    def counted(path: str) -> object:
        counter[Path(path).name] += 1
        return open_file(path)

    monkeypatch.setattr(root, "_open", counted)
    return counter


def check_same_arrays(path: Path, tree: str, ranges: tuple[tuple[int, int], ...]) -> int:
    """Assert that the index gives the arrays of uproot, and return the number of its branches."""
    with root.open_tables(str(path)) as tables:
        index = next(table for table in tables if table.name == tree).index(str(path))
    assert isinstance(index, BasketIndex)
    for start, stop in ranges:
        arrays = read_indexed(str(path), tree, set(index.branches), start, stop)
        expected = root._read_opened(str(path), tree, set(index.branches), start, stop)
        assert arrays is not None
        assert list(arrays) == list(expected)
        for name, array in arrays.items():
            assert ak.to_layout(array).form == ak.to_layout(expected[name]).form, name
            assert ak.array_equal(array, expected[name], equal_nan=True), name
    return len(index.branches)


def test_lists_with_counters_and_numbers_are_those_of_uproot(write_jetclass: Callable[..., Path]) -> None:
    assert check_same_arrays(write_jetclass(entries=50, cluster=20), "tree", RANGES) > 25


def test_vectors_and_branches_of_experiments_are_those_of_uproot(tmp_path: Path) -> None:
    vectors = write_vector_tree(tmp_path / "vector.root", jetclass_branches(50, label="Zqq", seed=3))
    assert check_same_arrays(vectors, "tree", ((0, 50), (7, 31))) > 25
    assert check_same_arrays(REAL / "pfnano.root", "Events", ((0, 4), (1, 3))) > 40
    assert check_same_arrays(REAL / "delphes.root", "Delphes", ((0, 5),)) > 0


def test_a_file_is_opened_once_for_all_reads_of_a_training(
    write_jetclass: Callable[..., Path], opened: Counter[str]
) -> None:
    paths = [write_jetclass(f"{label}_{number}.root", 50) for label in ("QCD", "Tbl") for number in range(3)]
    files = open_files([Source(str(path)) for path in paths])
    find_suspicions(files)
    for workers in (1, 2):
        assert len(concatenate(list(ordered(files, whole(files), workers=workers)))) == 300
    with TrainStream(files, whole(files), batch_size=50, buffer=100, seed=0, workers=2) as stream:
        for _ in range(12):  # two epochs of three windows each
            next(stream)
    assert opened == {path.name: 1 for path in paths}


def test_the_index_of_a_file_is_not_used_for_one_written_anew(
    write_jetclass: Callable[..., Path], opened: Counter[str]
) -> None:
    path = write_jetclass(entries=50, seed=1)
    file = open_files([Source(str(path))])[0]
    write_jetclass(entries=50, seed=2)
    changed = file.reader.read(str(path), "tree", ["part_px"], 0, 50)["part_px"]
    with uproot.open(path) as fresh:
        assert changed.tolist() == fresh["tree/part_px"].array().tolist()
    assert opened[path.name] == 2  # once by name, once for the read by the old index
    with pytest.raises(ChangedFileError):
        list(ordered([file], whole([file])))


def test_the_index_lives_as_long_as_a_file_that_refers_to_it(write_jetclass: Callable[..., Path]) -> None:
    path = str(write_jetclass(entries=50))
    files: list[JetFile] = open_files([Source(path)])
    again = open_files([Source(path)])  # the same file opened twice has one index
    del again
    gc.collect()
    assert read_indexed(path, "tree", {"part_px"}, 0, 5) is not None
    del files
    gc.collect()
    assert read_indexed(path, "tree", {"part_px"}, 0, 5) is None


def test_a_damaged_basket_is_one_message(write_jetclass: Callable[..., Path]) -> None:
    path = write_jetclass(entries=50)
    file = open_files([Source(str(path))])[0]
    assert isinstance(file.index, BasketIndex)
    content = bytearray(path.read_bytes())
    row, _ = file.index.branches["part_energy"]
    seek = int(file.index._seek[file.index._first[row]])
    content[seek : seek + 4] = b"\x7f\0\0\0"
    status = path.stat()
    with path.open("r+b") as written:
        written.write(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(DataError, match=f"there is no basket of .* at byte {seek}"):
        list(ordered([file], whole([file]), Request()))
