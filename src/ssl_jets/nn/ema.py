"""Teachers: exponential moving averages of a student's weights."""

from __future__ import annotations

import copy
import math
from typing import TypeVar

import torch
from torch import nn

from ssl_jets.nn.transformer import without_dropout

ModuleT = TypeVar("ModuleT", bound=nn.Module)


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
