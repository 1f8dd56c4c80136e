"""SIGReg against the integral it stands for, and on clouds whose distance from a normal one is known."""

from __future__ import annotations

import cmath
import math

import pytest
import torch
from torch import Tensor

from ssl_jets.diagnostics.representation import participation_ratio
from ssl_jets.nn import random
from ssl_jets.nn.regularizers import sigreg

NO_SPREAD = math.sqrt(2 * math.pi) * (1 - math.sqrt(2) + 1 / math.sqrt(3))
"""The integral where all vectors are 0: that of (1 - exp(-t^2 / 2))^2 exp(-t^2 / 2)."""


def some_directions(width: int, count: int = 64) -> Tensor:
    torch.manual_seed(3)
    return random.directions(width, count, torch.device("cpu"))


def normal_cloud(jets: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(jets, width, generator=torch.Generator().manual_seed(seed))


def reference(values: Tensor, directions: Tensor) -> float:
    """The formula, one direction, one frequency and one jet at a time, on a fine grid of frequencies."""
    step, total = 0.02, 0.0
    for direction in directions.T:
        projected = [float(value @ direction) for value in values]
        for number in range(-300, 301):
            t = number * step
            found = sum(cmath.exp(1j * t * x) for x in projected) / len(projected)
            total += abs(found - math.exp(-t * t / 2)) ** 2 * math.exp(-t * t / 2) * step
    return total / directions.shape[1]


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (0.1, 0.0), (1.0, 1.5), (2.0, 0.5)])
def test_it_is_the_integral_of_the_formula(scale: float, shift: float) -> None:
    values, directions = scale * normal_cloud(12, 5) + shift, some_directions(5, count=3)
    assert float(sigreg(values, directions)) == pytest.approx(reference(values, directions), rel=5e-3)


def test_a_normal_cloud_is_near_zero_and_a_point_is_far() -> None:
    directions = some_directions(16)
    assert float(sigreg(normal_cloud(20000, 16), directions)) < 2e-4
    assert float(sigreg(torch.zeros(50, 16), directions)) == pytest.approx(NO_SPREAD, rel=5e-3)


def test_a_small_sample_of_a_normal_cloud_gives_its_expected_value() -> None:
    directions = some_directions(4)
    mean = sum(float(sigreg(normal_cloud(16, 4, seed), directions)) for seed in range(200)) / 200
    assert mean == pytest.approx(math.sqrt(2 * math.pi) * (1 - 1 / math.sqrt(3)) / 16, rel=0.1)


@pytest.mark.parametrize(
    "damage",
    [
        lambda cloud: 0.3 * cloud,
        lambda cloud: 2 * cloud,
        lambda cloud: cloud + 1,
        lambda cloud: cloud[:, :1].expand_as(cloud),  # a line
        lambda cloud: cloud * (torch.arange(8) < 4),  # half of the dimensions dead
    ],
    ids=["narrow", "wide", "off", "line", "flat"],
)
def test_each_way_to_collapse_is_seen(damage: object) -> None:
    cloud, directions = normal_cloud(2000, 8), some_directions(8)
    assert float(sigreg(damage(cloud), directions)) > 20 * float(sigreg(cloud, directions))  # type: ignore[operator]


def test_its_gradient_blows_a_line_up_to_a_cloud() -> None:
    values = (normal_cloud(256, 1) * torch.ones(4) + 0.1 * normal_cloud(256, 4, seed=1)).requires_grad_()
    optimizer = torch.optim.Adam([values], lr=0.05)
    assert participation_ratio(values.detach()) < 1.1
    torch.manual_seed(0)
    for _ in range(100):
        optimizer.zero_grad()
        sigreg(values, random.directions(4, 32, torch.device("cpu"))).backward()
        optimizer.step()
    assert participation_ratio(values.detach()) > 2.8


def test_directions_are_unit_vectors_of_torchs_generator() -> None:
    directions = some_directions(6)
    torch.testing.assert_close(directions.norm(dim=0), torch.ones(64))
    assert torch.equal(directions, some_directions(6))
    torch.manual_seed(4)
    assert not torch.equal(directions, random.directions(6, 64, torch.device("cpu")))


def test_the_statistic_is_of_float32_under_autocast() -> None:
    torch.manual_seed(0)
    values, directions = torch.randn(64, 8), some_directions(8)
    expected = sigreg(values, directions)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(sigreg(values, directions), expected)
