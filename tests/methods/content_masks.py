"""Masks that are a function of the particles, so that reordered and cut batches hide the same ones."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_jets.jets import Jets


def scores_from_pt(jets: Jets) -> Tensor:
    """In the place of `masking.scores`: a number from 0 to 1 that is fixed by the pt of the particle."""
    return (torch.sin(jets.column("pt").double() * 12.9898) * 43758.5453).frac().abs()
