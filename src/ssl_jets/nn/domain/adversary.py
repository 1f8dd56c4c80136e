"""A discriminator that tells two domains apart by z, and the reversed gradient that makes z hide the difference.

DANN (Ganin et al., arXiv:1505.07818): between z and the discriminator stands a layer that is the identity forward and
multiplies the gradient by -lambda backward. So one descent trains the discriminator d to tell the domains apart,

    L = 1/2 (mean over source jets of -ln(1 - d(z)) + mean over target jets of -ln d(z)),

and the encoder to raise the same L.
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
    """`values`; the gradient that comes back through it is multiplied by -`scale`."""
    reversed_: Tensor = _Reversed.apply(values, scale)
    return reversed_


def ramp(progress: float, gamma: float) -> float:
    """lambda = 2 / (1 + exp(-gamma p)) - 1 at the share p of the training: from 0 to nearly 1 (eq. 14 of the paper).

    At first the discriminator knows nothing, and z is not to follow its noise.
    """
    return 2 / (1 + math.exp(-gamma * progress)) - 1


class Discriminator(nn.Module):
    """Probability that a jet is of the target domain, from z: an MLP with two hidden layers.

    Args:
        dim: numbers of z.
        hidden: width of the hidden layers.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, 1)
        )

    def forward(self, source: Tensor, target: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """The loss L, and the share of jets whose domain is told right (0.5: not at all), each domain counting half.

        Each is a mean over the own jets, so with as many on every rank the mean over the ranks is that of the joined
        batch.

        Args:
            source, target: z of the jets of each domain, `[jet, dim]`.
            scale: factor of the reversed gradient.
        """
        of_source, of_target = (
            self.layers(reverse_gradient(z.float(), scale)).float().squeeze(1) for z in (source, target)
        )
        loss = (nn.functional.softplus(of_source).mean() + nn.functional.softplus(-of_target).mean()) / 2
        right = ((of_source < 0).float().mean() + (of_target > 0).float().mean()) / 2
        return loss, right.detach()
