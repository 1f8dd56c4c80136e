"""Baselines that read the particles: observables, and Deep Sets from scratch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from ssl_jets.arrays import Array
from ssl_jets.evaluation.headline import headline, headline_sentences, together
from ssl_jets.evaluation.metrics.bootstrap import Estimate, exact_interval
from ssl_jets.evaluation.probes import deep_sets
from ssl_jets.evaluation.probes.classes import Labelled, linear_probe, tree_probe
from ssl_jets.evaluation.probes.deep_sets import deep_sets_probe, trained_deep_sets
from ssl_jets.evaluation.probes.observables import INPUTS, observable_inputs
from ssl_jets.evaluation.probes.results import BOTH, COLUMNS, OBSERVABLES, RANDOM, ProbeResult
from ssl_jets.jets import Jets
from ssl_jets.nn.features import Features

COUNT = 93
"""Observables."""


def one_or_two_prongs(jets: int, seed: int) -> tuple[Jets, Array]:
    """Jets of 12 particles around one axis (label 0) or around two axes (label 1), turned at random."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, jets)
    angle = rng.uniform(-np.pi, np.pi, jets)
    side = np.where(np.arange(12) % 2, 1, -1)
    axes = 0.3 * labels[:, None, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)[:, None] * side[:, None]
    position = axes + rng.normal(0, 0.1, (jets, 12, 2))
    pt = rng.uniform(5, 50, (jets, 12, 1))
    return Jets.of(list(np.concatenate([pt, position], axis=2)), ("pt", "deta", "dphi")), labels


def both_sides() -> tuple[tuple[Jets, Array], tuple[Jets, Array]]:
    return one_or_two_prongs(400, 0), one_or_two_prongs(300, 1)


def test_observables_find_two_prongs_without_tracks_and_kinds() -> None:
    (fit, y_fit), (test, y_test) = both_sides()
    x_fit, x_test = observable_inputs(fit, test)
    assert (x_fit.shape, x_test.shape) == ((400, COUNT), (300, COUNT))
    assert INPUTS == COUNT
    assert np.isfinite(x_fit).all()
    assert np.array_equal(observable_inputs(fit, fit)[0], x_fit)  # with the statistics of the jets to fit on
    assert (x_fit.std(axis=0) == 0).sum() >= 36  # the signed kinds
    for probe in (linear_probe, tree_probe):
        result = probe(Labelled.of(x_fit, y_fit), Labelled.of(x_test, y_test), of=OBSERVABLES)
        assert result.accuracy.low95 > 0.9
        assert (result.of, result.columns, result.fit_jets, result.test_jets) == (OBSERVABLES, COUNT, 400, 300)


def test_deep_sets_learn_two_prongs_and_shuffled_labels_teach_nothing() -> None:
    (fit, y_fit), (test, y_test) = both_sides()
    nothing = np.empty((len(fit), 0))
    of_labels = {
        name: deep_sets_probe((fit, test), Labelled.of(nothing, labels), Labelled.of(nothing[:300], y_test))
        for name, labels in (("true", y_fit), ("shuffled", np.random.default_rng(2).permutation(y_fit)))
    }
    assert of_labels["true"].accuracy.low95 > 0.85
    assert 0.35 < of_labels["shuffled"].accuracy.value < 0.65


def test_deep_sets_follow_their_seed_alone() -> None:
    fit, labels = one_or_two_prongs(80, 0)
    trained = []
    for seed, outside in ((3, 0), (3, 1), (4, 0)):
        torch.manual_seed(outside)
        before = torch.random.get_rng_state()
        trained.append(trained_deep_sets(fit, Labelled.of(np.empty((80, 0)), labels), 3, seed)(fit))
        assert torch.equal(torch.random.get_rng_state(), before)
    assert trained[0].shape == (80, 3)
    assert trained[0].sum(axis=1) == pytest.approx(1)
    assert np.array_equal(trained[0], trained[1])
    assert not np.array_equal(trained[0], trained[2])


def test_deep_sets_have_the_weights_of_the_smallest_loss_of_random_jets_held_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deep_sets, "MAX_EPOCHS", 12)
    fit = replace(one_or_two_prongs(200, 0)[0], jet={"number": torch.arange(200)})
    labels = torch.randint(0, 2, (200,), generator=torch.Generator().manual_seed(0))  # nothing but noise to learn
    forward, read = deep_sets.DeepSets.forward, {True: list[Any](), False: list[Any]()}

    def recorded(network: deep_sets.DeepSets, jets: Jets) -> torch.Tensor:
        logits = forward(network, jets)
        loss = torch.nn.functional.cross_entropy(logits, labels[jets.jet["number"]])
        read[network.training].append((jets.jet["number"], float(loss.detach())))
        return logits

    monkeypatch.setattr(deep_sets.DeepSets, "forward", recorded)
    torch.manual_seed(0)
    network = deep_sets._train(fit, labels, torch.ones(200), 2)
    losses, held = [loss for _, loss in read[False]], read[False][0][0]
    trained = torch.cat([numbers for numbers, _ in read[True]]).unique()
    assert sorted([*held.tolist(), *trained.tolist()]) == list(range(200))
    assert len(held) == 20 < int(held.max())
    network(fit.select(held))
    assert read[False][-1][1] == pytest.approx(min(losses)) != losses[-1]
    features = Features()
    features.fit_statistics([fit.select(trained)])
    torch.testing.assert_close(network.features.mean, features.mean)


