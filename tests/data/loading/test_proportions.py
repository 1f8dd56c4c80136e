"""Data sets mixed in chosen proportions: the shares, each jet once a round, resuming, ranks, and the names."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ssl_jets.config import DataSettings, parse_set, resolve
from ssl_jets.data.dataset import open_dataset
from ssl_jets.data.files import EntryRange, JetFile
from ssl_jets.data.loading.proportions import ProportionStream, assign_to_sets
from ssl_jets.data.loading.stream import TrainStream
from ssl_jets.data.request import Request
from ssl_jets.data.sources import Source
from ssl_jets.errors import UsageError
from ssl_jets.jets import Jets

REQUEST = Request(columns=("pt",))


def stream_of(files: list[JetFile], rank: int = 0, world: int = 1) -> ProportionStream:
    """60 jets of the first file with a share of 0.7, 90 of the second with 0.3, 10 in a batch."""
    sets = [[EntryRange(0, 0, 60)], [EntryRange(1, 0, 90)]]
    place = {"rank": rank, "world": world}
    streams = [TrainStream(files, its, batch_size=10, buffer=25, seed=1, request=REQUEST, **place) for its in sets]
    return ProportionStream(streams, [7, 3], batch_size=10)


def rows(jets: Jets) -> list[tuple[int, ...]]:
    assert jets.source is not None
    return [tuple(row) for row in jets.source.tolist()]


def test_each_set_gives_its_share_and_goes_round_at_its_own_pace(sample_files: list[JetFile]) -> None:
    stream = stream_of(sample_files)
    assert stream.jets_per_epoch == 150
    taken = [row for _ in range(60) for row in rows(next(stream))]
    stream.close()
    of_set = [[entry for file, entry, _ in taken if file == index] for index in (0, 1)]
    assert [len(its) for its in of_set] == [420, 180]
    assert all(sorted(of_set[0][start : start + 60]) == list(range(60)) for start in range(0, 420, 60))
    assert all(sorted(of_set[1][start : start + 90]) == list(range(90)) for start in (0, 90))


def test_after_any_number_of_jets_a_share_is_right_to_one_jet(sample_files: list[JetFile]) -> None:
    stream, taken = stream_of(sample_files), Counter[int]()
    for number in (1, 2, 3, 1, 1, 7, 4):
        jets = stream.take(number)
        assert len(jets) == number
        taken.update(row[0] for row in rows(jets))
        assert abs(taken[0] - 0.7 * taken.total()) <= 1
    stream.close()


class Counted:
    """A data set that counts the jets taken of it."""

    jets_per_epoch = 100
    wait_seconds = 0.0
    taken = 0

    def take(self, number: int) -> Jets:
        assert number > 0
        self.taken += number
        return Jets.of([[[9.0, 0.0, 0.0]]] * number, columns=("pt", "deta", "dphi"))


@pytest.mark.parametrize(
    ("shares", "batch"),
    [
        ((0.333, 0.002, 0.665), 256),
        ((0.5, 0.3, 0.001, 0.199), 128),
        ((0.1, 0.0001, 0.0013, 0.01, 0.0001, 0.0001, 0.8884), 30),
    ],
)
def test_the_shares_of_many_small_sets_are_right_to_one_jet(shares: tuple[float, ...], batch: int) -> None:
    streams: list[Any] = [Counted() for _ in shares]
    mixed = ProportionStream(streams, shares, batch_size=batch)
    for number in range(1, 60):
        assert len(next(mixed)) == batch
        assert [one.taken for one in streams] == pytest.approx([share * batch * number for share in shares], abs=1)


def test_a_restored_stream_goes_on_and_two_ranks_share_each_round(sample_files: list[JetFile]) -> None:
    one = stream_of(sample_files)
    before = {row for _ in range(7) for row in rows(next(one)) if row[0] == 0}
    state, expected = one.state_dict(), [rows(next(one)) for _ in range(4)]
    other = stream_of(sample_files)
    other.resume([state])
    assert [rows(next(other)) for _ in range(4)] == expected
    ranks = [stream_of(sample_files, rank, 2) for rank in (0, 1)]
    for stream in ranks:
        stream.resume([state])
    # 49 of the 60 were taken: the other 11 come first, on one of the two each.
    missing = {(0, entry, 0) for entry in range(60)} - before
    first = [*rows(next(ranks[0]))[:6], *rows(next(ranks[1]))[:5]]
    assert len(missing) == 11
    assert sorted(first) == sorted(missing)
    for stream in (one, other, *ranks):
        stream.close()


def test_a_restored_stream_keeps_the_shares_of_jets_taken_before(sample_files: list[JetFile]) -> None:
    """Sets of the jets one by one: 0, 0, 1, 0, 0, 1, 0; the state is taken after the first."""
    one, other = stream_of(sample_files), stream_of(sample_files)
    one.take(1)
    other.resume([one.state_dict()])
    assert [rows(other.take(1))[0][0] for _ in range(6)] == [rows(one.take(1))[0][0] for _ in range(6)]
    one.close()
    other.close()


def test_names_are_those_of_data_and_stand_for_it(sample_files: list[JetFile], tmp_path: Path) -> None:
    paths = [Path(file.source.path) for file in sample_files[:3]]
    for folder, members in (("A", paths[:1]), ("B", paths[1:])):
        (tmp_path / folder).mkdir()
        for path in members:
            (tmp_path / folder / path.name).symlink_to(path)
    a, b = str(tmp_path / "A"), str(tmp_path / "B")
    tree = parse_set([f"data.proportions={{{a}: 0.7, {b}: 0.3}}"])["data"]
    settings = resolve(DataSettings, tree)
    data = open_dataset(settings)
    assert len(data.files) == 3
    sets = assign_to_sets(data.files, data.train, settings.proportions)
    assert {name: {part.file for part in its} for name, its in sets.items()} == {a: {0}, b: {1, 2}}
    with pytest.raises(UsageError, match="belongs to none"):
        assign_to_sets(data.files, data.train, {a: 1.0})
    with pytest.raises(UsageError, match="belongs to two"):
        assign_to_sets(data.files, data.train, {a: 1.0, f"{a}/*.root": 1.0, b: 1.0})
    two_trees = [replace(data.files[0], source=Source(str(paths[0]), tree)) for tree in ("tree", None)]
    with pytest.raises(UsageError, match="belongs to none"):
        assign_to_sets(two_trees, [EntryRange(0, 0, 5), EntryRange(1, 0, 5)], {f"{paths[0]}:tree": 1.0})
    with pytest.raises(UsageError, match="no jets to train on"):
        assign_to_sets(data.files, [EntryRange(0, 0, 5)], settings.proportions)
