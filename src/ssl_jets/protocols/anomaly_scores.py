"""Signals that nobody named: distances in z, and classification without labels (CWoLa).

*Distance*: how far a jet lies from background jets, by its `k` nearest ones or by the Mahalanobis distance

    d^2 = (z - m)^T C^-1 (z - m),       m, C mean and covariance of background jets.

*CWoLa* (Metodiev, Nachman, Thaler, arXiv:1708.02949): a reader learns to tell a mixture, background with a few signal
jets, from background alone. The best score for that is also the best for signal against background, though no jet was
labelled. Both halves of the background come from one sample, so it is the idealised search (arXiv:2109.00546).

Significance improvement is max over cuts of eps_S / sqrt(eps_B), where at least `SIC_JETS` background jets pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors

from ssl_jets.arrays import Array
from ssl_jets.evaluation.metrics.bootstrap import Bootstrap, Estimate
from ssl_jets.evaluation.metrics.classification import accuracy_and_auc_rows
from ssl_jets.evaluation.metrics.working_points import curves, ranked
from ssl_jets.evaluation.probes.classes import Labelled, standardize

PENALTY = 0.01
"""Inverse strength of the L2 penalty of the linear reader of CWoLa: with few signal jets it must not learn by heart."""

SHRINKAGE = 1e-6
"""Share of the mean variance that is added to the diagonal of the covariance, for numbers of z that hang together."""


@dataclass(frozen=True)
class DistanceScore:
    """One class against the background, by the distance from background jets.

    Attributes:
        of: what is read: "z", "z of random weights", "jet columns".
        score: "kNN" or "Mahalanobis".
        signal: the class.
        fit_jets: background jets that the distance is measured from.
        auc: area under the ROC curve.
        improvement: the largest significance improvement.
    """

    of: str
    score: str
    signal: str
    fit_jets: int
    auc: Estimate
    improvement: Estimate


def distances(fit: Array, test: Array, neighbours: int) -> dict[str, Array]:
    """Score of each test jet, `[jet]`, by name.

    Args:
        fit: z of background jets, `[jet, D]`; a NaN of jet columns counts as their mean.
        test: z of the jets to score.
        neighbours: k of the kNN distance, which is the mean over them.
    """
    x_fit, x_test = (np.nan_to_num(x).astype(np.float64) for x in _standard(fit, test))
    covariance = np.cov(x_fit, rowvar=False).reshape(x_fit.shape[1], -1)
    covariance += (SHRINKAGE * np.trace(covariance) / len(covariance) + 1e-12) * np.eye(len(covariance))
    off = x_test - x_fit.mean(axis=0)
    near = NearestNeighbors(n_neighbors=min(neighbours, len(x_fit))).fit(x_fit).kneighbors(x_test)[0]
    return {"kNN": near.mean(axis=1), "Mahalanobis": np.einsum("ij,ij->i", off @ np.linalg.inv(covariance), off)}


def distance_scores(
    fit: Labelled,
    test: Labelled,
    names: tuple[str, ...],
    background: str,
    signals: tuple[str, ...],
    *,
    of: str,
    neighbours: int,
    seed: int = 0,
) -> list[DistanceScore]:
    """Both distances of every signal."""
    known = fit.x[fit.y == names.index(background)]
    found = []
    for score, values in distances(known, test.x, neighbours).items():
        for signal in signals:
            auc, improvement = separation(values, test, names.index(signal), names.index(background), seed)
            found.append(DistanceScore(of, score, signal, len(known), auc, improvement))
    return found


def separation(score: Array, test: Labelled, signal: int, background: int, seed: int) -> tuple[Estimate, Estimate]:
    """Area under the ROC curve and largest significance improvement of one class against another."""
    rows = np.flatnonzero((test.y == signal) | (test.y == background))
    labels = (test.y[rows] == signal).astype(np.int64)
    # Any rising function of the score gives the same curves: here its place among the scores there are.
    _, place = np.unique(score[rows], return_inverse=True)
    chance = (place + 1) / (place.max(initial=0) + 2)
    probabilities = np.column_stack([1 - chance, chance])
    bootstrap = Bootstrap(len(rows), 100, seed, test.weights[rows])
    pair = ranked(probabilities, labels, 1, 0, bootstrap.weights)
    if pair is None:
        nothing = Estimate(None, None, None, None, None)
        return nothing, nothing
    auc = Estimate.of_rows(accuracy_and_auc_rows(probabilities, labels, bootstrap)[1])
    return auc, curves(pair, bootstrap, "signal", "background")[1].improvement


def cwola(
    fit: Labelled, test: Labelled, signal: int, background: int, count: int, *, trees: bool, seed: int
) -> dict[str, float | None]:
    """Significance improvement and area of one search.

    Args:
        fit: jets of which the mixture and the background alone are made.
        test: jets, with their true labels, to measure on.
        signal, background: labels.
        count: signal jets hidden in the mixture.
        trees: read with boosted trees (for jet columns), otherwise linearly (for z).
        seed: of the draw.

    Returns:
        `improvement`, `auc`, and `significance` S / sqrt(B) in the mixture.
    """
    rng = np.random.default_rng([seed, count, signal])
    of_background = rng.permutation(np.flatnonzero(fit.y == background))
    half = len(of_background) // 2
    hidden = rng.permutation(np.flatnonzero(fit.y == signal))[:count]
    rows = np.concatenate([of_background[:half], hidden, of_background[half:]])
    mixed = np.arange(len(rows)) < half + len(hidden)
    x_fit, x_test = _standard(fit.x[rows], test.x)
    if trees:
        early = {"max_iter": 50, "max_leaf_nodes": 8, "learning_rate": 0.1, "early_stopping": False}
        reader = HistGradientBoostingClassifier(class_weight="balanced", random_state=seed, **early)
    else:
        reader = LogisticRegression(C=PENALTY, class_weight="balanced", max_iter=300)
        x_fit, x_test = np.nan_to_num(x_fit), np.nan_to_num(x_test)
    reader.fit(x_fit, mixed, sample_weight=fit.weights[rows])
    score = reader.predict_proba(x_test)[:, 1]
    auc, improvement = separation(score, test, signal, background, seed)
    weights = fit.weights
    significance = weights[hidden].sum() / np.sqrt(max(float(weights[of_background[:half]].sum()), 1e-9))
    return {"improvement": improvement.value, "auc": auc.value, "significance": float(significance)}


def _standard(fit: Array, test: Array) -> tuple[Array, Array]:
    """Standardised with what is known of each column; NaN stays."""
    if np.isfinite(fit).all() and np.isfinite(test).all():
        return standardize(fit, test)
    mean, std = np.nanmean(fit, axis=0), np.nanstd(fit, axis=0)
    std = np.where(std > 0, std, 1)
    return (fit - mean) / std, (test - mean) / std
