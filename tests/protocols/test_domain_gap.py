"""The gap between clouds whose distance is known, and its floor."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from ssl_jets.nn.domain.distance import SCALES, kernel, unbiased_mmd
from ssl_jets.protocols import domain_gap as module
from ssl_jets.protocols.domain_gap import domain_gap, gap, mmd_test


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
    assert found.mmd.value > 20 * found.mmd.error
    assert found.mmd.p < 0.01


def test_equal_distributions_have_no_gap() -> None:
    found = domain_gap(cloud(2000, 0), cloud(2000, 1))
    for one in (found.all, found.floor):
        assert one.trees is not None
        for auc in (one.auc, one.trees):
            assert abs(auc.value - 0.5) < 1.5 * (auc.high95 - auc.low95) / 2  # three standard deviations
        assert abs(one.mmd.value) < 4 * one.mmd.error
    assert found.floor.jets == 1000


def test_trees_see_what_a_linear_classifier_cannot() -> None:
    found = gap(cloud(2000, 0), np.float32(2) * cloud(2000, 1))
    assert found.trees is not None
    assert found.trees.value > 0.75 > 0.6 > found.auc.value
    assert found.mmd.p < 0.01


def test_the_error_of_the_mmd_is_its_spread_over_samples_of_one_distribution() -> None:
    values = [mmd_test(cloud(150, 2 * i), cloud(100, 2 * i + 1), permutations=1).value for i in range(150)]
    found = mmd_test(cloud(150, 1000), cloud(100, 1001))
    assert found.error == pytest.approx(np.std(values), rel=0.35)


def test_a_permutation_is_the_mmd_of_the_permuted_jets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dealt as the domains are, the sums over members are the estimate itself."""
    first, second = cloud(30, 0), cloud(20, 1, 0.5)

    class InOrder:
        def permutation(self, jets: int) -> np.ndarray:
            return np.arange(jets)

    monkeypatch.setattr(module.np.random, "default_rng", lambda seed: InOrder())
    found = mmd_test(first, second, permutations=3)
    assert (found.error, found.p) == (pytest.approx(0, abs=1e-12), pytest.approx(1))
    joined = np.concatenate([first, second])
    z = torch.from_numpy((joined - joined.mean(0)) / joined.std(0)).double()
    assert found.value == pytest.approx(float(unbiased_mmd(kernel(z, SCALES), 30)), abs=1e-6)


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
