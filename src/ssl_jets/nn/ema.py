"""Moving averages: teachers that follow a student's weights, and what batches leave for the update after a step."""

from __future__ import annotations

import copy
import math
from typing import Generic, TypeVar

import torch
from torch import nn

from ssl_jets.nn.transformer import without_dropout

ModuleT = TypeVar("ModuleT", bound=nn.Module)
ItemT = TypeVar("ItemT")


def teacher_of(student: ModuleT) -> ModuleT:
    """Return a frozen copy of `student`, without dropout and stochastic depth."""
    return without_dropout(copy.deepcopy(student)).requires_grad_(False)


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Move `teacher` to `momentum * teacher + (1 - momentum) * student`; buffers are copied."""
    for weight, newer in zip(teacher.parameters(), student.parameters(), strict=True):
        weight.lerp_(newer.to(weight.dtype), 1 - momentum)
    for buffer, current in zip(teacher.buffers(), student.buffers(), strict=True):
        buffer.copy_(current)


def rising(start: float, progress: float) -> float:
    """Return a momentum that rises from `start` to 1 by a half cosine over the training (BYOL, arXiv:2006.07733).

    Example:
        >>> [round(rising(0.9, progress), 3) for progress in (0.0, 0.5, 1.0)]
        [0.9, 0.95, 1.0]
    """
    return 1 - (1 - start) * (math.cos(math.pi * progress) + 1) / 2


class Collected(nn.Module, Generic[ItemT]):
    """What batches leave for the update after the step, such as sums for a moving average; no part of the state.

    It is a module, so that a training that skips a step finds and drops the items of its batches (`drop_collected`).

    Attributes:
        items: one for each batch or view, in their order.

    Example:
        >>> sums = Collected[int]()
        >>> sums.items.append(3)
        >>> sums.take(), sums.items
        ([3], [])
    """

    def __init__(self) -> None:
        super().__init__()
        self.items: list[ItemT] = []

    def take(self) -> list[ItemT]:
        """Return the items, and keep none."""
        items, self.items = self.items, []
        return items


def drop_collected(module: nn.Module) -> None:
    """Drop the items that a module and its parts have collected."""
    for part in module.modules():
        if isinstance(part, Collected):
            part.take()
