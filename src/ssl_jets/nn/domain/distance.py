"""Distances between z of two domains, as losses: second moments (CORAL), a kernel distance (MMD), optimal transport.

All use the jets of all ranks, so that several ranks have the gradient of the joined batch; every rank must have the
same number of jets of each domain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ssl_jets.nn.collectives import gather

SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Squared widths of the kernels of the MMD, in units of the mean squared distance of two jets."""
ITERATIONS = 10
"""Iterations of `sinkhorn` times its regularization: the smaller, the slower they converge."""
HALVINGS = 20
"""Iterations of `sinkhorn` within one sample: each halves the error at least, near convergence."""


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
    distance, ruler = _squared_distances(z)
    ruler = ruler.detach()
    total = torch.zeros_like(distance)
    for scale in scales:
        total = total + (-distance / (2 * scale * ruler)).exp()
    return total / len(scales)


def sinkhorn(source: Tensor, target: Tensor, regularization: float) -> Tensor:
    """Compute the Sinkhorn divergence: entropic optimal transport without its bias (Feydy et al., arXiv:1810.08278).

        OT(s, t) - OT(s, s) / 2 - OT(t, t) / 2
        OT(x, y) = min over plans P of  sum over i, j of P_ij |x_i - y_j|^2 / h  +  regularization KL(P | 1 / (n m))

    The rows of P have the sum 1 / n and its columns 1 / m; h is the mean squared distance of all pairs. It has a
    gradient, so the loss is the same for every scale of z: with a constant h, unlike the width of the bounded kernels
    of `mmd`, the transport pulls all jets into one point. Small regularization: the squared Wasserstein distance in
    units of h; large: the squared distance of the means. 0 for equal samples and above 0 for others, two samples of
    one distribution included.

    Args:
        source: `[jet, d]`.
        target: `[jet, d]`.
        regularization: of the plans, in units of h.
    """
    source, target = gather(source.float()), gather(target.float())
    distance, ruler = _squared_distances(torch.cat([source, target]))
    cost, first = distance / (regularization * ruler), len(source)
    fixed = cost.detach()
    f, g = fixed.new_zeros(len(source)), fixed.new_zeros(len(target))
    of_source, of_target = f, g  # the two potentials of a sample with itself are equal
    for _ in range(math.ceil(ITERATIONS / regularization)):
        f = _potential(fixed[:first, first:], g)
        g = _potential(fixed[first:, :first], f)
    for _ in range(HALVINGS):
        of_source = (of_source + _potential(fixed[:first, :first], of_source)) / 2
        of_target = (of_target + _potential(fixed[first:, first:], of_target)) / 2
    across = _dual(cost[:first, first:], f, g)
    same = _dual(cost[:first, :first], of_source, of_source) + _dual(cost[first:, first:], of_target, of_target)
    return regularization * (across - same / 2)


def _potential(cost: Tensor, other: Tensor) -> Tensor:
    """Compute the best potential of the rows of costs `[n, m]` for the potential of the columns (Sinkhorn's step)."""
    return math.log(len(other)) - (other - cost).logsumexp(1)


def _dual(cost: Tensor, f: Tensor, g: Tensor) -> Tensor:
    """Compute the dual value of entropic transport of uniform weights at potentials f and g without gradient.

    Costs `[n, m]`, potentials and value are in units of the regularization. At the best potentials the derivatives by
    f and g vanish, and the derivative by the cost is the plan, exp(f_i + g_j - c_ij) / (n m). The gradient therefore
    needs no iterations (envelope theorem), and an error of the potentials enters the value squared.
    """
    return f.mean() + g.mean() + 1 - (f[:, None] + g - cost).exp().mean()


def _squared_distances(z: Tensor) -> tuple[Tensor, Tensor]:
    """Compute |x - y|^2 of all pairs of jets of z `[jet, d]`, `[jet, jet]`, and their mean over different jets."""
    # |x - y|^2 from float32 products loses digits if z has a large common offset: subtract it first.
    z = z - z.detach().mean(0)
    square = z.square().sum(1)
    with torch.autocast(z.device.type, enabled=False):  # differences of squares need float32
        distance = (square[:, None] + square[None, :] - 2 * z @ z.T).clamp(min=0)
    ruler = 2 * square.sum() / max(1, len(z) - 1)
    return distance, ruler.clamp(min=torch.finfo(z.dtype).tiny)


def _covariance(z: Tensor) -> Tensor:
    centred = z - z.mean(0)
    with torch.autocast(z.device.type, enabled=False):
        return centred.T @ centred / (len(z) - 1)
