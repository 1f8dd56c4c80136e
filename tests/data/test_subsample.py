"""A thinner sample has the size asked for, the same mixture, and lies inside what it is taken from."""

from __future__ import annotations

import numpy as np
import pytest

from ssl_jets.data.files import EntryRange, count
from ssl_jets.data.subset import subsample

PARTS = [EntryRange(0, 0, 1000), EntryRange(1, 500, 2500), EntryRange(2, 10, 1010)]


def inside(piece: EntryRange, parts: list[EntryRange]) -> bool:
    return any(p.file == piece.file and p.start <= piece.start < piece.stop <= p.stop for p in parts)


@pytest.mark.parametrize("jets", [150, 400, 401, 3999])
def test_each_part_gives_its_share_to_the_exact_total(jets: int) -> None:
    found = subsample(PARTS, jets, seed=0)
    assert count(found) == jets
    assert found == sorted(found)
    assert all(inside(piece, PARTS) for piece in found)
    for part in PARTS:
        entries = sum(piece.entries for piece in found if piece.file == part.file)
        assert abs(entries - jets * part.entries / 4000) <= 1


@pytest.mark.parametrize("parts", [[EntryRange(0, 500, 100_500)], [EntryRange(0, 0, 40_000), EntryRange(1, 9, 50_009)]])
def test_each_tenth_of_a_file_gives_a_tenth(parts: list[EntryRange]) -> None:
    """As of a file that is ordered by class."""
    found = subsample(parts, 5000, seed=0)
    assert count(found) == 5000
    assert len(found) == 40
    for part in parts:
        tenth = np.concatenate([np.arange(piece.start, piece.stop) for piece in found if piece.file == part.file])
        counts = np.bincount((tenth - part.start) * 10 // part.entries, minlength=10)
        assert np.abs(counts / counts.sum() - 0.1).max() < 0.01


@pytest.mark.parametrize("jets", [4000, 10_000])
def test_all_is_taken_where_there_is_not_more(jets: int) -> None:
    assert subsample(PARTS, jets, seed=0) == PARTS


@pytest.mark.parametrize("jets", [1, 2, 49, 50, 120, 1000])
def test_of_many_parts_a_random_choice_gives_that_many(jets: int) -> None:
    parts = [EntryRange(index, 0, 100) for index in range(100)]
    found = subsample(parts, jets, seed=0)
    assert count(found) == jets
    assert len({piece.file for piece in found}) == len(found)
    assert [piece.file for piece in found] == sorted(piece.file for piece in found)
    assert all(inside(piece, parts) for piece in found)


@pytest.mark.parametrize("entries", [[10] * 1000, [10_000, *[1] * 200]])
def test_many_small_parts_give_as_many_as_asked_for(entries: list[int]) -> None:
    parts = [EntryRange(index, 0, number) for index, number in enumerate(entries)]
    assert count(subsample(parts, 500, seed=0)) == 500


def test_the_seed_makes_the_choice() -> None:
    assert subsample(PARTS, 300, seed=1) == subsample(PARTS, 300, seed=1)
    starts = {subsample(PARTS, 300, seed=seed)[0].start for seed in range(20)}
    assert len(starts) > 10


def test_empty_parts_give_nothing() -> None:
    parts = [EntryRange(0, 5, 5), EntryRange(1, 0, 1000), EntryRange(2, 0, 0)]
    for jets in (1, 60, 500):
        assert all(piece.entries > 0 and inside(piece, parts) for piece in subsample(parts, jets, seed=0))
