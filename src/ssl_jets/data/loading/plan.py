"""The order in which an epoch reads its entries: classes mixed, ranks apart, and all of it computed from seeds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ssl_jets.data.files import EntryRange, JetFile

CHUNK = 10_000
"""Most entries that are read at once."""

_LONGEST = 30_000
"""A cluster of up to so many entries is read as a whole."""

_SMALL, _PLACES = 20, 64
"""A class gives a window no fewer entries than `_SMALL`, nor than a window has for each of `_PLACES` places (unless
there are too few for all ranks): each place costs an opening of a file and the decoding of a cluster."""


def chunk_at_boundaries(file: JetFile, part: EntryRange, size: int, limit: int | None = None) -> list[EntryRange]:
    """`part` in chunks that end where clusters of the file end.

    Clusters are joined as long as they are `size` entries together. One longer than `limit` (by default `size`) is cut
    into equal pieces, for each of which its baskets are decoded again.
    """
    limit = size if limit is None else limit
    edges = [part.start, *(edge for edge in file.clusters if part.start < edge < part.stop), part.stop]
    bounds = [part.start]
    for before, edge in pairwise(edges):
        if edge - bounds[-1] > size and before > bounds[-1]:
            bounds.append(before)
        if edge - bounds[-1] > limit:
            start, pieces = bounds[-1], -(-(edge - bounds[-1]) // limit)
            bounds += [start + (edge - start) * piece // pieces for piece in range(1, pieces + 1)]
    if bounds[-1] < part.stop:
        bounds.append(part.stop)
    return [EntryRange(part.file, start, stop) for start, stop in pairwise(bounds)]


class Shard(NamedTuple):
    """What a process draws of the shuffled jets of one window: number `start`, `start + step`, and so on.

    Attributes:
        epoch: number of the epoch, from 0.
        world: number of processes that the epoch was dealt to.
        rank: the one of them whose window it is.
        window: number of the window.
        start: first jet, in the order of the window's permutation.
        step: 1 for all from there on.
    """

    epoch: int
    world: int
    rank: int
    window: int
    start: int = 0
    step: int = 1


class EpochPlan:
    """What an epoch reads, window by window, for each of `world` processes.

    The files are grouped by class (`JetFile.group`). Each epoch the chunks of a group are shuffled and laid end to end
    in a circle, which is cut at a random place and from there into equal portions, one for each window of each rank.
    So every window holds the mixture of the whole, and all ranks have the same number of jets.

    Args:
        files: the files.
        parts: the entries to read.
        buffer: most entries of a window.
        seed: seed of every epoch's order, together with the number of the epoch.
        world: number of processes; each entry is read by one of them per epoch.
    """

    def __init__(
        self, files: Sequence[JetFile], parts: Sequence[EntryRange], *, buffer: int, seed: int, world: int
    ) -> None:
        self.seed, self.world, self.buffer = seed, world, buffer
        self._windows = -(-sum(part.entries for part in parts) // (world * buffer))
        groups: dict[str, list[EntryRange]] = {}
        # Sorted by name, so that the order in which the files were given does not matter.
        for part in sorted(
            parts, key=lambda part: (*files[part.file].identity[:2], files[part.file].source.path, part)
        ):
            groups.setdefault(files[part.file].group, []).append(part)
        self._groups: list[list[EntryRange]] = []
        for members in groups.values():
            share = -(-sum(part.entries for part in members) // (self._windows * world))
            size, limit = min(share, CHUNK, buffer), min(_LONGEST, buffer)
            self._groups.append(
                [chunk for part in members for chunk in chunk_at_boundaries(files[part.file], part, size, limit)]
            )
        # The epoch in use, and the next one, which is read ahead.
        self._dealt = lru_cache(maxsize=2)(self._deal)

    @property
    def constant(self) -> bool:
        """Whether every epoch is one and the same window (only `permutation` differs), so that it is read once."""
        return self._windows == 1 and self.world == 1

    def windows(self, epoch: int, rank: int) -> list[list[EntryRange]]:
        """The entries of each window of a rank; none where an epoch of very few jets has none for it."""
        return self._dealt(epoch)[rank]

    def parts(self, rows: Shard) -> list[EntryRange]:
        """The entries of a window."""
        return self.windows(rows.epoch, rows.rank)[rows.window]

    def order(self, rows: Shard, length: int) -> npt.NDArray[np.int64]:
        """Which of the `length` jets of a window come, one after another."""
        rng = np.random.default_rng([self.seed, rows.epoch, rows.rank, rows.window])
        return rng.permutation(length)[rows.start :: rows.step]

    def _deal(self, epoch: int) -> list[list[list[EntryRange]]]:
        """The entries of all windows of all ranks."""
        if self.constant:
            return [[[chunk for chunks in self._groups for chunk in chunks]]]
        rng = np.random.default_rng([self.seed, epoch])
        cells: list[list[EntryRange]] = [[] for _ in range(self.world * self._windows)]
        for chunks in self._groups:
            self._portions([chunks[index] for index in rng.permutation(len(chunks))], rng, cells)
        ranks = (cells[rank * self._windows : (rank + 1) * self._windows] for rank in range(self.world))
        return [[window for window in windows if window] for windows in ranks]

    def _portions(self, chunks: Sequence[EntryRange], rng: np.random.Generator, cells: list[list[EntryRange]]) -> None:
        """Add equal portions of a group to the cells: the windows of rank 0, of rank 1, and so on."""
        ends = np.cumsum([chunk.entries for chunk in chunks])
        entries, smallest = int(ends[-1]), max(_SMALL, self.buffer // _PLACES)
        portions = min(len(cells), max(-(-entries // smallest), min(self.world, entries)))
        first_cell = int(rng.integers(len(cells)))
        first_entry = int(rng.integers(entries)) if portions > 1 else 0
        bounds = (first_entry - (-entries * np.arange(portions) // portions)) % entries
        edges = np.union1d(np.concatenate([[0], bounds if portions > 1 else []]).astype(np.int64), ends)
        starts, stops = edges[:-1], edges[1:]
        portion = (starts - first_entry) % entries * portions // entries
        cell = (first_cell + portion * len(cells) // portions) % len(cells)
        chunk = np.searchsorted(ends, starts, side="right")
        before = np.concatenate([[0], ends[:-1]])[chunk]
        for index, start, stop, where in zip(
            chunk.tolist(), (starts - before).tolist(), (stops - before).tolist(), cell.tolist()
        ):
            part = chunks[index]
            cells[where].append(EntryRange(part.file, part.start + start, part.start + stop))


def reshard(rows: Sequence[Shard], rank: int, world: int) -> list[Shard]:
    """What one of `world` processes takes of windows that others left over, each jet going to one process.

    Windows that nobody began are dealt out whole. Of the others, and of those left when the cards do not come out even,
    every process takes every `world`-th jet, for which each of them reads the whole window. Older epochs come first.
    """
    begun = [window for window in rows if window.start or window.step > 1]
    whole = sorted(window for window in rows if not (window.start or window.step > 1))
    even = len(whole) // world * world
    shared = [
        window._replace(start=window.start + rank * window.step, step=window.step * world)
        for window in [*begun, *whole[even:]]
    ]
    return sorted([*shared, *whole[rank:even:world]])
