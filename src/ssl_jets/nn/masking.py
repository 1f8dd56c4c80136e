"""Which particles a mask hides, and how a hidden particle is named. Once, for all methods."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_jets.jets import Jets


def scores(jets: Jets) -> Tensor:
    """A uniform random number for each particle, float64 `[particle]`: the only chance in a mask."""
    return torch.rand(len(jets.particles), dtype=torch.float64, device=jets.particles.device)


def hide_random(jets: Jets, ratio: float) -> Tensor:
    """Hide a random share of each jet's particles.

    A jet of n particles loses round(n * ratio) of them, at least one and never all; a jet of one particle keeps it.

    Args:
        jets: the jets.
        ratio: share to hide, between 0 and 1.

    Returns:
        bool `[particle]`, true where hidden.
    """
    lengths = jets.lengths
    hide = (lengths * ratio).round().long().clamp(min=1).minimum(lengths - 1)
    owner = jets.jet_of_particle
    order = torch.argsort(owner + scores(jets))
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device) - jets.offsets[owner]
    return rank < hide[owner]


def hidden_rank(jets: Jets, hidden: Tensor) -> Tensor:
    """The name of each hidden particle: its pt rank among the hidden ones only, int64 `[hidden particle]`.

    A set has no positions, so a decoder must be told which particle it is to predict. The rank in the full jet would
    leak pt, since the visible particles on either side bracket it.
    """
    return jets.keep(hidden).rank_by_pt()
