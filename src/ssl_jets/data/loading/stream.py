"""Files to `Jets`: in order, or endlessly shuffled and sharded over ranks, read ahead by threads in bounded memory."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from ssl_jets.data.chunks import DEFAULT, Request, check_request
from ssl_jets.data.files import EntryRange, JetFile, count, shared_columns, shared_labels
from ssl_jets.data.loading.buffer import ShuffleBuffer, read_ahead
from ssl_jets.data.loading.cursor import Cursor
from ssl_jets.data.loading.plan import CHUNK, EpochPlan, chunk_at_boundaries
from ssl_jets.data.skipped import named, require_jets, skipped_jets
from ssl_jets.errors import DataError, UsageError
from ssl_jets.jets import Jets, concatenate

__all__ = ["Request", "TrainStream", "ordered"]

_LOOK_AHEAD = 8
"""Windows that are searched for the rest of a cluster."""


def ordered(
    files: Sequence[JetFile],
    parts: Sequence[EntryRange],
    request: Request = DEFAULT,
    chunk: int = CHUNK,
    workers: int = 1,
    skipped: Counter[str] | None = None,
    *,
    may_be_empty: bool = False,
) -> Iterator[Jets]:
    """The jets of `parts` in that order, in batches of at most `chunk` entries.

    At most `workers` + 2 chunks are in memory: the one in the hands of the caller, one per thread, and one that waits.

    Args:
        files: the files.
        parts: entries of them, in the order wanted.
        request: which columns, and what to do with bad jets; jets left out are missing from `Jets.source`.
        chunk: most entries of a batch.
        workers: threads that read ahead.
        skipped: the number of jets left out is added here, by reason.
        may_be_empty: let pass that no jet of `parts` can be used; for one share of several, whose sum is checked.

    Raises:
        UsageError: a column that a file does not have.
        DataError: files of differing columns or classes, a bad jet, a file that cannot be read, no jet that can be
            used.
    """
    _check(files, parts, request)
    left_out: Counter[str] = Counter() if skipped is None else skipped
    return _ordered(files, parts, request, chunk, workers, left_out, may_be_empty=may_be_empty)


def _ordered(
    files: Sequence[JetFile],
    parts: Sequence[EntryRange],
    request: Request,
    chunk: int,
    workers: int,
    skipped: Counter[str],
    *,
    may_be_empty: bool,
) -> Iterator[Jets]:
    found = may_be_empty or not count(parts)
    chunks = (piece for part in parts for piece in chunk_at_boundaries(files[part.file], part, chunk))
    pool = ThreadPoolExecutor(workers, thread_name_prefix="ssl-jets-read")
    try:
        for jets, left_out in read_ahead(pool, workers, files, chunks, request):
            skipped.update(left_out)
            if jets is not None:
                found = True
                yield jets
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    require_jets(found, "that can be used", where=named(files, parts), left_out=skipped)


class TrainStream:
    """Endless batches of shuffled jets: every jet once per epoch, on one of the ranks.

    An epoch is cut into windows of about `buffer` jets, each a mixture of chunks of all classes (see `Plan`). While one
    window is used, threads read the next; where all jets fit into one window, they are read only once. Batches go on
    across windows and epochs, so all have `batch_size` jets. The order depends only on the files, `seed`, `rank`,
    `world` and `buffer`.

    Args:
        files: the files.
        parts: the entries to train on.
        batch_size: jets of a batch.
        buffer: jets shuffled together; two windows are in memory (see `Windows`).
        seed: seed of the order.
        rank: number of this process.
        world: number of processes.
        workers: threads that read.
        request: which columns, and what to do with bad jets.

    Raises:
        UsageError: a column that a file does not have.
        DataError: files of differing columns or classes, a bad jet, a file that cannot be read.
    """

    def __init__(
        self,
        files: Sequence[JetFile],
        parts: Sequence[EntryRange],
        *,
        batch_size: int,
        buffer: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        workers: int = 1,
        request: Request = DEFAULT,
    ) -> None:
        _check(files, parts, request)
        self.jets_per_epoch = count(parts)
        """Jets of an epoch, of all ranks together, before bad ones are left out."""
        self.wait_seconds = 0.0
        """Time spent waiting for files."""
        if not self.jets_per_epoch:
            raise DataError("there are no jets to train on")
        self._batch_size, self._seed, self._buffer = batch_size, seed, buffer
        self._course = Cursor(lambda ranks: EpochPlan(files, parts, buffer=buffer, seed=seed, world=ranks), rank, world)
        self._windows = ShuffleBuffer(files, request, buffer, workers)
        self._jets: Jets | None = None
        self._order = torch.empty(0, dtype=torch.int64)
        self._left_out, self._left_out_here = Counter[str](), Counter[str]()
        self._empty_windows = 0
        self._closed = False

    @property
    def epoch(self) -> int:
        """Number of the epoch that the next jet belongs to, from 0."""
        return self._course.rows().epoch

    @property
    def skipped(self) -> Counter[str]:
        """Jets left out so far, by reason."""
        return self._left_out + self._left_out_here

    def __iter__(self) -> TrainStream:
        return self

    def __next__(self) -> Jets:
        """The next batch, of exactly `batch_size` jets."""
        return self.take(self._batch_size)

    def take(self, jets: int) -> Jets:
        """The next jets, of exactly this number."""
        pieces: list[Jets] = []
        while jets:
            window, row = self._current(), self._course.row
            index = self._order[row : row + jets]
            pieces.append(window.select(index))
            jets -= len(index)
            self._course.row += len(index)
            if self._course.row == len(self._order):
                self._leave()
        return concatenate(pieces)

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands: the next batch after `load_state_dict` is the one that would come next here."""
        return self._course.state_dict() | {"left_out": dict(self._left_out)} | self._signature()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to where `state` was taken; only the window it stands in is read.

        Raises:
            UsageError: the state is of a stream over other jets, or with another seed, buffer or number of ranks.
        """
        self._check_state(state, self._course.world)
        self._drop()
        self._course.load_state_dict(state)
        self._left_out = Counter(state["left_out"])

    def resume(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Go on from the states of all ranks of a run, of which there may have been another number.

        With as many ranks as before, this is `load_state_dict`. Otherwise see `Course.resume`.
        """
        if len(states) == self._course.world:
            self.load_state_dict(states[self._course.rank])
            return
        for state in states:
            self._check_state(state, len(states))
        self._drop()
        self._course.resume(states)
        if self._course.rank == 0:
            self._left_out = sum((Counter(state["left_out"]) for state in states), Counter())

    def close(self) -> None:
        """End the threads and free the jets; the stream cannot be used any more."""
        self._closed = True
        self._jets = None
        self._windows.close()

    def __enter__(self) -> TrainStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _signature(self) -> dict[str, int]:
        numbers = {"jets": self.jets_per_epoch, "seed": self._seed, "buffer": self._buffer}
        return numbers | {"world": self._course.world}

    def _check_state(self, state: Mapping[str, Any], world: int) -> None:
        for name, value in (self._signature() | {"world": world}).items():
            if state[name] != value:
                raise UsageError(
                    "the state of the data stream is that of another run",
                    where=name,
                    found=value,
                    allowed=[state[name]],
                    hint="resume with the data and settings that the run began with",
                )

    def _current(self) -> Jets:
        """The window the stream stands in, which has a jet to take; from then on the one after it is being read."""
        if self._closed:
            raise ValueError("the stream is closed")
        while self._jets is None:
            if not self._windows.reading:
                self._begin(0)
            began = time.perf_counter()
            try:
                self._jets, self._left_out_here = self._windows.take()
            except BaseException:
                # The same error again for whoever asks again, from a fresh read.
                self._drop()
                raise
            finally:
                self.wait_seconds += time.perf_counter() - began
            self._refuse_endless_skipping()
            self._enter()
        return self._jets

    def _begin(self, ahead: int) -> None:
        """Begin to read a window."""
        following = [self._course.parts(ahead + more) for more in range(1, 1 + _LOOK_AHEAD)]
        self._windows.begin(self._course.parts(ahead), following)

    def _enter(self) -> None:
        """Take up the window that was read, or pass on where it has no jet for this process."""
        rows = self._course.rows()
        order = self._course.plan(rows.world).order(rows, 0 if self._jets is None else len(self._jets))
        self._order = torch.from_numpy(order)
        if self._course.row >= len(order):
            self._leave()
        elif not self._repeats():
            self._begin(1)

    def _leave(self) -> None:
        """Go on to the next window; where it has the same entries, with the jets that are in memory."""
        repeats = self._jets is not None and self._repeats()
        self._course.leave()
        if repeats:
            self._enter()
        else:
            self._jets = None
            self._left_out, self._left_out_here = self.skipped, Counter()

    def _repeats(self) -> bool:
        """Whether the next window has the entries of this one: all jets fit into one."""
        return self._course.parts(1) == self._course.parts()

    def _refuse_endless_skipping(self) -> None:
        """Stop where a whole epoch of windows had only bad jets, and ten more, as an epoch may have a single jet."""
        rows = self._course.rows()
        self._empty_windows = 0 if self._jets is not None else self._empty_windows + 1
        if self._empty_windows > 10 + len(self._course.plan(rows.world).windows(rows.epoch, rows.rank)):
            raise DataError("all jets to train on were left out", found=skipped_jets(self.skipped))

    def _drop(self) -> None:
        """Forget the window and what is being read."""
        self._windows.forget()
        self._jets, self._left_out_here = None, Counter()


def _check(files: Sequence[JetFile], parts: Sequence[EntryRange], request: Request) -> None:
    """Whether all files that are read have the columns asked for and speak of the same classes."""
    used = [files[index] for index in sorted({part.file for part in parts})]
    if used and request.columns is None:
        shared_columns(used)
    shared_labels(used)
    check_request(used, request)
