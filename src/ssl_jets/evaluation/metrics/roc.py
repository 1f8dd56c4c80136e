"""One class against the background: rejection at a signal efficiency, the ROC curve, significance improvement.

All use the two-class score p_S / (p_S + p_B), which is optimal for calibrated probabilities.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ssl_jets.arrays import Array
from ssl_jets.evaluation.metrics.bootstrap import (
    FEW,
    PERCENTILES,
    ROUNDING,
    Bootstrap,
    Estimate,
    effective,
    exact_interval,
)
from ssl_jets.evaluation.metrics.ranking import Ranked, two_class_score
from ssl_jets.evaluation.result_base import Values

ROC_POINTS = 300
"""Points of a stored ROC curve, at most."""

SIC_JETS = 25
"""Fewest passing background jets in the search for the largest significance improvement: below this the error of eps_B
exceeds 20 %, and fluctuations would win."""


DRAWS = 4000
"""Draws of a threshold that few signal jets decide."""


@dataclass(frozen=True)
class Rejection:
    """1 / eps_B at a signal efficiency, with the score p_s / (p_s + p_b).

    Attributes:
        signal, background: class names.
        efficiency: the requested eps_S.
        signal_efficiency: eps_S of the threshold, which can be larger where few jets, or jets of equal scores, leave
            no threshold between. Here the point lies on the curve.
        background_jets, survivors: background jets of weight, and how many of them pass.
        background_weight, survivor_weight: the sums of their weights, whose ratio is the rejection.
        rejection: where no jet survives, `value` is the number of background jets of equal weight, `limit` is True,
            and `low` and `low95` are the one-sided 68 % and 95 % Poisson limits.
    """

    signal: str
    background: str
    efficiency: float
    signal_efficiency: float
    background_jets: int
    survivors: int
    background_weight: float
    survivor_weight: float
    rejection: Estimate


@dataclass(frozen=True)
class Roc:
    """eps_S of `signal` at values of eps_B of `background` (`[point]` each), with its 68 % band.

    `sic_from` is the least of these eps_B at which `SIC_JETS` background jets of equal weight pass; None where none is.
    """

    signal: str
    background: str
    background_efficiency: Values
    signal_efficiency: Values
    low: Values
    high: Values
    sic_from: float | None


@dataclass(frozen=True)
class Significance:
    """Largest significance improvement eps_S / sqrt(eps_B) with at least `SIC_JETS` passing background jets.

    By this factor a cut on the score makes the significance S / sqrt(B) of a signal in a large background grow. The
    number of passing jets is the effective one, of equal weight.

    Attributes:
        signal, background: class names.
        efficiency: eps_S there.
        background_efficiency: eps_B there.
        improvement: its value, with intervals of a cut at this eps_B; None where too few background jets are there.
            `limit` is True at the tightest cut of the search: with more background jets a tighter one may be better.
    """

    signal: str
    background: str
    efficiency: float | None
    background_efficiency: float | None
    improvement: Estimate


def ranked(probabilities: Array, labels: Array, signal: int, background: int, weights: Array) -> Ranked | None:
    """Rank the jets of the two classes by their two-class score; None where one has no jets of weight."""
    is_signal, is_background = (labels == signal) & (weights > 0), (labels == background) & (weights > 0)
    if not is_signal.any() or not is_background.any():
        return None
    return Ranked.of(two_class_score(probabilities, signal, background), is_signal, is_background)


def against(
    pair: Ranked, bootstrap: Bootstrap, signal: str, background: str, efficiencies: Sequence[float] = ()
) -> tuple[list[Rejection], Roc, Significance]:
    """Return rejections at signal efficiencies, the ROC curve through them, and the largest improvement."""
    rejections = [_rejection(pair, bootstrap, signal, background, efficiency) for efficiency in efficiencies]
    cuts = [pair.cut(bootstrap.weights[None], efficiency)[0] for efficiency in efficiencies]
    return rejections, *curves(pair, bootstrap, signal, background, cuts)


def _rejection(pair: Ranked, bootstrap: Bootstrap, signal: str, background: str, efficiency: float) -> Rejection:
    shares = np.concatenate([pair.background_efficiency(weights, efficiency) for weights in bootstrap.blocks()])
    passed, level = (rows[0] for rows in pair.cut(bootstrap.weights[None], efficiency))
    weights = bootstrap.weights[pair.background]
    survivors = int(passed)
    few = min(efficiency, 1 - efficiency) * effective(bootstrap.weights[pair.signal]) <= FEW
    if survivors == 0:
        # No jet passes: eps_B < -ln(1 - CL) / N_b at confidence CL (Poisson, one-sided).
        jets = effective(weights)
        low, low95 = (jets / -np.log(1 - level) for level in (0.68, 0.95))
        if few:
            highest = _extremes(pair, bootstrap.weights, efficiency, jets)[1]
            ends = np.percentile(highest, (68, 95), method=PERCENTILES)
            low, low95 = (min(least, 1 / end) for least, end in zip((low, low95), ends, strict=True))
        estimate = Estimate(float(jets), float(low), None, float(low95), None, limit=True)
    else:
        jets = effective(weights[:survivors]) / float(shares[0])  # those of the weight of the survivors
        share = Estimate.of_share(shares, jets)
        if few:
            share = _widened(share, *_extremes(pair, bootstrap.weights, efficiency, jets))
        low95, low, high, high95 = _inverse(share)
        estimate = Estimate(1 / float(shares[0]), low, high, low95, high95)
    counted = (len(weights), survivors, float(weights.sum()), float(weights[:survivors].sum()))
    return Rejection(signal, background, efficiency, float(level), *counted, estimate)


def _extremes(pair: Ranked, weights: Array, efficiency: float, jets: float) -> tuple[Array, Array]:
    """Draw the smallest and the largest eps_B that the jets allow, `[draw]` each.

    A binomial number k of the signal jets lies above the threshold of the true eps_S, which is then below signal jet k
    and above the next. The background jets above either have the beta distributions of Clopper and Pearson. Percentiles
    of resamples contain eps_B of 3 signal jets, or at eps_S = 0.99 of 50, in half of the cases or fewer.

    Args:
        pair: ranked jets.
        weights: of all jets, `[jet]`.
        efficiency: true eps_S.
        jets: effective number of background jets.
    """
    rng = np.random.default_rng(0)
    kept = np.cumsum(weights[pair.signal]) / weights[pair.signal].sum()
    number = max(1, round(effective(weights[pair.signal])))
    position = np.searchsorted(kept, rng.binomial(number, efficiency, DRAWS) / number + ROUNDING, side="right")
    sums = np.concatenate([[0.0], np.cumsum(weights[pair.background])])
    passed = np.concatenate([[0], pair.background_above, [len(pair.background)]])
    above, below = (sums[passed[position + step]] / sums[-1] * jets for step in (0, 1))
    tiny = np.finfo(np.float64).tiny  # 0 of n pass: the lower end is 0; n of n: the upper one is 1
    return rng.beta(np.maximum(above, tiny), jets - above + 1), rng.beta(below + 1, np.maximum(jets - below, tiny))


def _widened(share: Estimate, lowest: Array, highest: Array) -> Estimate:
    """Widen the intervals of a share, if it has any, to the percentiles of the extremes `[draw]`."""
    low95, low = np.percentile(lowest, (2.5, 16), method=PERCENTILES)
    high, high95 = np.percentile(highest, (84, 97.5), method=PERCENTILES)
    if share.low is None or share.high is None or share.low95 is None or share.high95 is None:
        return share
    return replace(
        share,
        low=min(share.low, float(low)),
        high=max(share.high, float(high)),
        low95=min(share.low95, float(low95)),
        high95=max(share.high95, float(high95)),
    )


def _inverse(share: Estimate) -> tuple[float | None, float | None, float | None, float | None]:
    """Return the bounds of 1 / eps_B in rising order; None (open) if eps_B reaches zero."""
    low95, low, high, high95 = (
        1 / bound if bound else None for bound in (share.high95, share.high, share.low, share.low95)
    )
    return low95, low, high, high95


def curves(
    pair: Ranked, bootstrap: Bootstrap, signal: str, background: str, cuts: Sequence[Array] = ()
) -> tuple[Roc, Significance]:
    """Return the ROC curve with its band through `cuts` (numbers of background jets), and its largest improvement."""
    grid = pair.grid(bootstrap.weights, ROC_POINTS, np.concatenate([np.zeros(1, dtype=np.int64), *cuts]))
    rows = np.concatenate([pair.signal_efficiency(weights, grid) for weights in bootstrap.blocks()])
    signal_jets = effective(bootstrap.weights[pair.signal])
    enough = grid[grid * effective(bootstrap.weights[pair.background]) >= SIC_JETS - 1e-6]
    band = _band(rows, signal_jets)
    roc = Roc(signal, background, grid, rows[0], *band, float(enough[0]) if len(enough) else None)
    return roc, _significance(roc, rows, signal_jets)


def _band(rows: Array, jets: float) -> tuple[Array, Array]:
    """Return the 68 % interval of each point from `[row, point]`, as `Estimate.of_share`: it contains the value."""
    value = rows[0]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice")  # resamples without signal
        low, high = np.nanpercentile(rows[1:], (16, 84), axis=0, method=PERCENTILES)
    exact = exact_interval(value, jets, 0.68)
    few = np.minimum(value, 1 - value) * jets <= FEW
    ends = (np.where(few, end, value) for end in exact)
    return np.fmin(np.fmin(low, value), next(ends)), np.fmax(np.fmax(high, value), next(ends))


def _significance(roc: Roc, rows: Array, signal_jets: float) -> Significance:
    """Return the largest improvement from eps_S `[row, point]` of every row of the bootstrap."""
    improvement = rows / np.sqrt(roc.background_efficiency)
    least = np.inf if roc.sic_from is None else roc.sic_from
    allowed = (roc.background_efficiency >= least) & np.isfinite(improvement[0])
    if not allowed.any():
        return Significance(roc.signal, roc.background, None, None, Estimate(None, None, None, None, None))
    best = int(np.argmax(np.where(allowed, improvement[0], -1)))
    background_efficiency = float(roc.background_efficiency[best])
    share = Estimate.of_share(rows[:, best], signal_jets)
    tightest = best > 0 and not allowed[best - 1]
    return Significance(
        roc.signal,
        roc.background,
        float(rows[0, best]),
        background_efficiency,
        replace(share, limit=tightest).mapped(lambda value: value * background_efficiency**-0.5),
    )
