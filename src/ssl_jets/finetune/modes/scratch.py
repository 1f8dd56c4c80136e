"""Mode `scratch`: the same network from a random start, the baseline of every other mode."""

from __future__ import annotations

from ssl_jets.finetune.modes._mode import Mode
from ssl_jets.model_file import Model
from ssl_jets.nn.encoder import Encoder, random_like


class Scratch(Mode):
    """Nothing of the pretrained model is used but its shape and the statistics of its features."""

    starts_anew = True

    def encoder(self, pretrained: Model) -> Encoder:
        """Random weights."""
        return random_like(pretrained.encoder, self.settings.train.seed)
