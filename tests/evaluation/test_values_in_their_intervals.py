"""Every reported value lies in its interval: few jets, small classes, ties, weights; the curve holds its points."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_jets.evaluation.metrics.bootstrap import Bootstrap, Estimate, relative
from ssl_jets.evaluation.metrics.cka import cka
from ssl_jets.evaluation.metrics.classification import accuracy_and_auc_rows, classification_metrics
from ssl_jets.evaluation.metrics.regression import regression_metrics
from ssl_jets.evaluation.metrics.two_sample import WeightedSample, two_sample_test, wasserstein
from ssl_jets.evaluation.probes.classes import Labelled, knn_probe, linear_probe
from ssl_jets.evaluation.probes.physics import Side, physics_probes
from ssl_jets.protocols.anomaly_scores import distance_scores
from ssl_jets.protocols.domain_gap import domain_gap
from ssl_jets.report import page
from ssl_jets.report.figures import evaluation as evaluation_figures
from ssl_jets.report.sections.classification import rejection_table
from support.measured import check_intervals

NAMES = ("QCD", "a", "b", "c", "Tbl")
many = settings(max_examples=20, deadline=None, derandomize=True)


def weights_of(kind: str, jets: int, rng: np.random.Generator) -> np.ndarray | None:
    """No weights, weights of a wide range, or some that are zero."""
    if kind == "none":
        return None
    weights = rng.gamma(0.3, 1, jets) + 1e-6 if kind == "wide" else rng.integers(0, 3, jets).astype(float)
    weights[rng.integers(jets)] = 1.0
    return relative(weights)


def labelled_jets(seed: int, jets: int, digits: int | None) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """Probabilities of five classes of very different sizes, with ties where they are rounded."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(5, jets, p=(0.6, 0.3, 0.07, 0.02, 0.01))
    logits = rng.normal(size=(jets, 5)) + rng.choice((0.0, 1.0, 3.0)) * np.eye(5)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    if digits is not None:
        probabilities = np.round(probabilities, digits) + 1e-3
        probabilities /= probabilities.sum(axis=1, keepdims=True)
    return probabilities, labels, rng


cases: dict[str, Any] = {
    "seed": st.integers(0, 10_000),
    "jets": st.sampled_from((3, 12, 60, 500)),
    "kind": st.sampled_from(("none", "wide", "zeros")),
}


@many
@given(**cases, digits=st.sampled_from((None, 1, 2)))
def test_of_a_classification(seed: int, jets: int, kind: str, digits: int | None) -> None:
    probabilities, labels, rng = labelled_jets(seed, jets, digits)
    weights = weights_of(kind, jets, rng)
    found = classification_metrics(
        probabilities, labels, NAMES, weights=weights, efficiencies=(0.3, 0.5, 0.9), resamples=40, seed=seed
    )
    assert check_intervals(found) > 10
    for entry in found.rejections:
        curve = next(curve for curve in found.roc if curve.signal == entry.signal)
        assert entry.signal_efficiency >= entry.efficiency - 1e-9
        if not entry.rejection.limit:
            # What stands beside it in the table is the rejection, and the point lies on the curve's steps.
            assert entry.background_weight / entry.survivor_weight == pytest.approx(entry.rejection.value)
            begins, ends = curve.signal_efficiency, np.append(curve.signal_efficiency[1:], 1)
            on = (begins <= entry.signal_efficiency + 1e-12) & (entry.signal_efficiency - 1e-12 <= ends)
            assert np.isclose(1 / curve.background_efficiency[on], entry.rejection.value).any()


@many
@given(**cases)
def test_of_a_regression(seed: int, jets: int, kind: str) -> None:
    rng, jets = np.random.default_rng(seed), max(jets, 40)
    true = np.round(rng.gamma(1, 50, jets), rng.choice((0, 3)))
    predicted = true * rng.normal(0.8, 0.3, jets) + rng.standard_cauchy(jets)
    pt = np.round(rng.gamma(2, 100, jets), -1)
    weights = None if kind == "none" else rng.gamma(0.3, 1, jets) + 1e-6
    found = regression_metrics(predicted, true, "mass", {"jet_pt": pt}, weights=weights, resamples=40, seed=seed)
    assert check_intervals(found) >= 10


