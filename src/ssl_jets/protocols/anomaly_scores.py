"""Anomaly scores: distances in z, and classification without labels (CWoLa).

*Distance* of a jet from background jets, by its `k` nearest ones or by the Mahalanobis distance

    d^2 = (z - m)^T C^-1 (z - m),       m, C mean and covariance of background jets.

*CWoLa* (Metodiev, Nachman, Thaler, arXiv:1708.02949): a classifier learns to separate a mixture, background with a few
signal jets, from background alone. The optimal score of this task is also optimal for signal against background, though
no jet was labelled. Both halves of the background come from one sample: the idealised search (arXiv:2109.00546).

A classifier of two samples without any signal has a random score, which can separate a signal from background by chance
where z separates them well. A search with no hidden jets measures this floor. The ceiling is the same classifier with
true labels.

The significance improvement is max over cuts of eps_S / sqrt(eps_B) with at least `SIC_JETS` background jets passing.
"""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors

from ssl_jets.arrays import Array
from ssl_jets.evaluation.metrics.bootstrap import Bootstrap, Estimate
from ssl_jets.evaluation.metrics.classification import accuracy_and_auc_of, accuracy_and_auc_rows
from ssl_jets.evaluation.metrics.roc import against, ranked
from ssl_jets.evaluation.probes.classes import Labelled, readable, standardize, to_fit_with
from ssl_jets.evaluation.probes.results import TREES
from ssl_jets.protocols.anomaly_result import CwolaDraw, DistanceScore, DistanceScores, Separation
from ssl_jets.runtime.threads import with_one_thread

PENALTY = 0.01
"""Inverse strength of the L2 penalty of the linear classifier of CWoLa, against overfitting to few signal jets."""

UNDEFINED = Separation(*3 * [Estimate(None, None, None, None, None)])
"""Separation without jets of one of the classes."""

READERS = ("linear", TREES)
"""Classifiers of CWoLa and of its ceiling; each reads every input."""

SHRINKAGE = 1e-6
"""Fraction of the mean variance that is added to the diagonal of the covariance, for correlated components of z."""


def distances(fit: Array, test: Array, neighbours: int) -> dict[str, Array]:
    """Compute the distance scores of test jets, `[jet]`, by name.

    Args:
        fit: z of background jets, `[jet, D]`; a NaN of jet columns counts as their mean.
        test: z of the jets to score, `[jet, D]`.
        neighbours: k of the kNN distance, which is the mean over them.
    """
    standard_fit, standard_test = _standard(fit, test)
    x_fit, x_test = np.nan_to_num(standard_fit).astype(np.float64), np.nan_to_num(standard_test).astype(np.float64)
    covariance = np.cov(x_fit, rowvar=False).reshape(x_fit.shape[1], -1)
    covariance += (SHRINKAGE * np.trace(covariance) / len(covariance) + 1e-12) * np.eye(len(covariance))
    offset = x_test - x_fit.mean(axis=0)
    near = NearestNeighbors(n_neighbors=min(neighbours, len(x_fit))).fit(x_fit).kneighbors(x_test)[0]
    squared = np.einsum("ij,ij->i", offset @ np.linalg.inv(covariance), offset)
    return {"kNN": near.mean(axis=1), "Mahalanobis": squared}


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
) -> DistanceScores:
    """Compute both distance scores of every signal."""
    reference = fit.x[fit.y == names.index(background)]
    scores = []
    for score, values in distances(reference, test.x, neighbours).items():
        for signal in signals:
            found = separation(values, test, names.index(signal), names.index(background), seed)
            scores.append(DistanceScore(of=of, score=score, signal=signal, fit_jets=len(reference), **vars(found)))
    return DistanceScores(scores=scores)


