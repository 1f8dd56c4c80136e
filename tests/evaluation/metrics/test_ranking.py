"""Areas and efficiencies against scikit-learn and plain loops."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from ssl_jets.evaluation.metrics.ranking import Ranked, macro_auc, macro_auc_rest, pair_auc, two_class_score


@pytest.mark.parametrize("digits", [None, 1], ids=["no ties", "many ties"])
@pytest.mark.parametrize("classes", [3, 6])
def test_macro_areas_equal_sklearn(scored, classes: int, digits: int | None) -> None:
    probabilities, labels = scored(700, classes, digits=digits)
    ovo, ovr = pair_auc(probabilities, labels, np.ones((1, len(labels))))
    assert macro_auc(ovo)[0] == pytest.approx(roc_auc_score(labels, probabilities, multi_class="ovo"), abs=1e-12)
    assert macro_auc_rest(ovr)[0] == pytest.approx(roc_auc_score(labels, probabilities, multi_class="ovr"), abs=1e-12)


def test_two_classes_give_the_plain_area(scored) -> None:
    probabilities, labels = scored(500, 2)
    ovo, _ = pair_auc(probabilities, labels, np.ones((1, len(labels))))
    assert macro_auc(ovo)[0] == pytest.approx(roc_auc_score(labels, probabilities[:, 1]), abs=1e-12)


@pytest.mark.parametrize("digits", [None, 1])
def test_integer_weights_equal_repeated_jets(scored, digits: int | None) -> None:
    probabilities, labels = scored(300, 4, digits=digits)
    counts = np.random.default_rng(1).integers(0, 4, size=(3, len(labels))).astype(float)
    ovo, ovr = pair_auc(probabilities, labels, counts)
    for row, count in enumerate(counts.astype(int)):
        jets = np.repeat(np.arange(len(labels)), count)
        repeated, rest = pair_auc(probabilities[jets], labels[jets], np.ones((1, len(jets))))
        np.testing.assert_allclose(ovo[row], repeated[0], atol=1e-12)
        np.testing.assert_allclose(ovr[row], rest[0], atol=1e-12)


def test_a_class_without_jets_is_left_out_of_the_mean(scored) -> None:
    probabilities, labels = scored(400, 3)
    present = labels != 2
    ovo, _ = pair_auc(probabilities[present], labels[present], np.ones((1, present.sum())))
    assert np.isnan(ovo[0, 2]).all()
    assert macro_auc(ovo)[0] == pytest.approx(np.nanmean([ovo[0, 0, 1], ovo[0, 1, 0]]))


@pytest.mark.parametrize("digits", [None, 1])
@pytest.mark.parametrize("efficiency", [0.3, 0.5, 0.99])
def test_background_efficiency_equals_a_loop_over_thresholds(scored, digits: int | None, efficiency: float) -> None:
    probabilities, labels = scored(600, 3, digits=digits)
    score = two_class_score(probabilities, 1, 0)
    signal, background = score[labels == 1], score[labels == 0]
    thresholds = [t for t in np.unique(score) if np.mean(signal >= t) >= efficiency]
    expected = np.mean(background >= max(thresholds))
    pair = Ranked.of(score, labels == 1, labels == 0)
    assert pair.background_efficiency(np.ones((1, len(labels))), efficiency)[0] == pytest.approx(expected, abs=1e-12)


def test_the_curve_passes_through_the_points_of_sklearn(scored) -> None:
    probabilities, labels = scored(800, 2)
    pair = Ranked.of(probabilities[:, 1], labels == 1, labels == 0)
    grid = pair.grid(np.ones(len(labels)), 50, np.zeros(0, dtype=np.int64))
    points = pair.signal_efficiency(np.ones((1, len(labels))), grid)[0]
    eps_b, eps_s, _ = roc_curve(labels, probabilities[:, 1], drop_intermediate=False)
    for x, y in zip(grid, points):
        # At one eps_B the curve is a vertical step; the threshold is the score of a background jet.
        steps = eps_s[np.isclose(eps_b, x)]
        assert steps.min() - 1e-12 <= y <= steps.max() + 1e-12
    assert (np.diff(points) >= 0).all()
    assert len(grid) <= 50
    assert grid[-1] == 1


def test_a_cut_keeps_exactly_the_share_and_all_jets_of_one_score() -> None:
    is_signal = np.arange(6) < 4
    pair = Ranked.of(np.array([0.9, 0.8, 0.6, 0.2, 0.7, 0.5]), is_signal, ~is_signal)
    assert [float(one[0]) for one in pair.cut(np.ones((1, 6)), 0.5)] == [0, 0.5]
    is_signal, ones = np.arange(5) < 3, np.ones((1, 5))
    tied = Ranked.of(np.array([0.9, 0.9, 0.5, 0.9, 0.3]), is_signal, ~is_signal)
    assert [float(one[0]) for one in tied.cut(ones, 0.3)] == [1, 2 / 3]
    assert tied.signal_efficiency(ones, np.array([0.1, 0.5])).tolist() == [[0, 2 / 3]]


@pytest.mark.parametrize("digits", [None, 1, 0])
def test_the_curve_equals_a_loop_over_thresholds_which_equal_scores_pass_together(scored, digits: int | None) -> None:
    probabilities, labels = scored(400, 2, digits=digits)
    score = probabilities[:, 1]
    signal, background = score[labels == 1], score[labels == 0]
    pair = Ranked.of(score, labels == 1, labels == 0)
    grid = pair.grid(np.ones(len(labels)), 30, np.zeros(0, dtype=np.int64))
    for x, y in zip(grid, pair.signal_efficiency(np.ones((1, len(labels))), grid)[0]):
        allowed = [t for t in background if np.mean(background >= t) <= x + 1e-12]
        expected = np.mean(signal >= min(allowed)) if allowed else np.mean(signal > background.max())
        expected = expected if x < 1 else 1.0  # no cut
        assert y == pytest.approx(expected)


def test_the_two_class_score_ignores_the_other_classes_and_is_neutral_where_both_vanish() -> None:
    probabilities = np.array([[0.1, 0.3, 0.6], [0.0, 0.0, 1.0], [0.2, 0.6, 0.2]])
    np.testing.assert_allclose(two_class_score(probabilities, 1, 0), [3, 1, 3])


def test_the_two_class_score_ranks_jets_that_a_confident_classifier_gives_one_for_sure() -> None:
    background = np.array([0.0, 1e-30, 1e-20, 1e-18, 0.1, 1.0])  # 1 / (1 + 1e-18) is 1 in float64
    score = two_class_score(np.column_stack([background, 1 - background]), 1, 0)
    assert (np.diff(score) < 0).all()


def test_classes_without_jets_change_no_area(scored) -> None:
    probabilities, labels = scored(300, 4, digits=1)
    weights = np.random.default_rng(0).integers(0, 3, size=(5, len(labels))).astype(float)
    spread = np.zeros((len(labels), 50))
    there = np.array([3, 8, 20, 41])
    spread[:, there] = probabilities
    ovo, ovr = pair_auc(spread, there[labels], weights)
    few, few_rest = pair_auc(probabilities, labels, weights)
    np.testing.assert_array_equal(ovo[:, there[:, None], there], few)
    np.testing.assert_array_equal(ovr[:, there], few_rest)
    assert np.isfinite(ovr).sum() == np.isfinite(few_rest).sum()
    np.testing.assert_allclose(macro_auc(ovo), macro_auc(few), rtol=1e-12)
