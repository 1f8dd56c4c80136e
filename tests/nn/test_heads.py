"""Projectors have the layers they say, do not see other jets, and cannot hide a constant in a bias."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ssl_jets.nn.heads import Projector, learned_columns


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_projector_has_that_many_linear_maps_with_norms_between(layers: int) -> None:
    projector = Projector(4, 8, 6, layers)
    assert sum(isinstance(layer, nn.Linear) for layer in projector) == layers
    assert sum(isinstance(layer, nn.LayerNorm) for layer in projector) == layers - 1
    assert projector(torch.randn(5, 4)).shape == (5, 6)
    assert projector[-1].bias is None


def test_an_impact_parameter_is_learned_together_with_its_own_uncertainty() -> None:
    kinds = ("charge", "kind")
    assert learned_columns([*kinds, "d0", "d0err", "dz"]) == (*kinds, "d0", "d0err")
    assert learned_columns([*kinds, "d0", "dz", "dzerr"]) == (*kinds, "dz", "dzerr")


def test_no_layers_are_the_identity() -> None:
    z = torch.randn(5, 4)
    projector = Projector(4, 8, 4, 0)
    assert projector(z) is z
    assert not list(projector.parameters())


def test_a_jet_is_projected_alike_in_every_batch_and_mode() -> None:
    torch.manual_seed(0)
    projector, z = Projector(4, 8, 6, 3), torch.randn(5, 4)
    together = projector(z)
    torch.testing.assert_close(projector(z[2:3])[0], together[2])
    assert torch.equal(projector.eval()(z), together)
