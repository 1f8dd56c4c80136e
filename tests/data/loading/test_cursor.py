"""The order of the jets, by their keys, whatever the ranks, workers, kills and changes of the number of ranks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from unittest.mock import patch

import numpy as np
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ssl_jets.data.files import EntryRange, JetFile, count, whole
from ssl_jets.data.loading import shuffle_buffer
from ssl_jets.data.loading.cursor import Cursor
from ssl_jets.data.loading.epoch_plan import EpochPlan
from ssl_jets.data.loading.shuffle_buffer import Chunk
from ssl_jets.data.loading.stream import TrainStream
from ssl_jets.data.request import Request
from ssl_jets.jets import Jets
from support.nominal_files import made_up_files

Seen = tuple[int, int, int]
"""Epoch, file, entry."""


def made_up_jets(file: JetFile, index: int, start: int, stop: int, request: Request, without: object) -> Chunk:
    """Jets of one particle; every seventh is bad."""
    entries = np.array([entry for entry in range(start, stop) if entry % 7 != 3], dtype=np.int64)
    source = np.stack([np.full_like(entries, index), entries, np.zeros_like(entries)], axis=1)
    jets = Jets(torch.zeros(len(entries), 1), torch.arange(len(entries) + 1), ("pt",), source=torch.from_numpy(source))
    bad = stop - start - len(entries)
    return Chunk(jets, Counter({"bad": bad} if bad else {}))


def expected(files: Sequence[JetFile], epochs: int) -> Counter[Seen]:
    good = [(part.file, entry) for part in whole(files) for entry in range(part.entries) if entry % 7 != 3]
    return Counter((epoch, *key) for epoch in range(epochs) for key in good)


def take(stream: TrainStream, jets: int) -> list[Seen]:
    taken = []
    for _ in range(jets):
        stream._current()  # passes on from windows that have only bad jets
        epoch, source = stream.epoch, next(stream).source
        assert source is not None
        taken.append((epoch, *source[0, :2].tolist()))
    return taken


files_of = st.builds(made_up_files, st.lists(st.integers(8, 40), min_size=1, max_size=4), st.integers(1, 30))


@settings(max_examples=8, deadline=None)
@given(
    files=files_of,
    buffer=st.integers(5, 90),
    launches=st.lists(st.tuples(st.integers(1, 3), st.integers(0, 40)), min_size=1, max_size=3),
    workers=st.integers(1, 3),
)
@example(made_up_files([40], 40), 100, [(1, 15), (3, 4), (2, 3), (2, 1)], 1)
@example(made_up_files([8], 4), 5, [(3, 12), (1, 0)], 1)
def test_every_jet_comes_once_an_epoch_however_often_the_number_of_ranks_changes(
    files: list[JetFile], buffer: int, launches: list[tuple[int, int]], workers: int
) -> None:
    """A run is stopped and resumed by other numbers of ranks, then goes on until all ranks are through an epoch."""
    seen: Counter[Seen] = Counter()
    states: list[dict[str, object]] = []
    with patch.object(shuffle_buffer, "read_chunk", made_up_jets):
        for number, (world, jets) in enumerate(launches):
            streams = [
                TrainStream(
                    files,
                    whole(files),
                    batch_size=1,
                    buffer=buffer,
                    seed=3,
                    rank=rank,
                    world=world,
                    workers=workers,
                    request=Request(columns=()),
                )
                for rank in range(world)
            ]
            if states:
                for stream in streams:
                    stream.resume(states)
            begun = max(stream.epoch for stream in streams)
            for rank, stream in enumerate(streams):
                seen.update(take(stream, jets // (rank + 1)))
                while number == len(launches) - 1 and stream.epoch <= begun:
                    seen.update(take(stream, 1))
            states = [stream.state_dict() for stream in streams]
            for stream in streams:
                stream.close()
    complete = Counter({key: times for key, times in seen.items() if key[0] <= begun})
    assert complete == expected(files, begun + 1)
    assert max(seen.values()) == 1


@settings(max_examples=8, deadline=None)
@given(
    files=files_of,
    buffer=st.integers(5, 90),
    jumps=st.lists(st.integers(0, 40), min_size=1, max_size=4),
    place=st.sampled_from([(0, 1), (1, 2), (2, 3)]),
    workers=st.integers(1, 3),
    size=st.integers(1, 9),
)
def test_a_stream_killed_anywhere_and_resumed_gives_the_jets_of_one_that_was_not(
    files: list[JetFile], buffer: int, jumps: list[int], place: tuple[int, int], workers: int, size: int
) -> None:
    def new(workers: int) -> TrainStream:
        return TrainStream(
            files,
            whole(files),
            batch_size=size,
            buffer=buffer,
            seed=3,
            rank=place[0],
            world=place[1],
            workers=workers,
            request=Request(columns=()),
        )

    def sources(stream: TrainStream, batches: int) -> list[list[list[int]]]:
        return [batch.source.tolist() for batch in (next(stream) for _ in range(batches)) if batch.source is not None]

    with patch.object(shuffle_buffer, "read_chunk", made_up_jets):
        with new(1) as stream:
            straight, left_out = sources(stream, sum(jumps)), stream.skipped
        resumed, state = [], None
        for jump in jumps:
            with new(workers) as stream:
                if state is not None:
                    stream.resume([state] * place[1])
                resumed += sources(stream, jump)
                state, counted = stream.state_dict(), stream.skipped
    assert resumed == straight
    assert counted["bad"] <= left_out["bad"]  # less, where nothing was taken after the last kill


@settings(max_examples=8, deadline=None)
@given(files=files_of, buffer=st.integers(5, 90), worlds=st.tuples(st.integers(1, 4), st.integers(1, 4)))
def test_after_a_change_of_ranks_their_shares_are_about_equal(
    files: list[JetFile], buffer: int, worlds: tuple[int, int]
) -> None:
    """No process gets more of the leftover jets than the others by more than one jet for each window that is shared."""
    before, now = worlds

    def plan(world: int) -> EpochPlan:
        return EpochPlan(files, whole(files), buffer=buffer, seed=0, world=world)

    cursors = [Cursor(plan, rank, before) for rank in range(before)]
    begun = [int(bool(plan(before).windows(0, rank))) for rank in range(before)]
    states = [cursor.state_dict() | {"row": row} for cursor, row in zip(cursors, begun)]
    if before == now:
        return
    shares = []
    for rank in range(now):
        cursor = Cursor(plan, rank, now)
        cursor.resume(states)
        jets = 0
        while cursor.shard().epoch == 0:
            shard = cursor.shard()
            jets += len(cursor.plan(shard.world).order(shard, count(cursor.ranges())))
            cursor.advance()
        shares.append(jets)
    assert sum(shares) == count([EntryRange(0, 0, file.entries) for file in files]) - sum(begun)
    sizes = [count(window) for rank in range(before) for window in plan(before).windows(0, rank)]
    assert max(shares) - min(shares) <= len(sizes) * (max(sizes) - min(sizes) + 1)
