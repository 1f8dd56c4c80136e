"""What keeps a cloud of vectors from collapsing: every dimension varies, and no two say the same (VICReg)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def spread_terms(views: Tensor) -> tuple[Tensor, Tensor]:
    """Variance and covariance terms of VICReg (arXiv:2105.04906, Algorithm 1).

        v = mean over dimensions of max(0, 1 - sqrt(Var + 1e-4)),    Var over the jets
        c = sum over pairs of different dimensions of Cov^2 / D

    Args:
        views: float32 `[jet, D]` of the jets of all ranks; the covariance of a single jet is zero.

    Returns:
        v and c, scalars with gradient.
    """
    with torch.autocast(views.device.type, enabled=False):
        centred = views - views.mean(0)
        covariance = centred.T @ centred / max(len(views) - 1, 1)
    variance = covariance.diagonal()
    hinge = nn.functional.relu(1 - (variance + 1e-4).sqrt()).mean()
    return hinge, (covariance.square().sum() - variance.square().sum()) / views.shape[1]
