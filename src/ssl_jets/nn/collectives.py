"""What crosses ranks in a loss that compares jets. With one process each is the identity.

The wrapper of the training loop averages gradients over the ranks. A loss that is the mean over the own jets of a
function of all jets therefore has the gradient of the joined batch, where `gather` brings the others' values *with*
their gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.nn.functional import all_gather

_alone = ContextVar("alone", default=False)


@contextmanager
def alone() -> Iterator[None]:
    """Within it this process counts as the only one: for a look by one rank while the others wait."""
    token = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(token)


def world() -> int:
    """Number of processes."""
    if _alone.get():
        return 1
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process."""
    return dist.get_rank() if world() > 1 else 0


def gather(values: Tensor) -> Tensor:
    """`[jet, ...]` of all ranks, in the order of the ranks, `[jets of all ranks, ...]`; differentiable.

    Every rank must have the same number of jets.
    """
    if world() == 1:
        return values
    if torch.is_grad_enabled():
        return torch.cat(all_gather(values.contiguous()))
    parts = [torch.empty_like(values) for _ in range(world())]
    dist.all_gather(parts, values.contiguous())
    return torch.cat(parts)


def from_first_rank(values: Tensor) -> Tensor:
    """The values that the first rank has, without gradient."""
    if world() > 1:
        values = values.contiguous()
        dist.broadcast(values, src=0)
    return values


def total(values: Tensor) -> Tensor:
    """Sum of `values` over the ranks, the same on all; without gradient."""
    summed = values.detach().clone()
    if world() > 1:
        dist.all_reduce(summed)
    return summed
