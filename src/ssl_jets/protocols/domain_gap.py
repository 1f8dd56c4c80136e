"""How far two sets of jets are apart in z: can a classifier tell them, and how far are the clouds.

Each number stands beside its floor, the same of two halves of one set: no number here is exactly zero for equal
distributions of finitely many jets. Jets of both domains count the same, whatever their numbers.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from ssl_jets.arrays import Array
from ssl_jets.evaluation.metrics.bootstrap import Estimate
from ssl_jets.evaluation.metrics.classification import accuracy_and_auc
from ssl_jets.evaluation.metrics.two_sample import two_sample_test
from ssl_jets.evaluation.probes.classes import standardize
from ssl_jets.nn.domain.distance import SCALES, kernel, unbiased_mmd

MOST = 4000
"""Most jets of each domain that the classifiers see, half of them to fit."""

MMD_JETS = 1000
"""Most jets of each domain whose pairs the MMD looks at."""

PERMUTATIONS = 200
"""Of the domains, for the spread of the MMD of equal distributions."""

LEAST = 40
"""A class with fewer jets in either domain is not compared by itself."""


@dataclass(frozen=True)
class MmdTest:
    """Squared maximum mean discrepancy of standardised z, unbiased (see `nn.domain_distance`).

    Attributes:
        value: 0 in expectation for equal distributions.
        error: its standard deviation for equal distributions, from permutations of the domains.
        p: share of the permutations with a value as large.
    """

    value: float
    error: float
    p: float


@dataclass(frozen=True)
class Gap:
    """Two sets of jets in z.

    Attributes:
        jets: of each.
        a_distance: proxy A-distance 2 (1 - 2 error) of a linear classifier of the domain (Ben-David et al., NIPS 2006):
            0 where it cannot tell, 2 where it always can.
        auc: of the same classifier, a two-sample test: 0.5 to 1.
        trees: the AUC of boosted trees on z; None where they were not asked for.
        mmd: distance of the clouds.
    """

    jets: int
    a_distance: Estimate
    auc: Estimate
    trees: Estimate | None
    mmd: MmdTest


@dataclass(frozen=True)
class DomainGap:
    """The gap between two domains.

    Attributes:
        all: of all jets.
        floor: of two halves of the source.
        by_class: of the jets of each class that both domains have labels of; free of a shift of the mixture.
    """

    all: Gap
    floor: Gap
    by_class: dict[str, Gap]


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
        source, target: z, float `[jet, D]`.
        source_labels, target_labels: int64 `[jet]`, indices into `names`, -1 for none; None without labels.
        names: the classes.
        trees: whether boosted trees read z too, which takes longer.
        seed: of the choice of jets, the halves, and the permutations.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(source))
    halves = source[order[: len(order) // 2]], source[order[len(order) // 2 :]]
    by_class = {}
    if source_labels is not None and target_labels is not None:
        for index, name in enumerate(names):
            sides = source[source_labels == index], target[target_labels == index]
            if min(map(len, sides)) >= LEAST:
                by_class[name] = gap(*sides, trees=False, seed=seed)
    return DomainGap(gap(source, target, trees=trees, seed=seed), gap(*halves, trees=trees, seed=seed), by_class)


def gap(source: Array, target: Array, *, trees: bool = True, seed: int = 0) -> Gap:
    """The same number of random jets of two sets of z `[jet, D]`, compared."""
    rng = np.random.default_rng(seed)
    jets = min(len(source), len(target), MOST)
    first, second = (z[rng.permutation(len(z))[:jets]] for z in (source, target))
    accuracy, auc = _linear(first, second, seed)
    found = None
    if trees:
        columns = [{f"z{number}": values for number, values in enumerate(z.T)} for z in (first, second)]
        found = two_sample_test(*columns, seed=seed).auc
    return Gap(jets, _a_distance(accuracy), auc, found, mmd_test(first[:MMD_JETS], second[:MMD_JETS], seed=seed))


def mmd_test(first: Array, second: Array, *, permutations: int = PERMUTATIONS, seed: int = 0) -> MmdTest:
    """MMD of two sets of z `[jet, D]`, standardised, and what it is when the domains are dealt at random."""
    joined = np.concatenate([first, second])
    z, _ = standardize(joined, joined)
    kernels = kernel(torch.from_numpy(z).double(), SCALES)
    value = float(unbiased_mmd(kernels, len(first)))
    rng = np.random.default_rng(seed)
    k = kernels.numpy()
    np.fill_diagonal(k, 0)
    member = np.zeros((len(k), permutations))
    for column in member.T:
        column[rng.permutation(len(k))[: len(first)]] = 1
    n, m = len(first), len(second)
    within, all_of = np.einsum("jp,jp->p", member, k @ member), member.T @ k.sum(axis=1)
    between = all_of - within
    other = k.sum() - within - 2 * between
    dealt = within / (n * (n - 1)) + other / (m * (m - 1)) - 2 * between / (n * m)
    return MmdTest(value, float(dealt.std()), float((1 + (dealt >= value - 1e-12).sum()) / (1 + permutations)))


def _linear(first: Array, second: Array, seed: int) -> tuple[Estimate, Estimate]:
    """Accuracy and AUC of a logistic regression of the domain, fitted on the first half of each."""
    half = len(first) // 2
    z_fit, z_test = (np.concatenate([z[rows] for z in (first, second)]) for rows in (slice(0, half), slice(half, None)))
    y_fit, y_test = (np.repeat([0, 1], len(z) // 2) for z in (z_fit, z_test))
    z_fit, z_test = standardize(z_fit, z_test)
    reader = LogisticRegression(max_iter=1000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        reader.fit(z_fit, y_fit)
    return accuracy_and_auc(reader.predict_proba(z_test), y_test, seed=seed)


def _a_distance(accuracy: Estimate) -> Estimate:
    """2 (1 - 2 (1 - accuracy)), bounds too."""

    def of(bound: float | None) -> float | None:
        return None if bound is None else 4 * bound - 2

    return Estimate(of(accuracy.value), of(accuracy.low), of(accuracy.high), of(accuracy.low95), of(accuracy.high95))
