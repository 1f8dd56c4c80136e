"""Which particles a mask hides, and how a hidden particle is named. Once, for all methods."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ssl_jets.errors import DataError
from ssl_jets.jets import KINDS, Jets
from ssl_jets.nn import random

Strategy = Literal["random", "region", "pt", "kind"]
"""Names of the masks that `hide` can draw."""


def hide(jets: Jets, strategy: Strategy, ratio: float) -> Tensor:
    """Hide particles of each jet by a named strategy: at least one and never all; a jet of one particle keeps it.

    - `random`: each particle alike, round(n * ratio) of n.
    - `region`: as many, the nearest in (deta, dphi) to one particle chosen by chance.
    - `pt`: particles in random order until they hold the share `ratio` of the jet's pt.
    - `kind`: whole kinds of particle in random order, until round(n * ratio) are hidden; the last kind in part.

    Args:
        jets: the jets.
        strategy: which of these.
        ratio: share to hide, between 0 and 1.

    Returns:
        bool `[particle]`, true where hidden.

    Raises:
        DataError: the jets have no column that the strategy needs.
    """
    owner = jets.jet_of_particle
    if strategy == "pt":
        order = jets.rank_within(random.uniform(jets))
        before = _sum_before(jets, order, jets.column("pt"))
        total = jets.sum(jets.column("pt"))[owner]
        wanted = (before < ratio * total) & (order < jets.lengths[owner] - 1)
        return wanted | ((order == 0) & (jets.lengths[owner] > 1))
    if strategy == "random":
        key = random.uniform(jets)
    elif strategy == "region":
        key = distance_to_one(jets)
    else:
        if "kind" not in jets.columns:
            raise DataError("the mask `kind` needs the kind of the particles, and these files lack it")
        turn = torch.stack([random.uniform_per_jet(jets) for _ in KINDS], dim=1)
        key = turn[owner, jets.column("kind").long()] + 1e-6 * random.uniform(jets)
    count = (jets.lengths * ratio).round().long().clamp(min=1).minimum(jets.lengths - 1)
    return jets.rank_within(key) < count[owner]


def distance_to_one(jets: Jets) -> Tensor:
    """Distance dR of each particle to one of its jet chosen by chance, `[particle]`."""
    centre = jets.rank_within(random.uniform(jets)) == 0
    deta, dphi = (jets.column(name) - jets.column(name)[centre][jets.jet_of_particle] for name in ("deta", "dphi"))
    return torch.hypot(deta, dphi)


def hide_regions(jets: Jets, regions: int, ratio: float) -> Tensor:
    """Hide the union of several regions of each jet: each the particles nearest in (deta, dphi) to one drawn by chance.

    Regions may overlap. One particle of each jet, chosen by chance, always stays, so that no jet is hidden whole.

    Args:
        jets: the jets.
        regions: how many.
        ratio: share of the jet's particles in each region, between 0 and 1.

    Returns:
        bool `[particle]`, true where hidden.
    """
    stays = jets.rank_within(random.uniform(jets)) == 0
    count = (jets.lengths * ratio).round().long().clamp(min=1).minimum(jets.lengths - 1)[jets.jet_of_particle]
    hidden = torch.zeros_like(stays)
    for _ in range(regions):
        hidden |= jets.rank_within(distance_to_one(jets).masked_fill(stays, torch.inf)) < count
    return hidden


def hidden_pt_rank(jets: Jets, hidden: Tensor) -> Tensor:
    """The name of each hidden particle: its pt rank among the hidden ones only, int64 `[hidden particle]`.

    A set has no positions, so a decoder must be told which particle it is to predict. The rank in the full jet would
    leak pt, since the visible particles on either side bracket it.
    """
    return jets.keep(hidden).rank_by_pt()


POSITION_WAVES = 8
"""Wavelengths of `hidden_position`, 4 down to 0.03 by factors of two."""


def hidden_position(jets: Jets, hidden: Tensor) -> Tensor:
    """Another name of each hidden particle: where it is, float `[hidden particle, 4 POSITION_WAVES]`.

    Sines and cosines of deta and dphi, since directions in the core of a jet differ by hundredths.
    """
    place = torch.stack([jets.column("deta"), jets.column("dphi")], dim=1)[hidden]
    turns = torch.arange(POSITION_WAVES, device=place.device).exp2() * (torch.pi / 2)
    phase = (place.unsqueeze(2) * turns).flatten(1)
    return torch.cat([phase.sin(), phase.cos()], dim=1)


def _sum_before(jets: Jets, order: Tensor, values: Tensor) -> Tensor:
    """For each particle the sum of `values` over those of its jet that come before it in `order` (rank in the jet)."""
    place = jets.offsets[:-1][jets.jet_of_particle] + order
    arranged = torch.empty_like(values, dtype=torch.float64)
    arranged[place] = values.double()
    running = arranged.cumsum(0) - arranged
    return (running - running[jets.offsets[:-1]][jets.jet_of_particle])[place]
