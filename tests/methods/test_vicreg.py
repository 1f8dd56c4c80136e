"""VICReg against its formula in plain loops, and each of its three terms by what it is for."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ssl_jets.jets import Jets
from ssl_jets.methods.vicreg import VICReg
from ssl_jets.nn.augment import make_view
from ssl_jets.nn.regularizers import vicreg_terms
from support.small_models import tiny_encoder


def build(jets: Jets, **settings: object) -> VICReg:
    return VICReg(VICReg.Config(**settings), tiny_encoder(jets))


def reference(first: Tensor, second: Tensor) -> tuple[float, float, float]:
    """Invariance, variance and covariance as the docstring of `vicreg` writes them, in plain loops."""
    jets, width = first.shape
    one, two = first.tolist(), second.tolist()
    invariance = sum((one[n][j] - two[n][j]) ** 2 for n in range(jets) for j in range(width)) / jets / width
    variance = covariance = 0.0
    for p in (one, two):
        mean = [sum(p[n][j] for n in range(jets)) / jets for j in range(width)]
        for i in range(width):
            for j in range(width):
                cov = sum((p[n][i] - mean[i]) * (p[n][j] - mean[j]) for n in range(jets)) / (jets - 1)
                if i == j:
                    variance += max(0.0, 1 - math.sqrt(cov + 1e-4)) / width
                else:
                    covariance += cov**2 / width
    return invariance, variance, covariance


def test_the_loss_is_that_of_plain_loops_over_jets_and_dimensions(batch: Jets) -> None:
    jets = batch.select(torch.arange(9))
    method = build(batch, projector_out=12, invariance=3.0, variance=5.0, covariance=7.0)
    torch.manual_seed(3)
    parts = method(jets, 0.0)
    torch.manual_seed(3)
    first, second = (method.projector(method.encoder(make_view(jets, method.cfg.views)).z).detach() for _ in range(2))
    expected = reference(first, second)
    assert min(expected) > 1e-3
    found = [float(parts[name]) for name in ("invariance", "variance", "covariance")]
    assert found == pytest.approx(expected, rel=1e-4)
    total = 3 * expected[0] + 5 * expected[1] + 7 * expected[2]
    assert float(parts["loss"].detach()) == pytest.approx(total, rel=1e-4)


def test_constant_dimensions_cost_variance_and_repeated_ones_covariance() -> None:
    torch.manual_seed(0)
    free = 2 * torch.randn(2000, 4)
    assert float(vicreg_terms(free)[0]) == 0.0
    assert float(vicreg_terms(free)[1]) < 0.5
    constant = free.clone()
    constant[:, 1] = 3.0
    assert float(vicreg_terms(constant)[0]) == pytest.approx(0.99 / 4)
    repeated = free.clone()
    repeated[:, 1] = repeated[:, 0]
    assert float(vicreg_terms(repeated)[1]) == pytest.approx(2 * 16 / 4, rel=0.2)


def test_statistics_are_exact_under_autocast() -> None:
    torch.manual_seed(0)
    views = torch.randn(30, 8) + 4
    exact = vicreg_terms(views)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert all(torch.equal(a, b) for a, b in zip(vicreg_terms(views), exact, strict=True))


def hardest(jets: Jets) -> Jets:
    """The jets with at most 12 particles, which train quickly."""
    return jets.keep(jets.rank_by_pt() < 12)


def train(method: VICReg, jets: Jets, steps: int) -> list[float]:
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-3)
    torch.manual_seed(0)
    losses = []
    for _ in range(steps):
        loss = method(jets, 0.0)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.slow
def test_one_batch_can_be_learned_and_the_other_view_must_be_of_the_same_jet(batch: Jets) -> None:
    jets = hardest(batch)
    method = build(jets)
    losses = train(method, jets, 80)
    with torch.no_grad():
        first, second = (method.projector(method.encoder(make_view(jets, method.cfg.views)).z) for _ in range(2))
        right, wrong = (float((first - other).square().mean()) for other in (second, second.roll(1, 0)))
    assert sum(losses[-5:]) / 5 < 0.7 * sum(losses[:2]) / 2
    assert wrong > 3 * right


@pytest.mark.slow
def test_without_its_variance_term_it_collapses(batch: Jets) -> None:
    widths = []
    for weight in (25.0, 0.0):
        method = build(batch, variance=weight)
        train(method, hardest(batch), 40)
        with torch.no_grad():
            widths.append(float(method.projector(method.encoder(hardest(batch)).z).std(0).mean()))
    assert widths[1] < 0.2 * widths[0]
