"""Probes of the class: simple classifiers of z, and of the baselines.

Every probe is fitted on one set of labelled jets and scored on another. z is standardized with the mean and standard
deviation of the fit jets.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from ssl_jets.arrays import Array
from ssl_jets.evaluation.metrics.bootstrap import Bootstrap, effective, relative
from ssl_jets.evaluation.metrics.classification import accuracy_and_auc_of, accuracy_and_auc_rows, largest_class
from ssl_jets.evaluation.probes.results import COLUMNS, TREES, ProbeResult
from ssl_jets.runtime.threads import with_one_thread

STRENGTHS = tuple(10 ** (power / 2) for power in range(-6, 3))
"""Inverse strengths C of the L2 penalty, in scikit-learn's convention, from which the linear probe chooses."""

FOLDS = 5
"""Folds of the jets to fit on by which C, and the size of trees, is chosen."""

TUNED_JETS = 5000
"""Jets by which C, or the size of trees, is chosen, at most."""

NEIGHBOURS = 20
"""Neighbours of the kNN probe."""

ITERATIONS = 100
"""Iterations of the boosted trees, each with a tree a class."""

_SMALL: Mapping[str, Any] = {"learning_rate": 0.1, "l2_regularization": 5.0, "max_features": 0.3}

TREE_SIZES = ({"learning_rate": 0.1}, {**_SMALL, "max_leaf_nodes": 8}, {**_SMALL, "max_leaf_nodes": 4})
"""Boosted trees of 31 leaves (scikit-learn's default), and small ones for few jets."""

MOST_TREES = 2000
"""Trees, at most but for ten iterations: of more than 20 classes there are fewer iterations, of larger steps."""

_LOGISTIC: dict[str, Any] = {"max_iter": 1000, "tol": 1e-4}

_MANY_CLASSES = "The number of unique classes"
"""Start of a warning of scikit-learn on few jets of many classes."""

ROUNDING = 8
"""Steps of a floating-point number that its computation is off by, at most."""

MULTIPLICITY = "particles"
"""Name of the column with the number of particles of a jet."""

TREE_COLUMNS = ("jet_pt", "jet_eta", "jet_sdmass", "jet_tau1", "jet_tau2", "jet_tau3", "jet_tau4", MULTIPLICITY)
"""Jet columns of the boosted trees, if available; the ratios of the tau are added."""


@dataclass(frozen=True)
class Labelled:
    """Input, labels and weights of jets that a probe is fitted or scored on.

    Attributes:
        x: z or columns, float `[jet, column]`.
        y: labels from 0, int64 `[jet]`.
        weights: of the jets, `[jet]`.
    """

    x: Array
    y: Array
    weights: Array

    @classmethod
    def of(cls, x: Array, y: Array, weights: Array | None = None) -> Labelled:
        """Return jets with weights, by default 1."""
        return cls(x, y, np.ones(len(y)) if weights is None else weights)

    def reading(self, x: Array) -> Labelled:
        """Return the same jets with another input `[jet, column]`."""
        return Labelled(x, self.y, self.weights)

    def some(self, rows: Array) -> Labelled:
        """Select jets, with weights of mean 1."""
        return Labelled(self.x[rows], self.y[rows], relative(self.weights[rows]))

    def first(self, most: int, seed: int) -> Labelled:
        """Select at most `most` random jets."""
        rows = np.random.default_rng(seed).permutation(len(self.y))[:most]
        return Labelled(self.x[rows], self.y[rows], self.weights[rows])


def to_fit_with(weights: Array) -> Array | None:
    """Return weights `[jet]` of mean 1 for scikit-learn; None if all are equal: trees then bin columns much faster.

    Penalties, and the smallest leaves of trees, depend on the unit of the weights.
    """
    return None if bool((weights == weights[:1]).all()) else relative(weights)


@with_one_thread
def linear_reader(fit: Labelled, classes: int) -> Callable[[Array], Array]:
    """Fit multinomial logistic regression on standardized z: from z `[jet, D]` to probabilities `[jet, class]`."""
    standard = fit.reading(standardize(fit.x, fit.x)[0])
    reader = _fitted(LogisticRegression(C=chosen_strength(standard), **_LOGISTIC), standard)
    return lambda z_test: _all_classes(reader.predict_proba(standardize(fit.x, z_test)[1]), reader.classes_, classes)


def chosen_strength(fit: Labelled) -> float:
    """Choose the inverse strength C of the L2 penalty by cross-validation on the jets to fit on.

    C rises through `STRENGTHS` until the log loss of the held-out folds does. Few labels and many columns need a
    strong penalty, and a fixed C favours the input of fewer columns.
    """
    classes, sides = int(fit.y.max()) + 1, _folds(fit)
    readers = [LogisticRegression(warm_start=True, **_LOGISTIC) for _ in sides]
    chosen, least = STRENGTHS[0], np.inf
    for strength in STRENGTHS:
        for reader, (rest, _) in zip(readers, sides, strict=True):
            _fitted(reader.set_params(C=strength), rest)
        loss = sum(_log_loss(reader, held_out, classes) for reader, (_, held_out) in zip(readers, sides, strict=True))
        if loss >= least:
            break
        chosen, least = strength, loss
    return chosen


