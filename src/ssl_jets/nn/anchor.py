"""L2-SP: weights are pulled towards where they started (Li, Grandvalet, Davoine, arXiv:1802.01483).

    Omega = 1/2 sum over weights of (w - w_0)^2

with the pretrained w_0, in the place of weight decay, which pulls towards zero and so away from what was learned.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Anchor(nn.Module):
    """Omega of the trainable weights of a module, as they are now.

    w_0 does not go into checkpoints: a run that is resumed loads the pretrained model again.

    Args:
        module: the pretrained module, before its first step.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.names = [name for name, weight in module.named_parameters() if weight.requires_grad]
        weights = dict(module.named_parameters())
        for number, name in enumerate(self.names):
            self.register_buffer(f"start{number}", weights[name].detach().clone(), persistent=False)

    def forward(self, module: nn.Module) -> Tensor:
        """Omega of the same module after some steps, a scalar."""
        weights = dict(module.named_parameters())
        total = torch.zeros((), device=next(iter(weights.values())).device)
        for number, name in enumerate(self.names):
            start: Tensor = getattr(self, f"start{number}")
            total = total + (weights[name] - start).square().sum()
        return total / 2
