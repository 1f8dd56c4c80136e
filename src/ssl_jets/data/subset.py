"""A few of the labelled jets: stratified, seeded and nested."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ssl_jets.data.files import EntryRange, JetFile, count
from ssl_jets.data.loading.stream import Request, ordered
from ssl_jets.data.skipped import named, require_jets
from ssl_jets.errors import DataError, UsageError
from ssl_jets.jets import Jets, concatenate

Integers = npt.NDArray[Any]


_GLANCE = 1000
"""Jets of all files in which classes are looked for first."""


def choose(
    files: Sequence[JetFile],
    parts: Sequence[EntryRange],
    labels: float,
    seed: int,
    request: Request,
    setting: str = "--labels",
    skipped: Counter[str] | None = None,
) -> Jets:
    """The chosen labelled jets of `parts`, in memory. Jets of files without labels count as one class.

    A jet of weight 0 is not chosen. Each jet has a random number made from `seed`, the name of its file and its entry;
    of each class those with the smallest numbers are taken, in proportion to the class. So a larger subset contains
    every smaller one of the same seed, and neither the order nor the folder of the files matters.

    Args:
        files: the files.
        parts: entries to choose from.
        labels: a share of the labelled jets (at most 1.0) or a number of them (above 1).
        seed: another seed, another subset.
        request: which columns.
        setting: the option that asked for `labels`, for the message.
        skipped: the number of jets of `parts` left out is added here, by reason.

    Raises:
        UsageError: more labels are asked for than there are, or fewer than one a class.
    """
    source, label = _labelled(files, parts, request)
    taken = _taken(files, source, label, _per_class(label, labels, setting), seed)
    keys = np.sort(_keys(source[taken]))
    kept = []
    for jets in ordered(files, parts, request, skipped=skipped):
        assert jets.source is not None
        mask = np.isin(_keys(jets.source.numpy()), keys)
        kept.append(jets.select(torch.from_numpy(np.flatnonzero(mask))))
    return concatenate(kept)


def rows_of_labels(files: Sequence[JetFile], source: Integers, label: Integers, labels: int, seed: int) -> Integers:
    """Choose about `labels` of labelled jets in memory by the rule of `choose`, as sorted indices; all if fewer.

    Args:
        files, seed: as for `choose`.
        source: file, entry and jet of each, `[jet, 3]`.
        label: int64 `[jet]`.
        labels: their number.
    """
    share = min(1.0, labels / len(label))
    return np.flatnonzero(_taken(files, source, label, _per_class(label, share, ""), seed))


def _taken(
    files: Sequence[JetFile], source: Integers, label: Integers, wanted: Mapping[int, int], seed: int
) -> Integers:
    """Of each class the wanted number of jets with the smallest random numbers, bool `[jet]`."""
    number = _random_numbers(files, source, seed)
    taken = np.zeros(len(label), dtype=bool)
    for index, number_of_class in wanted.items():
        rows = np.flatnonzero(label == index)
        taken[rows[np.argsort(number[rows], kind="stable")[:number_of_class]]] = True
    return taken


def count_labelled(
    files: Sequence[JetFile], parts: Sequence[EntryRange], request: Request, subset: Jets | None, *, classes: bool
) -> tuple[int, int]:
    """Count the jets that a training learns from, and all that it could: those of weight 0 are none of them.

    Args:
        files, parts, request: as for `choose`.
        subset: the jets that were chosen; None for all.
        classes: whether classes are to be told apart.

    Raises:
        DataError: no such jet, or with `classes` only jets of one class.
    """
    label = None if request.weights is None else _labelled(files, parts, request)[1]
    of = count(parts) if label is None else len(label)
    used = of if subset is None else len(subset)
    if not classes:
        return used, of
    if subset is not None:
        seen = set() if subset.labels is None else set(subset.labels.tolist())
    else:
        seen = _classes(files, parts, request) if label is None else set(label.tolist())
    if len(seen) < 2:
        names = next((files[part.file].label_names for part in parts if files[part.file].label_names), ())
        raise DataError(
            "there is one class only, where a classifier needs two",
            where=named(files, parts),
            found=f"{used:,} jets of {', '.join(names[index] for index in seen) or 'no class'}",
            hint="name files of the other classes too: --data FILE --data FILE",
        )
    return used, of


def _labelled(files: Sequence[JetFile], parts: Sequence[EntryRange], request: Request) -> tuple[Integers, Integers]:
    """Find the jets that can be learned from: rows (file, entry, jet), and labels (0 where no file has any)."""
    source, label, left_out = [], [], Counter[str]()
    unlabelled = not any(files[part.file].label_names for part in parts)
    for jets in ordered(files, parts, _narrow(request), skipped=left_out):
        assert jets.source is not None  # everything read from files has it
        assert jets.labels is not None
        counts = np.ones(len(jets), dtype=bool) if jets.weights is None else jets.weights.numpy() > 0
        own = np.zeros(len(jets), dtype=np.int64) if unlabelled else jets.labels.numpy()
        chosen = counts & (own >= 0)
        source.append(jets.source.numpy()[chosen])
        label.append(own[chosen])
        left_out += Counter({"weight 0": int((~counts).sum()), "no label": int((counts & (own < 0)).sum())})
    labels = np.concatenate(label)
    require_jets(len(labels), "to learn from", where=named(files, parts), left_out=left_out)
    return np.concatenate(source), labels


def _narrow(request: Request) -> Request:
    """The same request with as few columns as are needed to find out which jets are bad."""
    columns = request.columns if request.bad_jets == "skip" else ("pt",)
    return replace(request, jet_columns=(), columns=columns)


def _classes(files: Sequence[JetFile], parts: Sequence[EntryRange], request: Request) -> set[int]:
    """Find classes among the jets, until there are two: mostly in a small sample of all files."""
    seen: set[int] = set()
    for some in (subsample(parts, _GLANCE, seed=0), parts):
        for jets in ordered(files, some, _narrow(request), may_be_empty=True):
            assert jets.labels is not None  # everything read from files has it
            seen |= set(jets.labels.unique().tolist()) - {-1}
            if len(seen) > 1:
                return seen
    return seen


def _keys(source: Integers) -> Integers:
    """Rows (file, entry, jet) as one number each."""
    return (source[:, 0] << 48) | (source[:, 1] << 12) | source[:, 2]


def _per_class(label: Integers, labels: float, setting: str) -> dict[int, int]:
    """How many jets of each class: in proportion, at least one."""
    classes, counts = np.unique(label, return_counts=True)
    share = labels if labels <= 1 else labels / len(label)
    if labels > 1 and (labels > len(label) or labels < len(classes)):
        raise UsageError(
            "this number of labels cannot be taken",
            where=setting,
            found=f"{labels:.10g}",
            allowed=[f"{len(classes)} (one a class) to {len(label)} (all), or a share such as 0.01"],
        )
    return {int(index): max(1, round(share * int(count))) for index, count in zip(classes, counts)}


def _random_numbers(files: Sequence[JetFile], source: Integers, seed: int) -> Integers:
    """A random uint64 for each row (file, entry, jet), from `seed`, the file's name and the row alone."""
    names = [hashlib.sha256(f"{seed} {file.name}".encode()).digest()[:8] for file in files]
    salt = np.frombuffer(b"".join(names), dtype=np.uint64)[source[:, 0]]
    number = _keys(source).astype(np.uint64) & np.uint64(2**48 - 1)
    # Two rounds of SplitMix64 (Steele, Lea, Flood 2014), which mixes all bits.
    for step in (salt, np.uint64(0x9E3779B97F4A7C15)):
        number = number + step
        number = (number ^ (number >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        number = (number ^ (number >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        number = number ^ (number >> np.uint64(31))
    return number


_SHORTEST = 50
"""A stretch is not shorter than this, since each costs an opening of its file."""


def subsample(parts: Sequence[EntryRange], jets: int, seed: int) -> list[EntryRange]:
    """`jets` entries of `parts`, one stretch of each, seeded.

    Each part gives in proportion to its size; where there are more parts than stretches, a random choice of them gives.
    The stretches come in the order of `parts`, and two seeds agree on nothing but the mixture.
    """
    total = count(parts)
    if jets >= total:
        return list(parts)
    rng = np.random.default_rng(seed)
    # Cumulative rounding: the stretches add up to `jets` to the last one.
    edges = np.rint(np.cumsum([0, *(part.entries for part in parts)]) * (jets / total)).astype(int)
    shares = np.diff(edges)
    if jets < _SHORTEST * len(parts):
        entries = np.array([part.entries for part in parts])
        order = rng.choice(len(parts), size=int(np.count_nonzero(entries)), replace=False, p=entries / total)
        given = np.minimum(-(-jets // max(1, jets // _SHORTEST)), entries[order])
        # As many parts as it takes, the last of which gives what is missing.
        given = np.diff(np.minimum(np.cumsum(given), jets), prepend=0)
        if given.sum() == jets:
            shares = np.zeros(len(parts), dtype=int)
            shares[order] = given
    thinned = []
    for part, share in zip(parts, shares.tolist()):
        if share:
            start = part.start + int(rng.integers(part.entries - share + 1))
            thinned.append(EntryRange(part.file, start, start + share))
    return thinned
