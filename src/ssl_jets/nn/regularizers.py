"""Terms of losses over a batch: SIGReg (LeJEPA), variance and covariance (VICReg), similarities (SimCLR, SupCon)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssl_jets.nn.collectives import gather, rank

LIMIT, POINTS = 4.0, 17
"""Frequencies t of the characteristic functions: `POINTS` from 0 to `LIMIT`."""


def sigreg(values: Tensor, directions: Tensor) -> Tensor:
    """Compute SIGReg, sketched isotropic Gaussian regularization (LeJEPA, arXiv:2511.08544), over all ranks.

        S = mean over directions a of
            integral over t of |mean over jets of exp(i t a.v) - exp(-t^2 / 2)|^2 exp(-t^2 / 2) dt

    which is the statistic of Epps and Pulley (1983) of each projection, divided by the number of jets, so that its
    expectation does not scale with the batch size. It is 0 for a standard normal distribution (1.06 / jets for a sample
    of it) and 0.41 if all vectors are 0. The integral is computed by the trapezoid rule.

    Args:
        values: `[jet, width]` of this rank; every rank has equally many jets.
        directions: unit vectors `[width, direction]`, the same on all ranks.

    Returns:
        S, a scalar with gradient.
    """
    t = torch.linspace(0, LIMIT, POINTS, device=values.device)
    weights = torch.full_like(t, 2 * LIMIT / (POINTS - 1))  # twice: the integrand is even in t
    weights[[0, -1]] /= 2
    normal = (-t.square() / 2).exp()
    with torch.autocast(values.device.type, enabled=False):
        angle = (values.float() @ directions).unsqueeze(2) * t  # [jet, direction, t]
    # Every rank has equally many jets, so the mean over all jets is the mean of the ranks' means.
    parts = gather(torch.stack([angle.cos().mean(0), angle.sin().mean(0)]).unsqueeze(0)).mean(0)
    distance = (parts[0] - normal).square() + parts[1].square()  # of real and imaginary part, [direction, t]
    with torch.autocast(values.device.type, enabled=False):
        return (distance @ (weights * normal)).mean()


def vicreg_terms(views: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the variance and covariance terms of VICReg (arXiv:2105.04906, Algorithm 1).

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


def similarities(first: Tensor, second: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Compute cosines over the temperature between own and all views, and the column of each view's partner.

    Args:
        first: projections of one view of the jets of this rank, `[jet, out]`.
        second: projections of the other view, `[jet, out]`.
        temperature: t.

    Returns:
        float32 `[2 jets, 2 jets of all ranks]`, first views before second ones, minus infinity for a view with itself;
        int64 `[2 jets]`.
    """
    with torch.autocast(first.device.type, enabled=False):  # a cosine in bfloat16 is off by .004 / t
        first = nn.functional.normalize(first.float(), dim=1)
        second = nn.functional.normalize(second.float(), dim=1)
        all_views = torch.cat([gather(first), gather(second)])
        logits = torch.cat([first, second]) @ all_views.T / temperature
    jets = len(first)
    index = rank() * jets + torch.arange(jets, device=first.device)
    # 3 jets on one rank: view i has itself in column [0 1 2 3 4 5], its partner in column [3 4 5 0 1 2].
    itself = torch.cat([index, index + len(all_views) // 2])
    return logits.scatter(1, itself.unsqueeze(1), -torch.inf), itself.roll(jets)
