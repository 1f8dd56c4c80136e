"""Mode `full`: encoder and heads are trained.

Three ways to be gentle with what was pretrained, each off by default: the rate falls from block to block towards the
input (`layer_decay`, as in BEiT, arXiv:2106.08254), blocks join one after the other from the top (`unfreeze`, ULMFiT,
arXiv:1801.06146), and the heads are trained on the frozen z first (`probe_first`: LP-FT, arXiv:2202.10054).
"""

from __future__ import annotations

from collections.abc import Mapping

from ssl_jets.finetune.modes._mode import Mode, Work
from ssl_jets.finetune.modes.probe import heads_first
from ssl_jets.finetune.objective import Objective
from ssl_jets.train import Fit


class Full(Mode):
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
