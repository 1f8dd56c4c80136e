"""Distances between z of two domains, as losses: second moments (CORAL), and a kernel distance (MMD).

Both use the jets of all ranks, so that several ranks have the gradient of the joined batch; every rank must have the
same number of jets of each domain.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ssl_jets.nn.collectives import gather

SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Squared widths of the kernels of the MMD, in units of the mean squared distance of two jets."""


def coral(source: Tensor, target: Tensor) -> Tensor:
    """Compute Deep CORAL (Sun, Saenko, arXiv:1607.01719): |C_S - C_T|_F^2 / (4 d^2), C the covariances (divisor n - 1).

    Args:
        source: `[jet, d]`, at least two jets.
        target: `[jet, d]`, at least two jets.

    Returns:
        A scalar with gradient, in units of z^4.
    """
    difference = _covariance(gather(source.float())) - _covariance(gather(target.float()))
    return difference.square().sum() / (4 * source.shape[1] ** 2)


def mmd(source: Tensor, target: Tensor, scales: Sequence[float]) -> Tensor:
    """Compute the unbiased squared MMD with several Gaussian kernels (Long et al., arXiv:1502.02791).

        mean over i != j of k(s_i, s_j) + mean over i != j of k(t_i, t_j) - 2 mean over i, j of k(s_i, t_j)
        k(x, y) = mean over scales c of exp(-|x - y|^2 / (2 c h)),    h the mean |x - y|^2 of all pairs

    The paper uses an estimate of linear time and learns the weights of the kernels; here all pairs of a batch are used
    with equal weights of the kernels. h has no gradient, so z cannot reduce the distance by a change of scale. The
    expectation is 0 for equal distributions, so a value can be negative.

    Args:
        source: `[jet, d]`, at least two jets.
        target: `[jet, d]`, at least two jets.
        scales: c of each kernel.
    """
    source, target = gather(source.float()), gather(target.float())
    kernels, first = kernel(torch.cat([source, target]), scales), len(source)
    parts = (kernels[:first, :first], kernels[first:, first:])
    same = [(part.sum() - part.diagonal().sum()) / (len(part) * (len(part) - 1)) for part in parts]
    return same[0] + same[1] - 2 * kernels[:first, first:].mean()


def kernel(z: Tensor, scales: Sequence[float]) -> Tensor:
    """Compute the kernel of `mmd` between all pairs of jets of z `[jet, d]`, `[jet, jet]`."""
    # |x - y|^2 from float32 products loses digits if z has a large common offset: subtract it first.
    z = z - z.detach().mean(0)
    square = z.square().sum(1)
    with torch.autocast(z.device.type, enabled=False):  # differences of squares need float32
        distance = (square[:, None] + square[None, :] - 2 * z @ z.T).clamp(min=0)
    ruler = 2 * square.detach().sum() / max(1, len(z) - 1)
    ruler = ruler.clamp(min=torch.finfo(z.dtype).tiny)
    total = torch.zeros_like(distance)
    for scale in scales:
        total = total + (-distance / (2 * scale * ruler)).exp()
    return total / len(scales)


def _covariance(z: Tensor) -> Tensor:
    centred = z - z.mean(0)
    with torch.autocast(z.device.type, enabled=False):
        return centred.T @ centred / (len(z) - 1)
