"""Distances in the plane of eta and phi."""

from __future__ import annotations

import torch
from torch import Tensor


def delta_r(deta: Tensor, dphi: Tensor) -> Tensor:
    """Return dR = sqrt(deta^2 + dphi^2) with dphi the shorter way around, for |dphi| up to a full turn.

    Example:
        >>> f"{delta_r(torch.tensor(0.0), torch.tensor(6.2)):.3f}"
        '0.083'
    """
    turn = dphi.abs()
    return torch.hypot(deta, torch.minimum(turn, 2 * torch.pi - turn))
