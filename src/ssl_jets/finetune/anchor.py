"""The pull towards the pretrained weights, as a term of the objective."""

from __future__ import annotations

from torch import Tensor

from ssl_jets.finetune.objective import Objective, Term
from ssl_jets.jets import Jets
from ssl_jets.nn.anchor import Anchor
from ssl_jets.nn.encoder import Encoder


class TowardsPretrained(Term):
    """strength / 2 sum (w - w_0)^2 over the weights of the encoder that learn (L2-SP, `nn/anchor.py`).

    Args:
        strength: the factor.
        encoder: the pretrained encoder, before its first step.
    """

    def __init__(self, strength: float, encoder: Encoder) -> None:
        super().__init__()
        self.strength, self.anchor = strength, Anchor(encoder)

    def forward(self, objective: Objective, z: Tensor, jets: Jets, progress: float) -> Tensor:
        """The pull; it does not depend on the jets."""
        pull: Tensor = self.anchor(objective.encoder)
        return self.strength * pull
