"""The labelled subset: stratified, nested, seeded, and blind to the order of the files."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssl_jets.data.files import EntryRange, JetFile, open_files, whole
from ssl_jets.data.request import Request
from ssl_jets.data.sources import Source
from ssl_jets.data.subset import _random_numbers, choose_subset
from ssl_jets.errors import UsageError
from ssl_jets.jets import Jets
from support.jetclass_files import write_class_files

CLASSES, ENTRIES = 3, 500


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[JetFile]:
    """Three files of 650 jets, each of one class."""
    return write_class_files(tmp_path_factory.mktemp("subset"), 650, cluster=200)


PARTS = [EntryRange(index, 100, 100 + ENTRIES) for index in range(CLASSES)]


def chosen(jets: Jets, files: list[JetFile]) -> set[tuple[str, int]]:
    assert jets.source is not None
    return {(files[file].name, entry) for file, entry, _ in jets.source.tolist()}


def take(files: list[JetFile], labels: float, seed: int = 0, parts: list[EntryRange] = PARTS) -> set[tuple[str, int]]:
    jets = choose_subset(files, parts, labels, seed, Request())
    found = chosen(jets, files)
    assert len(found) == len(jets)
    return found


@pytest.mark.parametrize(
    ("labels", "per_class"), [(0.1, 50), (0.01, 5), (0.0112, 6), (30, 10), (3, 1), (0.0001, 1), (1500, 500)]
)
def test_every_class_gives_in_proportion_and_at_least_one(files: list[JetFile], labels: float, per_class: int) -> None:
    found = take(files, labels)
    assert Counter(name for name, _ in found) == {file.name: per_class for file in files}
    assert all(100 <= entry < 100 + ENTRIES for _, entry in found)


def test_classes_of_other_sizes_give_in_proportion(files: list[JetFile]) -> None:
    parts = [EntryRange(0, 0, 400), EntryRange(1, 0, 100)]
    assert Counter(name for name, _ in take(files, 50, parts=parts)) == {files[0].name: 40, files[1].name: 10}


def test_a_number_of_labels_is_that_number_and_larger_ones_contain_it(files: list[JetFile]) -> None:
    parts = [EntryRange(0, 0, 371), EntryRange(1, 0, 211), EntryRange(2, 0, 64)]
    nested = [take(files, float(labels), parts=parts) for labels in (3, 4, 5, 100, 101, 102, 500, 646)]
    assert [len(found) for found in nested] == [3, 4, 5, 100, 101, 102, 500, 646]
    assert all(small < large for small, large in pairwise(nested))


def test_a_smaller_subset_lies_inside_a_larger_one_of_the_same_seed(files: list[JetFile]) -> None:
    nested = [take(files, labels, seed=3) for labels in (0.01, 30, 0.1, 0.5)]
    assert all(small < large for small, large in pairwise(nested))


def test_jets_of_one_entry_have_random_numbers_of_their_own(files: list[JetFile]) -> None:
    # file, entry, number in the entry
    source = np.array([[0, 5, 0], [0, 5, 1], [0, 5, 4096], [0, 6, 0], [0, 6, 4096], [1, 5, 0]])
    numbers = _random_numbers(files, source, seed=0).tolist()
    assert len(set(numbers)) == 6
    # Subsets of earlier trainings stay as they are.
    assert [number >> 44 for number in numbers[:2]] == [782336, 975206]


def test_any_number_of_files_may_be_there(files: list[JetFile]) -> None:
    many = [files[0]] * 65_536 + [files[1]]
    parts = [EntryRange(0, 0, 200), EntryRange(65_536, 0, 200)]
    assert Counter(name for name, _ in take(many, 100.0, parts=parts)) == {file.name: 50 for file in files[:2]}


def test_the_seed_makes_the_subset(files: list[JetFile]) -> None:
    first, again, other = take(files, 0.1), take(files, 0.1), take(files, 0.1, seed=1)
    assert first == again
    assert len(first & other) < 40  # 15 of 150 agree by chance


def test_neither_the_order_of_the_files_nor_of_the_parts_matters(files: list[JetFile]) -> None:
    turned = files[::-1]
    parts = [EntryRange(CLASSES - 1 - part.file, part.start, part.stop) for part in PARTS]
    halves = [
        EntryRange(part.file, start, start + ENTRIES // 2) for part in parts for start in (part.start, part.start + 250)
    ]
    assert take(turned, 0.1, parts=parts) == take(turned, 0.1, parts=halves) == take(files, 0.1)


def test_the_folder_of_a_file_does_not_matter(files: list[JetFile], tmp_path: Path) -> None:
    copies = [Source(str(tmp_path / file.name)) for file in files]
    for file, copy in zip(files, copies):
        Path(copy.path).symlink_to(file.source.path)
    assert take(open_files(copies), 0.1) == take(files, 0.1)


def test_chosen_entries_are_spread_over_the_file(files: list[JetFile]) -> None:
    entries = [entry for _, entry in take(files, 0.2)]
    assert sum(entry < 100 + ENTRIES // 2 for entry in entries) == pytest.approx(150, abs=45)


def test_chosen_jets_come_with_their_particles_and_labels(files: list[JetFile]) -> None:
    jets = choose_subset(files, PARTS, 30, 0, Request(jet_columns=("jet_pt",)))
    assert jets.labels is not None
    assert jets.source is not None
    assert len(jets.columns) == 10
    assert len(jets.jet["jet_pt"]) == 30
    assert len(set(zip(jets.source[:, 0].tolist(), jets.labels.tolist()))) == CLASSES


@pytest.mark.parametrize("labels", [2, 1501, 1e9])
def test_an_impossible_number_of_labels_is_refused_with_the_allowed_range(files: list[JetFile], labels: float) -> None:
    with pytest.raises(UsageError, match="cannot be taken") as caught:
        choose_subset(files, PARTS, labels, 0, Request())
    assert caught.value.where == "--labels"
    assert "3 (one a class) to 1500 (all)" in str(caught.value)


def test_all_entries_may_be_asked_for(files: list[JetFile]) -> None:
    parts = whole(files)
    assert len(take(files, float(sum(part.entries for part in parts)), parts=parts)) == sum(p.entries for p in parts)


def test_jets_without_labels_are_chosen_as_one_class(write_jetclass: Any) -> None:
    unlabelled = open_files([Source(str(write_jetclass("none.root", 40, label=None)))])
    chosen = choose_subset(unlabelled, whole(unlabelled), 0.25, 0, Request())
    assert len(chosen) == 10
    assert chosen.labels is not None
    assert set(chosen.labels.tolist()) == {-1}


def test_as_many_jets_come_as_were_asked_for_where_some_are_bad(write_jetclass: Any) -> None:
    def spoil(branches: dict[str, Any]) -> None:
        branches["part_d0val"] = branches["part_d0val"] + np.where(np.arange(40) < 10, np.nan, 0).astype(np.float32)

    files = open_files([Source(str(write_jetclass("bad.root", 40, edit=spoil)))])
    skipped = Counter[str]()
    assert len(choose_subset(files, whole(files), 20.0, 0, Request(bad_jets="skip"), skipped=skipped)) == 20
    assert skipped.total() == 10
