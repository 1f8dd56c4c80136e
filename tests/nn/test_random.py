"""The draws have the distributions they are named after."""

from __future__ import annotations

import pytest
import torch

from ssl_jets.nn import random
from support.small_models import made_jets


def test_uniform_numbers_are_uniform_one_for_each_particle_or_jet() -> None:
    jets = made_jets([10] * 2000)
    torch.manual_seed(0)
    for drawn, count in ((random.uniform(jets), 20_000), (random.uniform_per_jet(jets), 2000)):
        assert drawn.shape == (count,)
        assert drawn.dtype == torch.float64
        assert drawn.min() >= 0
        assert drawn.max() < 1
        assert (drawn.histc(10, 0, 1) / count - 0.1).abs().max() < 5 * (0.09 / count) ** 0.5
    numbers = torch.tensor([random.once() for _ in range(2000)])
    assert float(numbers.mean()) == pytest.approx(0.5, abs=0.03)
    assert 0 <= numbers.min() <= numbers.max() < 1


def test_normal_numbers_are_standard_normal_and_their_columns_independent() -> None:
    jets = made_jets([10] * 2000)
    torch.manual_seed(0)
    for drawn, count in ((random.normal(jets, 3), 20_000), (random.normal_per_jet(jets, 3), 2000)):
        assert drawn.shape == (count, 3)
        assert drawn.dtype == torch.float32
        assert drawn.mean(0).abs().max() < 5 / count**0.5
        torch.testing.assert_close(torch.cov(drawn.T), torch.eye(3), atol=8 / count**0.5, rtol=0)
        assert float((drawn.abs() < 1).float().mean()) == pytest.approx(0.6827, abs=0.02)


def test_normal_numbers_are_finite_at_the_ends_of_the_uniform_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (0.0, 1 - 2**-53):
        monkeypatch.setattr(random, "uniform", lambda jets, value=value: torch.full((2,), value).double())
        assert random.normal(made_jets([2]), 1).isfinite().all()
