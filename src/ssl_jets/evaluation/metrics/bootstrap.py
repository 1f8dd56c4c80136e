"""A number with its statistical uncertainty: the bootstrap over jets.

A resample of n jets is a row of integer weights (how often each jet was drawn), so a metric that takes weights is
computed for many resamples at once from one sorting of the scores.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssl_jets.arrays import Array

QUANTILES = (2.5, 16.0, 50.0, 84.0, 97.5)
"""Percentiles of the resamples: bounds of the 95 % and the 68 % interval, and the median between them."""


BLOCK = 2_000_000
"""Weights held as float64 at one time: 16 MB."""


ROUNDING = 1e-10
"""Share of a sum of weights below which a difference of sums is rounding."""


@dataclass(frozen=True)
class Estimate:
    """A number and its central bootstrap intervals, which contain it.

    Attributes:
        value: the number on the jets themselves, corrected for a known bias; None where it is not defined.
        low, high: the 68 % interval; None where that side is open.
        low95, high95: the 95 % interval.
        limit: True where `value` is only a lower limit.
    """

    value: float | None
    low: float | None
    high: float | None
    low95: float | None
    high95: float | None
    limit: bool = False

    @classmethod
    def of(cls, value: float, replicates: Array, *, biased: bool = False) -> Estimate:
        """Return the estimate from the value and its resamples `[resample]`; resamples that are NaN are left out.

        The interval is the percentile one, extended to the value where few jets put the value outside of it.

        With `biased`, for a measure between 0 and 1 that finitely many jets push up: resampling adds about the same
        bias once more, so value and percentiles are reflected, 2 value - (median, percentiles), and cut off at 0
        and 1. The median lies between the percentiles, hence the corrected value in its interval.
        """
        replicates = replicates[np.isfinite(replicates)]
        if not np.isfinite(value) or len(replicates) == 0:
            return cls(float(value) if np.isfinite(value) else None, None, None, None, None)
        low95, low, median, high, high95 = (float(bound) for bound in np.percentile(replicates, QUANTILES))
        if biased:
            reflected = [min(1.0, max(0.0, 2 * float(value) - bound)) for bound in (high95, high, median, low, low95)]
            low95, low, value, high, high95 = reflected
        value = float(value)
        return cls(value, min(low, value), max(high, value), min(low95, value), max(high95, value))

    @classmethod
    def of_rows(cls, rows: Array, *, biased: bool = False) -> Estimate:
        """Return the estimate from the rows of a bootstrap `[row]`: the first is the value on the jets themselves."""
        return cls.of(float(rows[0]), rows[1:], biased=biased)


def relative(weights: Array) -> Array:
    """Rescale weights `[jet]` to mean 1 over the jets of weight above 0; weights that are all 0 stay.

    Regularised probes and minimal sums of weights then do not depend on the unit of the weights: cross sections may be
    1e-13 of theirs.
    """
    counting = weights[weights > 0]
    scaled: Array = weights / counting.mean() if len(counting) else weights
    return scaled


class Bootstrap:
    """Resamples of a fixed set of jets, the same for every metric so that differences between metrics are paired.

    Args:
        jets: number of jets n.
        resamples: number of resamples R.
        seed: of the random draws.
        weights: of the jets, `[jet]`, none of them negative; by default all 1.
    """

    def __init__(self, jets: int, resamples: int = 200, seed: int = 0, weights: Array | None = None) -> None:
        self.weights = np.ones(jets) if weights is None else weights.astype(np.float64)
        rng = np.random.default_rng(seed)
        self.counts = np.empty((resamples, jets), dtype=np.uint8)
        for row in self.counts:
            row[:] = np.bincount(rng.integers(0, jets, jets), minlength=jets)

    def blocks(self, numbers: int = 1) -> Iterator[NDArray[np.float64]]:
        """Yield first the weights (the jets themselves), then the weights of all resamples in blocks, `[rows, jet]`.

        Args:
            numbers: computed from each row, such as one for each pair of classes: they bound the block as the jets do.
        """
        resamples, jets = self.counts.shape
        yield self.weights[None, :].copy()
        rows = max(1, BLOCK // max(numbers, jets))
        for start in range(0, resamples, rows):
            yield self.counts[start : start + rows] * self.weights
