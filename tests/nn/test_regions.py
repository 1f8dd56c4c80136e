"""Regions of (deta, dphi): hidden particles, and their names."""

from __future__ import annotations

import pytest
import torch

from ssl_jets.jets import Jets
from ssl_jets.nn import masking
from support.small_models import made_jets


def test_one_region_is_the_nearest_particles_to_one_of_them(sample_jets: Jets) -> None:
    batch = sample_jets.select(torch.arange(64))
    torch.manual_seed(0)
    hidden = masking.hide_regions(batch, 1, 0.25)
    contiguous = 0
    for jet in range(len(batch)):
        rows = slice(int(batch.offsets[jet]), int(batch.offsets[jet + 1]))
        mask = hidden[rows]
        assert int(mask.sum()) == round(0.25 * len(mask))
        place = torch.stack([batch.column("deta")[rows], batch.column("dphi")[rows]], dim=1).double()
        distance = (place[:, None] - place[None]).norm(dim=2)
        # From the centre of the region every hidden particle is nearer than all seen ones, but the one that stays.
        contiguous += any(
            bool(mask[centre]) and int((distance[centre, ~mask] < distance[centre, mask].max()).sum()) <= 1
            for centre in range(len(mask))
        )
    assert contiguous == len(batch)


def test_several_regions_hide_more_and_never_a_whole_jet() -> None:
    jets = made_jets([1, 2, 3, 4, 30, 60] * 10)
    torch.manual_seed(0)
    one, many = masking.hide_regions(jets, 1, 0.3), masking.hide_regions(jets, 8, 0.3)
    hidden = [jets.keep(mask).lengths for mask in (one, many)]
    assert (hidden[0][jets.lengths > 1] >= 1).all()
    assert (hidden[1] < jets.lengths).all()
    assert hidden[0][jets.lengths == 1].tolist() == [0] * 10
    assert int(hidden[1].sum()) > 1.5 * int(hidden[0].sum())


def test_the_name_of_a_place_distinguishes_neighbours_and_nothing_else() -> None:
    jets = made_jets([20])
    hidden = torch.ones(20, dtype=torch.bool)
    names = masking.hidden_position(jets, hidden)
    assert names.shape == (20, 4 * masking.POSITION_WAVES)
    particles = jets.particles.clone()
    particles[:, [column for column, name in enumerate(jets.columns) if name not in ("deta", "dphi")]] += 1
    assert torch.equal(masking.hidden_position(Jets(particles, jets.offsets), hidden), names)
    particles = jets.particles.clone()
    particles[0, jets.columns.index("dphi")] += 0.01
    moved = masking.hidden_position(Jets(particles, jets.offsets), hidden)
    assert float((moved - names).norm(dim=1)[0]) > 0.5
    assert torch.equal(moved[1:], names[1:])


@pytest.mark.parametrize("column", ["deta", "dphi"])
def test_no_two_places_of_a_jet_have_the_same_name(column: str) -> None:
    grid = torch.linspace(-1, 1, 201)
    particles = torch.zeros(201, 10)
    particles[:, Jets(particles, torch.tensor([0, 201])).columns.index(column)] = grid
    names = masking.hidden_position(Jets(particles, torch.tensor([0, 201])), torch.ones(201, dtype=torch.bool))
    distance = torch.cdist(names, names) + 10 * torch.eye(201)
    assert float(distance.min()) > 0.3


def test_a_region_goes_over_pi() -> None:
    particles = [[3.0, 0.0, torch.pi - 0.05], [1.0, 0.0, -torch.pi + 0.05]]
    found = masking.distance_to_one(Jets.of([particles], columns=("pt", "deta", "dphi")))
    torch.testing.assert_close(found.sort().values, torch.tensor([0.0, 0.1]), atol=1e-5, rtol=0)
