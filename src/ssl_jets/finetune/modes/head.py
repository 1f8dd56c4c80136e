"""Mode `head`: attention over the tokens of a frozen encoder, and the heads (attentive probing, arXiv:2404.08471)."""

from __future__ import annotations

from ssl_jets.finetune.modes._mode import Mode, few_learn
from ssl_jets.finetune.objective import Objective


class Head(Mode):
    """Pool and heads learn. No gradient passes through the encoder, and none of its activations are kept."""

    pool = "attention"

    def prepare(self, objective: Objective) -> None:
        """Freeze all of the encoder but its pool."""
        few_learn(objective)
        objective.encoder.requires_grad_(False)
        if objective.encoder.pool is not None:
            objective.encoder.pool.requires_grad_(True)
