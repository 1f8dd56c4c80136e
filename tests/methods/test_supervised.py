"""Supervised pretraining against torch's own cross-entropy."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from small_models import CLASSES, tiny_encoder
from ssl_jets.errors import SslJetsError
from ssl_jets.jets import Jets
from ssl_jets.methods.supervised import Supervised


def build(jets: Jets, **settings: float) -> Supervised:
    return Supervised(Supervised.Config(**settings), tiny_encoder(jets), CLASSES)


@pytest.mark.parametrize("settings", [{}, {"label_smoothing": 0.1}, {"head_hidden": 16}], ids=str)
def test_the_loss_is_the_mean_cross_entropy_of_the_labels(batch: Jets, settings: dict[str, float]) -> None:
    method = build(batch, **settings)
    parts = method(batch, 0.0)
    logits = method.head(method.encoder(batch).z)
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
    jets = batch.select(torch.arange(32))
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
    assert method.exported_head() is method.head
    assert method.head(torch.zeros(3, 64)).shape == (3, 10)