def test_jets_of_larger_weight_decide_in_deep_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deep_sets, "MAX_EPOCHS", 10)
    (fit, labels), (test, y_test) = both_sides()
    wrong = np.arange(400) % 2 == 1
    given = np.where(wrong, 1 - labels, labels)
    for heavy, right in ((~wrong, True), (wrong, False)):
        weights = np.where(heavy, 1.9, 0.1)
        predicted = trained_deep_sets(fit, Labelled(np.empty((400, 0)), given, weights), 2, 0)(test).argmax(axis=1)
        assert abs((predicted == y_test).mean() - right) < 0.25


def probe_of(of: str, share: float, reader: str = "linear") -> ProbeResult:
    """A reader that finds the class of this share of 1,000 jets, and its resamples."""
    rng = np.random.default_rng(0)
    correct = np.arange(1000) < 1000 * share
    rows = np.array([correct.mean(), *(correct[rng.integers(0, 1000, 1000)].mean() for _ in range(200))])
    return ProbeResult(reader, of, 5, 300, 1000, *2 * [Estimate.of_rows(rows)], 0.1, rows=rows, effective_jets=1000)


@pytest.mark.parametrize(
    ("of_z", "verdict"), [(0.8, "is better than"), (0.6, "is worse than"), (0.7, "cannot be distinguished from")]
)
def test_the_sentence_compares_with_the_best_reader_of_observables(of_z: float, verdict: str) -> None:
    readers = [probe_of(OBSERVABLES, 0.5), probe_of(OBSERVABLES, 0.7, "boosted trees"), probe_of(COLUMNS, 0.65)]
    probes = [probe_of("z", of_z), probe_of("z", 0.3, "kNN"), probe_of(RANDOM, 0.4), *readers]
    sentence, *more = headline_sentences(headline(probes), headline(probes, (OBSERVABLES,)))
    assert sentence.startswith(
        f"z {verdict} observables computed from the particles: accuracy {of_z:.3f} (linear probe"
    )
    assert "against 0.700 (boosted trees on observables, 300 labelled jets)" in sentence
    assert more == []
    stronger = [*probes, probe_of("particles", 0.9, "Deep Sets")]
    sentences = headline_sentences(headline(stronger), headline(stronger, (OBSERVABLES,)))
    assert sentences[0] == sentence
    assert sentences[1].startswith("z is worse than the strongest baseline: ")
    assert "0.900 (Deep Sets on particles" in sentences[1]


def test_the_sentence_names_the_labels_that_the_model_has_learned_from_if_they_are_more() -> None:
    probes = [probe_of("z", 0.8), probe_of(OBSERVABLES, 0.5)]
    both = headline(probes), headline(probes, (OBSERVABLES,))
    (plain,) = headline_sentences(*both)
    for labels in (None, 300):
        assert headline_sentences(*both, labels) == [plain]
    assert headline_sentences(*both, 341_420) == [f"{plain} The model itself has learned from 341,420 labelled jets."]
    columns = [probe_of("z", 0.8), probe_of(COLUMNS, 0.5)]
    (sentence,) = headline_sentences(headline(columns), headline(columns, (OBSERVABLES,)), 301)
    assert sentence.endswith("learned from 301 labelled jets.")


@pytest.mark.parametrize(("of_both", "verdict"), [(0.9, "is better than"), (0.8, "cannot be distinguished from")])
def test_z_with_observables_is_compared_with_the_better_and_is_no_baseline(of_both: float, verdict: str) -> None:
    trees = probe_of(OBSERVABLES, 0.8, "boosted trees")
    probes = [probe_of("z", 0.7), probe_of(OBSERVABLES, 0.6), trees, probe_of(BOTH, of_both), probe_of(COLUMNS, 0.85)]
    best, of_observables = headline(probes), headline(probes, (OBSERVABLES,))
    assert best is not None
    assert (best.z.of, best.baseline.of) == ("z", COLUMNS)
    *_, sentence = headline_sentences(best, of_observables, both=together(probes))
    assert sentence.startswith(f"The linear probe of z and observables {verdict} the best reader of one of them: ")
    assert f"{of_both:.3f} (linear probe on z and observables" in sentence
    assert "against 0.800 (boosted trees on observables" in sentence
    assert together(probes[:3]) is None


def test_there_is_no_sentence_without_both_sides() -> None:
    alone = [probe_of("z", 0.5)]
    assert headline_sentences(headline(alone), headline(alone, (OBSERVABLES,))) == []
    kept = [*alone, probe_of(COLUMNS, 0.4)]
    assert len(headline_sentences(headline(kept), headline(kept, (OBSERVABLES,)))) == 1
    unpaired = [replace(probe, rows=None) for probe in kept]
    assert headline(unpaired) is None


def test_readers_that_agree_on_all_jets_have_the_interval_of_the_effective_number_of_jets() -> None:
    """A thousand jets of weight 1 and ten of weight 100 are as good as 40."""
    weights = np.repeat([1.0, 100.0], [1000, 10])
    y = np.arange(1010) % 2
    x = (y - 0.5)[:, None] * np.ones(3)
    fit, test = Labelled.of(x, y), Labelled.of(x, y, weights)
    found = headline([linear_probe(fit, test), linear_probe(fit, test, of=OBSERVABLES)])
    assert found is not None
    jets = weights.sum() ** 2 / (weights**2).sum()
    assert found.difference.high95 == pytest.approx(float(exact_interval(0.0, jets, 0.95)[1]))
