"""Mode `last`: the last blocks of the encoder and the heads are trained."""

from __future__ import annotations

from ssl_jets.errors import UsageError
from ssl_jets.finetune.modes._mode import Mode, Work, few_learn
from ssl_jets.finetune.modes.probe import heads_first
from ssl_jets.finetune.objective import Objective
from ssl_jets.train import Fit


class Last(Mode):
    """The last K blocks, all that comes after them, and the heads learn. What lies below keeps no activations."""

    def prepare(self, objective: Objective) -> None:
        """Freeze what lies below the last blocks."""
        encoder, wanted = objective.encoder, self.settings.method.blocks
        blocks = encoder.trunk.blocks
        if wanted > len(blocks):
            raise UsageError(
                "the encoder has fewer blocks", where="method.blocks", found=wanted, allowed=[f"1 to {len(blocks)}"]
            )
        few_learn(objective)
        encoder.requires_grad_(False)
        for module in (*blocks[-wanted:], encoder.trunk.norm, encoder.z_out, encoder.pool):
            if module is not None:
                module.requires_grad_(True)

    def train(self, objective: Objective, work: Work) -> Fit:
        """The heads first, where that is asked for."""
        heads_first(objective, work)
        return super().train(objective, work)
