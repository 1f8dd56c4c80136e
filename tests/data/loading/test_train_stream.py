"""The training stream: every jet once an epoch, reproducible, resumable to the jet, classes mixed."""

from __future__ import annotations

import gc
import threading
import tracemalloc
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_jets.data.files import EntryRange, JetFile, count, open_files, whole
from ssl_jets.data.loading.epoch_plan import EpochPlan, Shard
from ssl_jets.data.loading.shuffle_buffer import ShuffleBuffer, read_range
from ssl_jets.data.loading.stream import TrainStream
from ssl_jets.data.request import Request
from ssl_jets.data.sources import Source
from ssl_jets.data.split import split
from ssl_jets.errors import DataError, UsageError
from ssl_jets.jets import Jets
from support.jetclass_files import jetclass_branches, write_tree
from support.nominal_files import made_up_files

Write = Callable[..., Path]
Key = tuple[str, int]


def write_classes(folder: Path) -> list[JetFile]:
    """Three classes of 90, 45 and 30 jets; the first has two files."""
    made = [("QCD_0", 60, "QCD"), ("QCD_1", 30, "QCD"), ("Tbl_0", 45, "Tbl"), ("Hbb", 30, "Hbb")]
    paths = [
        write_tree(folder / f"{name}.root", {"tree": jetclass_branches(entries, label=label, seed=seed)}, cluster=8)
        for seed, (name, entries, label) in enumerate(made)
    ]
    return open_files([Source(str(path)) for path in paths])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[JetFile]:
    return write_classes(tmp_path_factory.mktemp("classes"))


@pytest.fixture(scope="module")
def three_small_files(tmp_path_factory: pytest.TempPathFactory) -> list[JetFile]:
    folder = tmp_path_factory.mktemp("small")
    paths = [write_tree(folder / f"{name}.root", {"tree": jetclass_branches(20)}) for name in "abc"]
    return open_files([Source(str(path)) for path in paths])


def stream_of(files: Sequence[JetFile], parts: Sequence[EntryRange] | None = None, **settings: Any) -> TrainStream:
    # Few columns, so that the tests are quick.
    arguments = {"batch_size": 15, "buffer": 60, "seed": 1, "request": Request(columns=("pt", "charge"))} | settings
    return TrainStream(files, whole(files) if parts is None else parts, **arguments)


def keys(jets: Jets, files: Sequence[JetFile]) -> list[Key]:
    assert jets.source is not None
    return [(files[file].name, entry) for file, entry, _ in jets.source.tolist()]


def take(stream: TrainStream, files: Sequence[JetFile], jets: int) -> list[Key]:
    """The keys of the next jets; the batch size must divide their number."""
    taken: list[Key] = []
    while len(taken) < jets:
        taken += keys(next(stream), files)
    assert len(taken) == jets
    return taken


def test_a_shuffle_buffer_holds_its_particles_once_and_nothing_of_its_chunks(sample_files: list[JetFile]) -> None:
    windows = ShuffleBuffer(sample_files, partial(read_range, sample_files, request=Request()), 1000, 1)
    tracemalloc.start()
    windows.begin([EntryRange(0, 0, 500), EntryRange(1, 0, 500)])
    jets = windows.take().jets
    gc.collect()
    of_numpy = tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)  # the block is torch's and not counted
    held = sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([of_numpy]).traces)
    tracemalloc.stop()
    windows.close()
    assert jets is not None
    assert held < jets.particles.nbytes / 5


def reading_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ssl-jets")]


@pytest.mark.parametrize(("buffer", "batch_size"), [(10, 15), (60, 1), (1000, 15)])
def test_each_epoch_has_every_jet_once(files: list[JetFile], buffer: int, batch_size: int) -> None:
    with stream_of(files, buffer=buffer, batch_size=batch_size) as stream:
        assert stream.jets_per_epoch == 165
        epochs = [take(stream, files, 165) for _ in range(3)]
        assert stream.epoch == 3
    expected = sorted((file.name, entry) for file in files for entry in range(file.entries))
    assert [sorted(epoch) for epoch in epochs] == [expected] * 3
    assert epochs[0] != epochs[1] != epochs[2]