@settings(max_examples=10, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), jets=st.sampled_from((12, 60, 200)), kind=cases["kind"])
def test_of_readers_of_z(seed: int, jets: int, kind: str) -> None:
    probabilities, labels, rng = labelled_jets(seed, jets, 1)
    labels[:2] = (0, 1)
    weights = weights_of(kind, jets, rng)
    if weights is not None:
        weights[:2] = 1.0
    test = Labelled.of(np.log(probabilities), labels, weights)
    mass = rng.gamma(1, 50, jets)
    side = Side({"mass": mass, "tau21": np.round(rng.random(jets), 1)}, test.weights)
    found = [linear_probe(test, test), knn_probe(test, test), physics_probes(test.x, test.x, side, side)]
    assert check_intervals(found) >= 16
    z, other = rng.normal(size=(jets, 16)), rng.normal(size=(jets, 8))
    assert check_intervals([cka(z, other, weights=weights), cka(z, z)]) == 4
    scores = distance_scores(test, test, NAMES, "QCD", NAMES[1:], of="z", neighbours=3, seed=seed)
    check_intervals(scores.scores)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), jets=st.sampled_from((60, 200)))
def test_of_two_samples_and_of_two_domains(seed: int, jets: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.gamma(1, 50, jets), np.where(rng.random(jets) < 0.9, np.nan, rng.gamma(1, 55, jets))
    distance = wasserstein(WeightedSample.of_jets(first), WeightedSample.of_jets(second), resamples=20, seed=seed)
    trees = two_sample_test({"x": first}, {"x": second}, seed=seed)
    labels = rng.integers(0, 2, (2, jets))
    z = rng.normal(size=(2, jets, 4))
    gap = domain_gap(z[0], z[1] + 0.3, labels[0], labels[1], ("QCD", "a"), trees=False, seed=seed)
    assert check_intervals([distance, trees.auc, gap.model_dump()]) >= 12


@many
@given(**cases, digits=st.sampled_from((None, 1)))
def test_of_a_difference_of_two_models(seed: int, jets: int, kind: str, digits: int | None) -> None:
    one, labels, rng = labelled_jets(seed, jets, digits)
    bootstrap = Bootstrap(jets, 40, seed, weights_of(kind, jets, rng))
    first, second = (accuracy_and_auc_rows(found, labels, bootstrap) for found in (one, one[:, ::-1]))
    for rows, others in zip(first, second, strict=True):
        check_intervals(Estimate.of_rows(others - rows))


def test_the_point_of_a_working_point_is_drawn_on_the_curve_and_its_jets_are_its_rejection() -> None:
    rng = np.random.default_rng(3)
    labels = np.repeat([0, 1], 400)
    score = 1 / (1 + np.exp(-rng.normal(1.5 * labels, 1)))
    weights = relative(rng.gamma(0.5, 1, 800))
    found = classification_metrics(
        np.column_stack([1 - score, score]), labels, ("QCD", "S"), weights=weights, resamples=20
    )
    figure = evaluation_figures.roc(found)
    assert figure is not None
    curve, point = (line for line in figure.axes[0].get_lines())
    x, y = (float(values[0]) for values in point.get_data())
    eps_s, rejection = curve.get_data()
    assert rejection[np.flatnonzero(eps_s <= x + 1e-12)[-1]] == pytest.approx(y)
    plt.close(figure)
    entry = found.rejections[0]
    assert entry.survivors / 400 != pytest.approx(1 / y, rel=0.02)  # the weights matter
    shown = f"{page.significant(entry.survivor_weight, 4)} of {page.significant(entry.background_weight, 4)}"
    assert f"{shown} by weight of mean 1" in rejection_table(found)
