"""Windows of jets, read one after another in the background, in bounded memory."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from ssl_jets.data.chunks import BadJetError, Request, read_chunk
from ssl_jets.data.files import EntryRange, JetFile, count, or_skip
from ssl_jets.data.rows import NO_ENTRIES, BadEntriesError, Entries
from ssl_jets.errors import DataError
from ssl_jets.jets import Jets, concatenate

_SLACK = 1.05
"""Memory for this many times the particles that a window is expected to have."""


class Chunk(NamedTuple):
    """What came of some entries: jets (None where there are none), and how many were left out, by reason."""

    jets: Jets | None
    left_out: Counter[str]


def read_range(files: Sequence[JetFile], part: EntryRange, request: Request) -> Chunk:
    """The jets of `part`, without the entries (or, of a file that is corrupt, all of them) that the request skips.

    Raises:
        DataError: the file cannot be read, or has a bad jet.
    """
    file = files[part.file]
    without, lost = NO_ENTRIES, Counter[str]()
    while True:
        try:
            jets, left_out = read_chunk(file, part.file, part.start, part.stop, request, without)
            return Chunk(jets if len(jets) else None, lost + left_out)
        except BadJetError:
            raise
        except BadEntriesError as error:
            if getattr(request, error.setting) == "error":
                raise or_skip(error, error.setting) from error
            # What one check found is left out; those that follow it may find more.
            without = np.union1d(without, error.entries)
            lost[f"{error.what}: {file.source}"] += _jets_in(file, part, error.entries)
        except DataError as error:
            if request.bad_files == "skip":
                return Chunk(None, Counter({f"{error.what}: {file.source}": part.entries}))
            raise or_skip(error) from error


def _jets_in(file: JetFile, part: EntryRange, entries: Entries) -> int:
    """Count the jets of `part` that lie in the given entries of the tree."""
    ranges = (file.jets_of(entry, entry + 1) for entry in entries.tolist())
    return sum(min(stop, part.stop) - max(start, part.start) for start, stop in ranges)


def read_ahead(
    pool: ThreadPoolExecutor, workers: int, files: Sequence[JetFile], parts: Iterable[EntryRange], request: Request
) -> Iterator[Chunk]:
    """The chunks of `parts` in their order, at most `workers` + 1 of them read before they are asked for."""
    waiting: deque[Future[Chunk]] = deque()
    parts = iter(parts)
    try:
        while True:
            while len(waiting) < workers + 1 and (part := next(parts, None)) is not None:
                waiting.append(pool.submit(read_range, files, part, request))
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


class ShuffleBuffer:
    """Reads one window ahead of the one in use.

    Two windows are in memory, each in a block that is used again for the next but one; besides them a few chunks that
    are being read, and jets of at most half a window that came along with others, because a window ends inside a
    cluster and the next one of the process begins there.

    Args:
        files: the files.
        request: which columns, and what to do with bad jets.
        buffer: most jets of a window.
        workers: threads that read.
    """

    def __init__(self, files: Sequence[JetFile], request: Request, buffer: int, workers: int) -> None:
        self._files, self._request, self._workers = files, request, workers
        self._most_kept = buffer // 2
        self._kept: dict[EntryRange, Chunk] = {}
        self._blocks = [_Block(), _Block()]
        self._window: Future[Chunk] | None = None
        self._readers = ThreadPoolExecutor(workers, thread_name_prefix="ssl-jets-read")
        self._assembler = ThreadPoolExecutor(1, thread_name_prefix="ssl-jets-window")

    @property
    def reading(self) -> bool:
        """Whether a window was begun and not yet taken."""
        return self._window is not None

    def begin(self, parts: Sequence[EntryRange], following: Sequence[Sequence[EntryRange]] = ()) -> None:
        """Begin to read a window; `following` are the entries of those that will come after it."""
        self._window = self._assembler.submit(self._assemble, parts, following)

    def take(self) -> Chunk:
        """The window that was begun, whose jets stay as they are until the next but one is begun."""
        assert self._window is not None
        window, self._window = self._window, None
        return window.result()

    def forget(self) -> None:
        """Drop the window that is being read, and all that was kept for others."""
        if self._window is not None and not self._window.cancel():
            self._window.exception()
        self._window = None
        self._kept.clear()

    def close(self) -> None:
        """End the threads and free the jets."""
        for pool in (self._assembler, self._readers):
            pool.shutdown(wait=True, cancel_futures=True)
        self._blocks, self._kept, self._window = [], {}, None

    def _assemble(self, parts: Sequence[EntryRange], following: Sequence[Sequence[EntryRange]]) -> Chunk:
        block = self._blocks[0]
        self._blocks.reverse()
        block.clear(count(parts))
        left_out: Counter[str] = Counter()
        kept = {part: self._kept.pop(part) for part in parts if part in self._kept}
        joined = self._join([part for part in parts if part not in kept], following)
        reads = read_ahead(self._readers, self._workers, self._files, map(_union, joined), self._request)
        pieces = iter(joined)
        for part in parts:
            if part in kept:
                chunk = kept.pop(part)
            else:
                chunk, members = next(reads), next(pieces)
                if len(members) > 1 and (chunk.jets is None or len(chunk.jets) < _union(members).entries):
                    # Some were left out, and whose they were is only known by reading them apart.
                    chunk = read_range(self._files, part, self._request)
                else:
                    chunk, *others = _pieces(chunk, members)
                    self._kept.update(zip(members[1:], others))
            left_out += chunk.left_out
            if chunk.jets is not None:
                block.append(chunk.jets)
        return Chunk(block.jets(), left_out)

    def _join(self, parts: Sequence[EntryRange], following: Sequence[Sequence[EntryRange]]) -> list[list[EntryRange]]:
        """Each part with those of the windows after it that lie in the same cluster, which are decoded with it."""
        room = self._most_kept - sum(part.entries for part in self._kept)
        neighbours = [
            {(part.file, edge): part for part in window for edge in (part.start, part.stop)} for window in following
        ]
        joined = []
        for part in parts:
            members = [part]
            for window in neighbours:
                whole = _union(members)
                other = next((window[edge] for edge in self._inner_edges(whole) if edge in window), None)
                if other is None or other in self._kept or other.entries > room:
                    break
                members.append(other)
                room -= other.entries
            joined.append(members)
        return joined

    def _inner_edges(self, part: EntryRange) -> list[tuple[int, int]]:
        """The ends of `part` that lie inside a cluster."""
        clusters = self._files[part.file].clusters
        places = ((edge, bisect_left(clusters, edge)) for edge in (part.stop, part.start))
        return [(part.file, edge) for edge, place in places if place == len(clusters) or clusters[place] != edge]


class _Block:
    """Jets copied one after another into memory that is used again."""

    def __init__(self) -> None:
        self._particles = torch.empty(0, 0)
        self.clear(0)

    def clear(self, expected: int) -> None:
        """Forget the jets; about `expected` will come."""
        self._expected, self._jets, self._used = expected, 0, 0
        self._rest: list[Jets] = []

    def append(self, jets: Jets) -> None:
        start, stop = self._used, self._used + len(jets.particles)
        self._jets += len(jets)
        if stop > len(self._particles):
            size = max(stop, int(_SLACK * stop / self._jets * self._expected))
            larger = torch.empty(size, len(jets.columns))
            if start:
                larger[:start] = self._particles[:start]
            self._particles = larger
        self._particles[start:stop] = jets.particles
        self._used = stop
        # Not a slice of them, which would hold all particles in memory.
        self._rest.append(replace(jets, particles=jets.particles.new_empty(0, len(jets.columns))))

    def jets(self) -> Jets | None:
        """All of them, whose particles are those of the block; None where there are none."""
        return replace(concatenate(self._rest), particles=self._particles[: self._used]) if self._rest else None


def _union(members: Sequence[EntryRange]) -> EntryRange:
    """The entries of neighbouring parts."""
    return EntryRange(members[0].file, min(part.start for part in members), max(part.stop for part in members))


def _pieces(chunk: Chunk, members: Sequence[EntryRange]) -> list[Chunk]:
    """What came of each of the neighbours that were read together, of which no jet was left out."""
    if len(members) == 1:
        return [chunk]
    assert chunk.jets is not None
    first = _union(members).start
    rows = [torch.arange(part.start - first, part.stop - first) for part in members]
    return [Chunk(chunk.jets.select(index), Counter()) for index in rows]
