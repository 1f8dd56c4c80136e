"""Profile of a file from a sample of its jets: distributions of columns, labels, bad jets, suspicious units."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from ssl_jets.arrays import Array
from ssl_jets.data.bad_jets import padding_hint
from ssl_jets.data.chunks import read_chunk
from ssl_jets.data.files import EntryRange, JetFile
from ssl_jets.data.loading.shuffle_buffer import read_range
from ssl_jets.data.request import NOT_SELECTED, CollectionRequest, Request
from ssl_jets.jets import Jets, concatenate
from ssl_jets.records.particles import ZERO_PT, wrap_azimuth

_BINS = 24

_WIDEST_INTEGERS = 10_000
"""Integers with a wider range are binned like other numbers."""

_LARGEST_BINNED = 1e300
"""Largest size of numbers in a histogram: differences of larger ones, which mark missing values, overflow."""

_SAMPLED_RANGES = 4
"""Entry ranges of a file that are sampled."""

_MAX_DETA = 5
"""Largest plausible |deta|: jets are a few tenths wide, and detectors end at pseudorapidities of about 5."""

_GLANCE_JETS, _GLANCE_FILES = 200, 4
"""Jets of a file, and files, that `glance` reads."""


@dataclass(frozen=True)
class Numbers:
    """Distribution of the values of a column.

    Attributes:
        count: number of sampled values.
        zeros: number of zeros.
        not_finite: number of NaN and infinite values.
        least: smallest finite value; None if there is none.
        median: median of the finite values; None if there is none.
        most: largest finite value; None if there is none.
        histogram: counts in at most 24 equal bins, between the percentiles 0.5 and 99.5; bins of integers cover the
            same number of integers each.
        edges: edges of these bins.
    """

    count: int
    zeros: int
    not_finite: int
    least: float | None
    median: float | None
    most: float | None
    histogram: list[int] = field(repr=False)
    edges: list[float] = field(repr=False)

    @classmethod
    def of(cls, values: Array) -> Numbers:
        """Summarise the values of a column, of any numeric type."""
        values = values.astype(np.float64)
        finite = values[np.isfinite(values)]
        lost = len(values) - len(finite)
        if not len(finite):
            return cls(len(values), 0, lost, None, None, None, [], [])
        bounded = finite.clip(-_LARGEST_BINNED, _LARGEST_BINNED)
        low, high = np.percentile(bounded, [0.5, 99.5])
        step = float(np.spacing(max(abs(low), abs(high))))
        if high - low < 100 * step:  # one value, or large event numbers with small differences
            low, high = low - max(0.5, 100 * step), high + max(0.5, 100 * step)
        counts, edges = np.histogram(bounded, _edges(bounded, low, high))
        numbers = (float(finite.min()), float(np.median(bounded)), float(finite.max()))
        return cls(len(values), int((finite == 0).sum()), lost, *numbers, counts.tolist(), edges.tolist())


def _edges(values: Array, low: float, high: float) -> Array:
    """Return the bin edges of values that lie mostly between `low` and `high`.

    Integers from 0 to 47: a width of 2 and edges -0.5, 1.5, ..., 47.5.
    """
    if high - low > _WIDEST_INTEGERS or (values != np.round(values)).any():
        return np.linspace(low, high, _BINS + 1)
    first = np.floor(low)
    width = np.ceil((high - first + 1) / _BINS)
    edges: Array = first - 0.5 + width * np.arange(np.ceil((high - first + 1) / width) + 1)
    return edges


@dataclass(frozen=True)
class Profile:
    """Profile of a sample of jets of a file.

    Attributes:
        jets: number of sampled jets.
        particles: number of particles per jet.
        columns: particle columns, features and labels, in canonical units; categories and classes by their indices.
        context: context of jets, likewise.
        collections: elements per jet of each collection, and their features by the names COLLECTION.FEATURE.
        jet_columns: jet columns, as in the file or in the units of the schema.
        labels: number of jets of each class; empty without labels.
        left_out: number of skipped jets by reason.
        suspicions: possible errors of units or signs.
    """

    jets: int
    particles: Numbers
    columns: dict[str, Numbers]
    context: dict[str, Numbers]
    collections: dict[str, Numbers]
    jet_columns: dict[str, Numbers]
    labels: dict[str, int]
    left_out: dict[str, int]
    suspicions: list[str]


def profile(
    file: JetFile, most: int, bad_files: Literal["error", "skip"] = "error", where: str | None = None
) -> Profile:
    """Profile about `most` entries of a file, in a few ranges at even distances, or all entries if it has no more.

    Bad jets and those that `where` does not select are skipped and counted, unreadable entries only if `bad_files` is
    "skip".

    Raises:
        DataError: the file cannot be read.
    """
    inputs = (*file.columns, *file.features)
    read = (inputs, file.context, file.particle_labels)
    how: Any = {"wrap": False, "rounded": True, "where": where, "collections": _all_of(file)}
    request = Request(file.jet_columns, "skip", bad_files, *read, **how)
    skipped = Counter[str]()
    batches = []
    for start, stop in _sampled_ranges(file.entries, most):
        jets, bad = read_range([file], EntryRange(0, start, stop), request)
        batches += [] if jets is None else [jets]
        skipped += bad
    if not batches:
        batches.append(read_chunk(file, 0, 0, 0, request)[0])
    jets = concatenate(batches)
    suspicions = [*_of_skipped(file, len(jets), skipped), *(_suspicions(jets) if len(jets) else ())]
    if "dphi" in jets.columns:
        wrap_azimuth(jets.column("dphi").numpy())  # as in training
    columns = {name: Numbers.of(jets.column(name).numpy()) for name in jets.columns}
    return Profile(
        jets=len(jets),
        particles=Numbers.of(jets.lengths.numpy()),
        columns=columns,
        context={name: Numbers.of(values.numpy()) for name, values in jets.context.items()},
        collections=dict(_collections(jets)),
        jet_columns={name: Numbers.of(values.numpy()) for name, values in jets.jet.items()},
        labels=_labels(jets, file.label_names),
        left_out=dict(skipped),
        suspicions=suspicions,
    )


def _all_of(file: JetFile) -> tuple[CollectionRequest, ...]:
    """Return the request of all collections of a file, as many elements as its schema allows."""
    schema = file.schema.collections
    return tuple(CollectionRequest(name, one.features, schema[name].most) for name, one in file.collections.items())


def _collections(jets: Jets) -> Iterator[tuple[str, Numbers]]:
    for name, elements in jets.collections.items():
        yield name, Numbers.of(elements.lengths.numpy())
        for column in elements.columns:
            yield f"{name}.{column}", Numbers.of(elements.column(column).numpy())


def find_suspicions(files: Sequence[JetFile]) -> list[str]:
    """Find possible errors of units or signs, a line each."""
    return [line for file, jets in glance(files) for line in suspicions_in_memory(jets, f"{file.source}: ")]


def suspicions_in_memory(jets: Jets, of: str = "") -> list[str]:
    """Find possible errors of units or signs in the first jets of a batch with dphi as it was, a line each."""
    first = jets[:_GLANCE_JETS].to("cpu")
    return [f"suspicious: {of}{text}" for text in (_suspicions(first) if len(first.particles) else ())]


def looked_at(files: Sequence[JetFile]) -> list[int]:
    """Return the indices of the first file of each group, of at most four groups."""
    first: dict[str, int] = {}
    for index, file in enumerate(files):
        first.setdefault(file.group, index)
    return list(first.values())[:_GLANCE_FILES]


def glance(
    files: Sequence[JetFile], where: str | None = None, columns: tuple[str, ...] | None = None
) -> Iterator[tuple[JetFile, Jets]]:
    """Yield the first jets of each group (`looked_at`), with dphi unwrapped, to look at before any work.

    Unreadable files are ignored here: reading them in earnest raises the error. Of a file with all columns of which no
    jet is good, only `columns` are read.
    """
    request = Request((), "skip", "skip", wrap=False, where=where)
    for file in (files[index] for index in looked_at(files)):
        jets = _first_jets(file, request)
        if jets is None and columns is not None:
            jets = _first_jets(file, replace(request, columns=columns))
        if jets is not None:
            yield file, jets


@lru_cache(maxsize=2 * _GLANCE_FILES)
def _first_jets(file: JetFile, request: Request) -> Jets | None:
    """Read the first jets of a file, once for all that look at them."""
    part = EntryRange(0, 0, min(file.entries, _GLANCE_JETS))
    return read_range([file], part, request).jets if part.entries else None


def _sampled_ranges(entries: int, most: int) -> Iterator[tuple[int, int]]:
    """Yield the entry ranges to sample: 1,000 entries, at most 100 -> 0 to 25, 325 to 350, 650 to 675, 975 to 1,000."""
    if entries <= most:
        if entries:
            yield 0, entries
        return
    length = max(most // _SAMPLED_RANGES, 1)
    for start in np.linspace(0, entries - length, _SAMPLED_RANGES).astype(int).tolist():
        yield start, start + length


def _labels(jets: Jets, names: tuple[str, ...]) -> dict[str, int]:
    if jets.labels is None or not names:
        return {}
    counts = np.bincount(jets.labels.numpy(), minlength=len(names))
    return dict(zip(names, counts.tolist()))


def _of_skipped(file: JetFile, jets: int, skipped: Counter[str]) -> Iterator[str]:
    """Find possible reasons for few usable jets."""
    total = jets + skipped.total() - skipped[NOT_SELECTED]
    if total and not jets:
        yield "none of the jets looked at can be used"
    not_finite = sum(number for reason, number in skipped.items() if reason.endswith("is not finite"))
    if not_finite > total / 2 and file.schema.particle_cut is None:
        yield "most jets have values that are not finite: are these padding? `particle_cut` removes it"
    if skipped[ZERO_PT] > total / 2:
        yield f"most jets have particles of pt zero: {padding_hint(file.schema)}"


def _suspicions(jets: Jets) -> Iterator[str]:
    """Find values outside the plausible ranges of the canonical columns and units. dphi is not wrapped yet."""
    has = {name: jets.column(name).numpy() for name in jets.columns}
    yield from _of_momenta(jets, has)
    yield from _of_directions(jets, has)
    for name in ("d0err", "dzerr"):
        error = has.get(name, np.empty(0))
        if (error < 0).any():
            yield f"{name} is negative in {_jets_with(jets, error < 0)}"
        error = error[error > 0]
        if len(error) and not 0.003 < np.median(error) < 3:
            yield f"{name} has a median of {np.median(error):.2g} mm: is it in cm or in um?"
    if "charge" in has and not np.isin(has["charge"], (-1, 0, 1)).all():
        yield "charge has other values than -1, 0 and 1"
    for name, elements in jets.collections.items():
        if "pt" in elements.columns and (zeros := int((elements.column("pt") == 0).sum())):
            found = f"{zeros:,} of {int(elements.lengths.sum()):,} elements of {name} have pt zero"
            yield f"{found}: are they padding? `cut` of the collection removes it"


def _of_momenta(jets: Jets, has: dict[str, Array]) -> Iterator[str]:
    if "pt" in has:
        total = float(np.median(np.bincount(jets.jet_of_particle.numpy(), has["pt"], len(jets))))
        if total > 14_000:
            yield f"pt adds up to {total:,.0f} GeV in half of the jets: is it in MeV?"
        elif total < 2:
            yield f"pt adds up to {total:.3g} GeV in half of the jets: is it in TeV, or a share of the jet's?"
    if {"pt", "energy"} <= has.keys() and (share := float((has["energy"] < 0.99 * has["pt"]).mean())) > 0.01:
        yield f"energy is below pt for {share:.0%} of the particles: are their units the same?"
    if "energy" in has and (has["energy"] < 0).any():
        yield f"energy is negative in {_jets_with(jets, has['energy'] < 0)}"


def _of_directions(jets: Jets, has: dict[str, Array]) -> Iterator[str]:
    for name in ("deta", "dphi"):
        if name in has and (wide := float(np.median(np.abs(has[name])))) > 0.8:
            yield f"|{name}| has a median of {wide:.2g}: is it relative to the axis of the jet?"
    if "deta" in has and (far := np.abs(has["deta"]) > _MAX_DETA).any():
        yield f"|deta| is above {_MAX_DETA} in {_jets_with(jets, far)}: is it relative to the axis, or a placeholder?"
    if "dphi" in has and (beyond := np.abs(has["dphi"]) > np.float32(np.pi)).any():
        most = np.abs(has["dphi"]).max()
        text = f"dphi is outside [-pi, pi] in {_jets_with(jets, beyond)}, where it is wrapped into it"
        yield text + (f"; up to {most:.4g}: is it in degrees, or a placeholder?" if most > 4 * np.pi else "")


def _jets_with(jets: Jets, particles: Array) -> str:
    """Count the sampled jets with a particle in the mask `[particle]`, for messages."""
    count = len(np.unique(jets.jet_of_particle.numpy()[particles]))
    return f"{count:,} of the {len(jets):,} jets looked at"
