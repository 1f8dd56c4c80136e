"""Standardised targets: mean 0, variance 1, and blind to what all rows have in common."""

from __future__ import annotations

import pytest
import torch

from ssl_jets.nn.normalize import standardize, whiten


def some_rows(rows: int = 40) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(rows, 3, generator=generator) * torch.tensor([0.01, 1.0, 30.0]) + torch.tensor([5.0, 0.0, -9.0])


def test_every_column_has_mean_zero_and_variance_one() -> None:
    values = standardize(some_rows())
    torch.testing.assert_close(values.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(values.std(0, unbiased=False), torch.ones(3), atol=1e-3, rtol=0)


def test_an_offset_of_all_rows_and_the_scale_have_no_effect() -> None:
    rows = some_rows()
    torch.testing.assert_close(standardize(rows * 2 + 7), standardize(rows), atol=1e-3, rtol=1e-3)


def test_columns_that_do_not_vary_and_no_rows_at_all_stay_finite() -> None:
    rows = some_rows()
    rows[:, 1] = 2.0
    assert not standardize(rows)[:, 1].any()
    assert not standardize(rows[:1]).any()
    assert standardize(rows[:0]).shape == (0, 3)


def test_no_gradient_flows_through_a_target() -> None:
    assert not standardize(some_rows().requires_grad_()).requires_grad


def test_whitened_columns_are_uncorrelated_with_variance_one_however_unequal_they_were() -> None:
    rows = some_rows(500) @ torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.1, 0.3], [0.0, 0.0, 0.2]])
    covariance = torch.cov(whiten(rows, floor=1e-9).T, correction=0)
    torch.testing.assert_close(covariance, torch.eye(3), atol=1e-2, rtol=0)


def test_a_direction_below_the_floor_stays_small() -> None:
    rows = some_rows(500) * torch.tensor([100.0, 1.0, 1e-4])
    spread = whiten(rows, floor=0.01).std(0)
    assert spread[:2].tolist() == pytest.approx([1.0, 1.0], abs=0.02)
    assert float(spread[2]) < 0.05


def test_whitening_commutes_with_rotations() -> None:
    rows = some_rows(100)
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)))[0]
    torch.testing.assert_close(whiten(rows @ rotation), whiten(rows) @ rotation, atol=1e-4, rtol=1e-4)


def test_whitened_rows_that_are_all_alike_or_none_stay_finite() -> None:
    assert not whiten(torch.full((5, 3), 2.0)).any()
    assert whiten(some_rows()[:0]).shape == (0, 3)
