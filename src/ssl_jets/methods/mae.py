"""Masked autoencoder on sets, without compression.

    visible, hidden = mask(x)
    tokens, z       = g(visible)
    prediction      = decoder({z, tokens, z + name of each hidden particle})[hidden]
    L = mean over jets of mean over its hidden particles of
        |prediction - x| averaged over the features it has + w CE(kind and charge)

He et al., arXiv:2111.06377, on sets as in MPM v2 (Leigh et al., arXiv:2409.12589). A hidden particle is named by its
pt rank among the hidden ones only. z is a token of the decoder and is added to every name, so that what all hidden
particles have in common is best said by z. With `decoder=mlp` a hidden particle is told from its name and z alone.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from ssl_jets.config import MethodSettings
from ssl_jets.jets import Jets
from ssl_jets.methods._method import Method
from ssl_jets.nn import masking
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.features import SIGNED_KINDS, TARGETS
from ssl_jets.nn.transformer import Transformer


class MaskedAutoencoder(Method):
    """Hide particles, encode the rest, predict the hidden ones."""

    class Config(MethodSettings):
        """Settings of `mae`."""

        mask: masking.Strategy = "random"
        """What is hidden: particles at random, a region of (deta, dphi), particles up to a share of pt, or kinds."""
        mask_ratio: float = Field(default=0.4, gt=0, lt=1)
        """Share of each jet's particles (of its pt with mask `pt`) that is hidden."""
        decoder: Literal["transformer", "mlp"] = "transformer"
        """Blocks over z, the tokens and the hidden particles, or an MLP of each hidden particle's name and z."""
        decoder_blocks: int = Field(default=3, ge=1)
        """Blocks of the transformer."""
        decoder_width: int = Field(default=64, ge=16, multiple_of=16)
        """Width of the decoder; it has one head for every 16."""
        kind_weight: float = Field(default=1.0, ge=0)
        """Weight w of the cross-entropy on kind and charge beside the L1 loss on the features."""
        ranks: int = Field(default=64, ge=1)
        """Hidden particles with a name of their own; softer ones share the last name."""

    def __init__(self, cfg: Config, encoder: Encoder, labels: tuple[str, ...] = ()) -> None:
        super().__init__(cfg, encoder, labels)
        self.cfg, self.encoder = cfg, encoder
        width = cfg.decoder_width
        self.z_in = nn.Linear(encoder.dim, width)
        self.names = nn.Embedding(cfg.ranks, width)
        nn.init.normal_(self.names.weight, std=0.02)
        self.decoder: nn.Module
        if cfg.decoder == "mlp":
            self.decoder = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        else:
            self.tokens_in = nn.Linear(encoder.width, width)
            self.decoder = Transformer(width, cfg.decoder_blocks, max(1, width // 16))
        self.features_out = nn.Linear(width, TARGETS)
        self.kinds_out = nn.Linear(width, SIGNED_KINDS)

    def loss(self, jets: Jets, progress: float) -> dict[str, Tensor]:
        """L1 on the features and cross-entropy on the kind of the hidden particles."""
        hidden = masking.hide(jets, self.cfg.mask, self.cfg.mask_ratio)
        encoded = self.encoder(jets.keep(~hidden))
        decoded = self._decode(jets, hidden, encoded.z, encoded.tokens)
        masked = jets.keep(hidden)
        values, weights, kinds = self.encoder.features.targets(masked)
        error = (self.features_out(decoded).float() - values).abs() * weights
        per_particle = error.sum(1) / weights.sum(1).clamp(min=1)
        kind = nn.functional.cross_entropy(self.kinds_out(decoded).float(), kinds, ignore_index=-1, reduction="none")
        features, kind = masked.mean(per_particle).mean(), masked.mean(kind).mean()
        return {
            "loss": features + self.cfg.kind_weight * kind,
            "feature_loss": features.detach(),
            "kind_loss": kind.detach(),
        }

    def _decode(self, jets: Jets, hidden: Tensor, z: Tensor, tokens: Tensor) -> Tensor:
        """Decoder output at the hidden particles, `[hidden particle, width]`."""
        z = self.z_in(z).float()
        names = self.names(masking.hidden_pt_rank(jets, hidden).clamp(max=self.cfg.ranks - 1))
        names = names + z[jets.jet_of_particle[hidden]]
        if self.cfg.decoder == "mlp":
            told: Tensor = self.decoder(names)
            return told
        particles = names.new_empty(len(hidden), names.shape[1])
        particles = particles.index_put((~hidden,), self.tokens_in(tokens).to(names.dtype))
        particles = particles.index_put((hidden,), names)
        decoded: Tensor = self.decoder(particles, jets.offsets, z.unsqueeze(1))[1]
        return decoded[hidden]

    def exported(self) -> Encoder:
        """The encoder itself."""
        return self.encoder
