"""Metrics of a regressed jet column: bias and resolution of predicted - true, in all and against pt and eta.

    bias = median of (predicted - true),    resolution = half of the central 68 % of it

both in the unit of the column and blind to tails. A prediction that ignores the jet has the spread of the column as its
resolution, and explains a share of 0 of its variance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ssl_jets.arrays import Array
from ssl_jets.errors import DataError
from ssl_jets.evaluation.metrics.bootstrap import ROUNDING, Bootstrap, Estimate, standard_error
from ssl_jets.evaluation.result_base import Values

BINS = 8
"""Bins in pt and in eta, each with the same number of jets."""

FEWEST = 20
"""Fewest jets of a bin: with fewer the central 68 % is hardly determined."""

GRID = 60
"""Bins of predicted against true, on each axis."""


@dataclass(frozen=True)
class Response:
    """Bias and resolution in bins of a jet column.

    Attributes:
        against: the column.
        edges: `[bin + 1]`.
        centre: median of the column in each bin, `[bin]`.
        bias, resolution: of each bin.
    """

    against: str
    edges: Values
    centre: Values
    bias: list[Estimate]
    resolution: list[Estimate]


@dataclass(frozen=True)
class Density:
    """Jets in cells of true (first axis) and predicted (second), `[cell, cell]`, with `edges` `[cell + 1]` of both.

    The outermost cells also contain the jets beyond them.
    """

    edges: Values
    counts: Values


@dataclass(frozen=True)
class RegressionMetrics:
    """Metrics of one regressed target.

    Attributes:
        target: its name.
        jets: jets that have it.
        spread: half of the central 68 % of its true values: the resolution of a prediction that ignores the jet.
        bias, resolution: in the unit of the column.
        explained: share of the variance of the true values that is explained, 1 - mean((p - t)^2) / var(t).
        responses: in bins of other columns.
        density: predicted against true.
    """

    target: str
    jets: int
    spread: float
    bias: Estimate
    resolution: Estimate
    explained: Estimate
    responses: list[Response]
    density: Density


def regression_metrics(
    predicted: Array,
    true: Array,
    target: str,
    against: Mapping[str, Array],
    *,
    weights: Array | None = None,
    resamples: int = 200,
    seed: int = 0,
) -> RegressionMetrics:
    """Compute all metrics of one target.

    Args:
        predicted: `[jet]`.
        true: `[jet]`; jets without a finite value, or of weight 0, are left out.
        target: its name.
        against: columns to bin in, `[jet]` each.
        weights: of the jets, `[jet]`; by default all 1.
        resamples: number of bootstrap resamples of the jets.
        seed: of the bootstrap.

    Raises:
        DataError: fewer than `FEWEST` jets have the target.
    """
    known = known_jets(true, weights)
    if known.sum() < FEWEST:
        raise DataError(
            "too few jets have the regression target", where=target, found=f"{known.sum()} jets", allowed=[FEWEST]
        )
    predicted, true = predicted[known].astype(np.float64), true[known].astype(np.float64)
    bootstrap = Bootstrap(len(true), resamples, seed, None if weights is None else weights[known])
    every = np.arange(len(true))
    residual = predicted - true
    bias, resolution = _core(residual, bootstrap, every)
    low, high = quantiles(true, bootstrap, every, (0.16, 0.84))[0]
    return RegressionMetrics(
        target=target,
        jets=len(true),
        spread=float(high - low) / 2,
        bias=bias,
        resolution=resolution,
        explained=explained(predicted, true, bootstrap),
        responses=[_response(name, residual, values[known], bootstrap) for name, values in against.items()],
        density=_density(predicted, true, bootstrap.weights),
    )


def known_jets(true: Array, weights: Array | None) -> Array:
    """Return a mask of the jets with a finite target and weight above 0, bool `[jet]`."""
    known: Array = np.isfinite(true)
    return known if weights is None else known & (weights > 0)


def explained(predicted: Array, true: Array, bootstrap: Bootstrap) -> Estimate:
    """Return the estimate of R^2 = 1 - mean((p - t)^2) / var(t); of no value if t does not vary."""
    error = (predicted - true) ** 2
    centred = true - np.average(true, weights=bootstrap.weights)  # for the rounding alone
    shares, errors = [], []
    for weights in bootstrap.blocks():
        total = weights.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean, square = weights @ centred / total, weights @ centred**2 / total
            variance = square - mean**2
            share = weights @ error / total / variance
            # To first order the ratio is a mean of (error - share (t - mean)^2) / variance.
            deviations = error - share[:, None] * (centred - mean[:, None]) ** 2
            shares.append(share)
            errors.append(standard_error(weights, bootstrap.weights, deviations) / variance)
    unexplained = Estimate.of_positive(np.concatenate(shares), np.concatenate(errors))
    # The lower end of R^2 is of the upper one of 1 - R^2.
    found = [getattr(unexplained, name) for name in ("value", "high", "low", "high95", "low95")]
    value, low, high, low95, high95 = (None if end is None else 1 - end for end in found)
    return Estimate(value, low, high, low95, high95)


def quantiles(values: Array, bootstrap: Bootstrap, jets: Array, shares: tuple[float, ...]) -> Array:
    """Return weighted quantiles of the values of some `jets` for every row of the bootstrap, `[row, share]`.

    Where the weights below a share end between two jets, their mean: as `numpy.median` of an even sample, and as
    `numpy.quantile` with `method="averaged_inverted_cdf"`.
    """
    order = jets[np.argsort(values[jets], kind="stable")]
    ordered, rows = values[order], []
    for weights in bootstrap.blocks():
        sums = np.cumsum(weights[:, order], axis=1)
        rounding = ROUNDING * sums[:, -1]
        ends = []
        for share in shares:
            below = share * sums[:, -1]
            # First jets that reach the share, and that exceed it: two of weight above 0, or the same.
            reached, exceeded = (
                np.minimum((sums < bound[:, None]).sum(axis=1), len(ordered) - 1)
                for bound in (below - rounding, below + rounding)
            )
            ends.append((ordered[reached] + ordered[exceeded]) / 2)
        rows.append(np.stack(ends, axis=1))
    return np.concatenate(rows)


def _core(residual: Array, bootstrap: Bootstrap, jets: Array) -> tuple[Estimate, Estimate]:
    bounds = quantiles(residual, bootstrap, jets, (0.16, 0.5, 0.84))
    return Estimate.of_rows(bounds[:, 1]), Estimate.of_rows((bounds[:, 2] - bounds[:, 0]) / 2)


def _response(name: str, residual: Array, values: Array, bootstrap: Bootstrap) -> Response:
    finite = np.isfinite(values)
    bins = max(1, min(BINS, int(finite.sum()) // FEWEST))
    edges = np.unique(np.percentile(values[finite], np.linspace(0, 100, bins + 1))) if finite.any() else np.zeros(0)
    # Where many jets have one value, no jet may lie between two percentiles.
    edges = edges[np.concatenate([np.histogram(values[finite], edges)[0] > 0, [True]])] if len(edges) > 1 else edges
    centre, bias, resolution = [], [], []
    for low, high in pairwise(edges):
        inside = np.flatnonzero((values >= low) & ((values < high) | ((values == high) & (high == edges[-1]))))
        core = _core(residual, bootstrap, inside)
        centre.append(float(np.median(values[inside])))
        bias.append(core[0])
        resolution.append(core[1])
    return Response(name, edges, np.array(centre), bias, resolution)


def _density(predicted: Array, true: Array, weights: Array) -> Density:
    low, high = np.percentile(true, (0.5, 99.5))
    edges = np.linspace(low, high if high > low else low + 1, GRID + 1)
    true, predicted = (np.clip(values, edges[0], edges[-1]) for values in (true, predicted))
    return Density(edges, np.histogram2d(true, predicted, bins=(edges, edges), weights=weights)[0])
