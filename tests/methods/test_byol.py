"""BYOL against its formula; a teacher that moves once a step; collapse without a predictor."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

from ssl_jets.jets import Jets
from ssl_jets.methods.byol import BYOL
from ssl_jets.nn.augment import Views, make_view
from ssl_jets.nn.ema import rising
from ssl_jets.nn.normalize import whiten
from support.small_models import tiny_encoder


def build(jets: Jets, **settings: object) -> BYOL:
    return BYOL(BYOL.Config(**settings), tiny_encoder(jets))


def hardest(jets: Jets) -> Jets:
    """The jets with at most 12 particles, which train quickly."""
    return jets.keep(jets.rank_by_pt() < 12)


def train(method: BYOL, jets: Jets, steps: int, lr: float = 1e-3) -> list[float]:
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=lr)
    torch.manual_seed(0)
    losses = []
    for step in range(steps):
        loss = method(jets, step / steps)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step((step + 1) / steps)
        losses.append(float(loss.detach()))
    return losses


def distance(prediction: Tensor, target: Tensor) -> float:
    """|a/|a| - b/|b||^2 of one jet."""
    a, b = ([float(x) for x in row] for row in (prediction, target))
    return sum((x / math.hypot(*a) - y / math.hypot(*b)) ** 2 for x, y in zip(a, b))


@pytest.mark.parametrize("targets", ["plain", "whitened"])
def test_the_loss_is_that_of_plain_loops_over_the_jets(batch: Jets, targets: str) -> None:
    jets, method = batch.select(torch.arange(7)), build(batch, targets=targets)
    torch.manual_seed(2)
    for weight in method.teacher.parameters():  # a teacher unlike its student
        weight.add_(0.1 * torch.randn_like(weight))
    torch.manual_seed(3)
    loss = float(method(jets, 0.0)["loss"].detach())
    torch.manual_seed(3)
    views = [make_view(jets, method.cfg.views) for _ in range(2)]
    predictions = [method.predictor(method.projector(method.encoder(view).z)).detach() for view in views]
    targets = [method.teacher_projector(method.teacher(view).z) for view in views]
    if method.cfg.targets == "whitened":
        targets = [whiten(rows) for rows in targets]
    total = 0.0
    for jet in range(len(jets)):
        total += distance(predictions[0][jet], targets[1][jet]) + distance(predictions[1][jet], targets[0][jet])
    assert loss == pytest.approx(total / len(jets), rel=1e-4)


def test_no_gradient_reaches_the_teacher(batch: Jets) -> None:
    method = build(batch)
    method(batch, 0.0)["loss"].backward()
    for module in (method.teacher, method.teacher_projector):
        assert all(p.grad is None and not p.requires_grad for p in module.parameters())


def test_the_teacher_moves_once_a_step_by_the_momentum_of_the_schedule(batch: Jets) -> None:
    jets, steps = batch.select(torch.arange(4)), 5
    method = build(batch, momentum=0.5)
    optimizer = torch.optim.SGD(method.encoder.parameters(), lr=0.1)
    expected = copy.deepcopy(method.teacher.state_dict())
    for step in range(1, steps + 1):
        for _ in range(2):  # two batches whose gradients are added up: the teacher stays where it is
            method(jets, (step - 1) / steps)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        method.after_step(step / steps)
        m = 1 - 0.5 * (math.cos(math.pi * step / steps) + 1) / 2
        for key, value in method.encoder.state_dict().items():
            expected[key] = m * expected[key] + (1 - m) * value
    for key, value in method.teacher.state_dict().items():
        torch.testing.assert_close(value, expected[key], msg=lambda text, key=key: key + text)
    assert method.momentum(1.0) == rising(0.5, 1.0) == 1.0  # the last step leaves the teacher where it is


@pytest.mark.slow
def test_one_batch_is_learned_and_the_target_must_be_of_the_same_jet(batch: Jets) -> None:
    jets = hardest(batch.select(torch.arange(32)))
    method = build(jets, targets="plain", views=Views(thin=0.5, beam=2.0))
    losses = train(method, jets, 80)
    with torch.no_grad():
        first, second = (make_view(jets, method.cfg.views) for _ in range(2))
        prediction = method.predictor(method.projector(method.encoder(first).z))
        target = method.teacher_projector(method.teacher(second).z)
        cosine = torch.nn.functional.cosine_similarity
        right, wrong = cosine(prediction, target).mean(), cosine(prediction, target.roll(1, 0)).mean()
    assert losses[-1] < losses[0] / 4
    assert 1 - right < 0.5 * (1 - wrong)


@pytest.mark.slow
def test_without_a_predictor_all_jets_become_one_and_with_it_they_do_not(batch: Jets) -> None:
    jets = batch.select(torch.arange(0, len(batch), 2))
    jets = jets.keep(jets.rank_by_pt() < 12)
    distances = {}
    for layers in (0, 2):
        method = build(jets, targets="plain", predictor_layers=layers, momentum=0.0)  # a teacher that follows at once
        train(method, jets, 60, lr=3e-3)
        with torch.no_grad():
            p = torch.nn.functional.normalize(method.projector(method.encoder(jets).z), dim=1)
        distances[layers] = float(1 - (p @ p.T).mean())
    assert distances[0] < 0.1 * distances[2]
