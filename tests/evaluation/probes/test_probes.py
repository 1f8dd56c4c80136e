"""Probes find a signal that is there, and none in noise."""

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import PredefinedSplit, cross_val_score
from sklearn.neighbors import KNeighborsClassifier

from ssl_jets.evaluation.probes.classes import (
    STRENGTHS,
    TREE_SIZES,
    Labelled,
    chosen_strength,
    chosen_trees,
    fitted_trees,
    knn_probe,
    knn_votes,
    linear_probe,
    linear_reader,
    standardize,
    tree_columns,
    tree_probe,
)

PROBES = [linear_probe, knn_probe, tree_probe]


def separable(jets: int, classes: int = 4, width: int = 8, distance: float = 2.0, seed: int = 0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, jets)
    centres = np.random.default_rng(99).normal(size=(classes, width)) * distance
    return (centres[labels] + rng.normal(size=(jets, width))).astype(np.float32), labels


@pytest.mark.parametrize("probe", PROBES)
def test_a_probe_reads_separable_classes(probe) -> None:
    found = probe(Labelled.of(*separable(600)), Labelled.of(*separable(500, seed=1)))
    assert found.accuracy.value > 0.9
    assert found.auc.value > 0.98
    assert (found.fit_jets, found.test_jets, found.columns) == (600, 500, 8)


@pytest.mark.parametrize("probe", PROBES)
def test_a_probe_is_at_chance_on_shuffled_labels(probe) -> None:
    (z_fit, y_fit), (z_test, y_test) = separable(600), separable(1500, seed=1)
    rng = np.random.default_rng(5)
    found = probe(Labelled.of(z_fit, rng.permutation(y_fit)), Labelled.of(z_test, rng.permutation(y_test)))
    assert found.accuracy.value == pytest.approx(0.25, abs=0.06)
    assert found.auc.value == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize("probe", PROBES)
def test_a_class_without_fit_jets_is_scored_as_never_found(probe) -> None:
    (z_fit, y_fit), (z_test, y_test) = separable(600), separable(500, seed=1)
    known = y_fit != 3
    found = probe(Labelled.of(z_fit[known], y_fit[known]), Labelled.of(z_test, y_test))
    assert found.accuracy.value <= np.mean(y_test != 3)
    assert found.auc.value > 0.5


def test_linear_and_knn_do_not_depend_on_the_scale_and_offset_of_a_dimension() -> None:
    (z_fit, y_fit), (z_test, y_test) = separable(400), separable(300, seed=1)
    scale, offset = np.geomspace(1e-9, 1e9, 8), np.arange(8) * 50  # GeV and MeV, mm and m
    for probe in (linear_probe, knn_probe):
        plain = probe(Labelled.of(z_fit, y_fit), Labelled.of(z_test, y_test))
        moved = probe(*(Labelled.of(z * scale + offset, y) for z, y in ((z_fit, y_fit), (z_test, y_test))))
        assert moved.accuracy.value == pytest.approx(plain.accuracy.value, abs=0.01)


def test_a_collapsed_z_is_read_at_chance_and_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    _, labels = separable(400)
    z = np.full((400, 8), 3.0, dtype=np.float32)
    for probe in (linear_probe, knn_probe):
        assert probe(Labelled.of(z, labels), Labelled.of(z, labels)).auc.value == pytest.approx(0.5, abs=0.03)
    assert not [
        warning for warning in recwarn if "sklearn" in str(warning.filename) or "ssl_jets" in str(warning.filename)
    ]


@pytest.mark.parametrize(("jets", "noise"), [(60, 0), (200, 60), (600, 60)])
def test_the_penalty_is_the_one_of_cross_validation(jets: int, noise: int) -> None:
    z, y = separable(jets, distance=0.5)
    z, _ = standardize(*2 * [np.hstack([z, np.random.default_rng(2).normal(size=(jets, noise)).astype(np.float32)])])
    shuffled = Labelled.of(z, y).first(jets, 0)
    fold = np.empty(jets, dtype=int)
    fold[np.argsort(shuffled.y, kind="stable")] = np.arange(jets) % 5
    reference = LogisticRegressionCV(
        Cs=list(STRENGTHS),
        cv=PredefinedSplit(fold),
        scoring="neg_log_loss",
        max_iter=1000,
        l1_ratios=(0,),
        use_legacy_attributes=False,
    ).fit(shuffled.x, shuffled.y)
    assert chosen_strength(Labelled.of(z, y)) == pytest.approx(reference.C_)


