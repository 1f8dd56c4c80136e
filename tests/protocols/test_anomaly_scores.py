"""Searches for a signal whose place in z is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ssl_jets.evaluation.probes.classes import Labelled
from ssl_jets.protocols.anomaly_scores import cwola, distance_scores, distances, separation

NAMES = ("QCD", "near", "far")


def jets(count: int, seed: int) -> Labelled:
    """Background, a signal that lies in it, and one that lies apart."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    z = rng.normal(size=(count, 4)) * [1, 3, 0.2, 1]
    z[labels == 2, 2] += 1.0  # five standard deviations of the third number
    return Labelled.of(z, labels)


def test_a_signal_apart_is_far_and_one_inside_is_not() -> None:
    found = distance_scores(jets(1500, 0), jets(1500, 1), NAMES, "QCD", ("near", "far"), of="z", neighbours=5).scores
    aucs = {(one.score, one.signal): one.auc for one in found}
    for score in ("kNN", "Mahalanobis"):
        assert aucs[score, "far"].low95 > 0.9
        assert abs(aucs[score, "near"].value - 0.5) < 0.07
    assert found[0].fit_jets == pytest.approx(500, abs=60)


def test_the_mahalanobis_distance_is_that_of_the_covariance_and_not_of_the_scale_of_a_column() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(3000, 3)) @ rng.normal(size=(3, 3))
    off = z[:50] - z.mean(0)
    expected = np.einsum("ij,ij->i", off @ np.linalg.inv(np.cov(z, rowvar=False)), off)
    for scale in (1.0, np.array([100, 1, 0.01])):
        found = distances(z * scale, z[:50] * scale, 5)
        np.testing.assert_allclose(found["Mahalanobis"], expected, rtol=0.05)
        x = (z - z.mean(0)) / z.std(0)
        nearest = np.sort(np.linalg.norm(x[:50, None] - x, axis=2), axis=1)[:, :5]
        np.testing.assert_allclose(found["kNN"], nearest.mean(axis=1), rtol=1e-3)


def test_cwola_finds_many_hidden_jets_and_not_few_and_knows_no_labels() -> None:
    fit, test = jets(6000, 0), jets(6000, 1)
    many = cwola(fit, test, 2, 0, 400, trees=False, seed=0)
    assert many.auc > 0.95
    assert many.improvement > 3
    # Without a signal jet the reader learns noise: the signal lies on either side of its cut.
    none = [cwola(fit, test, 2, 0, 0, trees=False, seed=seed).auc for seed in range(8)]
    assert min(none) < 0.5 < max(none)

    assert many.significance == pytest.approx(400 / np.sqrt((fit.y == 0).sum() // 2), rel=0.01)
    # Nothing to find where the signal is background: the score is a coin.
    assert abs(cwola(fit, test, 1, 0, 400, trees=False, seed=0).auc - 0.5) < 0.1


@pytest.mark.parametrize("trees", [False, True])
def test_the_unit_of_the_weights_changes_no_search(trees: bool) -> None:
    fit, test = jets(3000, 0), jets(3000, 1)
    weights = 1 + np.arange(3000) % 2
    draws = [cwola(replace(fit, weights=unit * weights), test, 2, 0, 200, trees=trees, seed=0) for unit in (1.0, 1e-6)]
    assert draws[0].auc == pytest.approx(draws[1].auc, abs=1e-3)
    assert draws[0].significance == pytest.approx(draws[1].significance)


def test_trees_read_columns_with_gaps() -> None:
    fit, test = jets(3000, 0), jets(2000, 1)
    fit.x[::5, 0], test.x[::7, 1], fit.x[:, 3] = np.nan, np.nan, np.nan
    assert cwola(fit, test, 2, 0, 300, trees=True, seed=0).auc > 0.85
    assert np.isfinite(distances(fit.x[fit.y == 0], test.x, 5)["kNN"]).all()


def test_a_weight_counts_as_copies_of_the_jet() -> None:
    rng = np.random.default_rng(0)
    labels, weights = np.repeat([0, 1], 200), rng.integers(1, 4, 400)
    score, copies = rng.normal(size=400) + labels, np.repeat(np.arange(400), weights)
    weighted = separation(score, Labelled.of(np.zeros((400, 1)), labels, weights), 1, 0, 0)[0]
    repeated = separation(score[copies], Labelled.of(np.zeros((len(copies), 1)), labels[copies]), 1, 0, 0)[0]
    assert weighted.value == pytest.approx(repeated.value)
    fit, test = jets(2000, 0), jets(2000, 1)
    heavy = replace(fit, weights=np.where(fit.y == 2, 4.0, 1.0))
    draws = [cwola(one, test, 2, 0, 100, trees=False, seed=0) for one in (fit, heavy)]
    assert draws[1].significance == pytest.approx(4 * draws[0].significance)
    assert draws[1].auc != pytest.approx(draws[0].auc, abs=1e-6)


@pytest.mark.parametrize("signal", [0, 1])
def test_equal_scores_tell_nothing_whichever_class_comes_first(signal: int) -> None:
    test = Labelled.of(np.zeros((400, 1)), np.repeat([0, 1], 200))
    auc, improvement = separation(np.zeros(400), test, signal, 1 - signal, 0)
    assert auc.value == 0.5
    assert improvement.value == 1.0
