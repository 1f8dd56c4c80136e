"""A number with its statistical uncertainty: the bootstrap over jets.

A resample of n jets is a row of integer weights (how often each jet was drawn), so a metric that takes weights is
computed for many resamples at once from one sorting of the scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from ssl_jets.arrays import Array

QUANTILES = (2.5, 16.0, 50.0, 84.0, 97.5)
"""Percentiles of the resamples: bounds of the 95 % and the 68 % interval, and the median between them."""


PERCENTILES: Literal["weibull"] = "weibull"
"""Rule of the percentiles: a further resample is below the p-th with probability p. Of numpy's default rule, the 95 %
interval of 200 resamples contains 94 %."""


BLOCK = 2_000_000
"""Weights held as float64 at one time: 16 MB."""


ROUNDING = 1e-10
"""Share of a sum of weights below which a difference of sums is rounding."""


FEW = 25
"""Jets on the rarer side of a share, such as wrong ones, up to which its interval is at least the exact one."""


FEW_MEAN = 10
"""Jets of a mean of numbers from 0 to 1, such as an area under a ROC curve, up to which the same holds: percentiles of
the bootstrap contain the truth in 15 % to 50 % of the samples of one jet, and in 85 % to 90 % of those of ten."""


FEW_MISRANKED = 1.0
"""Jets (1 - area) n up to which a difference of two areas has at least an exact interval."""


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
        low95, low, median, high, high95 = (
            float(bound) for bound in np.percentile(replicates, QUANTILES, method=PERCENTILES)
        )
        if biased:
            reflected = [min(1.0, max(0.0, 2 * float(value) - bound)) for bound in (high95, high, median, low, low95)]
            low95, low, value, high, high95 = reflected
        value = float(value)
        return cls(value, min(low, value), max(high, value), min(low95, value), max(high95, value))

    @classmethod
    def of_share(cls, rows: Array, jets: float, *, few: float = FEW) -> Estimate:
        """Return the estimate of a share of `jets` from the rows of a bootstrap, no narrower than the exact interval.

        All resamples of 3 jets that are right are right: percentiles alone would be 1 to 1, without any doubt.

        Args:
            rows: of the bootstrap, `[row]`, from 0 to 1.
            jets: effective number of jets that the share is of.
            few: jets on the rarer side up to which the exact interval counts.
        """
        estimate = cls.of_rows(rows)
        value, low, high, low95, high95 = (
            getattr(estimate, end) for end in ("value", "low", "high", "low95", "high95")
        )
        if value is None or low is None or min(value, 1 - value) * jets > few + ROUNDING:
            return estimate
        exact, exact95 = (exact_interval(value, jets, confidence) for confidence in (0.68, 0.95))
        return replace(
            estimate,
            low=min(low, float(exact[0])),
            high=max(high, float(exact[1])),
            low95=min(low95, float(exact95[0])),
            high95=max(high95, float(exact95[1])),
        )

    @classmethod
    def of_mean(cls, rows: Array, jets: float) -> Estimate:
        """Return the estimate of a mean m over `jets` of numbers from 0 to 1: its variance is at most m (1 - m) / jets.

        An area under a ROC curve is such a mean over the jets of the smaller class, a share of particles one over jets.
        """
        if jets <= FEW_MEAN + ROUNDING:
            return cls.of_share(rows, jets, few=np.inf)
        return cls.of_means(rows, jets)

    @classmethod
    def of_means(cls, rows: Array, jets: float) -> Estimate:
        """Return the estimate of an average of such means, the smallest of them over `jets`.

        The interval is no narrower than the exact one of a share of the same variance: percentiles are too short near
        1, where few jets with small numbers decide. The variance of resamples of n jets is (n - 1) / n of the true one.
        """
        value, least = float(rows[0]), max(jets, 2.0)
        replicates = rows[1:][np.isfinite(rows[1:])]
        if 0 < value < 1 and len(replicates) and replicates.std() > 0:
            jets = value * (1 - value) / float(replicates.var()) * (least - 1) / least
        return cls.of_share(rows, jets, few=np.inf)

    @classmethod
    def of_positive(cls, rows: Array, errors: Array) -> Estimate:
        """Return the estimate of a positive number, a mean or a ratio of means, by studentized resamples.

            ends = v - t s,      t: percentiles of (v* - v) / s* of the resamples

        Percentiles of v* are too short if a few jets with large losses decide: resamples without these jets have too
        small a v*, and too small an s*.

        Args:
            rows: values v of the bootstrap, `[row]`.
            errors: their standard errors s, `[row]`.
        """
        used = np.isfinite(rows) & np.isfinite(errors) & (errors > ROUNDING * np.abs(rows))
        if not used[0] or not used[1:].any():
            return cls.of_rows(rows)
        pulls = (rows[1:] - rows[0])[used[1:]] / errors[1:][used[1:]]
        return cls.of(float(rows[0]), np.maximum(rows[0] - pulls * errors[0], 0.0))

    @classmethod
    def of_difference(cls, rows: Array, jets: float) -> Estimate:
        """Return the estimate of a difference of two accuracies on the same jets, effectively so many.

        The interval is no narrower than that of jets on all of which both are right or wrong: their resamples are
        equal, and would make the difference certain.
        """
        estimate = cls.of_rows(rows)
        value, low, high, low95, high95 = (
            getattr(estimate, end) for end in ("value", "low", "high", "low95", "high95")
        )
        if value is None or low is None:
            return estimate
        least, least95 = (float(exact_interval(0.0, jets, confidence)[1]) for confidence in (0.68, 0.95))
        return replace(
            estimate,
            low=min(low, value - least),
            high=max(high, value + least),
            low95=min(low95, value - least95),
            high95=max(high95, value + least95),
        )

    @classmethod
    def of_area_difference(cls, first: Array, second: Array, jets: float) -> Estimate:
        """Return the estimate of `second` - `first`, areas under ROC curves over at least `jets` jets, as `of_rows`.

        If both misrank at most about `FEW_MISRANKED` jets, the interval is at least the one of `of_difference`.
        """
        misranked = (1 - min(first[0], second[0])) * jets
        difference = second - first
        return cls.of_difference(difference, jets) if misranked <= FEW_MISRANKED else cls.of_rows(difference)

    @classmethod
    def of_rows(cls, rows: Array, *, biased: bool = False) -> Estimate:
        """Return the estimate from the rows of a bootstrap `[row]`: the first is the value on the jets themselves."""
        return cls.of(float(rows[0]), rows[1:], biased=biased)

    def mapped(self, rising: Callable[[float], float]) -> Estimate:
        """Return the estimate of a rising function of the number."""

        def ends(*names: str) -> list[float | None]:
            values = (getattr(self, name) for name in names)
            return [None if value is None else rising(value) for value in values]

        value, low, high, low95, high95 = ends("value", "low", "high", "low95", "high95")
        return Estimate(value, low, high, low95, high95, self.limit)


def exact_interval(share: Array | float, jets: float, confidence: float) -> tuple[Array, Array]:
    """Return the central interval of Clopper and Pearson of shares of a number of jets, which need not be whole.

    >>> [round(float(end), 3) for end in exact_interval(1.0, 3, 0.68)]
    [0.543, 1.0]
    """
    share = np.clip(share, 0, 1)
    right, wrong, tail = share * jets, (1 - share) * jets, (1 - confidence) / 2
    low = np.where(right > 0, betaincinv(np.maximum(right, ROUNDING), wrong + 1, tail), 0.0)
    high = np.where(wrong > 0, betaincinv(right + 1, np.maximum(wrong, ROUNDING), 1 - tail), 1.0)
    return low, high


def effective(weights: Array) -> float:
    """Return the effective number of jets, (sum w)^2 / sum w^2, of weights `[jet]`."""
    squares = float(weights @ weights)
    return float(weights.sum()) ** 2 / squares if squares else 0.0


def standard_error(rows: Array, weights: Array, deviations: Array) -> Array:
    """Return the standard error of the weighted mean of each row of a bootstrap, `[row]`.

    Args:
        rows: weights of the resampled jets, `[row, jet]`.
        weights: of the jets themselves, `[jet]`.
        deviations: from the mean, `[row, jet]`.
    """
    with np.errstate(invalid="ignore"):  # a resample of jets of weight 0 alone
        error: Array = np.sqrt(np.einsum("rj,j,rj->r", rows, weights, deviations**2)) / rows.sum(axis=1)
    return error


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
