"""Modes that choose the trained weights: `last-blocks`, `full`, `head`, `scratch`."""

from __future__ import annotations

from collections.abc import Mapping

from ssl_jets.errors import UsageError
from ssl_jets.finetuning.modes.base import OTHER_MODES, Mode, scale_lr
from ssl_jets.finetuning.modes.probe import EncoderMode
from ssl_jets.finetuning.objective import Objective
from ssl_jets.model_file import Model
from ssl_jets.nn.encoder import BaseEncoder, random_like
from ssl_jets.nn.foreign.adapter import require_own


class LastBlocksMode(EncoderMode):
    """Training of the last K blocks, the layers after them, and the heads; lower layers keep no activations."""

    own_settings = (*EncoderMode.own_settings, "l2_sp", "blocks")

    def prepare(self, objective: Objective) -> None:
        """Freeze the layers below the last blocks."""
        encoder = require_own(objective.encoder, "mode last-blocks", OTHER_MODES)
        trained = self.settings.method.blocks
        blocks = encoder.transformer.blocks
        if trained > len(blocks):
            raise UsageError(
                "the encoder has fewer blocks", where="method.blocks", found=trained, allowed=[f"1 to {len(blocks)}"]
            )
        scale_lr(objective)
        encoder.requires_grad_(False)
        for module in (*blocks[-trained:], encoder.transformer.norm, encoder.z_out, encoder.pool):
            if module is not None:
                module.requires_grad_(True)


class FullMode(EncoderMode):
    """Training of all weights."""

    trains_inputs = True
    own_settings = (*EncoderMode.own_settings, "l2_sp", "layer_decay", "unfreeze")

    def prepare(self, objective: Objective) -> None:
        """Set the learning rate of each block, with `method.layer_decay` or `method.unfreeze`."""
        method = self.settings.method
        if method.layer_decay == 1 and not method.unfreeze:
            return
        key = "method.unfreeze" if method.layer_decay == 1 else "method.layer_decay"
        blocks = len(require_own(objective.encoder, key, OTHER_MODES).transformer.blocks)
        objective.multipliers_at = lambda progress: layer_multipliers(
            blocks, method.layer_decay, method.unfreeze, progress
        )


def layer_multipliers(blocks: int, decay: float, unfreeze: float, progress: float) -> Mapping[str, float]:
    """Return the learning-rate multiplier of each part of `Objective`; parts that are not named have 1.

    Counted from the top, the last block is layer 1 and the embedding of particles is layer `blocks` + 1. Layer n has
    the multiplier decay^n and is unfrozen at the fraction `unfreeze` n / (`blocks` + 1) of the training.

    >>> multipliers = layer_multipliers(blocks=2, decay=0.5, unfreeze=0.0, progress=0.0)
    >>> [multipliers[f"encoder.transformer.blocks.{block}."] for block in (1, 0)], multipliers["encoder."]
    ([0.5, 0.25], 0.125)
    """
    layers = {f"encoder.transformer.blocks.{block}.": blocks - block for block in range(blocks)}
    layers |= {"encoder.": blocks + 1, "encoder.transformer.norm": 0, "encoder.z_out": 0, "encoder.pool.": 0}
    unfrozen = {part: progress * (blocks + 1) >= unfreeze * layer for part, layer in layers.items()}
    return {part: decay**layer if unfrozen[part] else 0.0 for part, layer in layers.items()}


class HeadMode(Mode):
    """Training of pool and heads; no gradient passes through the encoder, and none of its activations are kept."""

    pool = "attention"

    def prepare(self, objective: Objective) -> None:
        """Freeze the encoder except its pool."""
        scale_lr(objective)
        objective.encoder.requires_grad_(False)
        if objective.encoder.pool is not None:
            objective.encoder.pool.requires_grad_(True)


class ScratchMode(Mode):
    """Training of random weights, with the architecture and feature statistics of the pretrained model."""

    starts_anew = True
    trains_inputs = True

    def encoder(self, pretrained: Model) -> BaseEncoder:
        """Return an encoder of random weights."""
        return random_like(pretrained.encoder, self.settings.train.seed)
