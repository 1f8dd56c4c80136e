"""Masked prediction of a tokenizer's codes.

    k               = codes of the whole jet by a trained `tokenizer`, which stays as it is
    visible, hidden = mask(x)
    tokens, z       = g(visible)
    prediction      = decoder({z, tokens, z + name of each hidden particle})[hidden]
    L = mean over jets of mean over its hidden particles of -log softmax(prediction)[k]

BEiT (Bao et al., arXiv:2106.08254) on sets, as in masked particle modelling (Golling et al., arXiv:2401.13537). What is
visible enters with its continuous features, only the targets are codes. A hidden particle is named by its pt rank among
the hidden ones only.
"""

from __future__ import annotations

from typing import ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from ssl_jets.config import MethodSettings
from ssl_jets.jets import Jets
from ssl_jets.methods._method import Method, Tokens
from ssl_jets.nn import masking
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.transformer import Transformer


class MaskedTokens(Method):
    """Hide particles, encode the rest, predict the codes of the hidden ones."""

    class Config(MethodSettings):
        """Settings of `masked_tokens`."""

        tokenizer: str = ""
        """Run of `tokenizer` whose codes are predicted; there is no default."""
        mask: masking.Strategy = "random"
        """What is hidden: particles at random, a region of (deta, dphi), particles up to a share of pt, or kinds."""
        mask_ratio: float = Field(default=0.4, gt=0, lt=1)
        """Share of each jet's particles (of its pt with mask `pt`) that is hidden."""
        decoder_blocks: int = Field(default=3, ge=1)
        """Blocks of the decoder."""
        decoder_width: int = Field(default=64, ge=16, multiple_of=16)
        """Width of the decoder; it has one head for every 16."""
        ranks: int = Field(default=64, ge=1)
        """Hidden particles with a name of their own; softer ones share the last name."""

    requires: ClassVar[tuple[str, ...]] = ("tokenizer",)

    def __init__(self, cfg: Config, encoder: Encoder, labels: tuple[str, ...] = (), *, tokenizer: Method) -> None:
        super().__init__(cfg, encoder, labels)
        self.cfg, self.encoder = cfg, encoder
        self.tokenizer = tokenizer.requires_grad_(False)
        width = cfg.decoder_width
        self.z_in = nn.Linear(encoder.dim, width)
        self.tokens_in = nn.Linear(encoder.width, width)
        self.names = nn.Embedding(cfg.ranks, width)
        nn.init.normal_(self.names.weight, std=0.02)
        self.decoder = Transformer(width, cfg.decoder_blocks, max(1, width // 16))
        self.codes_out = nn.Linear(width, cast(Tokens, tokenizer).size)

    def loss(self, jets: Jets, progress: float) -> dict[str, Tensor]:
        """Cross-entropy of the codes of the hidden particles, and how many are guessed right."""
        codes = cast(Tokens, self.tokenizer).codes(jets)
        hidden = masking.hide(jets, self.cfg.mask, self.cfg.mask_ratio)
        encoded = self.encoder(jets.keep(~hidden))
        logits = self.codes_out(self._decode(jets, hidden, encoded.z, encoded.tokens)).float()
        masked = jets.keep(hidden)
        entropy = nn.functional.cross_entropy(logits, codes[hidden], reduction="none")
        right = (logits.argmax(1) == codes[hidden]).float()
        loss, accuracy = masked.mean(torch.stack([entropy, right], dim=1)).mean(0)
        return {"loss": loss, "accuracy": accuracy.detach()}

    def _decode(self, jets: Jets, hidden: Tensor, z: Tensor, tokens: Tensor) -> Tensor:
        """Decoder output at the hidden particles, `[hidden particle, width]`."""
        z = self.z_in(z).float()
        names = self.names(masking.hidden_pt_rank(jets, hidden).clamp(max=self.cfg.ranks - 1))
        names = names + z[jets.jet_of_particle[hidden]]
        particles = names.new_empty(len(hidden), names.shape[1])
        particles = particles.index_put((~hidden,), self.tokens_in(tokens).to(names.dtype))
        particles = particles.index_put((hidden,), names)
        decoded: Tensor = self.decoder(particles, jets.offsets, z.unsqueeze(1))[1]
        return decoded[hidden]

    def exported(self) -> Encoder:
        """The encoder itself."""
        return self.encoder
