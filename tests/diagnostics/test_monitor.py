"""What is watched while training is right, repeatable, and without effect on the training."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from ssl_jets.diagnostics.collapse import Verdict
from ssl_jets.diagnostics.monitor import CHECK_JETS, Diagnosis, Monitor, summary_line
from ssl_jets.diagnostics.representation import ridge_accuracy
from ssl_jets.finetuning.objective import Objective
from ssl_jets.finetuning.settings import FinetuneSettings
from ssl_jets.jets import TRUTH, Jets
from ssl_jets.methods.mae import MaskedAutoencoder
from ssl_jets.methods.semi_supervised import SemiSupervised
from ssl_jets.methods.supervised import Supervised
from ssl_jets.nn import random
from ssl_jets.nn.particles.heads import ParticleHeads, ParticleTarget
from ssl_jets.nn.particles.tasks import ParticleTasks
from support.small_models import CLASSES, build_method, tiny_encoder


def test_a_look_is_the_same_twice_and_disturbs_nothing(batch: Jets) -> None:
    method = MaskedAutoencoder(MaskedAutoencoder.Config(), tiny_encoder(batch, blocks=1))
    monitor = Monitor(batch, 16, len(CLASSES))
    torch.manual_seed(3)
    generator = torch.get_rng_state()
    weights = {name: value.clone() for name, value in method.state_dict().items()}
    first = monitor.validate(method, 0.5)
    assert torch.equal(torch.get_rng_state(), generator)
    torch.manual_seed(4)
    assert monitor.validate(method, 0.5).metrics == first.metrics
    assert method.training
    assert all(torch.equal(value, weights[name]) for name, value in method.state_dict().items())
    assert all(parameter.grad is None for parameter in method.parameters())


def test_a_look_asks_no_other_gpu_of_the_machine(batch: Jets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)  # torch would warn, and read the state of each
    method = MaskedAutoencoder(MaskedAutoencoder.Config(), tiny_encoder(batch, blocks=1))
    assert Monitor(batch, 64, len(CLASSES)).check(method, 0.0).metrics


def test_the_loss_is_that_of_all_held_out_jets_whatever_the_batch_size(batch: Jets) -> None:
    method = Supervised(Supervised.Config(), tiny_encoder(batch, blocks=1), CLASSES)
    expected = {name: float(value.detach()) for name, value in method(batch, 0.0).items()}
    for batch_size in (5, 64, 1000):
        looks = Monitor(batch, batch_size, len(CLASSES)).validate(method, 0.0).metrics
        for name, value in expected.items():
            assert looks[name] == pytest.approx(value, rel=1e-5), name


def test_the_loss_of_weighted_jets_is_their_weighted_mean_whatever_the_batch_size(batch: Jets) -> None:
    jets = replace(batch, weights=torch.where(torch.arange(len(batch)) < 8, 100.0, 0.01))
    method = Supervised(Supervised.Config(), tiny_encoder(batch, blocks=1), CLASSES)
    with torch.no_grad():
        for parameter in method.tasks.head.parameters():  # losses that differ between jets
            parameter.mul_(30)
    expected = float(method(jets, 0.0)["loss"].detach())
    for batch_size in (5, 64):
        metrics = Monitor(jets, batch_size, len(CLASSES)).validate(method, 0.0).metrics
        assert metrics["loss"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("cls", "settings"),
    [
        (Supervised, {}),
        (Supervised, {"targets": ("label", "jet_sdmass"), "observables_weight": 0.5}),
        (SemiSupervised, {"targets": ("label", "jet_sdmass"), "unlabelled_weight": (3.0, 0.0)}),
    ],
)
def test_every_held_out_number_is_the_mean_over_the_jets_that_have_it(
    batch: Jets, cls: Any, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    jets = batch.select(torch.arange(13))
    jets.labels[2:] = -1
    jets.jet["jet_sdmass"][3:9] = torch.nan
    jets.jet["jet_sdmass"][0] = torch.nan
    jets = replace(jets, weights=torch.linspace(0.2, 3, 13))
    method = cls(cls.Config(**settings), tiny_encoder(batch, blocks=1), CLASSES)
    method.prepare([batch])
    method.eval()
    if method.weights.log_sigma is not None:
        nn.init.uniform_(method.weights.log_sigma, -0.01, 0.01, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(random, "uniform", lambda jets: jets.column("pt").sin().abs())  # the same masks in any batch
    with torch.no_grad():
        expected = {name: float(value) for name, value in method(jets, 0.25).items()}
    metrics = Monitor(jets, 2, len(CLASSES)).validate(method, 0.25).metrics
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("batch_size", [16, 24])
def test_a_validation_computes_a_loss_and_a_z_once(
    batch: Jets, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssl_jets.diagnostics.monitor.CHECK_JETS", 32)
    monitor = Monitor(batch, batch_size, len(CLASSES))
    assert len(batch) == 64 != CHECK_JETS
    method = MaskedAutoencoder(MaskedAutoencoder.Config(), tiny_encoder(batch, blocks=1))
    jets = {"loss": 0, "encoder": 0}
    means = method.means
    monkeypatch.setattr(
        method, "means", lambda some, progress: jets.update(loss=jets["loss"] + len(some)) or means(some, progress)
    )
    method.encoder.register_forward_hook(
        lambda _module, inputs, _out: jets.update(encoder=jets["encoder"] + len(inputs[0]))
    )
    metrics = monitor.validate(method, 0.5).metrics
    # The loss of all jets, and of 32 with swapped z; once more of these 32 where no batch ends with them.
    losses = 64 + 32 + 32 * (32 % batch_size > 0)
    assert jets == {"loss": losses, "encoder": losses + 64 + 32}  # z of all jets, and of the second view of 32
    jets.update(loss=0, encoder=0)
    check = monitor.check(method, 0.5).metrics
    assert jets == {"loss": 0, "encoder": 64}
    assert {name: metrics[name] for name in check} == pytest.approx(check, rel=1e-4, abs=1e-5)


def test_the_probe_has_all_classes_of_a_file_that_is_ordered_by_class(sample_jets: Jets) -> None:
    assert sample_jets.labels is not None
    ordered = sample_jets.select(sample_jets.labels.argsort(stable=True))
    place = torch.arange(len(ordered))
    jets = replace(ordered, source=torch.stack([0 * place, place, 0 * place], dim=1))
    method = Supervised(Supervised.Config(), tiny_encoder(sample_jets), CLASSES)
    assert Monitor(jets, 500, len(CLASSES)).validate(method, 0.0).metrics["probe_accuracy"] > 0.2


def test_jets_without_labels_are_not_probed(batch: Jets) -> None:
    method = MaskedAutoencoder(MaskedAutoencoder.Config(), tiny_encoder(batch, blocks=1))
    bare = replace(batch, labels=torch.full((len(batch),), -1))
    assert "probe_accuracy" not in Monitor(bare, 64, 0).validate(method, 0.0).metrics
    assert 0 <= Monitor(batch, 64, len(CLASSES)).validate(method, 0.0).metrics["probe_accuracy"] <= 1


def test_the_probe_finds_what_is_linear_in_z_and_nothing_in_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(600) % 3
    noise = torch.randn(600, 8, generator=generator)
    fit = torch.arange(600) < 300
    telling = noise + 5 * torch.nn.functional.one_hot(labels, 8) * torch.tensor([1000.0] + [1.0] * 7)
    assert ridge_accuracy(telling, labels, fit, 3) > 0.95
    assert ridge_accuracy(noise, labels, fit, 3) < 0.45
    telling[-1] = 1e12  # a jet to test on has no part in the fit
    assert ridge_accuracy(telling, labels, fit, 3) > 0.95


def test_the_probe_is_tested_on_jets_it_was_not_fitted_on() -> None:
    generator = torch.Generator().manual_seed(0)
    z, labels = torch.randn(60, 50, generator=generator), torch.randint(0, 2, (60,), generator=generator)
    everything_in_reach = ridge_accuracy(z, labels, torch.arange(60) < 30, 2)
    assert everything_in_reach < 0.8  # 50 numbers fit 30 jets by heart


def test_a_probe_with_nothing_to_fit_or_to_test_is_nan() -> None:
    z, labels = torch.randn(4, 2), torch.tensor([0, 1, -1, -1])
    assert math.isnan(ridge_accuracy(z, labels, torch.tensor([True, True, False, False]), 2))
    assert math.isnan(ridge_accuracy(z, labels, torch.tensor([False, False, True, True]), 2))
    one_class = torch.zeros(4, dtype=torch.int64)
    assert math.isnan(ridge_accuracy(z, one_class, torch.tensor([True, True, False, False]), 2))


def test_a_look_in_words_has_loss_probe_and_the_state_of_z() -> None:
    metrics = {"loss": 2.1314, "feature_loss": 0.7, "probe_accuracy": 0.396, "z_participation_ratio": 15.3}
    assert (
        summary_line(Diagnosis(metrics, []), 64)
        == "held-out loss 2.131, probe accuracy 0.396, z healthy (participation ratio 15 of 64)"
    )
    assert (
        summary_line(Diagnosis({"z_participation_ratio": 1.2}, []), 64, early=True)
        == "z warming up (participation ratio 1 of 64)"
    )
    collapsed = [Verdict("low-rank", "text"), Verdict("noise", "text")]
    bare = {"probe_accuracy": math.nan, "z_participation_ratio": 1.2}
    assert summary_line(Diagnosis(bare, collapsed), 64) == "z low-rank, noise (participation ratio 1 of 64)"


@pytest.mark.parametrize(
    ("name", "settings", "collapsed"),
    [
        ("mae", {}, True),
        ("supervised", {}, False),
        ("supervised", {"targets": ("jet_sdmass",)}, False),
        ("supcon", {}, False),
        ("semi_supervised", {"targets": ("jet_sdmass",)}, False),
    ],
)
def test_one_direction_is_enough_for_targets_and_is_a_collapse_without(
    batch: Jets, name: str, settings: dict[str, Any], collapsed: bool
) -> None:
    method = build_method(name, batch, blocks=1, **settings)
    with torch.no_grad():
        method.encoder.transformer.norm.weight[1:] = 0  # z varies in its first number alone
    found = Monitor(batch, 16, len(CLASSES)).validate(method, 0.5)
    assert found.metrics["z_participation_ratio"] == pytest.approx(1)
    assert ("low-rank" in [verdict.name for verdict in found.verdicts]) == collapsed


def test_z_that_targets_of_particles_do_not_train_has_no_directions_to_lose(batch: Jets) -> None:
    origin = torch.arange(len(batch.particles)) % 2
    particles, names = torch.column_stack([batch.particles, origin]), (*batch.columns, f"{TRUTH}origin")
    encoder, jets = tiny_encoder(batch, blocks=1), replace(batch, particles=particles, columns=names)
    tasks = ParticleTasks(ParticleHeads(encoder.width, (ParticleTarget("origin", ("a", "b")),)))
    objective = Objective(FinetuneSettings(targets=(), particle_targets=("origin",)), encoder, (), particles=tasks)
    with torch.no_grad():
        encoder.transformer.norm.weight[1:] = 0  # z varies in its first number alone
    assert not Monitor(jets, 16, 0).validate(objective, 0.5).verdicts
