"""The gap between clouds whose distance is known, and its floor."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from ssl_jets.evaluation.metrics.bootstrap import exact_interval
from ssl_jets.protocols.domain_gap import domain_gap, gap
from ssl_jets.protocols.domain_result import Gap


def cloud(jets: int, seed: int, shift: float = 0.0, width: int = 4) -> np.ndarray:
    z = np.random.default_rng(seed).normal(size=(jets, width))
    z[:, 0] += shift
    return z.astype(np.float32)


def test_a_linear_shift_gives_the_best_error_and_auc_there_is() -> None:
    shift = 1.5
    found = gap(cloud(3000, 0), cloud(5000, 1, shift), trees=False)
    error = norm.cdf(-shift / 2)
    assert found.jets == 3000
    assert found.a_distance.value == pytest.approx(2 * (1 - 2 * error), abs=0.06)
    assert found.a_distance.low < 2 * (1 - 2 * error) + 0.06
    assert found.auc.value == pytest.approx(norm.cdf(shift / math.sqrt(2)), abs=0.02)


def test_equal_distributions_have_no_gap() -> None:
    found = domain_gap(cloud(2000, 0), cloud(2000, 1))
    for one in (found.all, found.floor):
        assert one.trees is not None
        for auc in (one.auc, one.trees):
            assert abs(auc.value - 0.5) < 1.5 * (auc.high95 - auc.low95) / 2  # three standard deviations
    assert found.floor.jets == 1000


def test_trees_see_what_a_linear_classifier_cannot() -> None:
    found = gap(cloud(2000, 0), np.float32(2) * cloud(2000, 1))
    assert found.trees is not None
    assert found.trees.value > 0.75 > 0.6 > found.auc.value


def test_trees_are_fitted_on_jets_of_all_classes_of_ordered_files() -> None:
    """Two classes of opposite sign, one after the other, with the same gap between the domains."""
    source, target = (np.concatenate([cloud(400, seed, 4.0), cloud(400, seed + 1, -4.0)]) for seed in (0, 2))
    target[:, 1] += 1
    found = gap(source, target)
    assert found.trees is not None
    assert found.trees.low95 > 0.6


def test_a_shift_of_the_mixture_is_a_gap_of_all_and_of_no_class() -> None:
    def mixture(first: int, second: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        z = np.concatenate([cloud(first, seed), cloud(second, seed + 1, 4.0)])
        return z, np.repeat([0, 1], [first, second])

    (z_s, y_s), (z_t, y_t) = mixture(1500, 500, 0), mixture(500, 1500, 10)
    found = domain_gap(z_s, z_t, y_s, y_t, ("a", "b", "absent"), trees=False)
    assert found.all.a_distance.value > 0.7
    assert set(found.by_class) == {"a", "b"}
    for one in found.by_class.values():
        assert one.auc.low95 < 0.5 < one.auc.high95


def test_the_gap_in_z_is_compared_with_the_one_in_observables_of_the_same_jets() -> None:
    source, target = cloud(1200, 0), cloud(1000, 1, 1.0)
    noise = [np.random.default_rng(seed).normal(size=(len(jets), 1)) for seed, jets in ((2, source), (3, target))]
    weaker = [np.concatenate([jets[:, 1:], more], axis=1) for jets, more in zip((source, target), noise)]
    same = domain_gap(source, target, observables=(source, target), trees=False)
    assert same.observables is not None
    assert same.observables.a_distance.value == same.all.a_distance.value
    least = 4 * float(exact_interval(0.0, 1000, 0.95)[1])  # 1,000 test jets on which both readers agree
    assert (same.observables.difference.low95, same.observables.difference.high95) == pytest.approx((-least, least))
    better = domain_gap(*weaker, observables=(source, target), trees=False)
    assert better.observables is not None
    difference = better.observables.difference
    assert difference.value == pytest.approx(better.all.a_distance.value - same.all.a_distance.value)
    assert difference.high95 < 0
    accuracy = norm.cdf(0.5)  # of a shift by one; 1,000 test jets
    assert difference.high - difference.low == pytest.approx(
        2 * 4 * (2 * accuracy * (1 - accuracy) / 1000) ** 0.5, rel=0.3
    )


def test_a_gap_of_an_older_version_is_read_without_its_kernel_distance() -> None:
    found = gap(cloud(100, 0), cloud(100, 1), trees=False)
    older = found.model_dump() | {"mmd": {"value": 0.01, "error": 0.002, "p": 0.3}}
    assert Gap.of_json(older, Path("domain.json")) == found
