"""The spread of z against its definition and its known limits."""

import numpy as np
import pytest
import torch

from ssl_jets.diagnostics.representation import (
    alignment,
    dimension_std,
    distance,
    mean_cosine,
    participation_ratio,
    rankme,
    representation_statistics,
    uniformity,
    variation,
)


def z_of(jets: int, dimensions: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(jets, dimensions, generator=torch.Generator().manual_seed(seed))


def test_rankme_equals_the_paper_formula_on_the_singular_values() -> None:
    z = z_of(200, 12) * torch.arange(1, 13) + 0.5
    singular = np.linalg.svd(z.double().numpy(), compute_uv=False)
    p = singular / singular.sum() + 1e-7
    assert float(rankme(z)) == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-9)


@pytest.mark.parametrize("measure", [rankme, participation_ratio])
def test_an_isotropic_z_uses_all_dimensions_and_a_line_only_one(measure) -> None:
    assert float(measure(z_of(20_000, 16))) == pytest.approx(16, rel=0.01)
    line = z_of(500, 1) * torch.linspace(1, 2, 16)
    assert float(measure(line)) == pytest.approx(1, abs=1e-3)


def test_participation_ratio_is_blind_to_a_common_offset_and_rankme_is_not() -> None:
    z = z_of(2000, 8)
    assert float(participation_ratio(z + 100)) == pytest.approx(float(participation_ratio(z)), rel=1e-6)
    assert float(rankme(z + 100)) < 0.3 * float(rankme(z))


def test_mean_cosine_equals_the_loop_over_pairs() -> None:
    z = z_of(40, 5) + 0.7
    loop = [torch.cosine_similarity(z[i], z[j], dim=0) for i in range(40) for j in range(40) if i != j]
    assert float(mean_cosine(z)) == pytest.approx(float(torch.stack(loop).mean()), abs=1e-6)


def test_fewer_jets_than_dimensions_gives_at_most_as_many_directions() -> None:
    assert float(rankme(z_of(4, 64))) <= 4 + 1e-3


def test_a_collapsed_z_is_told_by_every_measure() -> None:
    found = representation_statistics(torch.ones(50, 6) * 3)
    assert found.std == 0
    assert found.dead == 6
    assert found.participation_ratio == 0
    assert found.rankme == pytest.approx(1, abs=1e-3)
    assert found.mean_cosine == pytest.approx(1)


def test_std_is_per_dimension_and_dead_ones_are_counted() -> None:
    z = z_of(4000, 4) * torch.tensor([1.0, 2.0, 3.0, 0.0])
    torch.testing.assert_close(dimension_std(z), torch.tensor([1.0, 2.0, 3.0, 0.0]), rtol=0.05, atol=1e-6)
    assert representation_statistics(z).dead == 1


def test_variation_is_the_share_of_the_length_that_differs() -> None:
    z = z_of(20_000, 9)
    assert float(variation(z)) == pytest.approx(1, abs=0.01)
    assert float(variation(z + 1)) == pytest.approx(0.5**0.5, abs=0.01)  # as much offset as spread
    assert float(variation(7 * (z + 1))) == pytest.approx(float(variation(z + 1)), rel=1e-6)
    assert float(variation(torch.ones(5, 3))) == 0
    unit = torch.nn.functional.normalize(z[:500] + 2, dim=1)
    assert 1 - float(variation(unit)) ** 2 == pytest.approx(float(mean_cosine(unit)), abs=2e-3)


def test_uniformity_and_alignment_equal_loops_over_centred_jets() -> None:
    z, other = z_of(30, 5) + 4, z_of(30, 5, seed=1) + 4

    def unit(rows: torch.Tensor, mean: torch.Tensor) -> list[torch.Tensor]:
        return [(row - mean) / (row - mean).norm() for row in rows]

    alone = unit(z, z.mean(0))
    pairs = [float((-2 * (a - b).square().sum()).exp()) for i, a in enumerate(alone) for b in alone[:i]]
    assert float(uniformity(z)) == pytest.approx(np.log(np.mean(pairs)), rel=1e-5)
    both = torch.cat([z, other]).mean(0)
    apart = [float((a - b).square().sum()) for a, b in zip(unit(z, both), unit(other, both), strict=True)]
    assert float(alignment(z, other)) == pytest.approx(np.mean(apart), rel=1e-5)


def test_alignment_is_0_for_the_same_and_2_for_unrelated_views_and_uniformity_falls_with_spread() -> None:
    z = z_of(2000, 32)
    assert float(alignment(z, z)) == 0
    assert float(alignment(z, z_of(2000, 32, seed=1))) == pytest.approx(2, abs=0.05)
    assert float(uniformity(z)) == pytest.approx(-4, abs=0.3)
    assert float(uniformity(torch.ones(50, 4))) == 0
    assert float(uniformity(z * torch.tensor([1.0] + [0.01] * 31))) > -1


def test_distance_is_in_units_of_the_spread_of_the_other() -> None:
    z = z_of(5000, 8)
    assert float(distance(z, z)) == 0
    assert float(distance(5 * z_of(5000, 8, seed=1), 5 * z)) == pytest.approx(2**0.5, abs=0.03)
    assert float(distance(z + 2, z)) == pytest.approx(2, abs=0.03)
    assert float(distance(3 * z, z)) == pytest.approx(2, rel=1e-3)


def test_views_are_of_the_first_jets_and_pairs_of_jets_from_all_of_an_ordered_sample() -> None:
    z, view = z_of(400, 4), z_of(50, 4, seed=1)
    found = representation_statistics(z, view)
    assert found.alignment == pytest.approx(float(alignment(z[:50], view)))
    ordered = z + torch.where(torch.arange(400) < 200, 9.0, -9.0).unsqueeze(1)
    assert float(uniformity(ordered, most=100)) == pytest.approx(float(uniformity(ordered)), rel=0.05)
