"""The weights of several losses, learned as the uncertainty of each task (Kendall, Gal, Cipolla, arXiv:1705.07115).

    L = sum over tasks of w (a L_t / s_t^2 + ln s_t),      a = 1/2 for regression, 1 for classification

A regression loss is then the likelihood of a Gaussian of width s, a cross-entropy that of a softmax at temperature
s^2. At the best s every task has the weight 1 / (2 L_t): a task that cannot be learned gets a large s and a small
weight. A loss that may become negative has no such s. The likelihood of a Gaussian whose width is predicted for each
jet is such a loss, and needs none: it is added as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

CLASSIFICATION, REGRESSION = 1.0, 0.5
"""The factor a of each kind of loss."""

LIKELIHOOD = None
"""In the place of a: the loss is a likelihood with widths of its own, and gets no s."""

RATE = 50.0
"""ln s is this times its parameter. AdamW moves each parameter by about the learning rate per step, and the weights of
a network need no more; ln s has to go as far as 1 or 2, within the first hundreds of steps."""

SHARE = 0.01
"""The gradient of a parameter is that of its ln s times this, which AdamW does not notice. At full size (or times
`RATE`) it would take up the norm to which all gradients are clipped, and the encoder would learn by fits and starts."""

LARGEST = 20.0
"""Largest s: no task is switched off for good."""


class TaskLoss(NamedTuple):
    """The loss of one task on a batch, and its weight w: 0 where the batch has no jet with this target."""

    value: Tensor
    weight: Tensor | float


class TaskWeights(nn.Module):
    """Several losses to one.

    Args:
        factors: factor a of each task by name, or `LIKELIHOOD`.
        learned: learn s; otherwise all s are 1. A single task is taken as it is.
        smallest: smallest s: a task that is learned easily does not go on to rule the others. Without it the last
            digits of a simple target count as much as the class, for only ratios of losses matter at the best s.
    """

    def __init__(self, factors: Mapping[str, float | None], *, learned: bool, smallest: float = 0.3) -> None:
        super().__init__()
        self.smallest = smallest
        self.factors = dict(factors)
        self.weighed = [task for task, factor in factors.items() if factor is not LIKELIHOOD]
        learned = learned and len(factors) > 1 and bool(self.weighed)
        self.log_sigma = nn.Parameter(torch.zeros(len(self.weighed))) if learned else None

    def forward(self, losses: Mapping[str, TaskLoss]) -> Tensor:
        """The objective; `losses` has the tasks in the order of `factors`."""
        if len(losses) == 1:
            return next(iter(losses.values())).value
        total = torch.zeros((), device=next(iter(losses.values())).value.device)
        log_sigmas = dict(zip(self.weighed, self._log_sigmas(), strict=True))
        for task, factor in self.factors.items():
            loss, weight = losses[task]
            if factor is not LIKELIHOOD:
                loss = factor * torch.exp(-2 * log_sigmas[task]) * loss + log_sigmas[task]
            total = total + weight * loss
        return total

    def clamp(self) -> None:
        """Bring s back within its limits; to be called after each optimizer step.

        A clamp in the loss would leave a parameter outside without gradient, or let it wander off.
        """
        if self.log_sigma is not None:
            with torch.no_grad():
                self.log_sigma.clamp_(math.log(self.smallest) / RATE, math.log(LARGEST) / RATE)

    def parts(self, losses: Mapping[str, TaskLoss]) -> dict[str, Tensor]:
        """What to log: `loss_TASK` and, where it is learned, `sigma_TASK`; nothing for a single task."""
        if len(losses) == 1:
            return {}
        logged = {f"loss_{task}": loss.value.detach() for task, loss in losses.items()}
        if self.log_sigma is not None:
            sigmas = zip(self.weighed, self._log_sigmas(), strict=True)
            logged |= {f"sigma_{task}": log_sigma.detach().exp() for task, log_sigma in sigmas}
        return logged

    def _log_sigmas(self) -> Tensor:
        if self.log_sigma is None:
            return torch.zeros(len(self.weighed))
        fixed = self.log_sigma.detach()
        return RATE * fixed + SHARE * (self.log_sigma - fixed)
