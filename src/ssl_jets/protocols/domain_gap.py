"""Gap between two sets of jets in z: performance of a classifier of the domain.

Each number is reported with its floor, the same of two halves of one set: no number here is exactly zero for equal
distributions of finitely many jets. Both domains count the same, whatever their numbers of jets.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ssl_jets.arrays import Array
from ssl_jets.evaluation.metrics.bootstrap import Bootstrap, Estimate
from ssl_jets.evaluation.metrics.classification import accuracy_and_auc, accuracy_and_auc_rows
from ssl_jets.evaluation.metrics.two_sample import two_sample_test
from ssl_jets.evaluation.probes.classes import Labelled, linear_reader
from ssl_jets.protocols.domain_result import DomainGap, Gap, ObservablesGap

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
    observables: tuple[Array, Array] | None = None,
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
        observables: of the same jets of source and target, float `[jet, observable]`.
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
        observables=None if observables is None else _against((source, target), observables, seed),
    )


def gap(source: Array, target: Array, *, trees: bool = True, seed: int = 0) -> Gap:
    """Compare the same number of random jets of two sets of z `[jet, D]`."""
    first, second = _chosen(source, target, seed)
    accuracy, auc = _linear(first, second, seed)
    # Another seed: the same permutation would undo the one above, and the halves be those of the order of the files.
    auc_of_trees = two_sample_test(_columns(first), _columns(second), seed=seed + 1).auc if trees else None
    return Gap(jets=len(first), a_distance=accuracy.mapped(_a_distance), auc=auc, trees=auc_of_trees)


def _against(z: tuple[Array, Array], observables: tuple[Array, Array], seed: int) -> ObservablesGap:
    """Compare the A-distance in z with the one in observables of the same jets."""
    test, other = (_tested(*_chosen(*pair, seed)) for pair in (z, observables))
    bootstrap = Bootstrap(len(test[1]), seed=seed)
    of_z, of_observables = (accuracy_and_auc_rows(*scored, bootstrap)[0] for scored in (test, other))
    return ObservablesGap(
        a_distance=Estimate.of_share(of_observables, len(test[1])).mapped(_a_distance),
        difference=Estimate.of_difference(of_z - of_observables, len(test[1])).mapped(lambda gap: 4 * gap),
    )


def _chosen(source: Array, target: Array, seed: int) -> tuple[Array, Array]:
    """Choose the same number of random jets of two sets `[jet, D]`; the jets do not depend on D."""
    rng = np.random.default_rng(seed)
    jets = min(len(source), len(target), MAX_JETS)
    return source[rng.permutation(len(source))[:jets]], target[rng.permutation(len(target))[:jets]]


def _a_distance(accuracy: float) -> float:
    return 4 * accuracy - 2


def _columns(z: Array) -> dict[str, Array]:
    return {f"z{number}": values for number, values in enumerate(z.T)}


def _linear(first: Array, second: Array, seed: int) -> tuple[Estimate, Estimate]:
    """Return accuracy and AUC of a linear classifier of the domain."""
    return accuracy_and_auc(*_tested(first, second), seed=seed)


def _tested(first: Array, second: Array) -> tuple[Array, Array]:
    """Fit a logistic regression of the domain on the first half of each set.

    Returns:
        Its probabilities of the other halves, `[jet, 2]`, and their domains, int64 `[jet]`.
    """
    half = len(first) // 2
    x_fit, x_test = np.concatenate([first[:half], second[:half]]), np.concatenate([first[half:], second[half:]])
    y_fit, y_test = np.repeat([0, 1], len(x_fit) // 2), np.repeat([0, 1], len(x_test) // 2)
    return linear_reader(Labelled.of(x_fit, y_fit), 2)(x_test), y_test
