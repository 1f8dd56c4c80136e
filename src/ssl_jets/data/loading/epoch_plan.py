"""Epoch plan: order in which an epoch reads its entries, with mixed classes and disjoint ranks, computed from seeds.

A window is the content of one filling of the shuffle buffer.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ssl_jets.arrays import Array
from ssl_jets.data.files import EntryRange, JetFile
from ssl_jets.data.loading.spectrum import copies_of

CHUNK = 10_000
"""Most entries that are read at once."""

LONGEST_CLUSTER = 30_000
"""A cluster of at most this many entries is read as a whole."""

_MIN_PORTION, _MAX_RANGES = 20, 64
"""Smallest portion of a class in a window: the larger of `_MIN_PORTION` and the buffer divided by `_MAX_RANGES` (less
if there are too few entries for all ranks). Each range costs an opening of a file and the decoding of a cluster."""


def chunk_at_boundaries(file: JetFile, part: EntryRange, size: int, limit: int | None = None) -> list[EntryRange]:
    """Split an entry range into chunks that end at cluster boundaries of the file.

    Clusters are joined up to `size` entries. One longer than `limit` (by default `size`) is cut into equal pieces, and
    its baskets are decoded again for each piece.
    """
    # Boundaries 0, 4, 8, 30 and size 10: clusters of 4, 4 and 22 entries. The first two are joined, 0 to 8; the third
    # is longer than 10 and cut in three: 8 to 15, 15 to 22, 22 to 30.
    limit = size if limit is None else limit
    inner = slice(bisect_right(file.boundaries, part.start), bisect_left(file.boundaries, part.stop))
    edges = [part.start, *file.boundaries[inner], part.stop]
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
    """Jets that a rank takes of one shuffled window: every `step`-th jet from jet `start` on.

    Attributes:
        epoch: number of the epoch, from 0.
        world: number of ranks that the epoch was planned for.
        rank: the rank that the window was planned for.
        window: number of the window.
        start: first jet, in the shuffled order of the window.
        step: 1 for all jets from there on.
    """

    epoch: int
    world: int
    rank: int
    window: int
    start: int = 0
    step: int = 1


class EpochPlan:
    """Entry ranges of an epoch, window by window, for each of `world` ranks.

    The files are grouped by class (`JetFile.group`). Each epoch the chunks of a group are shuffled and laid end to end
    in a circle, which is cut at a random entry and from there into nearly equal portions, one for each window of each
    rank; a small class goes to some of the windows only. So windows have the class mixture of the whole, and all ranks
    have the same number of jets, within one entry.

    Args:
        files: the files.
        ranges: the entry ranges to read.
        buffer: most entries of a window.
        seed: seed of every epoch's order, together with the number of the epoch.
        world: number of ranks; each entry is read by one of them per epoch.
    """

    def __init__(
        self, files: Sequence[JetFile], ranges: Sequence[EntryRange], *, buffer: int, seed: int, world: int
    ) -> None:
        self.seed = seed
        self.world = world
        self.buffer = buffer
        self._windows = -(-sum(part.entries for part in ranges) // (world * buffer))

        def by_name(part: EntryRange) -> tuple[object, ...]:
            file = files[part.file]
            return (*file.identity[:2], file.source.path, part)

        groups: dict[str, list[EntryRange]] = {}
        # Sorted by name: the plan does not depend on the order in which the files are given.
        for part in sorted(ranges, key=by_name):
            groups.setdefault(files[part.file].group, []).append(part)
        self._groups: list[list[EntryRange]] = []
        for members in groups.values():
            share = -(-sum(part.entries for part in members) // (self._windows * world))
            size, limit = min(share, CHUNK, buffer), min(LONGEST_CLUSTER, buffer)
            chunks: list[EntryRange] = []
            for part in members:
                chunks += chunk_at_boundaries(files[part.file], part, size, limit)
            self._groups.append(chunks)
        # Two epochs: the current one, and the next one, which is read ahead.
        self._windows_of = lru_cache(maxsize=2)(self._plan_windows)

    @property
    def constant(self) -> bool:
        """Whether every epoch is one and the same window (only `order` differs), so that it is read once."""
        return self._windows == 1 and self.world == 1

    def windows(self, epoch: int, rank: int) -> list[list[EntryRange]]:
        """Return the entry ranges of each window of a rank; none if an epoch of very few jets has none for it."""
        return self._windows_of(epoch)[rank]

    def ranges(self, shard: Shard) -> list[EntryRange]:
        """Return the entry ranges of the window of a shard."""
        return self.windows(shard.epoch, shard.rank)[shard.window]

    def order(self, shard: Shard, length: int, factors: Array | None = None) -> npt.NDArray[np.int64]:
        """Return the indices of the jets of a shard among the `length` jets of its window, in shuffled order.

        With `factors` `[jet]`, a jet comes so many times in the mean: several times, once or never.
        """
        key = [self.seed, shard.epoch, shard.rank, shard.window]
        if factors is None:
            return np.random.default_rng(key).permutation(length)[shard.start :: shard.step]
        rows = np.repeat(np.arange(length), copies_of(factors, np.random.default_rng([*key, 1])))
        return np.random.default_rng(key).permutation(rows)[shard.start :: shard.step]

    def _plan_windows(self, epoch: int) -> list[list[list[EntryRange]]]:
        """Return the entry ranges of an epoch, `[rank][window][range]`."""
        if self.constant:
            return [[[chunk for chunks in self._groups for chunk in chunks]]]
        rng = np.random.default_rng([self.seed, epoch])
        windows: list[list[EntryRange]] = [[] for _ in range(self.world * self._windows)]
        for chunks in self._groups:
            self._deal_portions([chunks[index] for index in rng.permutation(len(chunks))], rng, windows)
        ranks = []
        for rank in range(self.world):
            own = windows[rank * self._windows : (rank + 1) * self._windows]
            ranks.append([window for window in own if window])
        return ranks

    def _deal_portions(
        self, chunks: Sequence[EntryRange], rng: np.random.Generator, windows: list[list[EntryRange]]
    ) -> None:
        """Add equal portions of a group to the windows, which are ordered by rank."""
        # Chunks of 4, 3 and 3 entries lie end to end: 0 to 4, 4 to 7, 7 to 10. 10 entries, 3 portions -> 4, 3, 3.
        ends = np.cumsum([chunk.entries for chunk in chunks])  # 4, 7, 10
        entries, smallest = int(ends[-1]), max(_MIN_PORTION, self.buffer // _MAX_RANGES)
        portions = min(len(windows), max(-(-entries // smallest), min(self.world, entries)))
        first_window = int(rng.integers(len(windows)))
        first_entry = int(rng.integers(entries)) if portions > 1 else 0
        # The circle is cut at entry 2: portions begin at 2, 6 and 9, and the last one is 9, 0, 1.
        bounds = (first_entry - (-entries * np.arange(portions) // portions)) % entries
        # Ranges end at the ends of chunks and of portions: 0, 2, 4, 6, 7, 9, 10.
        edges = np.union1d(np.concatenate([[0], bounds if portions > 1 else []]).astype(np.int64), ends)
        starts, stops = edges[:-1], edges[1:]
        portion = (starts - first_entry) % entries * portions // entries  # 2, 0, 0, 1, 1, 2
        # 2 portions, 5 windows, from window 4 on: they go to 4 + 0 = 4 and (4 + 2) % 5 = 1.
        window = (first_window + portion * len(windows) // portions) % len(windows)
        chunk = np.searchsorted(ends, starts, side="right")  # 0, 0, 1, 1, 2, 2
        before = np.concatenate([[0], ends[:-1]])[chunk]  # 0, 0, 4, 4, 7, 7
        lows, highs = (starts - before).tolist(), (stops - before).tolist()
        for index, low, high, target in zip(chunk.tolist(), lows, highs, window.tolist()):
            part = chunks[index]
            windows[target].append(EntryRange(part.file, part.start + low, part.start + high))


def reshard(shards: Sequence[Shard], rank: int, world: int) -> list[Shard]:
    """Return the shards that one of `world` ranks takes of unfinished ones, each jet going to one rank.

    Windows that no rank began are dealt out whole, an equal number to each rank. From every other window each rank
    takes every `world`-th jet, and reads the whole window for it. Older epochs come first.
    """
    # Three ranks, unfinished windows A (begun, from jet 5 on) and B, C, D, E (whole): B, C and D go to ranks 0, 1, 2;
    # rank r takes the jets 5 + r, 8 + r, ... of A and r, 3 + r, ... of E.
    begun = [shard for shard in shards if shard.start or shard.step > 1]
    whole = sorted(shard for shard in shards if not (shard.start or shard.step > 1))
    even = len(whole) // world * world
    own = whole[rank:even:world]
    for shard in [*begun, *whole[even:]]:
        own.append(shard._replace(start=shard.start + rank * shard.step, step=shard.step * world))
    return sorted(own)
