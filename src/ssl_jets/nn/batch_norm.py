"""Batch normalisation over the jets of all ranks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssl_jets.nn.collectives import gather


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
