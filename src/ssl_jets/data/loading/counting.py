"""Numbers of jets that a training learns from: those with a class, a jet column or a label of particles to learn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from ssl_jets.data.files import EntryRange, JetFile, count
from ssl_jets.data.loading.stream import ordered
from ssl_jets.data.request import Request
from ssl_jets.data.skipped import file_names, require_jets
from ssl_jets.data.subset import narrow, subsample
from ssl_jets.errors import DataError, some_of
from ssl_jets.jets import Jets

Integers = npt.NDArray[Any]

_GLANCE = 1000
"""Jets of all files in which classes are searched first."""

_CLASS = "label"
"""Name of the classes among the targets."""


class Wanted(NamedTuple):
    """Targets of a training; without any, it learns from every jet.

    Attributes:
        classes: whether the classes of jets are learned.
        columns: function that returns which jets have each of the jet columns, bool `[jet]` by name; None for none.
        particles: labels of particles.
        one_class: whether classes can be learned from jets of a single one.
    """

    classes: bool = False
    columns: Callable[[Jets], Mapping[str, torch.Tensor]] | None = None
    particles: tuple[str, ...] = ()
    one_class: bool = False


class Labelled(NamedTuple):
    """Jets that a training learns from.

    Attributes:
        used: number of jets that are learned from.
        available: number of jets to choose from.
        absent: classes without a jet among `searched`; empty if the training is not a classification.
        searched: number of jets in which classes were searched.
        jets: number of jets that are read, those without any target among them.
        having: number of the used jets that have each target.
    """

    used: int
    available: int
    absent: tuple[str, ...] = ()
    searched: int = 0
    jets: int = 0
    having: Mapping[str, int] = {}

    @property
    def labelled(self) -> int:
        """Number of jets with a class, or of jets with any target if no classes are learned."""
        return self.having.get(_CLASS, self.used)

    def lines(self) -> list[str]:
        """Count the jets without a target, and name the absent classes, in a line each."""
        lines = []
        if self.used < self.jets:
            lost = f"{self.jets - self.used:,} of {self.jets:,} jets have no {' and no '.join(self.having)}"
            lines.append(f"{lost}: nothing is learned from them")
        for name, number in self.having.items():
            if number < self.used:
                lines.append(f"target {name}: {number:,} of the {self.used:,} jets to learn from have it")
        if self.absent:
            whole = self.searched >= self.used
            seen = f"the {self.searched:,} jets " + ("to learn from" if whole else "looked at")
            learned = "nothing" if whole else "little or nothing"
            missing = f"{len(self.absent)} of the classes have no jet among {seen}"
            lines.append(f"{missing}, so {learned} is learned of them: {some_of(self.absent, 20)}")
        return lines


def count_labelled(
    files: Sequence[JetFile], ranges: Sequence[EntryRange], request: Request, subset: Jets | None, wanted: Wanted
) -> Labelled:
    """Count the jets that a training learns from, and all that are available; jets of weight 0 are not counted.

    Raises:
        DataError: no such jet, or only jets of one class although classes are learned.
    """
    given = (request.weights, request.where, request.weighting, wanted.columns)
    every = _Tally.of_ranges(files, ranges, wanted)
    if any(one is not None for one in given):
        every = _Tally.read(files, ranges, request, wanted)
    chosen = every if subset is None else _Tally.of(files, [subset], wanted)
    counts = Labelled(chosen.used, every.used, jets=chosen.jets, having=chosen.having)
    if not wanted.classes or wanted.one_class:
        return counts
    seen = _glance(files, ranges, request) if chosen.classes is None else chosen.classes
    names = next((files[part.file].label_names for part in ranges if files[part.file].label_names), ())
    if len(seen) < 2:
        raise DataError(
            "there is one class only, where a classifier needs two",
            where=file_names(files, ranges),
            found=f"{counts.used:,} jets of {', '.join(names[index] for index in seen) or 'no class'}",
            hint="name files of the other classes too: --data FILE --data FILE",
        )
    absent = tuple(name for index, name in enumerate(names) if index not in seen)
    return counts._replace(absent=absent, searched=seen.total())


class _Tally(NamedTuple):
    """Number of jets, of jets with any target, with each target, and of each class where labels were read."""

    jets: int
    used: int
    having: dict[str, int]
    classes: Counter[int] | None = None

    @classmethod
    def of_ranges(cls, files: Sequence[JetFile], ranges: Sequence[EntryRange], wanted: Wanted) -> _Tally:
        """Count entries by what their files have, without reading any."""
        having, used = dict.fromkeys([*[_CLASS][: wanted.classes], *wanted.particles], 0), 0
        for part in ranges:
            there = [name for name in having if _in_file(files[part.file], name)]
            used += part.entries if there or not having else 0
            for name in there:
                having[name] += part.entries
        return cls(count(ranges), used, having)

    @classmethod
    def read(cls, files: Sequence[JetFile], ranges: Sequence[EntryRange], request: Request, wanted: Wanted) -> _Tally:
        """Count the jets of entry ranges; only what decides is read."""
        skipped = Counter[str]()
        columns = request.jet_columns if wanted.columns is not None else ()
        batches = ordered(files, ranges, narrow(request, columns), skipped=skipped)
        tally = cls.of(files, batches, wanted, skipped)
        require_jets(tally.used, "to learn from", where=file_names(files, ranges), left_out=skipped)
        return tally

    @classmethod
    def of(
        cls, files: Sequence[JetFile], batches: Iterable[Jets], wanted: Wanted, skipped: Counter[str] | None = None
    ) -> _Tally:
        """Count jets in memory; `skipped` counts those without weight or target."""
        having, classes = Counter[str](), Counter[int]()
        number, used, left_out = 0, 0, Counter[str]() if skipped is None else skipped
        for jets in batches:
            weighted = np.ones(len(jets), dtype=bool) if jets.weights is None else jets.weights.numpy() > 0
            masks = _masks(files, jets, wanted)
            chosen = weighted & _any_of(masks, len(jets))
            having.update({name: int((mask & weighted).sum()) for name, mask in masks.items()})
            lacks = {"weight 0": int((~weighted).sum()), "no target": int((weighted & ~chosen).sum())}
            left_out.update({reason: lost for reason, lost in lacks.items() if lost})
            number, used = number + int(weighted.sum()), used + int(chosen.sum())
            classes += _classes(jets, weighted)
        return cls(number, used, dict(having), classes)


def _classes(jets: Jets, chosen: Integers | slice = slice(None)) -> Counter[int]:
    """Count the chosen jets of each class."""
    label = np.zeros(0, dtype=np.int64) if jets.labels is None else jets.labels.numpy()[chosen]
    values, numbers = np.unique(label[label >= 0], return_counts=True)
    return Counter(dict(zip(values.tolist(), numbers.tolist())))


def _masks(files: Sequence[JetFile], jets: Jets, wanted: Wanted) -> dict[str, Integers]:
    """Return which jets have each target, bool `[jet]`; labels of particles by what the file has."""
    masks: dict[str, Integers] = {}
    if wanted.classes:
        masks[_CLASS] = np.zeros(len(jets), dtype=bool) if jets.labels is None else jets.labels.numpy() >= 0
    if wanted.columns is not None:
        masks |= {name: mask.numpy() for name, mask in wanted.columns(jets).items()}
    for name in wanted.particles:
        assert jets.source is not None  # everything read from files has it
        masks[name] = np.array([_in_file(file, name) for file in files])[jets.source.numpy()[:, 0]]
    return masks


def with_any_target(files: Sequence[JetFile], wanted: Wanted, jets: Jets) -> Integers:
    """Return which jets have any target, bool `[jet]`; all if there is no target to learn."""
    return _any_of(_masks(files, jets, wanted), len(jets))


def _any_of(masks: Mapping[str, Integers], jets: int) -> Integers:
    found: Integers = np.any([*masks.values()], axis=0) if masks else np.ones(jets, dtype=bool)
    return found


def _in_file(file: JetFile, name: str) -> bool:
    """Check whether a file has the classes, or a label of particles."""
    return bool(file.label_names) if name == _CLASS else name in file.particle_labels


def _glance(files: Sequence[JetFile], ranges: Sequence[EntryRange], request: Request) -> Counter[int]:
    """Count the classes in a small sample of all files; if it has one class only, in all jets until there are two."""
    seen = Counter[int]()
    for some in (subsample(ranges, _GLANCE, seed=0), ranges):
        seen.clear()
        for jets in ordered(files, some, narrow(request), may_be_empty=True):
            seen += _classes(jets)
            if some is ranges and len(seen) > 1:
                break
        if len(seen) > 1:
            break
    return seen
