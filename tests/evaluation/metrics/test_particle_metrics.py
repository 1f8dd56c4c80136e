"""Metrics of particles: against scikit-learn, with intervals of whole jets."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ssl_jets.evaluation.metrics import bootstrap, particles
from ssl_jets.evaluation.metrics.particles import (
    ParticleBootstrap,
    particle_classes,
    particle_groups,
    particle_numbers,
)

JETS, EACH = 60, 8
OWNER = np.repeat(np.arange(JETS), EACH)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_accuracy_and_auc_equal_those_of_scikit_learn_without_the_unlabelled(rng: np.random.Generator) -> None:
    labels = rng.integers(-1, 3, len(OWNER))
    scores = rng.dirichlet([1, 1, 1, 1], len(OWNER)) + 0.3 * np.eye(4)[labels.clip(0)]
    scores /= scores.sum(1, keepdims=True)
    found = particle_classes(scores, labels, OWNER, "origin", ["a", "b", "c", "absent"])
    assert found is not None
    known = labels >= 0
    assert found.accuracy.value == pytest.approx((scores.argmax(1) == labels)[known].mean())
    areas = [roc_auc_score(labels[known] == index, scores[known, index]) for index in range(3)]
    assert found.auc.value == pytest.approx(np.mean(areas))
    assert found.class_auc["b"].value == pytest.approx(areas[1])
    assert (found.particles["absent"], found.class_accuracy["absent"].value) == (0, None)
    assert found.unlabelled == (~known).sum()
    assert found.confusion.sum() == known.sum()
    assert found.largest_class == pytest.approx(np.bincount(labels[known]).max() / known.sum())


def test_jets_of_weight_zero_do_not_count_and_weights_of_jets_do(rng: np.random.Generator) -> None:
    labels, right = rng.integers(0, 2, len(OWNER)), OWNER < JETS // 2
    scores = np.eye(2)[np.where(right, labels, 1 - labels)]
    weights = np.where(np.arange(JETS) < JETS // 2, 3.0, 1.0)
    found = particle_classes(scores, labels, OWNER, "x", ["a", "b"], weights=weights)
    assert found is not None
    assert found.accuracy.value == pytest.approx(0.75)
    weights[JETS // 2 :] = 0
    found = particle_classes(scores, labels, OWNER, "x", ["a", "b"], weights=weights)
    assert found is not None
    assert (found.accuracy.value, found.jets, found.unlabelled) == (1.0, JETS // 2, 0)
    true = rng.normal(0, 5, len(OWNER))
    numbers = particle_numbers(np.where(right, true + 1, -true), true, OWNER, "size", "mm", weights=weights)
    assert numbers is not None
    assert (numbers.bias.value, numbers.particles) == (pytest.approx(1), right.sum())
    groups = particle_groups(2.0 * labels, labels == right, labels == 1, OWNER, "vertex", weights=weights)
    assert groups is not None
    assert (groups.auc.value, groups.efficiency.value, groups.purity.value, groups.jets) == (1, 1, 1, JETS // 2)


def test_intervals_are_of_whole_jets(rng: np.random.Generator) -> None:
    """All particles of a jet are right or wrong together: the interval is as wide as of so many jets."""
    labels = rng.integers(0, 2, len(OWNER))
    right = (rng.uniform(size=JETS) < 0.5)[OWNER]
    found = particle_classes(np.eye(2)[np.where(right, labels, 1 - labels)], labels, OWNER, "x", ["a", "b"])
    assert found is not None
    assert found.accuracy.high is not None
    assert found.accuracy.low is not None
    assert (found.accuracy.high - found.accuracy.low) / 2 == pytest.approx(0.5 / JETS**0.5, rel=0.3)


def test_an_area_of_one_has_the_interval_of_the_class_in_fewer_jets() -> None:
    labels = np.zeros(len(OWNER), dtype=np.int64)
    labels[:2] = 1  # in one jet
    found = particle_classes(np.eye(2)[labels], labels, OWNER, "x", ["a", "b"])
    groups = particle_groups(-1.0 * labels, labels == 0, labels == 0, OWNER, "x", weights=np.ones(JETS))
    assert found is not None
    assert groups is not None
    for area in (found.auc, *found.class_auc.values(), groups.auc):
        assert (area.value, area.low95) == (1, pytest.approx(0.025))


def test_blocks_of_a_bootstrap_are_the_counts_of_the_jets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "BLOCK", 3 * len(OWNER))
    rows = list(ParticleBootstrap(OWNER, JETS, resamples=10).blocks())
    assert [len(block) for block in rows] == [1, 3, 3, 3, 1]
    np.testing.assert_array_equal(np.concatenate(rows)[1:], bootstrap.Bootstrap(JETS, 10).counts[:, OWNER])


def test_numbers_have_bias_and_resolution_of_those_that_are_known(rng: np.random.Generator) -> None:
    true = rng.normal(0, 5, len(OWNER))
    predicted = true + 1 + rng.normal(0, 0.5, len(OWNER))
    true[::5] = np.nan
    found = particle_numbers(predicted, true, OWNER, "size", "mm")
    assert found is not None
    assert found.bias.value == pytest.approx(1, abs=0.1)
    assert found.resolution.value == pytest.approx(0.5, rel=0.15)
    assert found.spread == pytest.approx(5, rel=0.15)
    assert (found.unit, found.particles, found.unlabelled) == ("mm", np.isfinite(true).sum(), np.isnan(true).sum())


def test_groups_have_efficiency_and_purity_of_joined_pairs(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = rng.uniform(size=len(OWNER)) < 0.4
    logits = rng.normal(0, 1, len(OWNER)) + same
    joined = logits > 0.5
    weights = np.ones(JETS)
    found = particle_groups(logits, same, joined, OWNER, "vertex", weights=weights)
    assert found is not None
    assert found.auc.value == pytest.approx(roc_auc_score(same, logits))
    assert found.efficiency.value == pytest.approx(joined[same].mean())
    assert found.purity.value == pytest.approx(same[joined].mean())
    assert found.same == pytest.approx(same.mean())
    monkeypatch.setattr(particles, "MOST_PAIRS", 10 * EACH)
    same &= OWNER >= JETS // 2  # the first file has no groups
    few = particle_groups(logits, same, joined, OWNER, "vertex", weights=weights)
    assert few is not None
    assert (few.jets, few.pairs) == (10, 10 * EACH)


def test_one_class_or_no_label_gives_no_metrics() -> None:
    none = np.full(len(OWNER), -1)
    scores = np.eye(2)[none.clip(0)]
    assert particle_classes(scores, none, OWNER, "x", ["a", "b"]) is None
    assert particle_classes(scores, none.clip(0), OWNER, "x", ["a", "b"]) is None
    assert particle_numbers(none * 1.0, np.full(len(OWNER), np.nan), OWNER, "x", "1") is None
    assert particle_groups(none * 1.0, none == 0, none == 0, OWNER, "x", weights=np.ones(JETS)) is None