def separation(
    score: Array, test: Labelled, signal: int, background: int, seed: int, resamples: int = 100
) -> Separation:
    """Compute AUC, R50 and the largest significance improvement of one class against another.

    The score, `[jet]`, is larger for the signal.
    """
    rows = np.flatnonzero((test.y == signal) | (test.y == background))
    labels = (test.y[rows] == signal).astype(np.int64)
    # Any rising function of the score gives the same curves: here the rank among the distinct scores,
    # 3 distinct scores -> 1/4, 2/4, 3/4.
    _, rank = np.unique(score[rows], return_inverse=True)
    probability = (rank + 1) / (rank.max(initial=0) + 2)
    probabilities = np.column_stack([1 - probability, probability])
    bootstrap = Bootstrap(len(rows), resamples, seed, test.weights[rows])
    pair = ranked(probabilities, labels, 1, 0, bootstrap.weights)
    if pair is None:
        return UNDEFINED
    of_accuracy, of_auc = accuracy_and_auc_rows(probabilities, labels, bootstrap)
    _, auc = accuracy_and_auc_of(of_accuracy, of_auc, labels, bootstrap)
    (at_half,), _, largest = against(pair, bootstrap, "signal", "background", (0.5,))
    return Separation(auc, at_half.rejection, largest.improvement)


@with_one_thread
def cwola(
    fit: Labelled, test: Labelled, signal: int, background: int, count: int, *, reader: str, seed: int
) -> CwolaDraw:
    """Run one CWoLa search with `count` hidden jets by one of `READERS`."""
    rng = np.random.default_rng([seed, count, signal])
    background_rows = rng.permutation(np.flatnonzero(fit.y == background))
    half = len(background_rows) // 2
    hidden = rng.permutation(np.flatnonzero(fit.y == signal))[:count]
    # Mixture first, then background alone: 100 background jets and 10 of signal -> 50 + 10 | 50.
    rows = np.concatenate([background_rows[:half], hidden, background_rows[half:]])
    is_mixture = np.arange(len(rows)) < half + len(hidden)
    score = _score(fit.some(rows), is_mixture, test.x, reader, seed)
    found = separation(score, test, signal, background, seed, resamples=1)  # the values alone are used
    significance = fit.weights[hidden].sum() / np.linalg.norm(fit.weights[background_rows[:half]])
    return CwolaDraw(
        improvement=found.improvement.value,
        improvement_limit=found.improvement.limit,
        auc=found.auc.value,
        rejection=found.rejection.value,
        significance=float(significance),
    )


@with_one_thread
def supervised(fit: Labelled, test: Labelled, signal: int, background: int, *, reader: str, seed: int) -> Separation:
    """Fit one of `READERS` with the true labels of all signal and background jets: the ceiling of CWoLa."""
    rows = np.flatnonzero((fit.y == signal) | (fit.y == background))
    if len(np.unique(fit.y[rows])) < 2:
        return UNDEFINED
    score = _score(fit.some(rows), fit.y[rows] == signal, test.x, reader, seed)
    return separation(score, test, signal, background, seed)


def _score(fit: Labelled, positive: Array, x_test: Array, reader: str, seed: int) -> Array:
    """Fit a classifier of jets, with the target `positive` (bool `[jet]`), and return the score of test jets."""
    x_fit, x_test = _standard(fit.x, x_test)
    if reader == TREES:
        # No balanced class weights: they hardly change the ranking, and weights make the binning 25 times as slow.
        early = {"max_iter": 50, "max_leaf_nodes": 8, "learning_rate": 0.1, "early_stopping": False}
        classifier = HistGradientBoostingClassifier(random_state=seed, **early)
    else:
        classifier = LogisticRegression(C=PENALTY, class_weight="balanced", max_iter=300)
        x_fit, x_test = np.nan_to_num(x_fit), np.nan_to_num(x_test)
    classifier.fit(x_fit, positive, sample_weight=to_fit_with(fit.weights))
    score: Array = classifier.predict_proba(x_test)[:, 1]
    return score


def _standard(fit: Array, test: Array) -> tuple[Array, Array]:
    """Return both `[jet, D]` standardised with mean and deviation of `fit`; NaN stays, except in empty columns."""
    return standardize(readable(fit, fit), readable(test, fit))
