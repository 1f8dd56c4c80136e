"""The reversed gradient, and a discriminator that an encoder learns to deceive."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ssl_jets.nn.domain.adversary import Discriminator, ramp, reverse_gradient


def cloud(jets: int, shift: float, seed: int, width: int = 4) -> torch.Tensor:
    normal = torch.randn(jets, width, generator=torch.Generator().manual_seed(seed))
    return normal + shift * torch.tensor([1.0, *[0.0] * (width - 1)])


def test_it_is_the_identity_forward_and_minus_the_scale_backward() -> None:
    values = cloud(5, 0.0, 0).requires_grad_()
    assert torch.equal(reverse_gradient(values, 0.3), values)
    (reverse_gradient(values, 0.3) ** 2).sum().backward()
    torch.testing.assert_close(values.grad, -0.3 * 2 * values.detach())


def test_lambda_goes_from_zero_to_one_by_the_formula_of_the_paper() -> None:
    assert ramp(0.0, 10) == 0
    assert ramp(1.0, 10) == pytest.approx(1, abs=1e-3)
    assert ramp(0.3, 10) == pytest.approx(2 / (1 + math.exp(-3)) - 1)
    assert ramp(0.3, 10) == pytest.approx(math.tanh(1.5))


def test_the_loss_is_the_mean_over_domains_of_the_mean_over_jets() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(4, 8)
    source, target = cloud(7, 0.0, 1), cloud(3, 1.0, 2)
    loss, right = discriminator(source, target, 1.0)
    p = [discriminator.layers(z).sigmoid()[:, 0].tolist() for z in (source, target)]
    expected = [-sum(math.log(1 - q) for q in p[0]) / 7, -sum(math.log(q) for q in p[1]) / 3]
    assert float(loss.detach()) == pytest.approx(sum(expected) / 2, rel=1e-5)
    assert float(right) == pytest.approx((sum(q < 0.5 for q in p[0]) / 7 + sum(q > 0.5 for q in p[1]) / 3) / 2)


def test_only_the_gradient_of_z_is_reversed() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(4, 8)
    found = []
    for scale in (1.0, -1.0):  # -1: no reversal
        source = cloud(8, 0.0, 1).requires_grad_()
        discriminator.zero_grad()
        discriminator(source, cloud(8, 1.0, 2), scale)[0].backward()
        weight = discriminator.layers[0].weight.grad
        assert weight is not None
        assert source.grad is not None
        found.append((source.grad, weight.clone()))
    torch.testing.assert_close(found[0][0], -found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1])


def test_an_encoder_learns_to_hide_the_domain_and_keeps_the_rest() -> None:
    """Of two numbers one tells the domain: the encoder gives it up, since the discriminator reads it."""
    torch.manual_seed(0)
    encoder, discriminator = nn.Linear(4, 2, bias=False), Discriminator(2, 16)
    encoder.weight.data.copy_(torch.eye(2, 4))

    def accuracy(steps: int, scale: float) -> float:
        optimizer = torch.optim.Adam([*discriminator.parameters(), *encoder.parameters()], lr=0.01)
        rights = []
        for step in range(steps):
            source, target = cloud(128, 0.0, 2 * step), cloud(128, 3.0, 2 * step + 1)
            loss, right = discriminator(encoder(source), encoder(target), scale)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rights.append(float(right))
        return sum(rights[-20:]) / 20

    assert accuracy(150, 0.0) > 0.85
    assert accuracy(400, 1.0) < 0.65
    assert float(encoder.weight.detach()[:, 1:].norm()) > 0.3
