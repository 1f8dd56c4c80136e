"""Domain-adversarial training: a discriminator of two domains on z, with a reversed gradient for the encoder.

DANN (Ganin et al., arXiv:1505.07818): a layer between z and the discriminator is the identity in the forward pass and
multiplies the gradient by -lambda in the backward pass. One descent trains the discriminator d to separate the domains,

    L = 1/2 (mean over source jets of -ln(1 - d(z)) + mean over target jets of -ln d(z)),

and the encoder to increase the same L.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.scale * gradients[0], None


def reverse_gradient(values: Tensor, scale: float) -> Tensor:
    """Return `values` unchanged; multiply their gradient by -`scale`."""
    reversed_: Tensor = _Reversed.apply(values, scale)
    return reversed_


def ramp(progress: float, gamma: float) -> float:
    """Return lambda = 2 / (1 + exp(-gamma p)) - 1 at training progress p: from 0 to nearly 1 (eq. 14 of the paper).

    An untrained discriminator then has little influence on z.

    Example:
        >>> ramp(0.0, 10.0), round(ramp(1.0, 10.0), 4)
        (0.0, 0.9999)
    """
    return 2 / (1 + math.exp(-gamma * progress)) - 1


class Discriminator(nn.Module):
    """Probability of the target domain from z: an MLP with two hidden layers."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, 1)
        )

    def forward(self, source: Tensor, target: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """Compute the loss L and the balanced accuracy of the domain (0.5: indistinguishable).

        Both are means over the own jets; with equally many on every rank, the mean over the ranks equals the mean of
        the joined batch.

        Args:
            source: z of jets of the source domain, `[jet, dim]`.
            target: z of jets of the target domain, `[jet, dim]`.
            scale: factor of the reversed gradient.
        """
        of_source = self.layers(reverse_gradient(source.float(), scale)).float().squeeze(1)  # logits [jet]
        of_target = self.layers(reverse_gradient(target.float(), scale)).float().squeeze(1)
        loss = (nn.functional.softplus(of_source).mean() + nn.functional.softplus(-of_target).mean()) / 2
        accuracy = ((of_source < 0).float().mean() + (of_target > 0).float().mean()) / 2
        return loss, accuracy.detach()