@pytest.mark.parametrize(("world", "buffer"), [(2, 1000), (3, 20)])
def test_the_ranks_together_have_every_jet_once(files: list[JetFile], world: int, buffer: int) -> None:
    parts = [EntryRange(0, 3, 57), *whole(files)[1:]]
    seen: list[Key] = []
    for rank in range(world):
        with stream_of(files, parts, buffer=buffer, batch_size=1, rank=rank, world=world) as stream:
            mine: list[Key] = []
            while stream.epoch == 0:
                mine += keys(next(stream), files)
        assert abs(len(mine) - 159 / world) <= (3 if buffer == 1000 else 20)
        seen += mine
    expected = sorted((files[part.file].name, entry) for part in parts for entry in range(part.start, part.stop))
    assert sorted(seen) == expected


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 300), min_size=1, max_size=5),
    cluster=st.integers(1, 120),
    buffer=st.integers(1, 500),
    world=st.integers(1, 4),
    epoch=st.integers(0, 5),
)
def test_a_plan_gives_each_entry_to_one_window_of_one_rank(
    sizes: list[int], cluster: int, buffer: int, world: int, epoch: int
) -> None:
    files = made_up_files(sizes, cluster)
    given_out: Counter[tuple[int, int]] = Counter()
    for rank in range(world):
        plan = EpochPlan(files, whole(files), buffer=buffer, seed=7, world=world)
        for window in plan.windows(epoch, rank):
            given_out.update((part.file, entry) for part in window for entry in range(part.start, part.stop))
    assert given_out == Counter((index, entry) for index, size in enumerate(sizes) for entry in range(size))


@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize("windows", [1, 2, 5])
def test_each_window_of_each_rank_is_of_equal_size_and_mixture(
    sample_files: list[JetFile], world: int, windows: int
) -> None:
    train, _ = split(sample_files, 0.1, 0)
    buffer = -(-count(train) // (windows * world))
    for rank in range(world):
        plan = EpochPlan(sample_files, train, buffer=buffer, seed=0, world=world)
        planned = plan.windows(0, rank)
        assert len(planned) == windows
        for window in planned:
            entries = np.zeros(10)
            for part in window:
                entries[part.file] += part.entries
            np.testing.assert_allclose(entries, 898 / (windows * world), atol=1.5)


def test_a_batch_of_the_sample_has_all_ten_classes(sample_files: list[JetFile]) -> None:
    train, _ = split(sample_files, 0.1, 0)
    options: Any = {"batch_size": 256, "buffer": 3000, "seed": 0, "request": Request(columns=("pt",))}
    with TrainStream(sample_files, train, **options) as stream:
        for _ in range(5):
            labels = next(stream).labels
            assert labels is not None
            counts = torch.bincount(labels, minlength=10)
            # 25.6 of each are expected, give or take 4.8.
            assert counts.min() >= 8
            assert counts.max() <= 50


def test_the_same_seed_gives_the_same_order_and_another_seed_another(files: list[JetFile]) -> None:
    orders = []
    for seed in (1, 1, 2):
        with stream_of(files, seed=seed) as stream:
            orders.append(take(stream, files, 330))
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]


def test_neither_the_order_of_the_files_nor_the_threads_change_the_order_of_the_jets(files: list[JetFile]) -> None:
    with stream_of(files, workers=1) as stream:
        expected = take(stream, files, 330)
    turned = files[::-1]
    with stream_of(turned, workers=3) as stream:
        assert take(stream, turned, 330) == expected


def test_jets_are_shuffled_within_a_window_across_files(files: list[JetFile]) -> None:
    with stream_of(files, buffer=1000) as stream:
        taken = take(stream, files, 165)
    changes = sum(one[0] != other[0] for one, other in pairwise(taken))
    assert changes > 80


