"""Samples of generated, real, and other real jets: distances and histograms of their observables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from ssl_jets.arrays import Array
from ssl_jets.evaluation.generated.result import Distance, Histogram
from ssl_jets.evaluation.metrics.two_sample import WeightedSample, wasserstein
from ssl_jets.evaluation.probes.observables import observables
from ssl_jets.jets import KINDS, Jets

JET_OBSERVABLES = {"mass": "GeV", "pt": "GeV", "particles": "1", "tau21": "1", "tau32": "1"}
"""Compared observables of jets, with their units; the number of particles of each kind comes last."""

SPECTRA = {"pt": "GeV", "deta": "1", "dphi": "rad"}
"""Compared columns of particles, with their units, of all particles and of each kind."""

SPECTRUM_JETS = 4000
"""Most jets of a sample in the distances of spectra of particles."""

BINS = 40
"""Bins of a histogram."""


@dataclass(frozen=True)
class Observed:
    """Jets with their observables."""

    jets: Jets
    observed: dict[str, Array]

    @classmethod
    def of(cls, jets: Jets) -> Observed:
        """Compute the observables of jets."""
        return cls(jets, observables(jets))

    def sample(self, name: str) -> WeightedSample:
        """Return an observable of the jets as a sample."""
        return WeightedSample.of_jets(self.observed[name])

    def spectrum(self, column: str, kind: str | None = None, max_jets: int | None = None) -> WeightedSample:
        """Return a column of the particles of one kind (None: all), of the first `max_jets` jets (None: all)."""
        count = len(self.jets) if max_jets is None else min(max_jets, len(self.jets))
        inside = slice(0, int(self.jets.offsets[count]))
        values = self.jets.column(column)[inside].numpy().astype(np.float64)
        jet = self.jets.jet_of_particle[inside].numpy()
        if kind is None:
            return WeightedSample(values, jet, count)
        chosen = self.jets.column("kind")[inside].numpy() == KINDS.index(kind)
        return WeightedSample(values[chosen], jet[chosen], count)


@dataclass(frozen=True)
class Samples:
    """Generated, real, and other real jets, the same number of each."""

    generated: Observed
    real: Observed
    other: Observed

    @classmethod
    def of(cls, generated: Jets, real: Jets, jets: int, seed: int) -> Samples:
        """Draw `jets` generated and 2 * `jets` real jets at random.

        Columns that one side lacks are left out of both, so that observables mean the same: with kinds on one side
        alone, its particles alone would have masses.
        """
        only_one = set(generated.columns) ^ set(real.columns)
        generated, real = generated.without(only_one), real.without(only_one)
        rng = np.random.default_rng(seed)
        real_rows = torch.from_numpy(rng.permutation(len(real)))
        generated_rows = torch.from_numpy(rng.permutation(len(generated))[:jets])
        return cls(
            Observed.of(generated.select(generated_rows)),
            Observed.of(real.select(real_rows[:jets])),
            Observed.of(real.select(real_rows[jets : 2 * jets])),
        )

    def kinds(self, *samples: Observed) -> list[str]:
        """Return the kinds of particles of any of these samples; none if the generated or real jets have no kinds."""
        if not all(name in sample.observed for name in KINDS for sample in (self.generated, self.real)):
            return []
        return [name for name in KINDS if any(sample.observed[name].any() for sample in samples)]

    def distances(self, seed: int) -> Iterator[Distance]:
        """Yield the distance of every observable, then of every spectrum."""
        units = JET_OBSERVABLES | dict.fromkeys(self.kinds(self.real, self.generated), "1")
        for name, unit in units.items():
            label = name if name in JET_OBSERVABLES else f"particles ({name})"
            yield self._distance(label, "jets", unit, partial(Observed.sample, name=name), seed)
        for kind in (None, *self.kinds(self.real)):
            for name, unit in SPECTRA.items():
                spectrum = partial(Observed.spectrum, column=name, kind=kind, max_jets=SPECTRUM_JETS)
                yield self._distance(_spectrum_label(name, kind), "particles", unit, spectrum, seed)

    def _distance(
        self, observable: str, of: str, unit: str, values: Callable[[Observed], WeightedSample], seed: int
    ) -> Distance:
        generated, real, other = values(self.generated), values(self.real), values(self.other)
        spread = float(real.values.std()) if len(real.values) else float("nan")
        distance, floor = wasserstein(generated, real, seed=seed), wasserstein(other, real, seed=seed)
        return Distance(observable, of, unit, spread, distance, floor)

    def histograms(self) -> Iterator[Histogram]:
        """Yield the histograms of jet observables, of the spectra of all particles, and of pt of each kind.

        An observable that no real jet has, such as tau32 of jets of two particles, has none.
        """
        for name, unit in JET_OBSERVABLES.items():
            if any(len(sample.sample(name).values) for sample in (self.real, self.other)):
                yield self._histogram(name, "jets", unit, partial(Observed.sample, name=name))
        columns = [(name, None) for name in SPECTRA] + [("pt", kind) for kind in self.kinds(self.real)]
        for name, kind in columns:
            values = partial(Observed.spectrum, column=name, kind=kind)
            yield self._histogram(_spectrum_label(name, kind), "particles", SPECTRA[name], values)
        if self.kinds(self.real):
            edges = np.arange(len(KINDS) + 1) - 0.5
            yield self._histogram("kind", "particles", "1", partial(Observed.spectrum, column="kind"), edges)

    def _histogram(
        self,
        observable: str,
        of: str,
        unit: str,
        sample: Callable[[Observed], WeightedSample],
        edges: Array | None = None,
    ) -> Histogram:
        generated, first, second = (sample(one) for one in (self.generated, self.real, self.other))
        values, jet = ((first.values, second.values), (first.jet, second.jet + first.jets))
        real = WeightedSample(np.concatenate(values), np.concatenate(jet), first.jets + second.jets)
        edges = _edges(observable, real.values) if edges is None else edges
        return binned(observable, of, unit, generated=generated, real=real, edges=edges)


def _spectrum_label(column: str, kind: str | None) -> str:
    return f"particle {column}" + (f" ({kind})" if kind else "")


def _edges(observable: str, real: Array) -> Array:
    """Return edges over all but a thousandth of the real values on each side; of equal ratio for pt of particles."""
    low, high = np.percentile(real, (0.1, 99.9))
    if observable == "particles":
        step = max(1, round((high - low) / BINS))
        return np.arange(np.floor(low), high + step + 1, step) - 0.5
    if observable.startswith("particle pt"):
        return np.geomspace(low, high if high > low else 2 * low, BINS + 1)
    return np.linspace(low, high if high > low else low + 1, BINS + 1)


def binned(
    observable: str, of: str, unit: str, *, generated: WeightedSample, real: WeightedSample, edges: Array
) -> Histogram:
    """Count the values of both samples in bins of `edges` `[bin + 1]`, with errors."""
    samples = (generated, real)
    counts, errors = zip(*(_counted(sample, edges) for sample in samples))
    return Histogram(observable, of, unit, edges, *counts, *errors, *(len(sample.values) for sample in samples))


def _counted(sample: WeightedSample, edges: Array) -> tuple[Array, Array]:
    """Return the entries of each bin, and their standard deviation for a fixed number of all entries, `[bin]` each.

        sigma_b^2 = sum over jets j of (n_jb - p_b n_j)^2,      p_b = n_b / n

    Jets are independent, but not the particles of a jet: near its axis Poisson errors would be half of these. With one
    entry a jet they are binomial.
    """
    bins = len(edges) - 1
    place = np.searchsorted(edges, sample.values, side="right") - 1
    place[sample.values == edges[-1]] = bins - 1  # the last bin has both edges, as in np.histogram
    inside = (place >= 0) & (place < bins)
    cell, in_cell = np.unique(sample.jet[inside] * bins + place[inside], return_counts=True)  # [jet and bin]
    of_jet = np.bincount(sample.jet, minlength=sample.jets).astype(np.float64)
    jet, place = np.divmod(cell, bins)
    counts, squares, products = (
        np.bincount(place, values, bins) for values in (in_cell, in_cell**2, in_cell * of_jet[jet])
    )
    share = counts / max(len(sample.values), 1)
    variance = squares - 2 * share * products + share**2 * (of_jet**2).sum()
    return counts.astype(np.int64), np.sqrt(np.maximum(variance, 0))
