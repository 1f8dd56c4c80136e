"""Prototypes: cosines, centred and balanced shares."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ssl_jets.nn.prototypes import PrototypeHead, centred, sinkhorn


def some_cosines(jets: int = 12, prototypes: int = 4, favourite: float = 0.0) -> Tensor:
    cosines = torch.rand(jets, prototypes, generator=torch.Generator().manual_seed(0)) * 0.2
    cosines[:, 0] += favourite
    return cosines


def test_the_head_gives_cosines_whatever_the_length_of_a_prototype() -> None:
    torch.manual_seed(0)
    head, z = PrototypeHead(6, 16, 5, 7), torch.randn(9, 6)
    cosines = head(z)
    projected = head.projector(z)
    expected = torch.cosine_similarity(projected[3], head.prototypes[2], dim=0)
    torch.testing.assert_close(cosines[3, 2], expected)
    head.prototypes.data *= 3
    torch.testing.assert_close(head(z), cosines)


def test_centred_shares_are_a_softmax_without_the_mean_of_all_jets() -> None:
    cosines, centre = some_cosines(), torch.tensor([0.3, 0.1, 0.0, -0.2])
    shares = centred(cosines, centre, 0.1)
    weights = [math.exp((float(cosines[5, k]) - float(centre[k])) / 0.1) for k in range(4)]
    torch.testing.assert_close(shares[5], torch.tensor(weights) / sum(weights))


def test_sinkhorn_scales_columns_and_rows_in_turn() -> None:
    cosines = some_cosines()
    table = [[math.exp(float(x) / 0.1) for x in row] for row in cosines]
    for _ in range(3):
        columns = [sum(row[k] for row in table) for k in range(4)]
        table = [[x / columns[k] for k, x in enumerate(row)] for row in table]
        table = [[x / sum(row) for x in row] for row in table]
    torch.testing.assert_close(sinkhorn(cosines, 0.1, rounds=3), torch.tensor(table))


def test_sinkhorn_uses_every_prototype_alike_also_where_all_jets_prefer_one() -> None:
    cosines = some_cosines(jets=200, favourite=0.8)
    assert centred(cosines, torch.zeros(4), 0.04).mean(0)[0] > 0.99
    shares = sinkhorn(cosines, 0.04, rounds=10)
    torch.testing.assert_close(shares.sum(1), torch.ones(200))
    torch.testing.assert_close(shares.mean(0), torch.full((4,), 0.25), atol=0.02, rtol=0)


def test_sinkhorn_of_a_small_temperature_stays_finite() -> None:
    shares = sinkhorn(some_cosines(favourite=0.8), 1e-3)
    assert shares.isfinite().all()
