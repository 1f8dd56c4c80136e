"""Distances of samples whose distance is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from ssl_jets.evaluation.metrics.two_sample import WeightedSample, two_sample_test, wasserstein


def normal(jets: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, jets)


def test_a_shift_by_a_constant_is_that_constant() -> None:
    values = normal(500, 0)
    found = wasserstein(WeightedSample.of_jets(values), WeightedSample.of_jets(values + 0.7))
    assert found.value == pytest.approx(0.7, abs=1e-12)
    assert found.low < 0.7 < found.high
    assert [found.low95, found.high95] == pytest.approx([2 * end - found.value for end in (found.low, found.high)])


def test_it_is_that_of_scipy_for_samples_of_different_size_and_with_ties() -> None:
    first, second = np.round(normal(300, 1), 1), np.round(2 * normal(200, 2), 1)
    found = wasserstein(WeightedSample.of_jets(first), WeightedSample.of_jets(second), resamples=5)
    assert found.value == pytest.approx(wasserstein_distance(first, second), abs=1e-12)


def test_a_jet_without_a_value_has_no_weight() -> None:
    first, second = normal(300, 1), normal(200, 2, 0.3)
    with_gaps = np.insert(first, [3, 100, 300], np.nan)
    expected = wasserstein(WeightedSample.of_jets(first), WeightedSample.of_jets(second), resamples=5).value
    assert wasserstein(WeightedSample.of_jets(with_gaps), WeightedSample.of_jets(second), resamples=5).value == expected


def test_the_error_is_the_spread_over_experiments() -> None:
    """Far from the floor, where W1 is the difference of the means: its error is known."""
    sample = WeightedSample.of_jets
    found = [wasserstein(sample(normal(400, 2 * i)), sample(normal(400, 2 * i + 1, 1.0)), seed=i) for i in range(40)]
    expected = np.sqrt(2 / 400)
    assert np.std([entry.value for entry in found]) == pytest.approx(expected, rel=0.35)
    assert np.mean([(entry.high - entry.low) / 2 for entry in found]) == pytest.approx(expected, rel=0.1)


def test_particles_of_one_jet_are_resampled_together() -> None:
    """Jets of ten equal particles: the error is that of a tenth of the values."""
    jets, particles = 200, 10
    samples, alone = [], []
    for seed, shift in ((0, 0.0), (1, 1.0)):
        values = normal(jets, seed, shift)
        alone.append(WeightedSample.of_jets(values))
        samples.append(WeightedSample(np.repeat(values, particles), np.repeat(np.arange(jets), particles), jets))
    together, single = wasserstein(*samples), wasserstein(*alone)
    assert together.value == pytest.approx(single.value, rel=1e-9)
    assert together.high - together.low == pytest.approx(single.high - single.low, rel=1e-9)


def test_the_floor_of_one_distribution_falls_with_the_number_of_jets() -> None:
    sample = WeightedSample.of_jets

    def floor(jets: int) -> float:
        pairs = ((sample(normal(jets, 2 * i)), sample(normal(jets, 2 * i + 1))) for i in range(10))
        return float(np.mean([wasserstein(first, second, resamples=2).value for first, second in pairs]))

    few, many = floor(100), floor(2500)
    assert 3.5 < few / many < 7  # the square root of 25


def test_trees_cannot_tell_one_distribution_apart_and_find_a_shift() -> None:
    def sample(seed: int, shift: float = 0.0) -> dict[str, np.ndarray]:
        a, b = normal(1500, seed), normal(1500, seed + 50, shift)
        return {"a": a, "a + b": a + b, "never": np.full(1500, np.nan)}

    assert two_sample_test({"a": np.ones(60)}, {"a": np.ones(60)}).auc.value == 0.5
    same = two_sample_test(sample(0), sample(1)).auc
    assert same.low95 < 0.5 < same.high95
    # Only a and a + b together show it: b is 3 to the right.
    apart = two_sample_test(sample(0), sample(1, 3.0) | {"other": normal(1500, 9)})
    assert apart.auc.low95 > 0.95
    assert apart.columns == ("a", "a + b")
    assert (apart.fit_jets, apart.test_jets) == (1500, 1500)
    assert apart.scores[apart.second].mean() > apart.scores[~apart.second].mean() + 0.5
