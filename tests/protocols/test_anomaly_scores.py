"""Searches for a signal whose place in z is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ssl_jets.evaluation.probes.classes import Labelled
from ssl_jets.protocols.anomaly_scores import READERS, cwola, distance_scores, distances, separation, supervised

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
    many = cwola(fit, test, 2, 0, 400, reader="linear", seed=0)
    assert many.auc > 0.95
    assert many.improvement > 3
    # Without a signal jet the reader learns noise: the signal lies on either side of its cut.
    none = [cwola(fit, test, 2, 0, 0, reader="linear", seed=seed).auc for seed in range(8)]
    assert min(none) < 0.5 < max(none)

    assert many.significance == pytest.approx(400 / np.sqrt((fit.y == 0).sum() // 2), rel=0.01)
    # Nothing to find where the signal is background: the score is a coin.
    assert abs(cwola(fit, test, 1, 0, 400, reader="linear", seed=0).auc - 0.5) < 0.1


@pytest.mark.parametrize("reader", READERS)
def test_the_unit_of_the_weights_changes_no_search(reader: str) -> None:
    fit, test = jets(3000, 0), jets(3000, 1)
    weights = 1 + np.arange(3000) % 2
    draws = [
        cwola(replace(fit, weights=unit * weights), test, 2, 0, 200, reader=reader, seed=0) for unit in (1.0, 1e-6)
    ]
    assert draws[0].auc == pytest.approx(draws[1].auc, abs=1e-3)
    assert draws[0].significance == pytest.approx(draws[1].significance)


def test_trees_read_columns_with_gaps() -> None:
    fit, test = jets(3000, 0), jets(2000, 1)
    fit.x[::5, 0], test.x[::7, 1], fit.x[:, 3] = np.nan, np.nan, np.nan
    assert cwola(fit, test, 2, 0, 300, reader="boosted trees", seed=0).auc > 0.85
    assert np.isfinite(distances(fit.x[fit.y == 0], test.x, 5)["kNN"]).all()


def test_a_weight_counts_as_copies_of_the_jet() -> None:
    rng = np.random.default_rng(0)
    labels, weights = np.repeat([0, 1], 200), rng.integers(1, 4, 400)
    score, copies = rng.normal(size=400) + labels, np.repeat(np.arange(400), weights)
    weighted = separation(score, Labelled.of(np.zeros((400, 1)), labels, weights), 1, 0, 0).auc
    repeated = separation(score[copies], Labelled.of(np.zeros((len(copies), 1)), labels[copies]), 1, 0, 0).auc
    assert weighted.value == pytest.approx(repeated.value)
    fit, test = jets(2000, 0), jets(2000, 1)
    heavy = replace(fit, weights=np.where(fit.y == 2, 4.0, 1.0))
    draws = [cwola(one, test, 2, 0, 100, reader="linear", seed=0) for one in (fit, heavy)]
    assert draws[1].significance == pytest.approx(4 * draws[0].significance)
    assert draws[1].auc != pytest.approx(draws[0].auc, abs=1e-6)


@pytest.mark.parametrize("signal", [0, 1])
def test_equal_scores_tell_nothing_whichever_class_comes_first(signal: int) -> None:
    test = Labelled.of(np.zeros((400, 1)), np.repeat([0, 1], 200))
    found = separation(np.zeros(400), test, signal, 1 - signal, 0)
    assert found.auc.value == 0.5
    assert found.improvement.value == 1.0
    assert found.rejection.value == 1.0  # no cut passes a half of equal scores


def test_r50_is_the_rejection_at_half_of_the_signal_and_a_limit_where_no_background_passes() -> None:
    """100 jets of signal at 0, ..., 99, of background at -50, ..., 49: a cut at 50 keeps half of S, and no B."""
    labels = np.repeat([1, 0], 100)
    test = Labelled.of(np.zeros((200, 1)), labels)
    apart = separation(np.concatenate([np.arange(100), np.arange(-50, 50)]), test, 1, 0, 0).rejection
    assert (apart.value, apart.limit) == (100, True)
    near = separation(np.concatenate([np.arange(100), np.arange(-30, 70)]), test, 1, 0, 0).rejection
    assert near.value == pytest.approx(100 / 20)
    assert not near.limit


@pytest.mark.parametrize("reader", READERS)
def test_true_labels_are_the_ceiling_of_the_search(reader: str) -> None:
    fit, test = jets(3000, 0), jets(3000, 1)
    ceiling = supervised(fit, test, 2, 0, reader=reader, seed=0)
    draws = [cwola(fit, test, 2, 0, count, reader=reader, seed=0) for count in (0, 30, 300)]
    assert all(draw.auc < ceiling.auc.value + 0.005 for draw in draws)
    assert draws[0].auc < 0.8
    assert ceiling.auc.value > 0.99
    # The score is larger for the signal, whichever class has the larger number.
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1], 1500))
    shifted = Labelled.of(np.random.default_rng(1).normal(size=(3000, 2)) - labels[:, None], labels)
    assert supervised(shifted, shifted, 1, 0, reader=reader, seed=0).auc.value > 0.8
    assert supervised(shifted, shifted, 0, 1, reader=reader, seed=0).auc.value > 0.8


def test_a_search_at_the_tightest_cut_is_a_lower_limit() -> None:
    fit, test = jets(3000, 0), jets(300, 1)  # of about 100 background jets, 25 have to pass
    draw = cwola(fit, test, 2, 0, 300, reader="linear", seed=0)
    assert draw.improvement_limit
    assert draw.improvement == pytest.approx((100 / 25) ** 0.5, rel=0.2)
    assert not cwola(fit, jets(6000, 1), 1, 0, 0, reader="linear", seed=1).improvement_limit


@pytest.mark.parametrize("reader", READERS)
def test_a_signal_without_jets_to_fit_on_has_no_ceiling(reader: str) -> None:
    fit, test = jets(300, 0), jets(300, 1)
    found = supervised(fit.some(np.flatnonzero(fit.y != 2)), test, 2, 0, reader=reader, seed=0)
    assert found.auc.value is None
    assert found.rejection.value is None
    assert found.improvement.value is None
