"""Learned uncertainties of tasks: the formula, their best values, their limits."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ssl_jets.config import TrainSettings
from ssl_jets.nn.task_weights import (
    LARGEST,
    LIKELIHOOD,
    RATE,
    REGRESSION,
    TaskLoss,
    TaskWeights,
    classification,
    means_of,
    total,
)
from ssl_jets.training.optimizer import make_optimizer

CLASSES = 10
FORMS = {"label": classification(CLASSES), "mass": REGRESSION}


def losses(label: float, mass: float, weight: float = 1.0) -> dict[str, TaskLoss]:
    return {"label": TaskLoss(torch.tensor(label), 1.0), "mass": TaskLoss(torch.tensor(mass), torch.tensor(weight))}


def test_the_objective_is_kendalls() -> None:
    weights = TaskWeights(FORMS, learned=True)
    assert weights.log_sigma is not None
    with torch.no_grad():
        weights.log_sigma.copy_(torch.tensor([math.log(1.5), math.log(0.4)]) / RATE)
    expected = 2.0 / 1.5**2 + 2 * math.log(CLASSES) * math.log(1.5) + 0.3 / (2 * 0.4**2) + math.log(0.4)
    assert float(weights(losses(2.0, 0.3)).detach()) == pytest.approx(expected, rel=1e-5)
    parts = {name: round(float(total(means_of(part, 1))), 4) for name, part in weights.parts(losses(2.0, 0.3)).items()}
    assert parts == {"loss_label": 2.0, "loss_mass": 0.3, "sigma_label": 1.5, "sigma_mass": 0.4}


def test_the_penalty_of_the_class_follows_the_sum_of_a_softmax_that_knows_little() -> None:
    weights = TaskWeights(FORMS, learned=True)
    assert weights.log_sigma is not None
    logits = 0.1 * torch.randn(CLASSES, generator=torch.Generator().manual_seed(0))
    exact = {}
    for s in (0.95, 1.05):
        with torch.no_grad():
            weights.log_sigma.copy_(torch.tensor([math.log(s) / RATE, 0.0]))
        mine = float(weights(losses(float(-logits.log_softmax(0)[0]), 0.0)).detach())
        exact[s] = (mine, float(-(logits / s**2).log_softmax(0)[0]))
    (low, high), (true_low, true_high) = zip(*exact.values(), strict=True)
    assert high - low == pytest.approx(true_high - true_low, abs=0.02)
    assert 2 * math.log(CLASSES) * math.log(1.05 / 0.95) > 0.4  # against which 0.02 is small


def test_equal_weights_are_the_objective_at_s_1_without_parameters() -> None:
    weights = TaskWeights(FORMS, learned=False)
    assert not list(weights.parameters())
    assert float(weights(losses(2.0, 0.3))) == pytest.approx(2.15)
    assert set(weights.parts(losses(2.0, 0.3))) == {"loss_label", "loss_mass"}
    weights.clamp()


@pytest.mark.parametrize("learned", [True, False])
def test_a_single_task_is_taken_as_it_is(learned: bool) -> None:
    weights = TaskWeights({"mass": REGRESSION}, learned=learned)
    loss = torch.tensor(0.7)
    assert weights({"mass": TaskLoss(loss, 1.0)}) is loss
    assert not list(weights.parameters())
    assert weights.parts({"mass": TaskLoss(loss, 1.0)}) == {}


def fitted(label: float, mass: float, steps: int = 400, weight: float = 1.0) -> tuple[TaskWeights, dict[str, float]]:
    weights = TaskWeights(FORMS, learned=True)
    optimizer = make_optimizer(weights, TrainSettings(lr=1e-3))
    for _ in range(steps):
        optimizer.zero_grad()
        weights(losses(label, mass, weight)).backward()
        optimizer.step()
        weights.clamp()
    parts = weights.parts(losses(label, mass))
    return weights, {name: float(parts[f"sigma_{name}"]) for name in FORMS}


def test_s_goes_to_the_share_of_a_blind_guess() -> None:
    weights, sigma = fitted(1.7, 0.6)
    assert sigma["label"] == pytest.approx(math.sqrt(1.7 / math.log(CLASSES)), rel=0.03)
    assert sigma["mass"] == pytest.approx(math.sqrt(0.6), rel=0.03)
    values = {name: torch.tensor(1.0, requires_grad=True) for name in FORMS}
    weights({name: TaskLoss(value, 1.0) for name, value in values.items()}).backward()
    assert float(values["label"].grad) == pytest.approx(math.log(CLASSES) / 1.7, rel=0.06)  # type: ignore[arg-type]
    assert float(values["mass"].grad) == pytest.approx(1 / (2 * 0.6), rel=0.06)  # type: ignore[arg-type]


def test_s_stays_within_its_limits_and_comes_back() -> None:
    weights, sigma = fitted(1e9, 1e-9)
    assert sigma["label"] == pytest.approx(LARGEST, rel=1e-3)
    assert sigma["mass"] == pytest.approx(weights.smallest, rel=1e-3)
    optimizer = torch.optim.SGD(weights.parameters(), lr=1e-2)
    optimizer.zero_grad()
    weights(losses(1.0, 1.0)).backward()
    optimizer.step()
    moved = weights.parts(losses(1.0, 1.0))
    assert float(moved["sigma_label"]) < LARGEST
    assert float(moved["sigma_mass"]) > weights.smallest


def test_the_uncertainties_do_not_take_up_the_clipped_norm_of_the_gradients() -> None:
    weights = TaskWeights(FORMS, learned=True)
    weights(losses(1.0, 1e-3)).backward()
    assert weights.log_sigma is not None
    gradient = weights.log_sigma.grad
    assert gradient is not None
    torch.testing.assert_close(gradient, 0.01 * torch.tensor([2 * math.log(CLASSES) - 2 * 1.0, 1 - 1e-3]))


def test_a_task_that_no_jet_has_leaves_its_s_alone() -> None:
    _, sigma = fitted(1.7, 0.0, weight=0.0)
    assert sigma["mass"] == 1.0


def test_s_has_no_weight_decay() -> None:
    module = nn.ModuleDict({"weights": TaskWeights(FORMS, learned=True), "other": nn.Linear(2, 2)})
    groups = make_optimizer(module, TrainSettings(weight_decay=0.3)).param_groups
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert decay[id(module["weights"].log_sigma)] == 0.0
    assert decay[id(module["other"].weight)] == 0.3


def test_a_likelihood_with_widths_of_its_own_is_added_as_it_is_and_gets_no_s() -> None:
    weights = TaskWeights({"label": classification(CLASSES), "mass": LIKELIHOOD}, learned=True)
    assert weights.log_sigma is not None
    assert weights.log_sigma.shape == (1,)
    with torch.no_grad():
        weights.log_sigma.copy_(torch.tensor([math.log(2.0)]) / RATE)
    assert float(weights(losses(3.0, -1.5)).detach()) == pytest.approx(
        3.0 / 4 + 2 * math.log(CLASSES) * math.log(2.0) - 1.5, rel=1e-5
    )
    assert set(weights.parts(losses(3.0, -1.5))) == {"loss_label", "loss_mass", "sigma_label"}
