"""The order in which an epoch reads its entries: classes mixed, ranks apart, and all of it computed from seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from ssl_jets.data.files import JetFile, Part

CHUNK = 10_000
"""Most entries that are read at once."""

_SMALL = 20
"""A class gives a window no fewer entries than this (unless every window is smaller): each read opens a file."""


def cut(file: JetFile, part: Part, size: int, limit: int | None = None) -> list[Part]:
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
    return [Part(part.file, start, stop) for start, stop in pairwise(bounds)]


class Plan:
    """What a rank reads in an epoch, window by window.

    The files are grouped by class (`JetFile.group`). Each epoch the chunks of a group are shuffled and laid end to end
    in a circle, which is cut at a random place and from there into equal portions, one for each window of each rank.
    So every window holds the mixture of the whole, and all ranks have the same number of jets.

    Args:
        files: the files.
        parts: the entries to read.
        buffer: most entries of a window.
        seed: seed of every epoch's order, together with the number of the epoch.
        rank: number of this process.
        world: number of processes; each entry is read by one of them per epoch.
    """

    def __init__(
        self, files: Sequence[JetFile], parts: Sequence[Part], *, buffer: int, seed: int, rank: int, world: int
    ) -> None:
        self.seed, self.rank, self.world, self.buffer = seed, rank, world, buffer
        self._windows = -(-sum(part.entries for part in parts) // (world * buffer))
        groups: dict[str, list[Part]] = {}
        # Sorted by name, so that the order in which the files were given does not matter.
        for part in sorted(parts, key=lambda part: (*files[part.file].identity, files[part.file].source.path, part)):
            groups.setdefault(files[part.file].group, []).append(part)
        self._groups: list[list[Part]] = []
        for members in groups.values():
            share = -(-sum(part.entries for part in members) // (self._windows * world))
            limit = min(CHUNK, buffer)
            chunks = [cut(files[part.file], part, min(share, limit), limit) for part in members]
            self._groups.append([chunk for pieces in chunks for chunk in pieces])

    @property
    def constant(self) -> bool:
        """Whether every epoch is one and the same window (only `permutation` differs), so that it is read once."""
        return self._windows == 1 and self.world == 1

    def windows(self, epoch: int) -> list[list[Part]]:
        """The entries of each window of this rank; none where an epoch of very few jets has none for it."""
        if self.constant:
            return [[chunk for chunks in self._groups for chunk in chunks]]
        rng = np.random.default_rng([self.seed, epoch])
        windows: list[list[Part]] = [[] for _ in range(self._windows)]
        for chunks in self._groups:
            for cell, part in self._deal([chunks[index] for index in rng.permutation(len(chunks))], rng):
                rank, window = divmod(cell, self._windows)
                if rank == self.rank:
                    windows[window].append(part)
        return [window for window in windows if window]

    def permutation(self, epoch: int, window: int, length: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """The order of the jets within a window."""
        return np.random.default_rng([self.seed, epoch, self.rank, window]).permutation(length)

    def _deal(self, chunks: Sequence[Part], rng: np.random.Generator) -> Iterator[tuple[int, Part]]:
        """Equal portions of a group, each with its cell; the cells are the windows of rank 0, of rank 1, and so on."""
        cells = self.world * self._windows
        entries = sum(chunk.entries for chunk in chunks)
        portions = min(cells, max(-(-entries // _SMALL), min(self.world, entries)))
        first_cell, first_entry = int(rng.integers(cells)), int(rng.integers(entries)) if portions > 1 else 0
        bounds = {(first_entry - (-entries * portion // portions)) % entries for portion in range(portions)}
        before = 0
        for chunk in chunks:
            inside = sorted(bound for bound in bounds if before < bound < before + chunk.entries)
            for start, stop in pairwise([before, *inside, before + chunk.entries]):
                portion = (start - first_entry) % entries * portions // entries
                cell = (first_cell + portion * cells // portions) % cells
                yield cell, Part(chunk.file, chunk.start + start - before, chunk.start + stop - before)
            before += chunk.entries