@pytest.mark.parametrize(
    ("batch_size", "batches", "buffer"),
    [(7, 0, 60), (7, 3, 60), (7, 8, 1000), (55, 1, 60), (55, 8, 60), (55, 3, 1000), (200, 1, 60), (200, 3, 1000)],
)
def test_a_restored_stream_goes_on_at_the_same_jet(
    files: list[JetFile], batch_size: int, batches: int, buffer: int
) -> None:
    with stream_of(files, batch_size=batch_size, buffer=buffer) as stream:
        for _ in range(batches):
            next(stream)
        state = dict(stream.state_dict())
        expected = [next(stream) for _ in range(3)]
    with stream_of(files, batch_size=batch_size, buffer=buffer) as stream:
        next(stream)
        stream.resume([state])
        assert stream.state_dict() == state
        for jets in expected:
            other = next(stream)
            assert torch.equal(other.particles, jets.particles)
            assert torch.equal(other.offsets, jets.offsets)
            assert keys(other, files) == keys(jets, files)


@settings(max_examples=5, deadline=None)  # with made-up jets, test_cursor.py has more
@given(jumps=st.lists(st.integers(0, 20), min_size=1, max_size=4), rank=st.integers(0, 1))
def test_a_stream_restored_again_and_again_equals_one_that_was_not(
    three_small_files: list[JetFile], jumps: list[int], rank: int
) -> None:
    files = three_small_files

    def new() -> TrainStream:
        return stream_of(files, batch_size=3, buffer=15, rank=rank, world=2)

    with new() as stream:
        straight = [keys(next(stream), files) for _ in range(sum(jumps))]
    taken: list[list[Key]] = []
    state = None
    for jump in jumps:
        with new() as stream:
            if state is not None:
                stream.resume([state, state])
            taken += [keys(next(stream), files) for _ in range(jump)]
            state = stream.state_dict()
    assert taken == straight


def test_shares_without_a_jet_are_passed_over(files: list[JetFile]) -> None:
    # Each change of the number of ranks multiplies the shares of a window: 2, 3, 4, 3, ... ranks leave thousands.
    with stream_of(files) as stream, stream_of(files) as resumed:
        resumed.resume([stream.state_dict() | {"left": [(0, 1, 0, 0, 1000 + share, 3456) for share in range(2000)]}])
        assert keys(next(resumed), files) == keys(next(stream), files)


@pytest.mark.parametrize("change", [{"seed": 2}, {"buffer": 61}, {"world": 2}])
def test_the_state_of_another_run_is_refused(files: list[JetFile], change: dict[str, int]) -> None:
    with stream_of(files) as stream, stream_of(files, **change) as other:
        with pytest.raises(UsageError, match="another run") as caught:
            other.resume([stream.state_dict()] * change.get("world", 1))
        assert caught.value.where == next(iter(change))


def test_bad_jets_are_an_error_or_counted_once_an_epoch(write_jetclass: Write) -> None:
    def spoil(branches: dict[str, Any]) -> None:
        charge = branches["part_charge"]
        branches["part_charge"] = ak.values_astype(ak.where(np.arange(50) == 17, charge * np.nan, charge), np.float32)

    files = open_files([Source(str(write_jetclass(edit=spoil)))])
    with stream_of(files) as stream, pytest.raises(DataError, match="part_charge is not finite"):
        take(stream, files, 60)
    with stream_of(files, batch_size=49, buffer=1000, request=Request(bad_jets="skip")) as stream:
        epoch = take(stream, files, 49)
        assert sorted(entry for _, entry in epoch) == [entry for entry in range(50) if entry != 17]
        assert stream.skipped == {"part_charge is not finite": 1}


