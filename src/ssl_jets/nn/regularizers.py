"""SIGReg: how far a cloud of vectors is from an isotropic standard normal one, seen in random directions."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ssl_jets.nn.collectives import gather

LIMIT, POINTS = 4.0, 17
"""Frequencies t at which characteristic functions are compared: `POINTS` from 0 to `LIMIT`."""


def sigreg(values: Tensor, directions: Tensor) -> Tensor:
    """Sketched isotropic Gaussian regularisation (LeJEPA, arXiv:2511.08544), over the jets of all ranks.

        S = mean over directions a of
            integral over t of |mean over jets of exp(i t a.v) - exp(-t^2 / 2)|^2 exp(-t^2 / 2) dt

    which is the statistic of Epps and Pulley (1983) of each projection, divided by the number of jets, so that a batch
    of another size asks for the same. It is 0 for a standard normal distribution (1.06 / jets for a sample of one)
    and 0.41 where all vectors are 0. The integral is taken by the trapezoid rule.

    Args:
        values: `[jet, width]` of this rank; every rank has as many.
        directions: unit vectors `[width, direction]`, the same on all ranks.

    Returns:
        S, a scalar with gradient.
    """
    t = torch.linspace(0, LIMIT, POINTS, device=values.device)
    weights = torch.full_like(t, 2 * LIMIT / (POINTS - 1))  # twice: the integrand is even in t
    weights[[0, -1]] /= 2
    normal = (-t.square() / 2).exp()
    angle = (values.float() @ directions).unsqueeze(2) * t
    # Every rank has as many jets, so the mean over all jets is the mean of the ranks' means.
    found = gather(torch.stack([angle.cos().mean(0), angle.sin().mean(0)]).unsqueeze(0)).mean(0)
    distance = (found[0] - normal).square() + found[1].square()
    return (distance @ (weights * normal)).mean()


def sample_of_normal(jets: int) -> float:
    """The expectation of S for that many jets drawn from a standard normal distribution."""
    return math.sqrt(2 * math.pi) * (1 - 1 / math.sqrt(3)) / jets


def vicreg_terms(views: Tensor) -> tuple[Tensor, Tensor]:
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
