"""The stream over jets in memory: each jet once an epoch, dealt to ranks, resumable."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from ssl_jets.data.loading.in_memory import MemoryStream
from ssl_jets.jets import Jets
from support.small_models import made_jets

JETS = made_jets([1 + index % 3 for index in range(20)])


def rows(jets: Jets) -> list[int]:
    assert jets.source is not None
    return jets.source[:, 1].tolist()


def take(stream: MemoryStream, batches: int) -> list[int]:
    return [row for _ in range(batches) for row in rows(next(stream))]


def test_every_jet_comes_once_per_epoch_in_a_new_order() -> None:
    stream = MemoryStream(JETS, batch_size=5, seed=0)
    first, second = take(stream, 4), take(stream, 4)
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second
    assert first != list(range(20))


@pytest.mark.parametrize("batch_size", [3, 7, 50])
def test_batches_are_full_and_straddle_epochs(batch_size: int) -> None:
    stream = MemoryStream(JETS, batch_size=batch_size, seed=0)
    sizes = {len(next(stream)) for _ in range(5)}
    assert sizes == {batch_size}
    stream = MemoryStream(JETS, batch_size=batch_size, seed=0)
    assert take(stream, 20)[:40] == take(MemoryStream(JETS, batch_size=20, seed=0), 2)


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_each_epoch_without_overlap(world: int) -> None:
    epochs = 3  # 60 places divide by both
    taken = [take(MemoryStream(JETS, batch_size=5, seed=0, rank=rank, world=world), 12) for rank in range(world)]
    joined = [row for place in zip(*taken) for row in place]
    for epoch in range(epochs):
        assert sorted(joined[20 * epoch : 20 * (epoch + 1)]) == list(range(20))
    assert joined[:60] == take(MemoryStream(JETS, batch_size=20, seed=0), 3)


def test_the_state_goes_on_with_the_very_next_batch() -> None:
    stream = MemoryStream(JETS, batch_size=6, seed=1)
    take(stream, 4)
    state, expected = stream.state_dict(), None
    expected = take(stream, 5)
    other = MemoryStream(JETS, batch_size=6, seed=1)
    other.resume([state])
    assert take(other, 5) == expected


def test_another_number_of_ranks_goes_on_with_the_rest_of_the_epoch() -> None:
    """2 ranks take 6 of 20 jets; 7 then share the other 14 jets, and 3 of these go on with the second epoch."""
    order = take(MemoryStream(JETS, batch_size=20, seed=0), 2)
    states: list[dict[str, int]] = []
    for rank in range(2):
        stream = MemoryStream(JETS, batch_size=3, seed=0, rank=rank, world=2)
        take(stream, 1)
        states.append(stream.state_dict())
    streams = [MemoryStream(JETS, batch_size=2, seed=0, rank=rank, world=7) for rank in range(7)]
    for stream in streams:
        stream.resume(states)
    assert sorted(row for stream in streams for row in take(stream, 1)) == sorted(order[6:20])
    again = [MemoryStream(JETS, batch_size=2, seed=0, rank=rank, world=3) for rank in range(3)]
    for stream in again:
        stream.resume([one.state_dict() for one in streams])
    assert sorted(row for stream in again for row in take(stream, 1)) == sorted(order[20:26])


def test_the_seed_makes_the_order() -> None:
    orders = [take(MemoryStream(JETS, batch_size=20, seed=seed), 1) for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


def test_jets_come_with_their_particles() -> None:
    batch = next(MemoryStream(JETS, batch_size=20, seed=0))
    assert torch.equal(batch.particles, JETS.select(torch.tensor(rows(batch))).particles)


def test_over_many_epochs_no_jet_is_preferred() -> None:
    assert set(Counter(take(MemoryStream(JETS, batch_size=8, seed=2), 50)).values()) == {20}
