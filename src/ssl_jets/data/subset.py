"""Subsets of labelled jets: stratified by class, seeded and nested."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ssl_jets.data.files import EntryRange, JetFile, count
from ssl_jets.data.loading.stream import ordered
from ssl_jets.data.request import Request
from ssl_jets.data.skipped import file_names, require_jets
from ssl_jets.errors import UsageError
from ssl_jets.jets import Jets, concatenate

Integers = npt.NDArray[Any]


def choose_subset(
    files: Sequence[JetFile],
    ranges: Sequence[EntryRange],
    labels: float,
    seed: int,
    request: Request,
    setting: str = "--labels",
    skipped: Counter[str] | None = None,
    has_target: Callable[[Jets], Integers] | None = None,
) -> Jets:
    """Choose a subset of the labelled jets and read it into memory. Jets of files without labels are one class.

    A jet of weight 0 is not chosen. Each jet has a random number computed from `seed`, the name of its file and its
    entry; of each class the jets with the smallest numbers are chosen, in proportion to the class. So a larger subset
    contains every smaller one of the same seed, and neither the order nor the folder of the files matters.

    Args:
        files: the files.
        ranges: entry ranges to choose from.
        labels: a share of the labelled jets (at most 1.0) or a number of them (above 1).
        seed: seed of the random numbers.
        request: columns to read.
        setting: the option of `labels`, for messages.
        skipped: counter that receives the number of skipped jets by reason.
        has_target: function that returns the jets to choose from, bool `[jet]`, from jets with the jet columns of
            `request`; by default those with a class.

    Raises:
        UsageError: more labels than there are, or fewer than one a class.
    """
    found = _labelled(files, ranges, request, labels, seed, has_target)
    per_class = _per_class({index: one.jets for index, one in found.items()}, labels, setting)
    source = np.concatenate([found[index].first(number) for index, number in per_class.items()])
    source = source[np.argsort(source[:, 0], kind="stable")]
    of_files = np.split(source, np.flatnonzero(np.diff(source[:, 0])) + 1)
    chosen = {file: np.sort(files[file].numbers(rows)) for rows in of_files for file in rows[:1, 0].tolist()}
    nothing = np.zeros(0, dtype=np.int64)
    kept = []
    for jets in ordered(files, ranges, request, skipped=skipped):
        assert jets.source is not None
        file = int(jets.source[0, 0])  # a batch is of one file
        numbers, of_file = files[file].numbers(jets.source.numpy()), chosen.get(file, nothing)
        near = slice(*np.searchsorted(of_file, (numbers[0], numbers[-1] + 1)))  # those of a large file are many
        mask = np.isin(numbers, of_file[near])
        kept.append(jets.select(torch.from_numpy(np.flatnonzero(mask))))
    return concatenate(kept)


def rows_of_labels(files: Sequence[JetFile], source: Integers, label: Integers, labels: int, seed: int) -> Integers:
    """Choose about `labels` of labelled jets in memory by the rule of `choose_subset`, as sorted indices; all if fewer.

    Args:
        files: the files.
        source: file, entry and number in the entry of each jet, `[jet, 3]`.
        label: int64 `[jet]`.
        labels: number of jets to choose.
        seed: seed of the random numbers.
    """
    number = _random_numbers(files, source, seed)
    classes, counts = np.unique(label, return_counts=True)
    jets = dict(zip(classes.tolist(), counts.tolist()))
    taken = np.zeros(len(label), dtype=bool)
    for index, of_class in _per_class(jets, min(1.0, labels / len(label)), "").items():
        rows = np.flatnonzero(label == index)
        taken[rows[np.argsort(number[rows], kind="stable")[:of_class]]] = True
    return np.flatnonzero(taken)


_SORTED_AT_ONCE = 100_000
"""Jets of a class that are held unsorted, beside as many as can be chosen."""


class _Smallest:
    """The jets of one class with the smallest random numbers, in memory for `most` jets however many are added.

    Attributes:
        jets: number of all jets of the class.
    """

    def __init__(self, most: int) -> None:
        self.jets, self._most = 0, most
        self._number, self._source = [np.zeros(0, np.uint64)], [np.zeros((0, 3), np.int64)]
        self._held, self._limit = 0, np.iinfo(np.uint64).max

    def add(self, number: Integers, source: Integers) -> None:
        """Add jets with their random numbers `[jet]` and their keys `[jet, (file, entry, jet)]`."""
        self.jets += len(number)
        near = number <= self._limit
        self._number.append(number[near])
        self._source.append(source[near])
        self._held += int(near.sum())
        if self._held > 2 * self._most + _SORTED_AT_ONCE:
            self._sort(self._most)
            self._limit = self._number[0][-1]

    def first(self, jets: int) -> Integers:
        """Return the keys of the jets with the smallest numbers, `[jet, 3]`; of equal numbers the first ones."""
        self._sort(self._most)
        return self._source[0][:jets]

    def _sort(self, jets: int) -> None:
        number, source = np.concatenate(self._number), np.concatenate(self._source)
        order = np.argsort(number, kind="stable")[:jets]
        self._number, self._source, self._held = [number[order]], [source[order]], len(order)


def _labelled(
    files: Sequence[JetFile],
    ranges: Sequence[EntryRange],
    request: Request,
    labels: float,
    seed: int,
    has_target: Callable[[Jets], Integers] | None,
) -> dict[int, _Smallest]:
    """Find the jets that can be chosen, by class: -1 for none, 0 if no file has labels."""
    most = max(1, round(labels * count(ranges)) if labels <= 1 else int(labels))
    found: dict[int, _Smallest] = {}
    skipped = Counter[str]()
    unlabelled = not any(files[part.file].label_names for part in ranges)
    columns = request.jet_columns if has_target is not None else ()
    for jets in ordered(files, ranges, narrow(request, columns), skipped=skipped):
        assert jets.source is not None  # everything read from files has it
        assert jets.labels is not None
        weighted = np.ones(len(jets), dtype=bool) if jets.weights is None else jets.weights.numpy() > 0
        own = np.zeros(len(jets), dtype=np.int64) if unlabelled else jets.labels.numpy()
        has = own >= 0 if has_target is None else has_target(jets)
        chosen = weighted & has
        source, own_class = jets.source.numpy()[chosen], own[chosen]
        number = _random_numbers(files, source, seed)
        for index in np.unique(own_class).tolist():
            of_class = own_class == index
            found.setdefault(index, _Smallest(most)).add(number[of_class], source[of_class])
        lacks = "no label" if has_target is None else "no target"
        skipped += Counter({"weight 0": int((~weighted).sum()), lacks: int((weighted & ~has).sum())})
    jets_found = sum(one.jets for one in found.values())
    require_jets(jets_found, "to learn from", where=file_names(files, ranges), left_out=skipped)
    return dict(sorted(found.items()))


def narrow(request: Request, jet_columns: tuple[str, ...] = ()) -> Request:
    """Return the request with only the columns that are needed to find bad jets, and some jet columns."""
    columns = request.columns if request.bad_jets == "skip" else ("pt",)
    return replace(request, jet_columns=jet_columns, columns=columns, particle_labels=())


def _per_class(jets: Mapping[int, int], labels: float, setting: str) -> dict[int, int]:
    """Return the number of jets to choose of each class with so many jets, in proportion and at least one.

    100 and 20 jets of two classes, labels 0.05 -> 5 and 1. A number is divided by the method of Sainte-Laguë, so that
    no class gets fewer jets of a larger number: 3, 3 and 4 jets, labels 5 -> 2, 1 and 2.
    """
    total, counts = sum(jets.values()), list(jets.values())
    if labels > 1 and (labels > total or labels < len(jets)):
        raise UsageError(
            "this number of labels cannot be taken",
            where=setting,
            found=f"{labels:.10g}",
            allowed=[f"{len(jets)} (one a class) to {total} (all), or a share such as 0.01"],
        )
    if labels <= 1:
        return {index: max(1, round(labels * count)) for index, count in jets.items()}
    # Jet r of n has the place (r + 1/2) / n, the first one of each class comes before all: those in front are taken.
    places = [np.append(0, (np.arange(1, min(count, int(labels))) + 0.5) / count) for count in counts]
    taken = np.argsort(np.concatenate(places), kind="stable")[: int(labels)]
    numbers = np.bincount(np.repeat(np.arange(len(counts)), [*map(len, places)])[taken], minlength=len(counts))
    return dict(zip(jets, numbers.tolist()))


def _random_numbers(files: Sequence[JetFile], source: Integers, seed: int) -> Integers:
    """Return a random uint64 for each row (file, entry, jet), from `seed`, the name of the file and the row alone."""
    used, place = np.unique(source[:, 0], return_inverse=True)
    names = [hashlib.sha256(f"{seed} {files[file].name}".encode()).digest()[:8] for file in used.tolist()]
    salt = np.frombuffer(b"".join(names), dtype=np.uint64)[place]
    entry, in_entry = source[:, 1], source[:, 2]
    # No two rows of a file have the same bits: the lowest 12 of the number in the entry, 36 of the entry, further 16.
    number = (entry << 12 | in_entry & 0xFFF | in_entry >> 12 << 48).astype(np.uint64)
    # Two rounds of SplitMix64 (Steele, Lea, Flood 2014), which mixes all bits.
    for step in (salt, np.uint64(0x9E3779B97F4A7C15)):
        number = number + step
        number = (number ^ (number >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        number = (number ^ (number >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        number = number ^ (number >> np.uint64(31))
    return number


_SHORTEST = 50
"""Entries of a subrange, at least, since each costs an opening of its file."""

_SUBRANGES = 40
"""Subranges of a sample, at most, or one of each range."""


def subsample(ranges: Sequence[EntryRange], jets: int, seed: int) -> list[EntryRange]:
    """Choose `jets` entries at random, as contiguous subranges of the entry ranges.

    Each range is cut into equal blocks with one subrange each, so that the sample has all of a file that is ordered by
    class. The subranges are in proportion to the blocks; if those of whole ranges would be too short, a random choice
    of the ranges gets one. They come in the order of `ranges`, and two seeds have nothing in common but the mixture.
    """
    total = count(ranges)
    if jets >= total:
        return list(ranges)
    rng, few = np.random.default_rng(seed), jets < _SHORTEST * len(ranges)
    if not few:
        most = max(1, _SUBRANGES // len(ranges))
        numbers = [min(most, part.entries * jets // (total * _SHORTEST)) for part in ranges]
        ranges = [block for part, number in zip(ranges, numbers) for block in _blocks(part, max(1, number))]
    # Cumulative rounding, so that the lengths add up to `jets`: 10 jets of ranges of 100, 100 and 100 entries ->
    # edges 0, 3, 7, 10 -> lengths 3, 4, 3.
    edges = np.rint(np.cumsum([0, *(part.entries for part in ranges)]) * (jets / total)).astype(int)
    lengths = np.diff(edges)
    if few:
        entries = np.array([part.entries for part in ranges])
        order = rng.choice(len(ranges), size=int(np.count_nonzero(entries)), replace=False, p=entries / total)
        # 120 jets of ten ranges: lengths of 60, from the first two ranges in random order.
        chosen = np.minimum(-(-jets // max(1, jets // _SHORTEST)), entries[order])
        chosen = np.diff(np.minimum(np.cumsum(chosen), jets), prepend=0)
        if chosen.sum() == jets:
            lengths = np.zeros(len(ranges), dtype=int)
            lengths[order] = chosen
    subranges = []
    for part, length in zip(ranges, lengths.tolist()):
        if length:
            start = part.start + int(rng.integers(part.entries - length + 1))
            subranges.append(EntryRange(part.file, start, start + length))
    return subranges


def _blocks(part: EntryRange, number: int) -> list[EntryRange]:
    """Cut a range into `number` blocks of about the same number of entries."""
    edges = [part.start + block * part.entries // number for block in range(number + 1)]
    return [EntryRange(part.file, start, stop) for start, stop in pairwise(edges)]
