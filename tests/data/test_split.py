"""The split into training and held-out entries never leaks, and depends on nothing it should not depend on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssl_jets.config import DataSettings
from ssl_jets.data.dataset import open_dataset
from ssl_jets.data.files import EntryRange, JetFile, count, whole
from ssl_jets.data.readers import root
from ssl_jets.data.schemas.schema import known_schemas
from ssl_jets.data.sources import Source
from ssl_jets.data.split import every_other_block, split
from ssl_jets.errors import DataError, UsageError
from support.jetclass_files import jetclass_branches, write_tree

Write = Callable[..., Path]


def jet_file(name: str, entries: int, folder: str = "data") -> JetFile:
    """A file as far as the split needs it."""
    schema = known_schemas()[0]
    source = Source(f"{folder}/{name}")
    return JetFile(source, schema, root, "tree", entries, (0, entries), 1000, (), (), digest=str(source))


def entries_of(parts: Sequence[EntryRange], files: Sequence[JetFile]) -> set[tuple[str, int]]:
    listed = [(files[part.file].name, entry) for part in parts for entry in range(part.start, part.stop)]
    assert len(listed) == len(set(listed))
    return set(listed)


@pytest.mark.parametrize("numbered", [False, True])
def test_a_split_with_copies_does_not_depend_on_the_order_of_the_files(numbered: bool) -> None:
    names = [f"QCD_{index}.root" for index in range(4)] if numbered else ["a.root", "b.root", "c.root", "d.root"]
    files = [replace(jet_file(name, 100), digest=digest) for name, digest in zip(names, "1213")]
    sides = [tuple(entries_of(part, files) for part in split(files, 0.3, 0))]
    for order in [2, 0, 1, 3], [3, 2, 1, 0]:
        others = [files[index] for index in order]
        sides.append(tuple(entries_of(part, others) for part in split(others, 0.3, 0)))
    assert sides[0] == sides[1] == sides[2]


sizes = st.lists(st.integers(4, 400), min_size=1, max_size=6)


@given(sizes=sizes, fraction=st.floats(0.01, 0.9), seed=st.integers(0, 2**31), numbered=st.booleans())
def test_no_entry_and_no_neighbour_of_a_held_out_entry_is_trained_on(
    sizes: list[int], fraction: float, seed: int, numbered: bool
) -> None:
    names = [f"QCD_{index}.root" if numbered else f"{chr(65 + index)}.root" for index in range(len(sizes))]
    files = [jet_file(name, entries) for name, entries in zip(names, sizes)]
    try:
        train, held = split(files, fraction, seed)
    except DataError:
        assert sum(sizes) < 10 or fraction > 0.5
        return
    trained, held_out = entries_of(train, files), entries_of(held, files)
    everything = entries_of(whole(files), files)
    assert trained | held_out <= everything
    assert not trained & held_out
    assert not {(name, entry + step) for name, entry in held_out for step in (-1, 1)} & trained
    # Only the entries next to a cut are lost, at most two a block.
    assert len(everything) - len(trained) - len(held_out) <= 2 * max(len(files), len(held))


@given(sizes=sizes, seed=st.integers(0, 1000), shuffled=st.randoms())
def test_the_order_of_the_files_and_their_folder_do_not_matter(sizes: list[int], seed: int, shuffled: object) -> None:
    files = [jet_file(f"c{index % 2}_{index}.root", entries) for index, entries in enumerate(sizes)]
    moved = [jet_file(file.name, file.entries, folder="elsewhere") for file in files]
    shuffled.shuffle(moved)  # type: ignore[attr-defined]
    try:
        expected = split(files, 0.3, seed)
    except DataError:
        with pytest.raises(DataError):
            split(moved, 0.3, seed)
        return
    for side, other in zip(expected, split(moved, 0.3, seed)):
        assert entries_of(side, files) == entries_of(other, moved)


def test_one_file_a_class_is_split_inside_by_one_block(sample_files: list[JetFile]) -> None:
    train, held = split(sample_files, 0.1, 0)
    assert [part.file for part in held] == list(range(10))
    assert {part.entries for part in held} == {100}
    assert 10_000 - count(train) - count(held) <= 20


def test_of_a_large_file_each_tenth_gives_a_tenth() -> None:
    """It may be ordered by class."""
    file = jet_file("a.root", 100_000)
    train, held = split([file], 0.1, 0)
    assert len(held) == 20
    entries = [np.concatenate([np.arange(part.start, part.stop) for part in side]) for side in (train, held)]
    assert np.bincount(entries[1] // 10_000).tolist() == [1000] * 10
    assert len(np.union1d(*entries)) == sum(map(len, entries)) >= 99_960


def test_many_files_a_class_are_held_out_whole_in_each_class() -> None:
    files = [jet_file(f"{name}_{number:03}.root", 100) for name in ("QCD", "Tbl") for number in range(20)]
    train, held = split(files, 0.1, 3)
    assert all((part.start, part.stop) == (0, 100) for part in (*train, *held))
    assert sorted(files[part.file].group for part in held) == ["QCD", "QCD", "Tbl", "Tbl"]
    assert count(train) + count(held) == 4000


def test_a_whole_file_is_not_held_out_where_it_is_far_more_than_asked_for() -> None:
    files = [jet_file("QCD_0.root", 1000), jet_file("QCD_1.root", 1000)]
    _, held = split(files, 0.1, 0)
    assert [part.entries for part in held] == [100, 100]
    _, held = split([jet_file("QCD_0.root", 1000), jet_file("QCD_1.root", 10)], 0.1, 0)  # nor far less
    assert [part.entries for part in held] == [100, 1]


def test_another_seed_holds_out_other_entries(sample_files: list[JetFile]) -> None:
    assert split(sample_files, 0.1, 0) == split(sample_files, 0.1, 0)
    assert split(sample_files, 0.1, 0) != split(sample_files, 0.1, 1)


@pytest.mark.parametrize(("entries", "fraction"), [(1, 0.5), (3, 0.3), (10, 0.99)])
def test_too_few_jets_to_split_is_an_error(entries: int, fraction: float) -> None:
    with pytest.raises(DataError, match="too few jets"):
        split([jet_file("a.root", entries)], fraction, 0)


def test_whole_leaves_out_files_without_entries() -> None:
    assert whole([jet_file("a.root", 0), jet_file("b.root", 5)]) == [EntryRange(1, 0, 5)]


def test_a_file_cannot_be_trained_on_and_validated_on(sample_files: list[JetFile]) -> None:
    names = [str(file.source) for file in sample_files]
    with pytest.raises(UsageError, match=Path(names[0]).name):
        open_dataset(DataSettings(sources=tuple(names[:2]), validation=(names[0],)))


def test_the_classes_do_not_depend_on_the_order_of_the_files(
    sample_files: list[JetFile], write_jetclass: Write
) -> None:
    named, nameless = str(sample_files[0].source), str(write_jetclass("plain.root", label=None))
    for order in ((named, nameless), (nameless, named)):
        assert open_dataset(DataSettings(sources=order)).label_names == sample_files[0].label_names


def test_files_to_validate_on_have_the_columns_of_those_to_train_on(tmp_path: Path) -> None:
    branches = jetclass_branches(20)
    without = {name: values for name, values in branches.items() if "d0" not in name}
    for name, own in (("a", branches), ("b", jetclass_branches(20, seed=1)), ("c", without)):
        write_tree(tmp_path / f"{name}.root", {"tree": own})
    train, same, other = (str(tmp_path / f"{name}.root") for name in "abc")
    assert "d0" in open_dataset(DataSettings(sources=(train,), validation=(same,))).columns
    with pytest.raises(DataError, match="different particle columns") as caught:
        open_dataset(DataSettings(sources=(train,), validation=(other,))).columns  # noqa: B018
    assert "d0" in str(caught.value.found)


def test_every_other_block_has_all_of_an_ordered_file_and_whole_events() -> None:
    event = np.arange(2000)
    file, entry = np.repeat([0, 1], 4000), np.concatenate([np.repeat(event, 2), np.repeat(event, 2)])
    label = entry // 500  # ordered by class
    order = np.random.default_rng(0).permutation(8000)
    chosen = np.zeros(8000, dtype=bool)
    chosen[order] = every_other_block(file[order], entry[order])
    assert (chosen[::2] == chosen[1::2]).all()
    for one in (0, 1):
        assert chosen[file == one].sum() == 2000
        assert np.abs(np.bincount(label[(file == one) & chosen]) - 500).max() <= 100
        assert np.count_nonzero(np.diff(chosen[file == one].astype(int))) == 39  # blocks, not jets in turn
    small, places = np.repeat([0, 1], 4), np.array([7, 3, 5, 9, 100, 101, 102, 103])
    assert every_other_block(small, places).tolist() == [False, True, True, False, True, True, False, False]
    assert every_other_block(np.zeros(5), np.array([0, 0, 1, 1, 2])).tolist() == [True, True, False, False, False]
