"""Supervised pretraining against torch's own cross-entropy."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from ssl_jets.errors import SslJetsError
from ssl_jets.jets import Jets
from ssl_jets.methods.supervised import Supervised
from ssl_jets.nn import collectives
from ssl_jets.nn.task_weights import RATE
from support.small_models import CLASSES, tiny_encoder


def build(jets: Jets, **settings: float) -> Supervised:
    return Supervised(Supervised.Config(**settings), tiny_encoder(jets, blocks=2), CLASSES)


@pytest.mark.parametrize("settings", [{}, {"label_smoothing": 0.1}, {"head_hidden": 16}], ids=str)
def test_the_loss_is_the_mean_cross_entropy_of_the_labels(batch: Jets, settings: dict[str, float]) -> None:
    method = build(batch, **settings)
    parts = method(batch, 0.0)
    logits = method.tasks.head(method.encoder(batch).z)
    smoothing = settings.get("label_smoothing", 0.0)
    expected = nn.functional.cross_entropy(logits, batch.labels, label_smoothing=smoothing)
    torch.testing.assert_close(parts["loss"], expected)
    assert float(parts["accuracy"]) == pytest.approx(float((logits.argmax(1) == batch.labels).float().mean()))


def test_jets_without_a_label_have_no_part_in_loss_gradient_and_accuracy(batch: Jets) -> None:
    assert batch.labels is not None
    method, labels = build(batch), batch.labels.clone()
    labels[::3] = -1
    labelled = batch.select(torch.nonzero(labels >= 0)[:, 0])
    gradients = []
    for jets in (replace(batch, labels=labels), labelled):
        method.zero_grad()
        parts = method(jets, 0.0)
        parts["loss"].backward()
        gradients.append(
            ([float(part.detach()) for part in parts.values()], [p.grad.clone() for p in method.parameters()])
        )
    (parts, grads), (parts_labelled, grads_labelled) = gradients
    assert parts == pytest.approx(parts_labelled, rel=1e-5)
    for ours, expected in zip(grads, grads_labelled, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-4)


def test_a_batch_without_any_label_has_zero_loss_and_gradient(batch: Jets) -> None:
    method = build(batch)
    loss = method(replace(batch, labels=torch.full((len(batch),), -1)), 0.0)["loss"]
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert not any(parameter.grad.any() for parameter in method.parameters())


def test_jets_of_a_source_without_labels_are_refused(batch: Jets) -> None:
    with pytest.raises(SslJetsError, match="needs labels"):
        build(batch)(replace(batch, labels=None), 0.0)


def test_one_batch_is_classified_without_error(batch: Jets) -> None:
    jets = batch.keep(batch.rank_by_pt() < 12).select(torch.arange(32))
    method = build(jets)
    optimizer = torch.optim.AdamW(method.parameters(), lr=2e-3)
    for _ in range(80):
        parts = method(jets, 0.0)
        optimizer.zero_grad()
        parts["loss"].backward()
        optimizer.step()
        if float(parts["accuracy"]) == 1.0 and float(parts["loss"].detach()) < 0.1:
            break
    assert float(parts["accuracy"]) == 1.0


def test_the_head_is_exported(batch: Jets) -> None:
    method = build(batch)
    assert method.needs_labels(Supervised.Config())
    assert method.exported_head() is method.tasks.head
    assert method.tasks.head(torch.zeros(3, 64)).shape == (3, 10)


TARGETS = ("label", "jet_sdmass", "jet_tau2/jet_tau1")


def several(jets: Jets, **settings: Any) -> Supervised:
    encoder = tiny_encoder(jets, blocks=2)
    torch.manual_seed(1)
    method = Supervised(Supervised.Config(**({"targets": TARGETS} | settings)), encoder, CLASSES)
    method.fit_statistics([jets])
    return method


def some_missing(jets: Jets) -> Jets:
    """Jets of which every third has no label, some no mass, one nothing at all."""
    labels = torch.as_tensor(jets.labels).clone()
    mass, tau1 = jets.jet["jet_sdmass"].clone(), jets.jet["jet_tau1"].clone()
    labels[::3] = -1
    mass[:5], mass[20:30], tau1[0] = torch.nan, torch.nan, 0.0
    return replace(jets, labels=labels, jet=dict(jets.jet) | {"jet_sdmass": mass, "jet_tau1": tau1})


def reference(method: Supervised, jets: Jets) -> dict[str, float]:
    """Mean loss of each task over the jets that have it, jet by jet."""
    seen: dict[str, list[float]] = {name: [] for name in TARGETS}
    assert method.tasks.head is not None
    assert method.tasks.regressor is not None
    statistics = method.tasks.regressor.targets
    for jet in range(len(jets)):
        z = method.encoder(jets.select(torch.tensor([jet]))).z
        label = int(torch.as_tensor(jets.labels)[jet])
        if label >= 0:
            seen["label"].append(-float(method.tasks.head(z).log_softmax(1)[0, label].detach()))
        predicted = method.tasks.regressor.layers(z)[0].tolist()
        mass = float(jets.jet["jet_sdmass"][jet])
        tau1, tau2 = (float(jets.jet[f"jet_tau{n}"][jet]) for n in (1, 2))
        for index, value in enumerate([mass, tau2 / tau1 if tau1 else math.nan]):
            centre, scale, mean, std = (
                float(numbers[index])
                for numbers in (statistics.centre, statistics.scale, statistics.mean, statistics.std)
            )
            if not math.isnan(value):
                target = (math.asinh((value - centre) / scale) - mean) / std
                seen[TARGETS[1 + index]].append((predicted[index] - target) ** 2)
    return {name: sum(values) / len(values) for name, values in seen.items()}


def test_several_tasks_are_the_weighed_means_over_the_jets_that_have_them(batch: Jets) -> None:
    jets = some_missing(batch)
    method = several(jets)
    assert method.weights.log_sigma is not None
    with torch.no_grad():
        method.weights.log_sigma.copy_(torch.tensor([0.1, -0.5, 0.3]) / RATE)
    parts = method(jets, 0.0)
    expected = reference(method, jets)
    total = 0.0
    for (name, loss), log_s in zip(expected.items(), [0.1, -0.5, 0.3]):
        assert float(parts[f"loss_{name}"]) == pytest.approx(loss, rel=1e-4), name
        assert float(parts[f"sigma_{name}"]) == pytest.approx(math.exp(log_s), rel=1e-5)
        a, b = (1.0, 2 * math.log(len(CLASSES))) if name == "label" else (0.5, 1.0)
        total += a * loss * math.exp(-2 * log_s) + b * log_s
    assert float(parts["loss"].detach()) == pytest.approx(total, rel=1e-4)


def test_a_missing_target_has_no_gradient(batch: Jets) -> None:
    jets, method = some_missing(batch), several(some_missing(batch))
    changed = dict(jets.jet) | {"jet_sdmass": jets.jet["jet_sdmass"].nan_to_num(nan=torch.inf)}
    gradients = []
    for same in (jets, replace(jets, jet=changed)):
        method.zero_grad()
        method(same, 0.0)["loss"].backward()
        gradients.append([p.grad.clone() for p in method.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert all(gradient.isfinite().all() for gradient in gradients[0])


def test_two_ranks_with_unequal_numbers_of_targets_are_the_joined_batch(
    batch: Jets, monkeypatch: pytest.MonkeyPatch
) -> None:
    jets = some_missing(batch)
    method = several(jets)
    together = method(jets, 0.0)["loss"]
    halves = [jets.select(index) for index in torch.arange(len(jets)).split([20, 44])]
    counts = torch.stack([
        (torch.as_tensor(jets.labels) >= 0).sum(),
        jets.jet["jet_sdmass"].isfinite().sum(),
        (jets.jet["jet_tau1"] > 0).sum(),
    ])  # fmt: skip
    monkeypatch.setattr(collectives, "world", lambda: 2)
    monkeypatch.setattr(collectives, "total", lambda own: torch.stack([counts, counts]))
    apart = [method(half, 0.0)["loss"] for half in halves]
    torch.testing.assert_close(sum(apart) / 2, together)


@pytest.mark.parametrize("targets", [("jet_sdmass",), ("jet_sdmass", "jet_tau2/jet_tau1")])
def test_jet_columns_are_learned_without_labels(batch: Jets, targets: tuple[str, ...]) -> None:
    method = several(batch, targets=targets)
    assert not method.needs_labels(Supervised.Config(targets=targets))
    assert Supervised.jet_columns(Supervised.Config(targets=targets))[0] == "jet_sdmass"
    parts = method(replace(batch, labels=None), 0.0)
    parts["loss"].backward()
    assert method.exported_head() is None
    assert ("loss_jet_sdmass" in parts) == (len(targets) > 1)
    if len(targets) == 1:
        assert method.tasks.regressor is not None
        error = method.tasks.regressor(method.encoder(batch).z) - method.tasks.regressor.targets(batch)
        torch.testing.assert_close(parts["loss"], error.square().mean())


@pytest.fixture(scope="module")
def learned(sample_jets: Jets) -> tuple[Supervised, Jets, dict[str, float]]:
    """One batch learned by heart: label, mass, and a pt that belongs to other jets and is drawn anew at each step."""
    jets = sample_jets.select(torch.arange(32))
    jets = jets.keep(jets.rank_by_pt() < 15)
    method = several(jets, targets=("label", "jet_sdmass", "jet_pt"))
    optimizer = torch.optim.AdamW(method.parameters(), lr=2e-3)
    generator = torch.Generator().manual_seed(0)
    parts: dict[str, torch.Tensor] = {}
    for _ in range(180):
        pt = jets.jet["jet_pt"][torch.randperm(len(jets), generator=generator)]
        parts = method(replace(jets, jet=dict(jets.jet) | {"jet_pt": pt}), 0.0)
        optimizer.zero_grad()
        parts["loss"].backward()
        torch.nn.utils.clip_grad_norm_(method.parameters(), 1.0)
        optimizer.step()
        method.after_step(0.0)
    return method, jets, {name: float(value.detach()) for name, value in parts.items()}


@pytest.mark.slow
def test_one_batch_of_several_tasks_is_learned_by_heart(learned: tuple[Supervised, Jets, dict[str, float]]) -> None:
    method, jets, parts = learned
    assert parts["accuracy"] == 1.0
    assert parts["loss_jet_sdmass"] < 0.1
    regressor = method.exported_regressor()
    assert regressor is not None
    with torch.no_grad():
        mass = regressor.physical(method.encoder(jets).z)[:, 0]
    truth = jets.jet["jet_sdmass"]
    assert float((mass - truth).abs().median()) < 0.25 * float((truth - truth.median()).abs().median())


@pytest.mark.slow
def test_a_task_that_cannot_be_learned_gets_a_larger_s(learned: tuple[Supervised, Jets, dict[str, float]]) -> None:
    parts = learned[2]
    assert parts["loss_jet_pt"] > 0.5
    assert parts["sigma_jet_pt"] > 0.8
    assert parts["sigma_jet_sdmass"] < 0.6 * parts["sigma_jet_pt"]
    assert parts["sigma_label"] < parts["sigma_jet_pt"]
