"""Normalization over the jets of a batch: standardized, whitened targets, BatchNorm, sphere with noise, variation."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ssl_jets.errors import UsageError
from ssl_jets.jets import Jets
from ssl_jets.nn import random
from ssl_jets.nn.collectives import gather


@torch.no_grad()
def standardize(values: Tensor) -> Tensor:
    """Standardize each column over the rows of all ranks, `[row, column]`.

    The vectors of a teacher have a large common component: at the start the cosine between two jets is near 1, and a
    constant prediction would reach nearly the whole target. The number of rows may differ between ranks. A constant
    column becomes 0.
    """
    centred, count = _centred(values)
    variance = gather(centred.square().sum(0, keepdim=True)).sum(0) / count
    return (centred / (variance + 1e-8).sqrt()).float()


@torch.no_grad()
def whiten(values: Tensor, floor: float = 0.01) -> Tensor:
    """Whiten rows: mean 0 and (nearly) equal variance in every direction, `[row, column]`.

    (C + f tr(C) / columns)^(-1/2) (v - mean), C the covariance over the rows of all ranks. The vectors of an untrained
    teacher vary in few directions, which dominate a loss on them; after whitening all directions contribute.

    Args:
        values: `[row, column]`.
        floor: f, the variance, relative to the mean variance, below which a direction is suppressed.
    """
    centred, count = _centred(values)
    covariance = gather((centred.T @ centred).unsqueeze(0)).sum(0) / count
    variance, directions = torch.linalg.eigh(covariance)
    scale = (variance.clamp(min=0) + floor * variance.mean() + 1e-12).rsqrt()
    white: Tensor = centred @ (directions * scale) @ directions.T
    return white.float()


def _centred(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the values minus the mean over the rows of all ranks, float64 `[row, column]`, and the number of rows."""
    exact = values.double()
    count = gather(exact.new_full((1,), len(exact))).sum().clamp(min=1)
    return exact - gather(exact.sum(0, keepdim=True)).sum(0) / count, count


def nonzero_std(z: Tensor) -> Tensor:
    """Return the standard deviation of each number of z `[row, D]` to divide by, 1 where it is rounding of a constant.

    The threshold is relative to the number itself, so that z may have any scale.

    Example:
        >>> nonzero_std(torch.tensor([[2.0, 50.0], [6.0, 50.000004]])).tolist()
        [2.0, 1.0]
    """
    std = z.std(dim=0, correction=0)
    return torch.where(std > 8 * torch.finfo(torch.float32).eps * z.abs().amax(dim=0), std, 1.0)


def variation(z: Tensor) -> Tensor:
    """Compute sqrt(mean |z - mean z|^2 / mean |z|^2) of vectors z `[row, D]`, a scalar.

    Invariant under a scale of z, but not under an offset. Its square is one minus the mean cosine, for z of equal
    length.
    """
    z = z.double()
    length = z.square().sum(dim=1).mean().clamp(min=torch.finfo(z.dtype).tiny)
    return ((z - z.mean(dim=0)).square().sum(dim=1).mean() / length).sqrt()


class BatchNorm(nn.Module):
    """BatchNorm over the jets of all ranks, without running statistics.

    Mean and variance are always computed from the current batch, jointly on all ranks, so that the number of ranks has
    no effect. It serves the heads of a method, which are not used after training, and leaves a teacher without
    buffers. A single jet becomes the learned shift.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, values: Tensor) -> Tensor:
        """Normalize values `[jet, width]`, float32."""
        values = values.float()
        variance, mean = torch.var_mean(gather(values), dim=0, correction=0)
        return (values - mean) * (variance + 1e-5).rsqrt() * self.weight + self.bias


def project_to_sphere(z: Tensor) -> Tensor:
    """Divide z `[jet, dim]` by the root mean square of its components: a point on the sphere of radius sqrt(dim).

    Raises:
        UsageError: z is one number, of which only the sign would be left, without a gradient.
    """
    if z.shape[1] == 1:
        hint = "model.z_width=2, or more class tokens by model.z_tokens"
        raise UsageError("z of one number has no direction to learn", where="model.z_width", found=1, hint=hint)
    return nn.functional.normalize(z, dim=1) * math.sqrt(z.shape[1])


def add_noise(jets: Jets, z: Tensor, blur: float) -> Tensor:
    """Bottleneck: project z onto the sphere and add Gaussian noise of standard deviation `blur`, `[jet, dim]`.

    Without noise, the rate of a real vector is unbounded. With it, z of D dimensions carries at most
    D/2 log2(1 + 1 / blur^2) bits. The fixed radius keeps the encoder from outgrowing the noise.
    """
    return project_to_sphere(z) + blur * random.normal_per_jet(jets, z.shape[1])
