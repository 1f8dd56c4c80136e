"""Ranking metrics: area under the ROC curve, background efficiency, significance improvement.

Each takes weights `[row, jet]` and returns all rows at once (a row is a bootstrap resample, or ones).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ssl_jets.arrays import Array
from ssl_jets.evaluation.metrics.bootstrap import ROUNDING


def pair_auc(probabilities: Array, labels: Array, weights: Array) -> tuple[Array, Array]:
    """Compute the areas under the ROC curves between classes; ties count one half.

    Args:
        probabilities: `[jet, class]`.
        labels: int64 `[jet]`.
        weights: `[row, jet]`.

    Returns:
        One-versus-one `[row, class, class]`: jets of class a against jets of class b, ranked by the probability of a
        (NaN on the diagonal and where a class has no weight), and one-versus-rest `[row, class]`.
    """
    present = np.unique(labels)
    if len(present) < probabilities.shape[1]:
        return _among(present, probabilities, labels, weights)
    classes = probabilities.shape[1]
    member = np.eye(classes)[labels]
    total = weights @ member
    wins = np.zeros((len(weights), classes, classes))
    for a in range(classes):
        order = np.argsort(-probabilities[:, a], kind="stable")
        weight = weights[:, order]
        above = np.cumsum(weight * (labels[order] == a), axis=1)
        above = _half_of_ties(above, probabilities[order, a])
        wins[:, a] = (weight * above) @ member[order]
    diagonal = np.arange(classes)
    wins[:, diagonal, diagonal] = 0.0
    rest = total.sum(axis=1, keepdims=True) - total
    with np.errstate(invalid="ignore", divide="ignore"):
        one_versus_one = wins / (total[:, :, None] * total[:, None, :])
        one_versus_rest = wins.sum(axis=2) / (total * rest)
    one_versus_one[:, diagonal, diagonal] = np.nan
    return one_versus_one, one_versus_rest


def _among(present: Array, probabilities: Array, labels: Array, weights: Array) -> tuple[Array, Array]:
    """Compute the areas of the classes `present`, such as 10 of 188; all others are NaN."""
    rows, classes = len(weights), probabilities.shape[1]
    pairs, rest = pair_auc(probabilities[:, present], np.searchsorted(present, labels), weights)
    all_pairs, all_rest = np.full((rows, classes, classes), np.nan), np.full((rows, classes), np.nan)
    all_pairs[:, present[:, None], present] = pairs
    all_rest[:, present] = rest
    return all_pairs, all_rest


def macro_auc(one_versus_one: Array) -> Array:
    """Return the mean over all ordered pairs of classes with jets, `[row]`: `multi_class="ovo"` of scikit-learn."""
    return _mean_of_defined(one_versus_one.reshape(len(one_versus_one), -1))


def macro_auc_rest(one_versus_rest: Array) -> Array:
    """Return the mean over the classes with jets, `[row]`: `multi_class="ovr"` of scikit-learn."""
    return _mean_of_defined(one_versus_rest)


def two_class_score(probabilities: Array, signal: int, background: int) -> Array:
    """Return p_s / p_b `[jet]`, which ranks jets as p_s / (p_s + p_b) does; 1 if both are zero.

    p_s / (p_s + p_b) is 1 in float64 where p_b is below 1e-16: the jets of a confident classifier would be ties.
    """
    p_s, p_b = probabilities[:, signal].astype(np.float64), probabilities[:, background].astype(np.float64)
    with np.errstate(divide="ignore", over="ignore"):
        return np.divide(p_s, p_b, out=np.ones_like(p_s), where=(p_s > 0) | (p_b > 0))


@dataclass(frozen=True)
class Ranked:
    """Signal and background jets in falling order of a score, ready for any weights.

    Attributes:
        signal, background: indices of the jets, in falling order of the score, `[signal jet]` and `[background jet]`.
        background_above: number of background jets at or above each signal jet, `[signal jet]`.
        signal_above: number of signal jets above all background jets, then at or above each of them, and with the last
            ones all, since no cut keeps everything, `[1 + background jet]`.
        level, signal_level: number of background jets at or above each background jet, ties included,
            `[background jet]`; the same of signal jets, `[signal jet]`.
    """

    signal: Array
    background: Array
    background_above: Array
    signal_above: Array
    level: Array
    signal_level: Array

    @classmethod
    def of(cls, score: Array, is_signal: Array, is_background: Array) -> Ranked:
        """Rank jets by `score` `[jet]`; the masks are bool `[jet]`."""
        signal, background = np.flatnonzero(is_signal), np.flatnonzero(is_background)
        signal = signal[np.argsort(-score[signal], kind="stable")]
        background = background[np.argsort(-score[background], kind="stable")]
        falling_s, falling_b = -score[signal], -score[background]
        return cls(
            signal,
            background,
            np.searchsorted(falling_b, falling_s, side="right"),
            np.concatenate(
                [
                    np.searchsorted(falling_s, falling_b[:1], side="left"),
                    np.searchsorted(falling_s, falling_b[falling_b < falling_b[-1:]], side="right"),
                    np.full((falling_b == falling_b[-1:]).sum(), len(signal)),
                ]
            ),
            np.searchsorted(falling_b, falling_b, side="right"),
            np.searchsorted(falling_s, falling_s, side="right"),
        )

    def cut(self, weights: Array, efficiency: float) -> tuple[Array, Array]:
        """Find the highest threshold that keeps the share `efficiency` of the signal.

        Returns:
            The number of background jets at or above it, `[row]`, and eps_S there, `[row]`, NaN where no signal has
            weight. Jets of equal scores pass together, so eps_S can exceed `efficiency`.
        """
        kept = np.cumsum(weights[:, self.signal], axis=1)
        last = np.argmax(kept >= (efficiency - ROUNDING) * kept[:, -1:], axis=1)
        passed = self.background_above[last]
        with np.errstate(invalid="ignore"):
            level = kept[np.arange(len(kept)), self.signal_level[last] - 1] / kept[:, -1]
        return passed, level

    def background_efficiency(self, weights: Array, efficiency: float) -> Array:
        """Return eps_B `[row]` at the threshold of `cut`; NaN if signal or background have no weight."""
        passed, level = self.cut(weights, efficiency)
        sums = _cumulative(weights[:, self.background])
        with np.errstate(invalid="ignore"):
            share: Array = sums[np.arange(len(sums)), passed] / sums[:, -1]
        return np.where(np.isfinite(level), share, np.nan)

    def signal_efficiency(self, weights: Array, background_efficiencies: Array) -> Array:
        """Return eps_S `[row, point]` at thresholds with eps_B of at most `background_efficiencies` `[point]`.

        Jets of equal scores pass together: no threshold takes a part of them.
        """
        passed = _cumulative(weights[:, self.background])[:, self.level]
        kept = _cumulative(weights[:, self.signal])
        points = np.full((len(weights), len(background_efficiencies)), np.nan)
        for row, (above, below) in enumerate(zip(passed, kept)):
            if above[-1] > 0 and below[-1] > 0:
                last = np.searchsorted(above, (background_efficiencies + ROUNDING) * above[-1], side="right")
                points[row] = below[self.signal_above[last]] / below[-1]
        return points

    def grid(self, weights: Array, points: int, cuts: Array) -> Array:
        """Return values of eps_B at which a threshold can stand: `cuts`, and at most `points` others.

        The others are the shares of the first 1, ..., n background jets, evenly spaced in the logarithm of their
        number. Background jets of equal scores pass together.

        Args:
            weights: of the jets, `[jet]`.
            points: their number, at most.
            cuts: numbers of background jets, `[cut]`.
        """
        sums = _cumulative(weights[None, self.background])[0]
        chosen = np.unique(np.round(np.geomspace(1, len(self.background), points))).astype(np.int64)
        passed = np.concatenate([self.level[chosen - 1], cuts])
        shares: Array = np.unique(sums[passed] / sums[-1])
        return shares[shares > 0]


def _cumulative(weights: Array) -> Array:
    """Return running sums along a row that start at zero: `[row, n]` to `[row, n + 1]`."""
    sums = np.zeros((weights.shape[0], weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums


def _half_of_ties(above: Array, falling: Array) -> Array:
    """Return the running sums `above` `[row, jet]` above each group of equal scores, plus half of the group's own."""
    new = np.flatnonzero(np.diff(falling)) + 1
    if len(new) == len(falling) - 1:
        return above
    starts = np.concatenate([[0], new])
    sizes = np.diff(np.concatenate([starts, [len(falling)]]))
    after = above[:, starts + sizes - 1]
    before = np.concatenate([np.zeros((len(above), 1)), after[:, :-1]], axis=1)
    half: Array = np.repeat((before + after) / 2, sizes, axis=1)
    return half


def _mean_of_defined(values: Array) -> Array:
    """Return the mean over the entries of each row `[row, n]` that are not NaN; NaN if all are."""
    defined = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        mean: Array = np.where(defined, values, 0.0).sum(axis=1) / defined.sum(axis=1)
    return mean
