"""Three samples of jets, generated, real, and other real ones: their distances and histograms."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from ssl_jets.arrays import Array
from ssl_jets.evaluation.metrics.bootstrap import Estimate
from ssl_jets.evaluation.metrics.two_sample import WeightedSample, wasserstein
from ssl_jets.evaluation.probes.observables import observables
from ssl_jets.jets import KINDS, Jets

JET_OBSERVABLES = {"mass": "GeV", "pt": "GeV", "particles": "1", "tau21": "1", "tau32": "1"}
"""Observables of jets whose distance is measured, with their units; the number of particles of each kind comes last."""

SPECTRA = {"pt": "GeV", "deta": "1", "dphi": "rad"}
"""Columns of particles whose distance is measured, of all particles and of each kind."""

SPECTRUM_JETS = 4000
"""Most jets of a sample whose particles are compared one by one."""

BINS = 40


@dataclass(frozen=True)
class Distance:
    """How far an observable of generated jets is from that of real ones.

    Attributes:
        observable: its name.
        of: "jets" or "particles".
        unit: of the observable and of its distances.
        spread: standard deviation of the real values.
        generated: W1 of generated against real.
        real: W1 of other real jets against the same real ones, the floor.
    """

    observable: str
    of: str
    unit: str
    spread: float
    generated: Estimate
    real: Estimate


@dataclass(frozen=True)
class Histogram:
    """An observable in bins.

    Attributes:
        edges: `[bin + 1]`.
        generated, real: entries in each bin.
        generated_all, real_all: entries, with those outside of the bins.
    """

    observable: str
    of: str
    unit: str
    edges: Array
    generated: Array
    real: Array
    generated_all: int
    real_all: int


@dataclass(frozen=True)
class Observed:
    """Jets with their observables."""

    jets: Jets
    observed: dict[str, Array]

    @classmethod
    def of(cls, jets: Jets) -> Observed:
        return cls(jets, observables(jets))

    def spectrum(self, column: str, kind: str | None, most: int | None = None) -> WeightedSample:
        """Values of a column of the particles, of one kind or all, of the first `most` jets or all."""
        count = len(self.jets) if most is None else min(most, len(self.jets))
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

    made: Observed
    real: Observed
    other: Observed

    @classmethod
    def of(cls, made: Jets, both: Jets, jets: int, seed: int) -> Samples:
        rng = np.random.default_rng(seed)
        of_both = torch.from_numpy(rng.permutation(len(both)))
        of_made = torch.from_numpy(rng.permutation(len(made))[:jets])
        chosen = (made.select(of_made), both.select(of_both[:jets]), both.select(of_both[jets : 2 * jets]))
        return cls(*(Observed.of(sample) for sample in chosen))

    @property
    def kinds(self) -> list[str]:
        """Kinds of particles that real jets have, where kinds are known in both."""
        if not all(name in sample.observed for name in KINDS for sample in (self.made, self.real)):
            return []
        return [name for name in KINDS if self.real.observed[name].any()]

    def distances(self, seed: int) -> Iterator[Distance]:
        """Of every observable, then of every spectrum."""
        units = JET_OBSERVABLES | dict.fromkeys(self.kinds, "1")
        for name, unit in units.items():
            made, real, other = (WeightedSample.of_jets(s.observed[name]) for s in (self.made, self.real, self.other))
            label = name if name in JET_OBSERVABLES else f"particles ({name})"
            yield _distance(label, "jets", unit, made, real, other, seed)
        for kind in (None, *self.kinds):
            for name, unit in SPECTRA.items():
                made, real, other = (s.spectrum(name, kind, SPECTRUM_JETS) for s in (self.made, self.real, self.other))
                label = f"particle {name}" + (f" ({kind})" if kind else "")
                yield _distance(label, "particles", unit, made, real, other, seed)

    def histograms(self) -> Iterator[Histogram]:
        """Of the observables of jets, of the spectra of all particles, and of pt of each kind."""
        for name, unit in JET_OBSERVABLES.items():
            made, real, other = (s.observed[name] for s in (self.made, self.real, self.other))
            yield _histogram(name, "jets", unit, made, np.concatenate([real, other]))
        wanted = [(name, None) for name in SPECTRA] + [("pt", kind) for kind in self.kinds]
        for name, kind in wanted:
            made, real, other = (s.spectrum(name, kind).values for s in (self.made, self.real, self.other))
            label = f"particle {name}" + (f" ({kind})" if kind else "")
            yield _histogram(label, "particles", SPECTRA[name], made, np.concatenate([real, other]))
        if self.kinds:
            made, real, other = (s.jets.column("kind").numpy() for s in (self.made, self.real, self.other))
            edges = np.arange(len(KINDS) + 1) - 0.5
            yield binned("kind", "particles", "1", made, np.concatenate([real, other]), edges)


def _distance(
    name: str, of: str, unit: str, made: WeightedSample, real: WeightedSample, other: WeightedSample, seed: int
) -> Distance:
    spread = float(real.values.std()) if len(real.values) else float("nan")
    return Distance(name, of, unit, spread, wasserstein(made, real, seed=seed), wasserstein(other, real, seed=seed))


def _histogram(name: str, of: str, unit: str, made: Array, real: Array) -> Histogram:
    """Bins over all but a thousandth of the real values on each side; of equal ratio for pt of particles."""
    made, real = made[np.isfinite(made)], real[np.isfinite(real)]
    low, high = np.percentile(real, (0.1, 99.9))
    if name == "particles":
        step = max(1, round((high - low) / BINS))
        edges = np.arange(np.floor(low), high + step + 1, step) - 0.5
    elif name.startswith("particle pt"):
        edges = np.geomspace(low, high if high > low else 2 * low, BINS + 1)
    else:
        edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    return binned(name, of, unit, made, real, edges)


def binned(name: str, of: str, unit: str, made: Array, real: Array, edges: Array) -> Histogram:
    counts = [np.histogram(values, edges)[0] for values in (made, real)]
    return Histogram(name, of, unit, edges, counts[0], counts[1], len(made), len(real))
