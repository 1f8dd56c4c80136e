"""Files to `Jets`: in order, or endlessly shuffled and sharded over ranks, read ahead by threads in bounded memory."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import torch

from ssl_jets.data.chunks import DEFAULT, Request, check_request, read_chunk
from ssl_jets.data.files import JetFile, Part, count, shared_columns, shared_labels
from ssl_jets.data.shuffle import CHUNK, Plan, cut
from ssl_jets.errors import DataError, UsageError
from ssl_jets.jets import Jets, concatenate

__all__ = ["Request", "TrainStream", "ordered"]

Chunk = tuple[Jets, Counter[str]]


def ordered(
    files: Sequence[JetFile],
    parts: Sequence[Part],
    request: Request = DEFAULT,
    chunk: int = CHUNK,
    workers: int = 1,
    skipped: Counter[str] | None = None,
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

    Raises:
        UsageError: a column that a file does not have.
        DataError: files of differing columns or classes, a bad jet, a file that cannot be read.
    """
    _check(files, parts, request)
    return _ordered(files, parts, request, chunk, workers, skipped)


def _ordered(
    files: Sequence[JetFile],
    parts: Sequence[Part],
    request: Request,
    chunk: int,
    workers: int,
    skipped: Counter[str] | None,
) -> Iterator[Jets]:
    chunks = iter([piece for part in parts for piece in cut(files[part.file], part, chunk)])
    pool = ThreadPoolExecutor(workers, thread_name_prefix="ssl-jets-read")
    waiting: deque[Future[Chunk]] = deque()
    try:
        while True:
            while len(waiting) < workers + 1 and (piece := next(chunks, None)) is not None:
                waiting.append(_submit(pool, files, piece, request))
            if not waiting:
                return
            jets, left_out = waiting.popleft().result()
            if skipped is not None:
                skipped.update(left_out)
            if len(jets):
                yield jets
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class Position(NamedTuple):
    """A window of the endless stream."""

    epoch: int
    window: int

    def next(self) -> Position:
        """The window after this one, which may not exist: then the next epoch follows."""
        return Position(self.epoch, self.window + 1)


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
        buffer: jets shuffled together; two windows are in memory.
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
        parts: Sequence[Part],
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
        self.skipped: Counter[str] = Counter()
        """Jets left out so far, by reason."""
        if not self.jets_per_epoch:
            raise DataError("there are no jets to train on")
        self._files, self._request, self._batch_size = list(files), request, batch_size
        self._plan = Plan(files, parts, buffer=buffer, seed=seed, rank=rank, world=world)
        self._at = Position(0, 0)
        self._row = 0
        self._jets: Jets | None = None
        self._order = torch.empty(0, dtype=torch.int64)
        self._next: Future[Chunk] | None = None
        self._reading: list[Future[Chunk]] = []
        self._empty_windows = 0
        self._readers = ThreadPoolExecutor(workers, thread_name_prefix="ssl-jets-read")
        self._assembler = ThreadPoolExecutor(1, thread_name_prefix="ssl-jets-shuffle")
        self._closed = False

    @property
    def epoch(self) -> int:
        """Number of the epoch that the next jet belongs to, from 0."""
        return self._at.epoch

    def __iter__(self) -> TrainStream:
        return self

    def __next__(self) -> Jets:
        """The next batch, of exactly `batch_size` jets."""
        pieces: list[Jets] = []
        missing = self._batch_size
        while missing:
            jets = self._current()
            stop = min(self._row + missing, len(jets))
            pieces.append(jets.select(self._order[self._row : stop]))
            missing -= stop - self._row
            self._row = stop
            if stop == len(jets):
                self._advance()
        return concatenate(pieces)

    def state_dict(self) -> dict[str, int]:
        """Where the stream stands: the next batch after `load_state_dict` is the one that would come next here."""
        return {"epoch": self._at.epoch, "window": self._at.window, "row": self._row, **self._signature()}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go to where `state` was taken; only the window it stands in is read.

        Raises:
            UsageError: the state is of a stream over other jets, or with another seed, buffer or number of ranks.
        """
        for name, value in self._signature().items():
            if state[name] != value:
                raise UsageError(
                    "the state of the data stream is that of another run",
                    where=name,
                    found=value,
                    allowed=[state[name]],
                    hint="resume with the data and settings that the run began with",
                )
        self._drop()
        self._at, self._row = Position(state["epoch"], state["window"]), state["row"]

    def close(self) -> None:
        """End the threads and free the jets; the stream cannot be used any more."""
        self._closed = True
        self._drop()
        for pool in (self._readers, self._assembler):
            pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> TrainStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _signature(self) -> dict[str, int]:
        plan = self._plan
        return {"jets": self.jets_per_epoch, "seed": plan.seed, "buffer": plan.buffer, "world": plan.world}

    def _current(self) -> Jets:
        """The window the stream stands in; from then on the one after it is being read."""
        if self._closed:
            raise ValueError("the stream is closed")
        if self._jets is None:
            if self._next is None:
                self._at = self._read(self._at)
            assert self._next is not None
            began = time.perf_counter()
            try:
                self._jets, left_out = self._next.result()
            except BaseException:
                # The same error again for whoever asks again, from a fresh read.
                self._drop()
                raise
            finally:
                self.wait_seconds += time.perf_counter() - began
            self.skipped.update(left_out)
            self._refuse_endless_skipping(len(self._jets))
            order = self._plan.permutation(self._at.epoch, self._at.window, len(self._jets))
            self._order = torch.from_numpy(order)
            self._ahead = self._read(self._at.next())
        return self._jets

    def _advance(self) -> None:
        """Leave the window."""
        self._at, self._row, self._jets = self._ahead, 0, None

    def _read(self, position: Position) -> Position:
        """Begin to read the window at `position`, or the first one after it that exists; returns which one it is."""
        while position.window >= len(windows := self._plan.windows(position.epoch)):
            position = Position(position.epoch + 1, 0)
        if self._plan.constant and self._next is not None:
            return position  # It is in memory already.
        chunks = windows[position.window]
        self._reading = [_submit(self._readers, self._files, chunk, self._request) for chunk in chunks]
        self._next = self._assembler.submit(_assemble, self._reading)
        return position

    def _refuse_endless_skipping(self, jets: int) -> None:
        """Stop where a whole epoch of windows had only bad jets."""
        self._empty_windows = 0 if jets else self._empty_windows + 1
        if self._empty_windows > len(self._plan.windows(self._at.epoch)):
            reasons = ", ".join(f"{number} times {reason}" for reason, number in self.skipped.items())
            raise DataError("all jets to train on were left out", found=reasons)

    def _drop(self) -> None:
        """Forget the window and what is being read."""
        for future in self._reading:
            future.cancel()
        self._jets, self._next, self._reading = None, None, []


def _assemble(reading: list[Future[Chunk]]) -> Chunk:
    """One window from its chunks, which are let go of."""
    chunks = [future.result() for future in reading]
    reading.clear()
    left_out: Counter[str] = sum((skipped for _, skipped in chunks), Counter())
    return concatenate([jets for jets, _ in chunks]), left_out


def _submit(pool: ThreadPoolExecutor, files: Sequence[JetFile], part: Part, request: Request) -> Future[Chunk]:
    return pool.submit(read_chunk, files[part.file], part.file, part.start, part.stop, request)


def _check(files: Sequence[JetFile], parts: Sequence[Part], request: Request) -> None:
    """Whether all files that are read have the columns asked for and speak of the same classes."""
    used = [files[index] for index in sorted({part.file for part in parts})]
    if used and request.columns is None:
        shared_columns(used)
    shared_labels(used)
    check_request(used, request)
