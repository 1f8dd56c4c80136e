"""Files to `Jets`: in order, or endlessly shuffled and sharded over ranks, read ahead by threads in bounded memory."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch

from ssl_jets.data.files import EntryRange, JetFile, count
from ssl_jets.data.loading.cached_reading import CachedReader
from ssl_jets.data.loading.cursor import Cursor
from ssl_jets.data.loading.epoch_plan import CHUNK, EpochPlan, chunk_at_boundaries
from ssl_jets.data.loading.shard_cache import ShardCache
from ssl_jets.data.loading.shuffle_buffer import ShuffleBuffer, read_ahead, read_range
from ssl_jets.data.request import DEFAULT, Request
from ssl_jets.data.shared import check_together
from ssl_jets.data.skipped import file_names, require_jets, skipped_jets
from ssl_jets.errors import DataError, UsageError
from ssl_jets.jets import Jets, concatenate

_LOOK_AHEAD = 8
"""Later windows that are searched for the rest of a cluster."""


def ordered(
    files: Sequence[JetFile],
    ranges: Sequence[EntryRange],
    request: Request = DEFAULT,
    chunk: int = CHUNK,
    workers: int = 1,
    skipped: Counter[str] | None = None,
    *,
    may_be_empty: bool = False,
) -> Iterator[Jets]:
    """Read the jets of entry ranges in order, in batches of at most `chunk` entries.

    At most `workers` + 2 chunks are in memory: the one that the caller holds, one per thread, and one that waits.

    Args:
        files: the files.
        ranges: entry ranges, in the order of reading.
        request: columns to read, and the policy for bad jets; skipped jets are missing from `Jets.source`.
        chunk: most entries of a batch.
        workers: threads that read ahead.
        skipped: counter that receives the number of skipped jets by reason.
        may_be_empty: accept that no jet can be used, for one share of several; the caller checks their sum.

    Raises:
        UsageError: a column that a file does not have.
        DataError: files of differing columns or classes, a bad jet, a file that cannot be read, no jet that can be
            used.
    """
    check_together(files, ranges, request)
    counter: Counter[str] = Counter() if skipped is None else skipped
    return _ordered(files, ranges, request, chunk, workers, counter, may_be_empty=may_be_empty)


def _ordered(
    files: Sequence[JetFile],
    ranges: Sequence[EntryRange],
    request: Request,
    chunk: int,
    workers: int,
    skipped: Counter[str],
    *,
    may_be_empty: bool,
) -> Iterator[Jets]:
    any_jets = may_be_empty or not count(ranges)
    chunks = (piece for part in ranges for piece in chunk_at_boundaries(files[part.file], part, chunk))
    pool = ThreadPoolExecutor(workers, thread_name_prefix="ssl-jets-read")
    try:
        for jets, skipped_here in read_ahead(pool, workers, partial(read_range, files, request=request), chunks):
            skipped.update(skipped_here)
            if jets is not None:
                any_jets = True
                yield jets
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    require_jets(any_jets, "that can be used", where=file_names(files, ranges), left_out=skipped)


class TrainStream:
    """Endless batches of shuffled jets: every jet once per epoch, on one of the ranks.

    An epoch is cut into windows of about `buffer` jets, each a mixture of chunks of all classes (see `EpochPlan`).
    While one window is used, threads read the next; if all fit into one window, they are read once. All batches have
    `batch_size` jets, also across epochs. The order depends only on the files, `seed`, `rank`, `world` and `buffer`.

    Args:
        files: the files.
        ranges: the entry ranges to train on.
        batch_size: jets of a batch.
        buffer: jets shuffled together; two windows are in memory (see `ShuffleBuffer`).
        seed: seed of the order.
        rank: number of this rank.
        world: number of ranks.
        workers: threads that read.
        request: columns to read, and the policy for bad jets.
        selected: jets of an epoch, if the request selects some of the entries; `buffer` then counts entries.
        cache: cache of decoded jets; None reads the files in each epoch. The jets are the same.

    Raises:
        UsageError: a column that a file does not have.
        DataError: files of differing columns or classes, a bad jet, a file that cannot be read.
    """

    def __init__(
        self,
        files: Sequence[JetFile],
        ranges: Sequence[EntryRange],
        *,
        batch_size: int,
        buffer: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        workers: int = 1,
        request: Request = DEFAULT,
        selected: int | None = None,
        cache: ShardCache | None = None,
    ) -> None:
        check_together(files, ranges, request)
        self.jets_per_epoch = count(ranges) if selected is None else selected
        """Jets of an epoch, of all ranks together, before bad ones are skipped."""
        self.wait_seconds = 0.0
        """Time spent waiting for files."""
        if not self.jets_per_epoch:
            raise DataError("there are no jets to train on")
        self._batch_size = batch_size
        self._seed = seed
        self._resampling = request.resampling
        self._buffer = buffer
        self._cursor = Cursor(
            lambda ranks: EpochPlan(files, ranges, buffer=buffer, seed=seed, world=ranks), rank, world
        )
        direct = partial(read_range, files, request=request)
        read = direct if cache is None else CachedReader(cache, files, request)
        self._shuffle_buffer = ShuffleBuffer(files, read, buffer, workers)
        self._jets: Jets | None = None
        self._order = torch.empty(0, dtype=torch.int64)
        self._skipped_before = Counter[str]()
        self._skipped_in_window = Counter[str]()
        self._empty_windows = 0
        self._closed = False

    @property
    def epoch(self) -> int:
        """Number of the epoch that the next jet belongs to, from 0."""
        return self._cursor.shard().epoch

    @property
    def skipped(self) -> Counter[str]:
        """Number of jets skipped so far, by reason."""
        return self._skipped_before + self._skipped_in_window

    def __iter__(self) -> TrainStream:
        return self

    def __next__(self) -> Jets:
        return self.take(self._batch_size)

    def take(self, jets: int) -> Jets:
        """Return exactly this number of jets, the next ones of the stream."""
        # Row 8 of a window of 10 jets, 5 jets asked for: rows 8 and 9 of it, then rows 0 to 2 of the next window.
        pieces: list[Jets] = []
        while jets:
            window, row = self._current(), self._cursor.row
            index = self._order[row : row + jets]
            pieces.append(window.select(index))
            jets -= len(index)
            self._cursor.row += len(index)
            if self._cursor.row == len(self._order):
                self._advance()
        return concatenate(pieces)

    def state_dict(self) -> dict[str, Any]:
        """Return the sampler state."""
        return self._cursor.state_dict() | {"left_out": dict(self._skipped_before)} | self._signature()

    def resume(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Resume from the states of all ranks of a run, which may have had another number of ranks.

        From as many ranks as now, the next batch is the one that would have come next, and only its window is read.
        Otherwise see `Cursor.resume`.

        Raises:
            UsageError: the states are of a stream over other jets, or with another seed or buffer.
        """
        for state in states:
            self._check_state(state, len(states))
        self._drop()
        self._cursor.resume(states)
        if len(states) == self._cursor.world:
            self._skipped_before = Counter(states[self._cursor.rank]["left_out"])
        elif self._cursor.rank == 0:
            self._skipped_before = sum((Counter(state["left_out"]) for state in states), Counter())

    def close(self) -> None:
        """End the threads and free the jets; the stream cannot be used any more."""
        self._closed = True
        self._jets = None
        self._shuffle_buffer.close()

    def __enter__(self) -> TrainStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _signature(self) -> dict[str, int]:
        return {"jets": self.jets_per_epoch, "seed": self._seed, "buffer": self._buffer, "world": self._cursor.world}

    def _check_state(self, state: Mapping[str, Any], world: int) -> None:
        for name, value in (self._signature() | {"world": world}).items():
            if state[name] != value:
                raise UsageError(
                    "the state of the data stream belongs to another run",
                    where=name,
                    found=value,
                    allowed=[state[name]],
                    hint="resume with the data and settings that the run began with",
                )

    def _current(self) -> Jets:
        """Return the current window, which has a jet to take; the next one is read in the background from then on."""
        if self._closed:
            raise ValueError("the stream is closed")
        while self._jets is None:
            if not self._shuffle_buffer.reading:
                self._begin(0)
            began = time.perf_counter()
            try:
                self._jets, self._skipped_in_window = self._shuffle_buffer.take()
            except BaseException:
                self._drop()  # the next call reads anew, and raises the same error
                raise
            finally:
                self.wait_seconds += time.perf_counter() - began
            self._refuse_endless_skipping()
            self._enter()
        return self._jets

    def _begin(self, ahead: int) -> None:
        """Begin to read the window `ahead` of the current one."""
        following = [self._cursor.ranges(ahead + more) for more in range(1, 1 + _LOOK_AHEAD)]
        self._shuffle_buffer.begin(self._cursor.ranges(ahead), following)

    def _enter(self) -> None:
        """Shuffle the window that was read; move on from windows that have no jet for this rank."""
        # A loop: after many changes of the number of ranks there are thousands of shares without a jet.
        while not self._shuffle():
            if not self._move():
                return
        if not self._repeats():
            self._begin(1)

    def _shuffle(self) -> bool:
        """Draw the order of the jets of the shard; return whether there is one to take."""
        shard, jets = self._cursor.shard(), self._jets
        factors = None if jets is None or self._resampling is None else self._resampling.of_jets(jets)
        plan = self._cursor.plan(shard.world)
        order = plan.order(shard, 0 if jets is None else len(jets), factors)
        self._order = torch.from_numpy(order)
        return self._cursor.row < len(order)

    def _advance(self) -> None:
        """Move to the next window; if it has the same entries, with the jets that are in memory."""
        if self._move():
            self._enter()

    def _move(self) -> bool:
        """Move to the next shard; return whether its jets are in memory, since its window has the same entries."""
        repeats = self._jets is not None and self._repeats()
        self._cursor.advance()
        if not repeats:
            self._jets = None
            self._skipped_before, self._skipped_in_window = self.skipped, Counter()
        return repeats

    def _repeats(self) -> bool:
        """Check whether the next window has the entries of this one: all jets fit into one."""
        return self._cursor.ranges(1) == self._cursor.ranges()

    def _refuse_endless_skipping(self) -> None:
        """Stop after an epoch of windows with bad jets only, and ten more, as an epoch may have a single jet."""
        shard = self._cursor.shard()
        self._empty_windows = 0 if self._jets is not None else self._empty_windows + 1
        if self._empty_windows > 10 + len(self._cursor.plan(shard.world).windows(shard.epoch, shard.rank)):
            raise DataError("all jets to train on were left out", found=skipped_jets(self.skipped))

    def _drop(self) -> None:
        self._shuffle_buffer.forget()
        self._jets, self._skipped_in_window = None, Counter()
