"""Gap between two sets of jets in z: performance of a classifier of the domain.

Each number is reported with its floor, the same of two halves of one set: no number here is exactly zero for equal
distributions of finitely many jets. Both domains count the same, whatever their numbers of jets.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from ssl_jets.arrays import Array
from ssl_jets.evaluation.metrics.bootstrap import Estimate
from ssl_jets.evaluation.metrics.classification import accuracy_and_auc
from ssl_jets.evaluation.metrics.two_sample import two_sample_test
from ssl_jets.evaluation.probes.classes import standardize
from ssl_jets.protocols.domain_result import DomainGap, Gap

MAX_JETS = 4000
"""Most jets of each domain for the classifiers, half of them to fit."""

MIN_CLASS_JETS = 40
"""A class with fewer jets in either domain is not compared by itself."""


def domain_gap(
    source: Array,
    target: Array,
    source_labels: Array | None = None,
    target_labels: Array | None = None,
    names: Sequence[str] = (),
    *,
    trees: bool = True,
    seed: int = 0,
) -> DomainGap:
    """Compare z of two domains.

    Args:
        source: z of one domain, float `[jet, D]`.
        target: z of the other domain, float `[jet, D]`.
        source_labels: int64 `[jet]`, indices into `names`, -1 for none; None without labels.
        target_labels: as `source_labels`.
        names: class names.
        trees: fit boosted trees on z as well, which takes longer.
        seed: of the choice of jets and of the halves.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(source))
    middle = len(order) // 2
    by_class = {}
    if source_labels is not None and target_labels is not None:
        for index, name in enumerate(names):
            of_source, of_target = source[source_labels == index], target[target_labels == index]
            if min(len(of_source), len(of_target)) >= MIN_CLASS_JETS:
                by_class[name] = gap(of_source, of_target, trees=False, seed=seed)
    return DomainGap(
        all=gap(source, target, trees=trees, seed=seed),
        floor=gap(source[order[:middle]], source[order[middle:]], trees=trees, seed=seed),
        by_class=by_class,
    )


def gap(source: Array, target: Array, *, trees: bool = True, seed: int = 0) -> Gap:
    """Compare the same number of random jets of two sets of z `[jet, D]`."""
    rng = np.random.default_rng(seed)
    jets = min(len(source), len(target), MAX_JETS)
    first = source[rng.permutation(len(source))[:jets]]
    second = target[rng.permutation(len(target))[:jets]]
    accuracy, auc = _linear(first, second, seed)
    # Another seed: the same permutation would undo the one above, and the halves be those of the order of the files.
    auc_of_trees = two_sample_test(_columns(first), _columns(second), seed=seed + 1).auc if trees else None
    a_distance = accuracy.mapped(lambda share: 4 * share - 2)
    return Gap(jets=jets, a_distance=a_distance, auc=auc, trees=auc_of_trees)


def _columns(z: Array) -> dict[str, Array]:
    return {f"z{number}": values for number, values in enumerate(z.T)}


def _linear(first: Array, second: Array, seed: int) -> tuple[Estimate, Estimate]:
    """Return accuracy and AUC of a logistic regression of the domain, fitted on the first half of each."""
    half = len(first) // 2
    z_fit, z_test = np.concatenate([first[:half], second[:half]]), np.concatenate([first[half:], second[half:]])
    y_fit, y_test = np.repeat([0, 1], len(z_fit) // 2), np.repeat([0, 1], len(z_test) // 2)
    z_fit, z_test = standardize(z_fit, z_test)
    classifier = LogisticRegression(max_iter=1000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier.fit(z_fit, y_fit)
    return accuracy_and_auc(classifier.predict_proba(z_test), y_test, seed=seed)
