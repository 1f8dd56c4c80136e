"""Targets that have mean 0 and variance 1 over a batch: what all jets have in common is no target."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ssl_jets.jets import Jets
from ssl_jets.nn import random
from ssl_jets.nn.collectives import gather


@torch.no_grad()
def standardize(values: Tensor) -> Tensor:
    """Each column with the mean and the variance of the rows of all ranks taken out, `[row, column]`.

    A teacher's vectors have a large part in common: at the start the cosine between two jets is near 1, and a student
    would meet nearly all of the target by a constant. Rows may differ in number between ranks. A column that
    does not vary becomes 0.

    Args:
        values: `[row, column]`.
    """
    exact = values.double()
    count = gather(exact.new_full((1,), len(exact))).sum().clamp(min=1)
    centred = exact - gather(exact.sum(0, keepdim=True)).sum(0) / count
    variance = gather(centred.square().sum(0, keepdim=True)).sum(0) / count
    return (centred / (variance + 1e-8).sqrt()).float()


@torch.no_grad()
def whiten(values: Tensor, floor: float = 0.01) -> Tensor:
    """The rows with their mean taken out, and every direction brought to (nearly) the same variance, `[row, column]`.

    (C + f tr(C) / columns)^(-1/2) (v - mean), C the covariance over the rows of all ranks. The vectors of a young
    teacher vary in few directions, and a loss on them is about these few; whitened, all of them count.

    Args:
        values: `[row, column]`.
        floor: f, the variance, as a share of the mean one, below which a direction counts less.
    """
    exact = values.double()
    count = gather(exact.new_full((1,), len(exact))).sum().clamp(min=1)
    centred = exact - gather(exact.sum(0, keepdim=True)).sum(0) / count
    covariance = gather((centred.T @ centred).unsqueeze(0)).sum(0) / count
    variance, directions = torch.linalg.eigh(covariance)
    scale = (variance.clamp(min=0) + floor * variance.mean() + 1e-12).rsqrt()
    white: Tensor = centred @ (directions * scale) @ directions.T
    return white.float()


class BatchNorm(nn.Module):
    """Each number of `[jet, width]` less its mean over the jets, over its standard deviation; then a scale and a shift.

    Mean and variance are always those of the jets at hand, on all ranks together, so that ranks change nothing. There
    are no running statistics: it is for the heads of a method, which are never used on single jets after training, and
    a teacher then has no buffers to follow. A single jet becomes the shift.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, values: Tensor) -> Tensor:
        """float32 `[jet, width]`."""
        values = values.float()
        variance, mean = torch.var_mean(gather(values), dim=0, correction=0)
        return (values - mean) * (variance + 1e-5).rsqrt() * self.weight + self.bias


def project_to_sphere(z: Tensor) -> Tensor:
    """z `[jet, dim]` over the root of the mean square of its numbers: on a sphere of radius sqrt(dim)."""
    return nn.functional.normalize(z, dim=1) * math.sqrt(z.shape[1])


def add_noise(jets: Jets, z: Tensor, blur: float) -> Tensor:
    """z on the sphere plus normal noise of standard deviation `blur` on each number, `[jet, dim]`.

    A bound on the numbers of z alone bounds nothing: any number of jets can be told apart by the digits of one number.
    With the noise, z of D numbers carries at most D/2 log2(1 + 1 / blur^2) bits. The sphere keeps the encoder from
    outgrowing the noise, and the noise makes it spread what it says over all numbers.
    """
    return project_to_sphere(z) + blur * random.normal_per_jet(jets, z.shape[1])
