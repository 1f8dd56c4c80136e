"""Mode `last`: the last blocks of the encoder and the heads are trained."""

from __future__ import annotations

from collections.abc import Mapping

from ssl_jets.errors import UsageError
from ssl_jets.finetuning.modes.base import Mode, Work, scale_lr
from ssl_jets.finetuning.modes.probe import heads_first
from ssl_jets.finetuning.objective import Objective
from ssl_jets.model_file import Model
from ssl_jets.nn.encoder import Encoder, random_like
from ssl_jets.training.loop import Fit


class LastBlocksMode(Mode):
    """The last K blocks, all that comes after them, and the heads learn. What lies below keeps no activations."""

    def prepare(self, objective: Objective) -> None:
        """Freeze what lies below the last blocks."""
        encoder, wanted = objective.encoder, self.settings.method.blocks
        blocks = encoder.trunk.blocks
        if wanted > len(blocks):
            raise UsageError(
                "the encoder has fewer blocks", where="method.blocks", found=wanted, allowed=[f"1 to {len(blocks)}"]
            )
        scale_lr(objective)
        encoder.requires_grad_(False)
        for module in (*blocks[-wanted:], encoder.trunk.norm, encoder.z_out, encoder.pool):
            if module is not None:
                module.requires_grad_(True)

    def train(self, objective: Objective, work: Work) -> Fit:
        """The heads first, where that is asked for."""
        heads_first(objective, work)
        return super().train(objective, work)


class FullMode(Mode):
    """Everything learns."""

    def prepare(self, objective: Objective) -> None:
        """Give every block a learning rate of its own, where that is asked for."""
        method = self.settings.method
        if method.layer_decay == 1 and not method.unfreeze:
            return
        blocks = len(objective.encoder.trunk.blocks)
        objective.rates_at = lambda progress: rates(blocks, method.layer_decay, method.unfreeze, progress)

    def train(self, objective: Objective, work: Work) -> Fit:
        """The heads first, where that is asked for."""
        heads_first(objective, work)
        return super().train(objective, work)


def rates(blocks: int, decay: float, unfreeze: float, progress: float) -> Mapping[str, float]:
    """Factors on the learning rate of the parts of `Objective`; all others have 1.

    Counted from the top, the last block is layer 1 and what makes tokens of particles is layer `blocks` + 1. Layer n
    has the factor decay^n, and joins when the share `unfreeze` n / (`blocks` + 1) of the training is done.
    """
    layers = {f"encoder.trunk.blocks.{block}.": blocks - block for block in range(blocks)}
    layers |= {"encoder.": blocks + 1, "encoder.trunk.norm": 0, "encoder.z_out": 0, "encoder.pool.": 0}
    joined = {part: progress * (blocks + 1) >= unfreeze * layer for part, layer in layers.items()}
    return {part: decay**layer if joined[part] else 0.0 for part, layer in layers.items()}


class HeadMode(Mode):
    """Pool and heads learn. No gradient passes through the encoder, and none of its activations are kept."""

    pool = "attention"

    def prepare(self, objective: Objective) -> None:
        """Freeze all of the encoder but its pool."""
        scale_lr(objective)
        objective.encoder.requires_grad_(False)
        if objective.encoder.pool is not None:
            objective.encoder.pool.requires_grad_(True)


class ScratchMode(Mode):
    """Nothing of the pretrained model is used but its shape and the statistics of its features."""

    starts_anew = True

    def encoder(self, pretrained: Model) -> Encoder:
        """Random weights."""
        return random_like(pretrained.encoder, self.settings.train.seed)
