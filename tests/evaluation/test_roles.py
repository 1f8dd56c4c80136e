"""Which jets are fitted and tested on: nothing that was trained on is tested."""

from collections import Counter

import numpy as np
import pytest

from ssl_jets.config import DataSettings
from ssl_jets.data.files import EntryRange, JetFile, count, open_files, whole
from ssl_jets.data.loading.stream import ordered
from ssl_jets.data.request import Request
from ssl_jets.data.sources import sample_sources
from ssl_jets.data.split import split
from ssl_jets.errors import DataError
from ssl_jets.evaluation.roles import assign_roles, draw

DATA = DataSettings(validation_fraction=0.25, split_seed=3)


@pytest.fixture(scope="module")
def files() -> list[JetFile]:
    return open_files(sample_sources()[:4])


def training_on(files: list[JetFile], fraction: float = 0.1, seed: int = 0) -> dict:
    train, held = split(files, fraction, seed)
    return {
        "files": [list(files[index].identity) for index in sorted({part.file for part in train})],
        "held_out": [[*files[part.file].identity, part.start, part.stop] for part in held],
    }


def entries(parts: list[EntryRange]) -> set[tuple[int, int]]:
    return {(part.file, entry) for part in parts for entry in range(part.start, part.stop)}


def test_of_trained_files_exactly_the_held_out_jets_are_tested_and_the_trained_ones_fit(files) -> None:
    train, held = split(files, 0.1, 0)
    roles = assign_roles(files, training_on(files), DATA)
    assert entries(roles.test) == entries(held)
    assert entries(roles.fit) == entries(train)
    assert roles.task == roles.test
    assert roles.trained == (True,) * 4


def test_a_subset_of_the_trained_files_in_another_order_has_the_same_held_out_jets(files) -> None:
    training = training_on(files)
    everything = assign_roles(files, training, DATA)
    roles = assign_roles([files[2], files[0]], training, DATA)
    names = {(files[file].name, entry) for file, entry in entries(everything.test) if file in (0, 2)}
    assert {([files[2], files[0]][file].name, entry) for file, entry in entries(roles.test)} == names


def test_new_files_test_a_head_whole_and_are_split_for_probes(files) -> None:
    roles = assign_roles(files, {}, DATA)
    train, held = split(files, 0.25, 3)
    assert (entries(roles.fit), entries(roles.test)) == (entries(train), entries(held))
    assert entries(roles.task) == entries(whole(files))
    assert not any(roles.trained)


def test_known_and_new_files_together_keep_their_own_rules(files) -> None:
    training = training_on(files[:2])
    roles = assign_roles(files, training, DATA)
    assert roles.trained == (True, True, False, False)
    _, held = split(files[:2], 0.1, 0)
    assert {pair for pair in entries(roles.task) if pair[0] < 2} == entries(held)
    assert {pair for pair in entries(roles.task) if pair[0] >= 2} == {
        pair for pair in entries(whole(files)) if pair[0] >= 2
    }
    assert entries(roles.test) <= entries(roles.task)
    assert not entries(roles.fit) & entries(roles.test)


def test_a_file_held_out_whole_is_tested_whole_with_trained_ones_and_as_good_as_new_alone(files) -> None:
    first, second = files[:2]
    training = {"files": [list(first.identity)], "held_out": [[*second.identity, 0, second.entries]]}
    together = assign_roles([first, second], training, DATA)
    assert {file for file, _ in entries(together.fit)} == {0}
    assert entries(together.test) == {(1, entry) for entry in range(second.entries)}
    alone = assign_roles([second], training, DATA)
    assert alone.new == (True,)
    assert alone.fit
    assert not entries(alone.fit) & entries(alone.test)


def test_all_jets_that_were_trained_on_count_as_leaked_with_files_held_out_whole(files) -> None:
    first, second = files[:2]
    training = {
        "files": [list(first.identity)],
        "held_out": [[*second.identity, 0, second.entries], [*first.identity, 0, 10]],
    }
    assert assign_roles([first, second], training, DATA, seen=True).leaked == first.entries - 10
    assert assign_roles([second], training, DATA, seen=True).leaked == 0


def test_files_without_a_jet_that_was_held_out_are_refused(files) -> None:
    training = {"files": [list(file.identity) for file in files], "held_out": []}
    with pytest.raises(DataError, match="none are left"):
        assign_roles(files, training, DATA)
    del training["held_out"]
    with pytest.raises(DataError, match="does not say"):
        assign_roles(files, training, DATA)


def test_a_file_of_the_same_name_and_size_with_other_contents_is_new(files) -> None:
    training = training_on(files)
    training["files"] = [[name, size, digest[::-1]] for name, size, digest in training["files"]]
    training["held_out"] = [[name, size, digest[::-1], *ends] for name, size, digest, *ends in training["held_out"]]
    assert all(assign_roles(files, training, DATA).new)


def test_a_draw_has_the_size_asked_for_lies_in_the_parts_and_is_spread_over_files(files) -> None:
    parts = [EntryRange(0, 100, 900), EntryRange(1, 0, 400), EntryRange(3, 500, 1000)]
    jets = draw(files, parts, 400, seed=1)
    source = jets.source.numpy()
    assert len(jets) == 400
    assert len(np.unique(source, axis=0)) == 400
    assert {(file, entry) for file, entry, _ in source.tolist()} <= entries(parts)
    share = np.bincount(source[:, 0], minlength=4) / 400
    np.testing.assert_allclose(share, np.array([800, 400, 0, 500]) / 1700, atol=0.08)
    assert source[source[:, 0] == 0, 1].max() > 800


def test_a_draw_is_fixed_by_its_seed(files) -> None:
    first, same, other = (draw(files, whole(files), 50, seed=seed).source for seed in (1, 1, 2))
    assert first.equal(same)
    assert not first.equal(other)


def test_a_draw_from_much_larger_files_reads_little_and_from_every_file(files) -> None:
    jets = draw(files, whole(files), 20, seed=0)
    assert len(jets) == 20
    assert len(jets.source[:, 0].unique()) >= 3


def test_a_draw_of_more_than_there_is_gives_all_in_order(files) -> None:
    jets = draw(files, [EntryRange(2, 10, 30), EntryRange(0, 5, 10)], 1000, seed=0, request=Request(("jet_pt",)))
    assert jets.source[:, 1].tolist() == [*range(10, 30), *range(5, 10)]
    assert len(jets.jet["jet_pt"]) == 25
    assert count([EntryRange(2, 10, 30), EntryRange(0, 5, 10)]) == 25


def test_counts_of_an_earlier_draw_are_read_and_not_made_again(files, monkeypatch) -> None:
    read: list[list[EntryRange]] = []

    def reading(files, parts, *args, skipped, **options):
        read.append(list(parts))
        skipped["bad"] += 1
        return ordered(files, parts, *args, skipped=skipped, **options)

    monkeypatch.setattr("ssl_jets.evaluation.roles.ordered", reading)
    counted, skipped = [EntryRange(0, 10, 20), EntryRange(1, 0, 5)], Counter[str]()
    jets = draw(files, [EntryRange(0, 5, 30)], 1000, seed=0, skipped=skipped, counted=counted)
    assert jets.source[:, 1].tolist() == [*range(5, 30)]
    assert read == [[EntryRange(0, 5, 10)], [EntryRange(0, 10, 20)], [EntryRange(0, 20, 30)]]
    assert skipped == Counter({"bad": 2})
    assert counted[-1] == EntryRange(0, 5, 30)