def _folds(fit: Labelled) -> list[tuple[Labelled, Labelled]]:
    """Return jets to fit on and held-out jets of each fold, of at most `TUNED_JETS`, each fold with all classes."""
    fit = fit.some(np.flatnonzero(fit.weights > 0)).first(TUNED_JETS, 0)
    fold = np.empty(len(fit.y), dtype=np.int64)
    fold[np.argsort(fit.y, kind="stable")] = np.arange(len(fit.y)) % FOLDS
    sides = [(fit.some(fold != k), fit.some(fold == k)) for k in range(FOLDS)]
    return [(rest, held_out) for rest, held_out in sides if len(held_out.y) and len(np.unique(rest.y)) > 1]


def _fitted(reader: LogisticRegression, fit: Labelled) -> LogisticRegression:
    """Fit logistic regression of standardized columns."""
    with warnings.catch_warnings():
        # 1000 iterations are far past the point where the accuracy still moves.
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", _MANY_CLASSES)
        return reader.fit(fit.x, fit.y, sample_weight=to_fit_with(fit.weights))


def _log_loss(reader: Any, jets: Labelled, classes: int) -> float:
    """Return the mean of -ln p over jets; a class that the reader has not seen has the smallest p."""
    probabilities = _all_classes(reader.predict_proba(jets.x), reader.classes_, classes)
    of_class = np.maximum(probabilities[np.arange(len(jets.y)), jets.y], np.finfo(np.float64).eps)
    return float(-np.average(np.log(of_class), weights=jets.weights))


def linear_probe(fit: Labelled, test: Labelled, *, of: str = "z", seed: int = 0) -> ProbeResult:
    """Fit and score multinomial logistic regression."""
    return scored("linear", of, fit.x.shape, test, linear_reader(fit, _classes(fit, test))(test.x), seed)


def knn_probe(fit: Labelled, test: Labelled, *, of: str = "z", seed: int = 0) -> ProbeResult:
    """Score votes of the fit jets of largest cosine; ties go to the lower label. Arguments as `linear_probe`."""
    z_fit, z_test = standardize(fit.x, test.x)
    votes = knn_votes(z_fit, fit.y, z_test, NEIGHBOURS, _classes(fit, test), weights=fit.weights)
    return scored("kNN", of, fit.x.shape, test, votes, seed)


def knn_votes(
    z_fit: Array,
    y_fit: Array,
    z_test: Array,
    k: int,
    classes: int,
    block: int = 1024,
    weights: Array | None = None,
) -> Array:
    """Return the share of each class among the k nearest fit jets by cosine, `[test jet, class]`, in blocks."""
    fit = torch.nn.functional.normalize(torch.as_tensor(z_fit, dtype=torch.float32), dim=1)
    test = torch.nn.functional.normalize(torch.as_tensor(z_test, dtype=torch.float32), dim=1)
    member = torch.nn.functional.one_hot(torch.as_tensor(y_fit, dtype=torch.int64), classes).double()
    if weights is not None:
        member = member * torch.as_tensor(weights, dtype=torch.float64)[:, None]
    k = min(k, len(fit))
    votes = [member[(rows @ fit.T).topk(k, sorted=False).indices].sum(dim=1) for rows in torch.split(test, block)]
    total = torch.cat(votes)
    result: Array = (total / total.sum(dim=1, keepdim=True).clamp(min=np.finfo(np.float64).tiny)).numpy()
    return result


def tree_probe(fit: Labelled, test: Labelled, *, of: str = COLUMNS, seed: int = 0) -> ProbeResult:
    """Fit and score gradient-boosted trees; on jet columns (NaN is allowed) the reference that z should beat."""
    probabilities = fitted_trees(fit, _classes(fit, test), seed)(test.x)
    return scored(TREES, of, fit.x.shape, test, probabilities, seed)


@with_one_thread
def fitted_trees(fit: Labelled, classes: int, seed: int) -> Callable[[Array], Array]:
    """Fit boosted trees: from columns `[jet, column]` to probabilities `[jet, class]`.

    Of two classes and at most `TUNED_JETS` jets, cross-validation chooses between `TREE_SIZES`.
    """
    found = len(np.unique(fit.y))
    # With few jets a class, large steps need the penalty, and leaves of 20 jets would hold other classes.
    few: dict[str, Any] = {"learning_rate": 0.3, "l2_regularization": 1.0, "min_samples_leaf": 5}
    size: Mapping[str, Any] = TREE_SIZES[0] if tree_iterations(found) == ITERATIONS else few
    if found == 2 and len(fit.y) <= TUNED_JETS:
        size = chosen_trees(fit, seed)
    trees = _grown(fit, size, seed)
    return lambda x: _all_classes(trees.predict_proba(readable(x, fit.x)), trees.classes_, classes)


