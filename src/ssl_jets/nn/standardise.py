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
    values = values.float()
    count = gather(values.new_full((1,), len(values))).sum().clamp(min=1)
    mean = gather(values.sum(0, keepdim=True)).sum(0) / count
    centred = values - mean
    variance = gather(centred.square().sum(0, keepdim=True)).sum(0) / count
    return centred / (variance + 1e-8).sqrt()
