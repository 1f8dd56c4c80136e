"""The views `beam` and `thin`: numbers they forget and numbers they leave."""

from __future__ import annotations

from dataclasses import replace

import torch

from ssl_jets.jets import Jets
from ssl_jets.nn.augment import beam, thin
from support.small_models import made_jets


def test_beam_forgets_the_energies_and_leaves_all_else() -> None:
    jets = made_jets([30, 1, 7])
    energy = jets.columns.index("energy")
    other = replace(jets, particles=jets.particles.clone())
    other.particles[:, energy] *= 3
    views = []
    for original in (jets, other):
        torch.manual_seed(0)
        views.append(beam(original, 2.0).particles)
    assert torch.equal(views[0], views[1])
    changed = (views[0] != jets.particles).any(0)
    assert torch.nonzero(changed)[:, 0].tolist() == [energy]


def test_beam_gives_massless_particles_of_one_axis_within_the_strength() -> None:
    jets = made_jets([20] * 200)
    view = beam(jets, 2.0)
    ratio = (view.column("energy") / view.column("pt")).double().view(200, 20)
    deta = view.column("deta").double().view(200, 20)
    foremost = deta.argmax(1, keepdim=True)
    axis = ratio.gather(1, foremost).acosh() - deta.gather(1, foremost)
    torch.testing.assert_close(ratio, (axis + deta).cosh(), atol=1e-4, rtol=1e-4)
    assert -1e-3 < axis.min() < 0.1
    assert 1.9 < axis.max() < 2.001


def test_beam_leaves_jets_without_energy_alone(sample_jets: Jets) -> None:
    jets = sample_jets.select(torch.arange(4))
    kept = [index for index, name in enumerate(jets.columns) if name != "energy"]
    jets = replace(jets, particles=jets.particles[:, kept], columns=tuple(jets.columns[index] for index in kept))
    assert beam(jets, 2.0) is jets


def test_thin_keeps_at_least_its_share_of_hard_and_soft_particles_alike() -> None:
    jets = made_jets([40] * 300 + [1, 2])
    torch.manual_seed(0)
    view = thin(jets, 0.5)
    share = view.lengths[:300] / 40
    assert share.min() >= 0.5
    assert share.max() > 0.95
    assert view.lengths[300] == 1
    assert view.lengths[301] >= 1
    torch.testing.assert_close(view.column("pt").log().mean(), jets.column("pt").log().mean(), atol=0.05, rtol=0)