def chosen_trees(fit: Labelled, seed: int) -> Mapping[str, Any]:
    """Choose among `TREE_SIZES` by the log loss of held-out folds: large trees overfit few jets to fit on."""
    loss, classes = np.zeros(len(TREE_SIZES)), int(fit.y.max()) + 1
    for rest, held_out in _folds(fit):
        seen = held_out.reading(readable(held_out.x, rest.x))
        loss += [_log_loss(_grown(rest, size, seed), seen, classes) for size in TREE_SIZES]
    return TREE_SIZES[int(loss.argmin())]


def _grown(fit: Labelled, size: Mapping[str, Any], seed: int) -> HistGradientBoostingClassifier:
    """Fit boosted trees of some settings."""
    iterations = tree_iterations(len(np.unique(fit.y)))
    trees = HistGradientBoostingClassifier(max_iter=iterations, early_stopping=False, random_state=seed, **size)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", _MANY_CLASSES)
        return trees.fit(readable(fit.x, fit.x), fit.y, sample_weight=to_fit_with(fit.weights))


def readable(x: Array, fit: Array) -> Array:
    """Return columns `[jet, column]` for boosted trees: 0 in those that no jet of `fit` has, which they refuse."""
    filled: Array = np.where(np.isnan(fit).all(axis=0), 0.0, x)
    return filled


def tree_iterations(classes: int) -> int:
    """Return the iterations of boosted trees of this number of classes."""
    return min(ITERATIONS, max(10, MOST_TREES // classes))


def tree_columns(jet_columns: Mapping[str, Array]) -> dict[str, Array]:
    """Return the columns of the boosted trees by name, float64 `[jet]` each.

    Of `jet_columns` (`[jet]` each) those in `TREE_COLUMNS`, and the ratios tau21, tau32, tau43 that they allow: NaN for
    a jet of too few particles, whose tau_(N-1) is zero.
    """
    columns = {name: jet_columns[name].astype(np.float64) for name in TREE_COLUMNS if name in jet_columns}
    for n in (2, 3, 4):
        above, below = columns.get(f"jet_tau{n}"), columns.get(f"jet_tau{n - 1}")
        if above is not None and below is not None:
            columns[f"tau{n}{n - 1}"] = np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)
    return columns


def standardize(fit: Array, test: Array) -> tuple[Array, Array]:
    """Standardize both with mean and standard deviation of `fit`, float32; NaN stays.

    A dimension becomes zero if its spread is rounding, in comparison with its own values: dimensions in GeV and in MeV,
    or of any other unit, count the same.
    """
    mean, std = np.nanmean(fit, axis=0, dtype=np.float64), np.nanstd(fit, axis=0, dtype=np.float64)
    varies = std > ROUNDING * np.finfo(fit.dtype).eps * np.nanmax(np.abs(fit), axis=0)
    scale = np.where(varies, 1 / np.where(varies, std, 1), 0)
    return ((fit - mean) * scale).astype(np.float32), ((test - mean) * scale).astype(np.float32)


def _classes(fit: Labelled, test: Labelled) -> int:
    return int(max(fit.y.max(), test.y.max())) + 1


def _all_classes(probabilities: Array, present: Array, classes: int) -> Array:
    """Return probabilities with a column for every class, zero for classes without fit jets."""
    full = np.zeros((len(probabilities), classes))
    full[:, present] = probabilities[:, : len(present)]  # boosted trees of one class have a second, empty column
    return full


def scored(
    reader: str, of: str, fitted: tuple[int, ...], test: Labelled, probabilities: Array, seed: int
) -> ProbeResult:
    """Return the result of a probe.

    Args:
        reader: the probe.
        of: name of its input.
        fitted: number of jets it is fitted on, and of columns it reads.
        test: the jets to score on.
        probabilities: of these jets, `[jet, class]`.
        seed: of the bootstrap.
    """
    bootstrap = Bootstrap(len(test.y), seed=seed, weights=test.weights)
    accuracy, auc = accuracy_and_auc_rows(probabilities, test.y, bootstrap)
    guess = largest_class(test.y, test.weights)
    fit_jets, columns = fitted
    numbers = (*accuracy_and_auc_of(accuracy, auc, test.y, bootstrap), guess)
    jets = effective(test.weights)
    return ProbeResult(reader, of, columns, fit_jets, len(test.y), *numbers, rows=accuracy, effective_jets=jets)
