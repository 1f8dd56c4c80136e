"""Communication between ranks in losses that compare jets; the identity for one process.

The training loop averages gradients over the ranks. A loss that is the mean over the own jets of a function of all jets
therefore has the gradient of the joined batch, if the other ranks' values come from `gather`, *with* their gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

_alone = ContextVar("alone", default=False)


@contextmanager
def alone() -> Iterator[None]:
    """Treat this process as the only one within the context: for a validation by one rank while the others wait."""
    token = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(token)


def world() -> int:
    """Return the number of processes."""
    if _alone.get():
        return 1
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process."""
    return dist.get_rank() if world() > 1 else 0


def gather(values: Tensor) -> Tensor:
    """Gather `[jet, ...]` of all ranks to `[jets of all ranks, ...]`, in the order of the ranks; differentiable.

    Every rank must have the same number of jets.
    """
    if world() == 1:
        return values
    joined: Tensor = _Gather.apply(values)
    return joined


class _Gather(torch.autograd.Function):
    """Gather values; the gradient of a rank's values is the sum of what the losses of all ranks send to them."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        values = values.contiguous()
        parts = [torch.empty_like(values) for _ in range(world())]
        dist.all_gather(parts, values)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return gradient.chunk(world())[rank()]


def from_first_rank(values: Tensor) -> Tensor:
    """Broadcast the values of the first rank, without gradient."""
    if world() > 1:
        values = values.contiguous()
        dist.broadcast(values, src=0)
    return values


def total(values: Tensor) -> Tensor:
    """Sum `values` over the ranks, without gradient; the result is the same on all ranks."""
    summed = values.detach().clone()
    if world() > 1:
        dist.all_reduce(summed)
    return summed
