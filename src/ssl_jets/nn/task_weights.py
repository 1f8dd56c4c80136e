"""Weights of several losses, learned as the uncertainty of each task (Kendall, Gal, Cipolla, arXiv:1705.07115).

    L = sum over tasks of w (a L_t / s_t^2 + b ln s_t),      a = 1/2, b = 1       for regression
                                                             a = 1, b = 2 ln C    for classification, C classes

A regression loss is then the likelihood of a Gaussian of width s, a cross-entropy the likelihood of a softmax at
temperature s^2. Kendall et al. take b = 1 for the latter too. But the log-sum-exp of a softmax, (1 - 1/s^2) ln C for
weak logits, rises from s = 1 as 2 ln C ln s. With b = 2 ln C all tasks have one scale: the best s^2 is L_t over the
loss of an uninformed guess, which is 1 for a standardized target and ln C for the class. With b = 1 the label loss of
ten classes is down-weighted to a fifth from the first steps on. A loss that can be negative has no best s: the
likelihood of a Gaussian with a width predicted for each jet, or minus a cosine. It is added without s.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Form(NamedTuple):
    """Dependence of a kind of loss on s: a and b of the formula."""

    a: float
    b: float


REGRESSION = Form(0.5, 1.0)


def classification(classes: int) -> Form:
    """Return the form of a cross-entropy over this many classes (at least two)."""
    return Form(1.0, 2 * math.log(max(2, classes)))


LIKELIHOOD = None
"""Form of a loss that can be negative, such as a likelihood with predicted widths: it gets no s."""

RATE = 50.0
"""ln s is this times its parameter. AdamW moves each parameter by about the learning rate per step, and ln s has to
reach -0.7 within the first hundreds of steps."""

SHARE = 0.01
"""The gradient of a parameter is the gradient of its ln s times this; AdamW is invariant to the factor. At full size
(or times `RATE`) it would dominate the gradient norm, and clipping would starve the encoder."""

LARGEST = 20.0
"""Largest s, which bounds how far a task is down-weighted."""


class Mean(NamedTuple):
    """Mean over some jets of a batch, and their sum of weights, by which it enters a mean over several batches."""

    value: Tensor
    weight: Tensor | float


Part = Tensor | Mean | list[Mean]
"""Loss of a batch, or a part of it to log: a mean over all jets, a mean over some of them, or a sum of such means."""


def means_of(part: Part, jets: int) -> list[Mean]:
    """Return the means whose sum is a part of the loss of a batch of this many jets."""
    if isinstance(part, Mean):
        return [part]
    return part if isinstance(part, list) else [Mean(part, jets)]


def total(means: list[Mean]) -> Tensor:
    """Return the sum of means."""
    return sum((mean.value for mean in means[1:]), start=means[0].value)


def mean_of_batches(batches: Iterable[Mapping[str, list[Mean]]]) -> dict[str, float]:
    """Average the parts of several batches: each mean over the jets that have it; one that no jet has is left out.

    Example:
        >>> first = {"accuracy": [Mean(torch.tensor(0.5), 2)], "loss": [Mean(torch.tensor(1.0), 8)]}
        >>> mean_of_batches([first, {"accuracy": [Mean(torch.tensor(0.0), 0)], "loss": [Mean(torch.tensor(2.0), 8)]}])
        {'accuracy': 0.5, 'loss': 1.5}
    """
    weighted: defaultdict[tuple[str, int], float] = defaultdict(float)
    weights: defaultdict[tuple[str, int], float] = defaultdict(float)
    for batch in batches:
        for name, means in batch.items():
            for number, (value, weight) in enumerate(means):
                if weight > 0:
                    weighted[name, number] += float(value) * float(weight)
                    weights[name, number] += float(weight)
    averages: defaultdict[str, float] = defaultdict(float)
    for (name, number), weight in weights.items():
        averages[name] += weighted[name, number] / weight
    return dict(averages)


class TaskLoss(NamedTuple):
    """Loss of one task on a batch.

    Attributes:
        value: mean over the jets that have the target.
        weight: their sum of weights; 0 for a batch without such jets, whose loss then does not count.
        factor: the factor w of the objective.
    """

    value: Tensor
    weight: Tensor | float
    factor: float = 1.0


class TaskWeights(nn.Module):
    """Weighted sum of several losses.

    Args:
        forms: form of each task's loss by name, or `LIKELIHOOD`.
        learned: learn s; otherwise all s are 1. A single task is not weighted.
        smallest: smallest s, which bounds the weight of an easy task. Without it the last digits of a simple target
            count as much as the class, since only ratios of losses matter at the best s.
    """

    def __init__(self, forms: Mapping[str, Form | None], *, learned: bool, smallest: float = 0.5) -> None:
        super().__init__()
        self.smallest = smallest
        self.forms = dict(forms)
        self.weighted = [task for task, form in forms.items() if form is not LIKELIHOOD]
        learned = learned and len(forms) > 1 and bool(self.weighted)
        self.log_sigma = nn.Parameter(torch.zeros(len(self.weighted))) if learned else None

    def forward(self, losses: Mapping[str, TaskLoss]) -> Tensor:
        """Return the objective; `losses` has the tasks in the order of `forms`."""
        return total(self.terms(losses))

    def terms(self, losses: Mapping[str, TaskLoss]) -> list[Mean]:
        """Return the terms of the objective, one a task; none without any task."""
        if len(losses) == 1:
            return [Mean(loss.value, loss.weight) for loss in losses.values()]
        terms = []
        log_sigmas = dict(zip(self.weighted, self._log_sigmas(), strict=True))
        for task, form in self.forms.items():
            value, weight, factor = losses[task]
            if form is not LIKELIHOOD:
                value = form.a * torch.exp(-2 * log_sigmas[task]) * value + form.b * log_sigmas[task]
            terms.append(Mean(factor * (weight > 0) * value, weight))
        return terms

    def clamp(self) -> None:
        """Clamp s to its limits, after each optimizer step.

        A clamp in the loss would leave a parameter outside the limits without gradient.
        """
        if self.log_sigma is not None:
            with torch.no_grad():
                self.log_sigma.clamp_(math.log(self.smallest) / RATE, math.log(LARGEST) / RATE)

    def parts(self, losses: Mapping[str, TaskLoss]) -> dict[str, Part]:
        """Return scalars to log: `loss_TASK` and, if learned, `sigma_TASK`; nothing for a single task."""
        if len(losses) == 1:
            return {}
        logged: dict[str, Part] = {
            f"loss_{task}": Mean(loss.value.detach(), loss.weight) for task, loss in losses.items()
        }
        if self.log_sigma is not None:
            sigmas = zip(self.weighted, self._log_sigmas(), strict=True)
            logged |= {f"sigma_{task}": log_sigma.detach().exp() for task, log_sigma in sigmas}
        return logged

    def _log_sigmas(self) -> Tensor:
        if self.log_sigma is None:
            return torch.zeros(len(self.weighted))
        fixed = self.log_sigma.detach()
        return RATE * fixed + SHARE * (self.log_sigma - fixed)
