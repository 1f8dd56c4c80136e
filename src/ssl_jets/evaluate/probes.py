"""What a simple reader finds in z, beside what it finds without pretraining.

Every probe is fitted on one set of labelled jets and scored on another. z is standardised with the mean and standard
deviation of the fit jets.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from ssl_jets.evaluate.estimate import Array, Estimate
from ssl_jets.evaluate.task import accuracy_and_auc

MAX_FIT_JETS = 50_000
"""Most jets a probe is fitted on; of more, the caller draws a random subset."""

LINEAR_C = 1.0
"""Inverse strength of the L2 penalty of the linear probe, in scikit-learn's convention."""

NEIGHBOURS = 20
"""Neighbours of the kNN probe."""

PARTICLES = "particles"
"""Name of the column that holds the number of particles of a jet."""

TREE_COLUMNS = ("jet_pt", "jet_eta", "jet_sdmass", "jet_tau1", "jet_tau2", "jet_tau3", "jet_tau4", PARTICLES)
"""Jet columns the boosted trees read where they are there; the ratios of the tau are added."""


@dataclass(frozen=True)
class Probe:
    """The result of one probe.

    Attributes:
        reader: "linear", "kNN" or "boosted trees".
        of: what it reads: "z", "z of random weights" or "jet columns".
        columns: number of columns it reads.
        fit_jets, test_jets: jets it was fitted and scored on.
        accuracy, auc: the latter macro, one-versus-one.
    """

    reader: str
    of: str
    columns: int
    fit_jets: int
    test_jets: int
    accuracy: Estimate
    auc: Estimate


def linear_probe(z_fit: Array, y_fit: Array, z_test: Array, y_test: Array, *, of: str = "z", seed: int = 0) -> Probe:
    """Multinomial logistic regression.

    Args:
        z_fit, z_test: float `[jet, D]`.
        y_fit, y_test: int64 `[jet]`, labels from 0.
        of: what z is, for the record.
        seed: of the bootstrap.
    """
    z_fit, z_test = standardise(z_fit, z_test)
    reader = LogisticRegression(C=LINEAR_C, max_iter=1000, tol=1e-4)
    with warnings.catch_warnings():
        # 1000 iterations are far past the point where the accuracy still moves.
        warnings.simplefilter("ignore", ConvergenceWarning)
        reader.fit(z_fit, y_fit)
    return _scored(
        "linear", of, z_fit, y_test, _all_classes(reader.predict_proba(z_test), reader.classes_, y_test), seed
    )


def knn_probe(
    z_fit: Array, y_fit: Array, z_test: Array, y_test: Array, *, k: int = NEIGHBOURS, of: str = "z", seed: int = 0
) -> Probe:
    """Votes of the `k` fit jets with the largest cosine; a tie goes to the lower label. Arguments as `linear_probe`."""
    z_fit, z_test = standardise(z_fit, z_test)
    return _scored(
        "kNN", of, z_fit, y_test, knn_votes(z_fit, y_fit, z_test, k, int(max(y_fit.max(), y_test.max())) + 1), seed
    )


def knn_votes(z_fit: Array, y_fit: Array, z_test: Array, k: int, classes: int, block: int = 1024) -> Array:
    """Share of each class among the k nearest fit jets by cosine, `[test jet, class]`, `block` test jets at a time."""
    fit = torch.nn.functional.normalize(torch.as_tensor(z_fit, dtype=torch.float32), dim=1)
    test = torch.nn.functional.normalize(torch.as_tensor(z_test, dtype=torch.float32), dim=1)
    member = torch.nn.functional.one_hot(torch.as_tensor(y_fit, dtype=torch.int64), classes).double()
    k = min(k, len(fit))
    votes = [member[(rows @ fit.T).topk(k, sorted=False).indices].mean(dim=1) for rows in torch.split(test, block)]
    result: Array = torch.cat(votes).numpy()
    return result


def tree_probe(x_fit: Array, y_fit: Array, x_test: Array, y_test: Array, *, seed: int = 0) -> Probe:
    """Gradient-boosted trees on jet columns `[jet, column]`; NaN is allowed. The reference a z should beat."""
    trees = HistGradientBoostingClassifier(max_iter=100, learning_rate=0.1, early_stopping=False, random_state=seed)
    trees.fit(x_fit, y_fit)
    probabilities = _all_classes(trees.predict_proba(x_test), trees.classes_, y_test)
    return _scored("boosted trees", "jet columns", x_fit, y_test, probabilities, seed)


def tree_columns(jet_columns: Mapping[str, Array]) -> dict[str, Array]:
    """What the boosted trees read of each jet, by name, float64 `[jet]` each.

    Of `jet_columns` (`[jet]` each) those in `TREE_COLUMNS`, and the ratios tau21, tau32, tau43 that they allow: NaN for
    a jet of too few particles, whose tau_(N-1) is zero.
    """
    columns = {name: jet_columns[name].astype(np.float64) for name in TREE_COLUMNS if name in jet_columns}
    for n in (2, 3, 4):
        above, below = columns.get(f"jet_tau{n}"), columns.get(f"jet_tau{n - 1}")
        if above is not None and below is not None:
            columns[f"tau{n}{n - 1}"] = np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)
    return columns


def standardise(fit: Array, test: Array) -> tuple[Array, Array]:
    """Both with the mean and standard deviation of `fit`, float32; a dimension that does not vary becomes zero."""
    mean, std = fit.mean(axis=0, dtype=np.float64), fit.std(axis=0, dtype=np.float64)
    varies = std > 1e-6 * np.maximum(std.max(), np.finfo(np.float32).tiny)
    scale = np.where(varies, 1 / np.where(varies, std, 1), 0)
    return ((fit - mean) * scale).astype(np.float32), ((test - mean) * scale).astype(np.float32)


def _all_classes(probabilities: Array, classes: Array, y_test: Array) -> Array:
    """Probabilities with a column for every label, zero for those the fit jets lack."""
    full = np.zeros((len(probabilities), int(max(classes.max(), y_test.max())) + 1))
    full[:, classes] = probabilities
    return full


def _scored(reader: str, of: str, fit: Array, y_test: Array, probabilities: Array, seed: int) -> Probe:
    accuracy, auc = accuracy_and_auc(probabilities, y_test, seed=seed)
    return Probe(reader, of, fit.shape[1], len(fit), len(y_test), accuracy, auc)
