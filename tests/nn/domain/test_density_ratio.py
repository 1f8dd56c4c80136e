"""Weights of densities whose ratio is known: two normal clouds that are shifted."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from ssl_jets.nn.domain.density_ratio import DensityRatio

SHIFT = torch.tensor([0.6, 0.0, -0.3, 0.0], dtype=torch.float64)


def cloud(jets: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(jets, 4, generator=generator, dtype=torch.float64) + shift * SHIFT


def fitted(clip: float = 1e6, shift: float = 1.0, target: int = 20000) -> DensityRatio:
    ratio = DensityRatio(4, clip)
    ratio.fit(cloud(20000, 0), cloud(target, 1, shift))
    return ratio


@pytest.mark.parametrize("target", [20000, 4000])
def test_the_weights_are_the_ratio_of_the_densities_whatever_the_number_of_jets(target: int) -> None:
    z = cloud(500, 2)
    expected = (z @ SHIFT - SHIFT.square().sum() / 2).exp()
    torch.testing.assert_close(fitted(target=target)(z).double(), expected, rtol=0.2, atol=0.1)


def test_weighted_source_jets_have_the_mean_of_the_target() -> None:
    z = cloud(20000, 5)
    weights = fitted()(z).double()
    assert float(weights.mean()) == pytest.approx(1, abs=0.03)
    torch.testing.assert_close((weights[:, None] * z).mean(0), SHIFT, atol=0.05, rtol=0)


@pytest.mark.parametrize("unit", [1.0, 1e-13])
def test_with_weights_that_make_the_source_the_target_there_is_nothing_left_to_correct(unit: float) -> None:
    source, target = cloud(20000, 0), cloud(20000, 1, 1.0)
    own = unit * (source @ SHIFT).exp()
    ratio = DensityRatio(4, 1e6)
    found = ratio.fit(source, target, own)
    product = own * ratio(source)
    torch.testing.assert_close((product @ source) / product.sum(), SHIFT, atol=0.05, rtol=0)
    assert float(product.sum() / own.sum()) == pytest.approx(1, abs=0.02)
    assert found.right == pytest.approx(0.5, abs=0.02)
    # Of the product, since both are in the loss.
    assert found.effective == pytest.approx(math.exp(-float(SHIFT.square().sum())), rel=0.1)


def test_weights_are_numbers_of_copies() -> None:
    source, target, copies = cloud(400, 0), cloud(400, 1, 1.0), torch.arange(400) // 2 % 2 + 1  # 1 1 2 2
    ratios = DensityRatio(4, 1e6), DensityRatio(4, 1e6)
    ratios[0].fit(source, target, copies)
    pairs = source.view(200, 2, 4)
    ratios[1].fit(torch.cat([pairs, pairs[1::2]]).flatten(0, 1), target)
    z = cloud(100, 3)
    torch.testing.assert_close(ratios[0](z), ratios[1](z), rtol=0.05, atol=0)


@pytest.mark.parametrize("scale", [1.0, 1e-9])
def test_it_is_the_regression_of_scikit_learn(scale: float) -> None:
    source, target = scale * cloud(400, 0), scale * cloud(400, 1, 1.0)
    ratio = DensityRatio(4, 1e6)
    ratio.fit(source, target)
    joined = torch.cat([source[::2], target[::2]])
    x = (joined - joined.mean(0)) / joined.std(0)
    reference = LogisticRegression(C=1.0, tol=1e-8).fit(x.numpy(), [0] * 200 + [1] * 200)
    expected = torch.from_numpy(reference.decision_function(x.numpy())).exp()
    torch.testing.assert_close(ratio(joined).double() * ratio.scale, expected, rtol=1e-3, atol=1e-4)


def test_the_effective_sample_is_that_of_the_shift_and_whole_without_one() -> None:
    ratio = DensityRatio(4, 1e6)
    found = ratio.fit(cloud(40000, 0), cloud(40000, 1, 1.0))
    assert found.effective == pytest.approx(math.exp(-float(SHIFT.square().sum())), rel=0.1)
    assert found.clipped == 0
    none = ratio.fit(cloud(40000, 0), cloud(40000, 1))
    assert none.effective > 0.99
    assert none.right == pytest.approx(0.5, abs=0.02)
    assert found.right > 0.6


def test_no_weight_is_beyond_the_clip_and_their_mean_is_one() -> None:
    ratio = DensityRatio(4, 2.0)
    found = ratio.fit(cloud(20000, 0), cloud(20000, 1, 3.0))
    weights = ratio(cloud(20000, 0)[1::2])
    assert found.clipped > 0.3
    assert float(weights.mean()) == pytest.approx(1, abs=1e-5)
    assert float(weights.max() / weights.min()) == pytest.approx(4, rel=1e-4)


def test_the_weights_have_no_gradient() -> None:
    z = cloud(5, 3).requires_grad_()
    assert not fitted()(z).requires_grad
