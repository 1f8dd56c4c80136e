"""Distances of two samples: Wasserstein-1 of one observable, and the AUC of a classifier of the two."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ssl_jets.arrays import Array
from ssl_jets.evaluation.metrics.bootstrap import BLOCK, Bootstrap, Estimate
from ssl_jets.evaluation.metrics.classification import accuracy_and_auc
from ssl_jets.evaluation.probes.classes import Labelled, fitted_trees


@dataclass(frozen=True)
class WeightedSample:
    """One observable of a set of jets.

    Attributes:
        values: `[value]`, one for each jet, or one for each particle.
        jet: int64 `[value]`, the jet of each.
        jets: number of jets, among them those without a value.
    """

    values: Array
    jet: Array
    jets: int

    @classmethod
    def of_jets(cls, values: Array) -> WeightedSample:
        """Return a sample of one value for each jet; jets of NaN have none."""
        defined = np.flatnonzero(np.isfinite(values))
        return cls(values[defined], defined, len(values))


def wasserstein(first: WeightedSample, second: WeightedSample, *, resamples: int = 100, seed: int = 0) -> Estimate:
    """Compute W1 = integral |F(x) - G(x)| dx of the distribution functions, in the unit of the observable.

    The interval is plus and minus one (two) standard deviations of bootstrap resamples of the jets of both samples. W1
    is never negative: for two samples of one distribution it is not zero but a *floor*, which falls with the number of
    jets. Compare with W1 of two real samples of the same size.
    """
    values = np.concatenate([first.values, second.values])
    if not len(first.values) or not len(second.values):
        return Estimate(None, None, None, None, None)
    order = np.argsort(values, kind="stable")
    gaps = np.diff(values[order])
    counts = [Bootstrap(sample.jets, resamples, seed + number).counts for number, sample in enumerate((first, second))]
    distances = [_distances(first, second, np.ones((1, first.jets)), np.ones((1, second.jets)), order, gaps)]
    rows = max(1, BLOCK // len(values))
    for start in range(0, resamples, rows):
        block = slice(start, start + rows)
        distances.append(_distances(first, second, counts[0][block], counts[1][block], order, gaps))
    return _with_error(np.concatenate(distances))


def _distances(
    first: WeightedSample, second: WeightedSample, w_first: Array, w_second: Array, order: Array, gaps: Array
) -> Array:
    """Return W1 for each row of weights of the jets, `[row]`."""
    shares = []
    for sample, weights in ((first, w_first), (second, w_second)):
        own = weights[:, sample.jet].astype(np.float64)
        with np.errstate(invalid="ignore"):  # a resample may have no particle of a rare kind: NaN
            shares.append(own / own.sum(axis=1, keepdims=True))
    steps = np.concatenate([shares[0], -shares[1]], axis=1)[:, order]
    distances: Array = np.abs(np.cumsum(steps, axis=1)[:, :-1]) @ gaps
    return distances


def _with_error(rows: Array) -> Estimate:
    """Return the estimate from row 0, the value, and the standard deviation of the other rows, its error."""
    value, resampled = float(rows[0]), rows[1:][np.isfinite(rows[1:])]
    if not len(resampled):
        return Estimate(value, None, None, None, None)
    error = float(resampled.std())
    low95, low = max(0.0, value - 2 * error), max(0.0, value - error)
    return Estimate(value, low, value + error, low95, value + 2 * error)


@dataclass(frozen=True)
class TwoSample:
    """A classifier two-sample test (Lopez-Paz, Oquab, arXiv:1610.06545).

    Attributes:
        auc: 0.5 if the trees cannot separate the samples, 1 if they always can.
        fit_jets, test_jets: of both samples together.
        columns: observables the trees read.
        scores: probability of the second sample, `[test jet]`.
        second: mask of the jets of the second sample, bool `[test jet]`.
    """

    auc: Estimate
    fit_jets: int
    test_jets: int
    columns: tuple[str, ...]
    scores: Array
    second: Array


def two_sample_test(first: dict[str, Array], second: dict[str, Array], *, seed: int = 0) -> TwoSample:
    """Fit boosted trees on a random half of the jets of both samples, and test them on the other half.

    Args:
        first: observables by name, `[jet]` each; NaN is allowed.
        second: the same of the other sample; observables are used that both have, and that vary.
        seed: of the halves, the trees and the bootstrap.
    """
    joined = {name: np.concatenate([first[name], second[name]]) for name in first if name in second}
    columns = tuple(name for name, values in joined.items() if len(np.unique(values[np.isfinite(values)])) > 1)
    sizes = [len(next(iter(sample.values()))) for sample in (first, second)]
    x = np.column_stack([joined[name] for name in columns] or [np.zeros(sum(sizes))])
    y = np.repeat([0, 1], sizes)
    rng = np.random.default_rng(seed)
    fit = np.concatenate([rng.permutation(size) < size // 2 for size in sizes])
    probabilities = fitted_trees(Labelled.of(x[fit], y[fit]), 2, seed)(x[~fit])
    _, auc = accuracy_and_auc(probabilities, y[~fit], seed=seed)
    return TwoSample(auc, int(fit.sum()), int((~fit).sum()), columns, probabilities[:, 1], y[~fit] == 1)
