"""Split of files into entry ranges for training and for validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from ssl_jets.arrays import Array
from ssl_jets.data.files import EntryRange, JetFile
from ssl_jets.data.seen import copies
from ssl_jets.errors import DataError, UsageError

_BLOCKS_OF_A_FOLD, _FEWEST_ENTRIES = 20, 50
"""Blocks of a file in one fold, at most, and entries of a block, at least, unless the file is too small."""

_FEWEST_HELD = 100
"""Entries of a held-out block, at least, unless there is one only."""

_FEWEST_JETS = 25
"""Jets of every other block, at least, unless there are too few."""


def split(files: Sequence[JetFile], fraction: float, seed: int) -> tuple[list[EntryRange], list[EntryRange]]:
    """Split files into entry ranges to train on and to hold out.

    Files of one group (same name except for the number) are held out whole if that comes near the fraction (within half
    of it). Otherwise contiguous blocks of entries of each file are held out, one of a small file and up to 20 of a
    large one, which may be ordered by class. Training drops the entry on each side of them, since two jets of one event
    are neighbours; if an entry is an event, blocks have whole events. Copies of a file are split alike, so that no jet
    is on both sides. The outcome depends on the names and entries of the files, on `fraction` and on `seed`, and not on
    folders or (except for files of one name and as many entries) on the order of the files.

    Raises:
        DataError: too few jets for both.
    """
    groups: dict[str, list[int]] = {}
    # By name: the same copy decides, in whatever order the files are given.
    order = sorted(range(len(files)), key=lambda index: (files[index].name, files[index].entries))
    again = {order[copy]: order[first] for copy, first in copies([files[index] for index in order]).items()}
    for index in (index for index in order if index not in again):
        groups.setdefault(files[index].group, []).append(index)
    train: list[EntryRange] = []
    held: list[EntryRange] = []
    # 10 files of 100 entries, fraction 0.1: one file is held out. One file of 100: 42 to 52 is held out, 0 to 41 and
    # 53 to 100 are trained on.
    for group, members in groups.items():
        entries = [files[index].entries for index in members]
        apart = _held_files(entries, fraction, np.random.default_rng([seed, *group.encode()]))
        for position, index in enumerate(members):
            file = files[index]
            if apart is None:
                rng = np.random.default_rng([seed, file.entries, *file.name.encode()])
                gap = 1 if file.events is None else 0  # an event is whole by itself
                end = -gap  # of the block before
                for block in _held_blocks(file.entries, fraction, rng):
                    start, stop = file.jets_of(*file.tree_entries(*block))
                    start = max(start, end)  # two blocks may begin and end in one event
                    held.append(EntryRange(index, start, stop))
                    train.append(EntryRange(index, end + gap, start - gap))
                    end = max(end, stop)
                train.append(EntryRange(index, end + gap, file.entries))
            else:
                (held if position in apart else train).append(EntryRange(index, 0, file.entries))
    for side in (train, held):
        of_file: dict[int, list[EntryRange]] = {}
        for part in side:
            of_file.setdefault(part.file, []).append(part)
        side += [replace(part, file=copy) for copy, first in again.items() for part in of_file.get(first, ())]
    train = sorted(part for part in train if part.entries > 0)
    held = sorted(part for part in held if part.entries > 0)
    if not train or not held:
        total = sum(file.entries for file in files)
        raise DataError(
            "there are too few jets to hold some out", found=f"{total} jets; {fraction:g} of them are to be held out"
        )
    return train, held


def split_fold(files: Sequence[JetFile], fold: int, folds: int) -> tuple[list[EntryRange], list[EntryRange]]:
    """Split files into entry ranges to train on, and to hold out as one of several folds.

    Each file is cut into up to 20 equal blocks for each fold, which are dealt to the folds in turn, so that every fold
    has all of a file that is ordered by class. Events stay whole. As by `split`, the entry on each side of a held-out
    block is not trained on. The held-out ranges of all folds are all jets, each once.

    Raises:
        UsageError: there is no such fold, or there are too few jets for so many.
    """
    if fold >= folds:
        raise UsageError("there is no such fold", where="data.fold", found=fold, allowed=range(folds))
    train: list[EntryRange] = []
    held: list[EntryRange] = []
    for index, file in enumerate(files):
        number = folds * min(_BLOCKS_OF_A_FOLD, max(1, file.entries // (folds * _FEWEST_ENTRIES)))
        edges = [_event_start(file, block * file.entries // number) for block in range(number + 1)]
        gap = 1 if file.events is None else 0
        blocks = [EntryRange(index, start, stop) for start, stop in pairwise(edges) if start < stop]
        of_fold = [start < stop and block % folds == fold for block, (start, stop) in enumerate(pairwise(edges))]
        mine = [EntryRange(index, start, stop) for (start, stop), own in zip(pairwise(edges), of_fold) if own]
        held += mine
        first_and_last = {edge for part in mine for edge in (part.start, part.stop)}
        for part in (part for part in blocks if part not in mine):
            start = part.start + gap * (part.start in first_and_last)
            stop = part.stop - gap * (part.stop in first_and_last)
            train += [EntryRange(index, start, stop)] if start < stop else []
    if not train or not held:
        raise UsageError(
            "there are too few jets for the folds",
            where="--folds",
            found=f"{sum(f.entries for f in files):,} jets, {folds:,} folds",
        )
    return train, held


def _event_start(file: JetFile, jet: int) -> int:
    """Return the first jet of the event of a jet: the jet itself where an entry is a jet, or at the end of the file."""
    return jet if file.events is None or jet >= file.entries else file.jets_of(*file.tree_entries(jet, jet + 1))[0]


def every_other_block(file: Array, entry: Array) -> Array:
    """Select every other block of each file by entry, bool `[jet]`; jets of one event are on one side.

    A file is cut into up to 40 blocks of equal numbers of jets, so that both sides have each class of a file that is
    ordered by class, if it has at least 50 jets of it.

    Args:
        file: index of the file, `[jet]`.
        entry: entry in the file, `[jet]`.

    Example:
        >>> every_other_block(np.array([0, 0, 0, 0]), np.array([5, 5, 7, 9])).tolist()
        [True, True, False, False]
    """
    chosen = np.zeros(len(file), dtype=bool)
    order = np.argsort(file, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(file[order])) + 1):
        if len(rows):
            blocks = 2 * min(_BLOCKS_OF_A_FOLD, max(1, len(rows) // (2 * _FEWEST_JETS)))
            edges = np.quantile(entry[rows], np.arange(1, blocks) / blocks)
            chosen[rows] = np.searchsorted(edges, entry[rows], side="right") % 2 == 0
    return chosen


def _held_files(entries: Sequence[int], fraction: float, rng: np.random.Generator) -> set[int] | None:
    """Return the positions of the files to hold out, or None if whole files do not come near the fraction."""
    target = fraction * sum(entries)
    apart: set[int] = set()
    total = 0
    for position in rng.permutation(len(entries)).tolist():
        if abs(total + entries[position] - target) < abs(total - target):
            apart.add(position)
            total += entries[position]
    if len(entries) < 2 or len(apart) == len(entries) or not 0.5 * target <= total <= 1.5 * target:
        return None
    return apart


def _held_blocks(entries: int, fraction: float, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Return blocks of entries at random positions, one in each part of equal length; none of a file of three entries.

    A block has at least 100 entries, unless there is one only.
    """
    if entries < 4:
        return []
    size = min(max(round(fraction * entries), 1), entries - 1)
    number = min(_BLOCKS_OF_A_FOLD, max(1, size // _FEWEST_HELD))
    blocks = []
    for block in range(number):
        low, high = (edge * entries // number for edge in (block, block + 1))
        own = (block + 1) * size // number - block * size // number
        start = low + int(rng.integers(high - low - own + 1))
        blocks.append((start, start + own))
    return blocks


def share(ranges: Sequence[EntryRange], rank: int, world: int, multiple: int) -> list[EntryRange]:
    """Return the contiguous share of entry ranges for one of `world` ranks, about the same number of entries for each.

    Ranges are cut only at multiples of `multiple`. The shares of all ranks one after another are `ranges`.

    Example:
        >>> [share([EntryRange(0, 0, 100)], rank, world=3, multiple=10)[0].stop for rank in range(3)]
        [30, 60, 100]
    """
    total = sum(part.entries for part in ranges)
    low, high = total * rank // world, total * (rank + 1) // world
    own = []
    before = 0
    for part in ranges:
        start = _cut(part, low - before, multiple)
        stop = _cut(part, high - before, multiple)
        if start < stop:
            own.append(EntryRange(part.file, start, stop))
        before += part.entries
    return own


def _cut(part: EntryRange, entries: int, multiple: int) -> int:
    """Return the entry, about `entries` after the start of the range, at which it may be cut."""
    if entries <= 0:
        return part.start
    if entries >= part.entries:
        return part.stop
    return max((part.start + entries) // multiple * multiple, part.start)
