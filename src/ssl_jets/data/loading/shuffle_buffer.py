"""Shuffle buffer with background reading, in bounded memory."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from ssl_jets.data.chunks import read_chunk, without_bad_entries
from ssl_jets.data.files import EntryRange, JetFile, count
from ssl_jets.data.request import Request
from ssl_jets.data.rows import BadEntriesError, Entries
from ssl_jets.errors import DataError
from ssl_jets.jets import Jets, concatenate

_SLACK = 1.05
"""Memory for this many times the particles that a window is expected to have."""


class Chunk(NamedTuple):
    """Jets of some entries (None if there are none), and the number of skipped jets by reason."""

    jets: Jets | None
    skipped: Counter[str]


def read_range(files: Sequence[JetFile], part: EntryRange, request: Request) -> Chunk:
    """Read the jets of an entry range; entries that the request skips are left out, of a corrupt file all.

    Raises:
        DataError: the file cannot be read, or has a bad jet.
    """
    file = files[part.file]
    lost = Counter[str]()

    def read(without: Entries) -> tuple[Jets, Counter[str]]:
        return read_chunk(file, part.file, part.start, part.stop, request, without)

    def found(error: BadEntriesError) -> None:
        lost[f"{error.what}: {file.source}"] += _jets_in(file, part, error.entries)

    try:
        jets, skipped = without_bad_entries(read, request, found)
    except DataError as error:
        if not request.skips(error):
            error.suggest_skipping()
            raise
        return Chunk(None, Counter({f"{error.what}: {file.source}": part.entries}))
    return Chunk(jets if len(jets) else None, lost + skipped)


def _jets_in(file: JetFile, part: EntryRange, entries: Entries) -> int:
    """Count the jets of `part` that lie in the given entries of the tree."""
    ranges = (file.jets_of(entry, entry + 1) for entry in entries.tolist())
    return sum(min(stop, part.stop) - max(start, part.start) for start, stop in ranges)


Read = Callable[[EntryRange], Chunk]
"""Function that reads an entry range."""


def read_ahead(pool: ThreadPoolExecutor, workers: int, read: Read, ranges: Iterable[EntryRange]) -> Iterator[Chunk]:
    """Yield the chunks of entry ranges in order, reading at most `workers` + 1 of them ahead."""
    waiting: deque[Future[Chunk]] = deque()
    ranges = iter(ranges)
    try:
        while True:
            while len(waiting) < workers + 1 and (part := next(ranges, None)) is not None:
                waiting.append(pool.submit(read, part))
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


class ShuffleBuffer:
    """Shuffle buffer that reads its next window while the current one is used.

    A window is one filling, of at most `buffer` jets. Two windows are in memory, in two blocks used alternately.
    In addition there are a few chunks being read, and jets of at most half a window that were decoded along with
    others, because a window ends inside a cluster and a later window of the rank begins there.
    """

    def __init__(self, files: Sequence[JetFile], read: Read, buffer: int, workers: int) -> None:
        self._files = files
        self._read = read
        self._workers = workers
        self._most_kept = buffer // 2
        self._kept: dict[EntryRange, Chunk] = {}
        paired = any(file.second is not None for file in files)
        self._blocks = [_Block(paired=paired), _Block(paired=paired)]
        self._window: Future[Chunk] | None = None
        self._readers = ThreadPoolExecutor(workers, thread_name_prefix="ssl-jets-read")
        self._assembler = ThreadPoolExecutor(1, thread_name_prefix="ssl-jets-window")

    @property
    def reading(self) -> bool:
        """Whether a window was begun and not yet taken."""
        return self._window is not None

    def begin(self, ranges: Sequence[EntryRange], following: Sequence[Sequence[EntryRange]] = ()) -> None:
        """Begin to read the window of these entry ranges; `following` has the ranges of the windows after it."""
        self._window = self._assembler.submit(self._assemble, ranges, following)

    def take(self) -> Chunk:
        """Return the window that was begun; its jets stay valid until the next but one is begun."""
        assert self._window is not None
        window, self._window = self._window, None
        return window.result()

    def forget(self) -> None:
        """Drop the window that is being read, and all jets kept for later windows."""
        if self._window is not None and not self._window.cancel():
            self._window.exception()
        self._window = None
        self._kept.clear()

    def close(self) -> None:
        """End the threads and free the jets."""
        for pool in (self._assembler, self._readers):
            pool.shutdown(wait=True, cancel_futures=True)
        self._blocks = []
        self._kept = {}
        self._window = None

    def _assemble(self, ranges: Sequence[EntryRange], following: Sequence[Sequence[EntryRange]]) -> Chunk:
        """Read the entry ranges of a window, and with each of them its neighbours of later windows."""
        # A cluster of entries 0 to 10; this window has 0 to 4, a later one 4 to 9. Both are read at once as 0 to 9, so
        # that the cluster is decoded once; the jets of 4 to 9 are kept until their window comes.
        block = self._blocks[0]
        self._blocks.reverse()
        block.clear(count(ranges))
        skipped: Counter[str] = Counter()
        kept = {part: self._kept.pop(part) for part in ranges if part in self._kept}
        joined = self._join([part for part in ranges if part not in kept], following)
        reads = read_ahead(self._readers, self._workers, self._read, map(_union, joined))
        groups = iter(joined)
        for part in ranges:
            if part in kept:
                chunk = kept.pop(part)
            else:
                chunk, members = next(reads), next(groups)
                if len(members) > 1 and (chunk.jets is None or len(chunk.skipped) > 1):
                    # Skipped jets are counted per range, so a range with skipped jets is read again alone.
                    chunk = self._read(part)
                else:
                    self._kept.update((other, within(self._files[part.file], chunk, other)) for other in members[1:])
                    chunk = within(self._files[part.file], chunk, part) if len(members) > 1 else chunk
            skipped += chunk.skipped
            if chunk.jets is not None:
                block.append(chunk.jets, part.entries)
        return Chunk(block.jets(), skipped)

    def _join(self, ranges: Sequence[EntryRange], following: Sequence[Sequence[EntryRange]]) -> list[list[EntryRange]]:
        """Group each range with ranges of later windows that continue it inside a cluster, up to the memory allowed."""
        # Clusters end at 0, 10, 20; ranges 0 to 4 and 12 to 20; later windows have 4 to 9, then 9 to 12.
        # -> [0 to 4, 4 to 9, 9 to 12] and [12 to 20]: 12 lies inside a cluster, but the next window has nothing there.
        room = self._most_kept - sum(part.entries for part in self._kept)
        neighbours: list[dict[tuple[int, int], EntryRange]] = []
        for window in following:
            by_edge = {}
            for part in window:
                by_edge[part.file, part.start] = part
                by_edge[part.file, part.stop] = part
            neighbours.append(by_edge)
        joined = []
        for part in ranges:
            members = [part]
            for by_edge in neighbours:
                edges = self._inner_edges(_union(members))
                other = next((by_edge[edge] for edge in edges if edge in by_edge), None)
                if other is None or other in self._kept or other.entries > room:
                    break
                members.append(other)
                room -= other.entries
            joined.append(members)
        return joined

    def _inner_edges(self, part: EntryRange) -> list[tuple[int, int]]:
        """Return the ends of `part` that lie inside a cluster."""
        boundaries = self._files[part.file].boundaries
        inner = []
        for edge in (part.stop, part.start):
            index = bisect_left(boundaries, edge)
            if index == len(boundaries) or boundaries[index] != edge:
                inner.append((part.file, edge))
        return inner


class _Block:
    """Memory that is reused, into which jets are copied one batch after another; of pairs, both views."""

    def __init__(self, *, paired: bool) -> None:
        self._second = _Block(paired=False) if paired else None
        self._particles = torch.empty(0, 0)  # [particle, column]
        self.clear(0)

    def clear(self, expected: int) -> None:
        """Remove the jets, and expect the jets of about `expected` entries."""
        self._expected = expected
        self._entries = 0
        self._used = 0
        self._rest: list[Jets] = []
        if self._second is not None:
            self._second.clear(expected)

    def append(self, jets: Jets, entries: int) -> None:
        """Append the jets of so many entries."""
        start, stop = self._used, self._used + len(jets.particles)
        self._entries += entries
        if stop > len(self._particles):
            # 4,000 particles in the first 100 of 1,000 entries: 1.05 * 4,000 / 100 * 1,000 = 42,000.
            # At most four times what is there: the first entries may have jets of 2,000 particles, the others of 50.
            size = max(stop, min(int(_SLACK * stop / self._entries * self._expected), 4 * stop))
            larger = torch.empty(size, len(jets.columns))
            if start:
                larger[:start] = self._particles[:start]
            self._particles = larger
        self._particles[start:stop] = jets.particles
        self._used = stop
        # Not a slice of the particles, which would keep all of them in memory.
        self._rest.append(replace(jets, particles=jets.particles.new_empty(0, len(jets.columns)), second=None))
        if self._second is not None:
            self._second.append(jets.second_view(), entries)

    def jets(self) -> Jets | None:
        """Return all jets, with their particles in this block; None if there are none."""
        if not self._rest:
            return None
        second = None if self._second is None else self._second.jets()
        return replace(concatenate(self._rest), particles=self._particles[: self._used], second=second)


def _union(members: Sequence[EntryRange]) -> EntryRange:
    """Return the entry range that neighbouring ranges cover."""
    return EntryRange(members[0].file, min(part.start for part in members), max(part.stop for part in members))


def within(file: JetFile, chunk: Chunk, part: EntryRange) -> Chunk:
    """Cut the chunk of a range out of a larger chunk, in which all skipped jets have the same reason."""
    assert chunk.jets is not None
    assert chunk.jets.source is not None  # everything read from files has it
    numbers = file.numbers(chunk.jets.source.numpy())
    start, stop = np.searchsorted(numbers, (part.start, part.stop)).tolist()
    lost = part.entries - (stop - start)
    jets = chunk.jets.select(torch.arange(start, stop)) if start < stop else None
    return Chunk(jets, Counter({reason: lost for reason in chunk.skipped if lost}))
