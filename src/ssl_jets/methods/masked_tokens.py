"""Masked prediction of a tokenizer's codes.

    k               = codes of the whole jet by a trained, frozen `tokenizer`
    visible, hidden = mask(x)
    tokens, z       = g(visible)
    prediction      = decoder({z, tokens, z + mask token of each hidden particle})[hidden]
    L = mean over jets of mean over its hidden particles of -log softmax(prediction)[k]

BEiT (Bao et al., arXiv:2106.08254) on sets, as in masked particle modelling (Golling et al., arXiv:2401.13537). The
encoder reads continuous features; codes are targets only. Encoder, decoder and mask tokens by pT rank are
the same as in `mae`.
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
        mask: masking.MaskStrategy = "random"
        """Hidden particles: random ones, a region of (deta, dphi), random ones up to a fraction of pt, or kinds."""
        mask_ratio: float = Field(default=0.4, gt=0, lt=1)
        """Fraction of each jet's particles (of its pt with mask `pt`) that is hidden."""
        decoder_blocks: int = Field(default=3, ge=1)
        """Blocks of the decoder."""
        decoder_width: int = Field(default=64, ge=16, multiple_of=16)
        """Width of the decoder; one attention head for every 16."""
        mask_tokens: int = Field(default=64, ge=1)
        """Number of mask tokens, by pT rank; softer hidden particles share the last one."""

    requires: ClassVar[tuple[str, ...]] = ("tokenizer",)
    sees_collections: ClassVar[bool] = True
    cfg: Config

    def __init__(self, cfg: Config, encoder: Encoder, labels: tuple[str, ...] = (), *, tokenizer: Method) -> None:
        super().__init__(cfg, encoder, labels)
        self.tokenizer = tokenizer.requires_grad_(False)
        width = cfg.decoder_width
        self.z_in = nn.Linear(encoder.dim, width)
        self.tokens_in = nn.Linear(encoder.width, width)
        self.mask_tokens = masking.MaskTokens(cfg.mask_tokens, width)
        self.decoder = Transformer(width, cfg.decoder_blocks, max(1, width // 16))
        self.codes_out = nn.Linear(width, cast(Tokens, tokenizer).size)

    def loss(self, jets: Jets, progress: float) -> dict[str, Tensor]:
        """Compute the cross-entropy of the codes of the hidden particles, and the accuracy of the codes."""
        codes = cast(Tokens, self.tokenizer).codes(self.whole(jets))  # int64 [particle]
        hidden = masking.hide(jets, self.cfg.mask, self.cfg.mask_ratio)  # bool [particle]
        z, tokens = self.encoder(masking.visible(jets, hidden))
        mask_tokens = self.mask_tokens(masking.hidden_pt_rank(jets, hidden))
        z, tokens = self.z_in(z), self.tokens_in(tokens)
        decoded = masking.decode_hidden(self.decoder, jets, hidden, z, tokens, mask_tokens)
        logits = self.codes_out(decoded).float()  # [hidden particle, code]
        masked = jets.keep(hidden)
        entropy = nn.functional.cross_entropy(logits, codes[hidden], reduction="none")
        correct = (logits.argmax(1) == codes[hidden]).float()
        loss, accuracy = masked.mean(torch.stack([entropy, correct], dim=1)).mean(0)
        return {"loss": loss, "accuracy": accuracy.detach()}
