"""Targets that have mean 0 and variance 1 over a batch: what all jets have in common is no target."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_jets.nn.collectives import gather


@torch.no_grad()
def standardised(values: Tensor) -> Tensor:
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
def whitened(values: Tensor, floor: float = 0.01) -> Tensor:
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