@pytest.mark.parametrize("world", [1, 2])
def test_skipped_jets_are_counted_on_after_a_resume(write_jetclass: Write, world: int) -> None:
    """Four epochs of five windows, each with one bad jet."""

    def spoil(branches: dict[str, Any]) -> None:
        charge = branches["part_charge"]
        branches["part_charge"] = ak.values_astype(ak.where(np.arange(50) == 17, charge * np.nan, charge), np.float32)

    files = open_files([Source(str(write_jetclass(edit=spoil)))])
    settings: dict[str, Any] = {"batch_size": 49, "buffer": 10, "request": Request(bad_jets="skip")}
    with stream_of(files, **settings) as stream:
        for _ in range(4):
            next(stream)
        state = stream.state_dict()
        assert stream.skipped == {"part_charge is not finite": 4}
    found = Counter[str]()
    for rank in range(world):
        with stream_of(files, rank=rank, world=world, **settings) as stream:
            stream.resume([state])
            found += stream.skipped
    assert found == {"part_charge is not finite": 4}


def test_copies_differ_from_epoch_to_epoch(files: list[JetFile]) -> None:
    """A jet of factor 0.5 comes in half of the epochs."""
    plan = EpochPlan(files, whole(files), buffer=1000, seed=0, world=1)
    times = np.zeros(100, dtype=np.int64)
    for epoch in range(40):
        times += np.bincount(plan.order(Shard(epoch, 1, 0, 0), 100, np.full(100, 0.5)), minlength=100)
    assert 5 <= times.min() < times.max() <= 35


def test_jets_that_are_all_bad_end_the_stream_with_an_error(write_jetclass: Write) -> None:
    def spoil(branches: dict[str, Any]) -> None:
        branches["part_charge"] = branches["part_charge"] * np.float32(np.nan)

    files = open_files([Source(str(write_jetclass(edit=spoil)))])
    with (
        stream_of(files, request=Request(bad_jets="skip")) as stream,
        pytest.raises(DataError, match="all jets to train on were left out"),
    ):
        next(stream)


def test_no_jets_is_an_error(files: list[JetFile]) -> None:
    with pytest.raises(DataError, match="no jets to train on"):
        stream_of(files, [])


def test_the_error_of_a_thread_comes_again_when_asked_again(tmp_path: Path) -> None:
    files = write_classes(tmp_path)
    path = Path(files[2].source.path)
    path.write_bytes(path.read_bytes()[:5000])
    with stream_of(files) as stream:
        for _ in range(2):
            with pytest.raises(DataError, match="truncated") as caught:
                take(stream, files, 165)
            assert str(path) in str(caught.value)


def test_closing_ends_the_threads_and_the_stream(files: list[JetFile]) -> None:
    stream = stream_of(files, workers=2)
    next(stream)
    assert reading_threads()
    stream.close()
    stream.close()
    assert not reading_threads()
    with pytest.raises(ValueError, match="closed"):
        next(stream)


def test_a_restored_stream_reads_only_the_window_it_stands_in(
    files: list[JetFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ssl_jets.data.loading import shuffle_buffer as module

    with stream_of(files, buffer=20, batch_size=5) as stream:
        take(stream, files, 160)
        state = stream.state_dict()
    entries: list[int] = []
    original = module.read_chunk

    def counted(file: JetFile, index: int, start: int, stop: int, request: Request, without: Any) -> Any:
        entries.append(stop - start)
        return original(file, index, start, stop, request, without)

    monkeypatch.setattr(module, "read_chunk", counted)
    with stream_of(files, buffer=20, batch_size=5) as stream:
        stream.resume([state])
        next(stream)
    # The window itself, and at most the one that is read ahead.
    assert sum(entries) <= 2 * 24


def test_jets_that_fit_into_the_buffer_are_read_once(files: list[JetFile], monkeypatch: pytest.MonkeyPatch) -> None:
    with stream_of(files, buffer=165) as stream:
        first = take(stream, files, 165)
        monkeypatch.setattr("ssl_jets.data.readers.root.read", None)
        second = take(stream, files, 165)
    assert first != second
    assert sorted(first) == sorted(second)


def test_the_jet_columns_asked_for_come_along(files: list[JetFile]) -> None:
    with stream_of(files, request=Request(jet_columns=("jet_pt",), columns=("pt", "deta"))) as stream:
        jets = next(stream)
    assert jets.columns == ("pt", "deta")
    assert jets.jet["jet_pt"].shape == (15,)