@pytest.mark.parametrize(("jets", "noise", "leaves"), [(200, 60, "small"), (1500, 0, "large")])
def test_the_size_of_trees_of_two_classes_is_the_one_of_cross_validation(jets: int, noise: int, leaves: str) -> None:
    """Few jets with many columns need small trees; a chessboard of classes needs large ones."""
    x = np.random.default_rng(0).normal(size=(jets, 2 + noise))
    y = (x[:, 0] + np.random.default_rng(1).normal(size=jets) > 0).astype(int)
    if leaves == "large":
        y = ((x[:, :2] * 3 // 1).sum(axis=1) % 2).astype(int)
    shuffled = Labelled.of(x, y).first(jets, 0)
    fold = np.empty(jets, dtype=int)
    fold[np.argsort(shuffled.y, kind="stable")] = np.arange(jets) % 5
    losses = [
        -cross_val_score(
            HistGradientBoostingClassifier(max_iter=100, early_stopping=False, random_state=0, **size),
            shuffled.x,
            shuffled.y,
            cv=PredefinedSplit(fold),
            scoring="neg_log_loss",
        ).mean()
        for size in TREE_SIZES
    ]
    chosen = chosen_trees(Labelled.of(x, y), 0)
    assert chosen == TREE_SIZES[int(np.argmin(losses))]
    assert (chosen == TREE_SIZES[0]) == (leaves == "large")


@pytest.mark.parametrize("y", [[0, 1], [0, 0, 1], [0, 1, 2, 3, 4], [2, 2, 2, 0]])
def test_fewer_jets_of_a_class_than_folds_are_read(y: list[int]) -> None:
    z = np.eye(len(y), dtype=np.float32)
    of_class = linear_reader(Labelled.of(z, np.array(y)), 6)(z)[:, y[-1]]
    assert of_class[-1] == max(of_class)
    assert len(set(of_class.round(6))) > 1


def test_knn_votes_equal_sklearn_in_any_block_size() -> None:
    (z_fit, y_fit), (z_test, _) = separable(500, distance=0.5), separable(211, seed=1)
    z_fit, z_test = standardize(z_fit, z_test)
    expected = KNeighborsClassifier(20, metric="cosine").fit(z_fit, y_fit).predict_proba(z_test)
    for block in (50, 1024):
        np.testing.assert_allclose(knn_votes(z_fit, y_fit, z_test, 20, 4, block), expected, atol=1e-12)


def test_fewer_fit_jets_than_neighbours_vote_all_together() -> None:
    votes = knn_votes(np.eye(3), np.array([0, 1, 1]), np.ones((2, 3)), 20, 2)
    np.testing.assert_allclose(votes, [[1 / 3, 2 / 3]] * 2)


def test_trees_accept_nan() -> None:
    (x_fit, y_fit), (x_test, y_test) = separable(500), separable(400, seed=1)
    x_fit[::5, 0] = np.nan
    x_test[::7, 1] = np.nan
    x_fit[:, 2] = np.nan  # a column that no jet to fit on has
    assert tree_probe(Labelled.of(x_fit, y_fit), Labelled.of(x_test, y_test)).accuracy.value > 0.8


def test_trees_of_jets_of_one_class_find_that_class() -> None:
    """Few random jets of a sample with a rare class."""
    x, y = separable(100, classes=2)
    fit, test = Labelled.of(x[y == 1], y[y == 1]), Labelled.of(x, y)
    found = tree_probe(fit, test)
    assert (found.accuracy.value, found.auc.value) == (y.mean(), 0.5)


def test_tree_columns_are_those_that_are_there_and_their_ratios() -> None:
    values = {"jet_pt": [500, 600, 700], "jet_tau1": [0.2, 0, 0.4], "jet_tau2": [0.1, 0, 0.1], "jet_phi": [0, 1, 2]}
    columns = tree_columns({name: np.array(column, dtype=np.float32) for name, column in values.items()})
    assert list(columns) == ["jet_pt", "jet_tau1", "jet_tau2", "tau21"]
    np.testing.assert_allclose(columns["tau21"], [0.5, np.nan, 0.25], rtol=1e-6)


@pytest.mark.parametrize("probe", PROBES)
def test_the_unit_of_the_weights_changes_no_probe(probe) -> None:
    fit, test = separable(600, distance=0.5), separable(500, distance=0.5, seed=1)
    weights = np.random.default_rng(3).exponential(size=600)
    first, second = (probe(Labelled.of(*fit, unit * weights), Labelled.of(*test)) for unit in (1.0, 1e-6))
    assert second.accuracy.value == pytest.approx(first.accuracy.value, abs=0.01)
    assert first.accuracy.value > 0.5


@pytest.mark.parametrize("probe", PROBES)
def test_jets_of_no_weight_neither_fit_nor_test(probe) -> None:
    (z_fit, y_fit), (z_test, y_test) = separable(600), separable(500, seed=1)
    others = []
    for z, y in ((z_fit, y_fit), (z_test, y_test)):
        wrong = (y + 1) % 4
        weights = np.repeat([1.0, 0.0, 0.0], len(y))
        others.append(Labelled(np.tile(z, (3, 1)), np.concatenate([y, wrong, wrong]), weights))
    assert probe(*others).accuracy.value > 0.85  # two of three labels are wrong, and weigh nothing


def test_the_probabilities_of_a_jet_do_not_depend_on_the_other_jets_to_test_on() -> None:
    fit, (x, _) = Labelled.of(*separable(300)), separable(200, seed=1)
    x[:3, 0] = x[0, 0]
    linear = linear_reader(fit, 4)
    np.testing.assert_allclose(linear(x[:3]), linear(x)[:3], rtol=1e-5)
    x[:3, 0] = np.nan  # a column that these jets lack, unlike the jets to fit on
    trees = fitted_trees(fit, 4, 0)
    np.testing.assert_array_equal(trees(x[:3]), trees(x)[:3])
