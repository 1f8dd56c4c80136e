"""Static teacher: predict the tokens of hidden particles that a trained, frozen encoder gives them.

    visible, hidden = mask(x)
    target          = (tokens of the teacher on the whole jet - mean) / std,     at the hidden particles
    tokens, z       = g(visible)
    prediction      = predictor({z, tokens, z + mask token of each hidden particle})[hidden]
    L = mean over jets of mean over its hidden particles of |prediction - target|, averaged over the teacher's width

SALT (Li et al., arXiv:2509.24317) on sets, with the L1 loss of V-JEPA (arXiv:2404.08471). The teacher never moves, so
there is nothing to collapse to, and teacher and student may have different sizes. Mean and std of each component of
the teacher's tokens are fitted once on training jets. Predictor and mask tokens by pT rank are the same as in `mae`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from ssl_jets.config import MethodSettings
from ssl_jets.jets import Jets
from ssl_jets.methods._method import Method
from ssl_jets.nn import masking
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.transformer import Transformer, without_dropout

STATISTICS_SHARE = 5
"""One jet in so many of the sample enters the statistics of the teacher's tokens."""


class Salt(Method):
    """Hide particles, encode the rest, predict a frozen encoder's tokens of the hidden ones."""

    class Config(MethodSettings):
        """Settings of `salt`."""

        teacher: str = ""
        """Trained model with the teacher's encoder, in the paper a masked autoencoder; there is no default."""
        mask: masking.MaskStrategy = "random"
        """Hidden particles: random ones, a region of (deta, dphi), random ones up to a fraction of pt, or kinds."""
        mask_ratio: float = Field(default=0.4, gt=0, lt=1)
        """Fraction of each jet's particles (of its pt with mask `pt`) that is hidden."""
        predictor_blocks: int = Field(default=3, ge=1)
        """Blocks of the predictor."""
        predictor_width: int = Field(default=64, ge=16, multiple_of=16)
        """Width of the predictor; one attention head for every 16."""
        mask_tokens: int = Field(default=64, ge=1)
        """Number of mask tokens, by pT rank; softer hidden particles share the last one."""

    requires: ClassVar[tuple[str, ...]] = ("teacher",)
    cfg: Config
    mean: Tensor
    std: Tensor

    def __init__(self, cfg: Config, encoder: Encoder, labels: tuple[str, ...] = (), *, teacher: Encoder) -> None:
        super().__init__(cfg, encoder, labels)
        self.teacher = without_dropout(teacher).requires_grad_(False)
        self.register_buffer("mean", torch.zeros(teacher.width))
        self.register_buffer("std", torch.ones(teacher.width))
        width = cfg.predictor_width
        self.z_in = nn.Linear(encoder.dim, width)
        self.tokens_in = nn.Linear(encoder.width, width)
        self.mask_tokens = masking.MaskTokens(cfg.mask_tokens, width)
        self.predictor = Transformer(width, cfg.predictor_blocks, max(1, width // 16))
        self.tokens_out = nn.Linear(width, teacher.width)

    def loss(self, jets: Jets, progress: float) -> dict[str, Tensor]:
        """Compute L1 between the predicted and the teacher's tokens of the hidden particles."""
        hidden = masking.hide(jets, self.cfg.mask, self.cfg.mask_ratio)  # bool [particle]
        with torch.no_grad():
            tokens = self.teacher(self.whole(jets)).tokens[hidden].float()  # [hidden particle, width]
            target = (tokens - self.mean) / self.std
        z, tokens = self.encoder(jets.keep(~hidden))
        mask_tokens = self.mask_tokens(masking.hidden_pt_rank(jets, hidden))
        z, tokens = self.z_in(z), self.tokens_in(tokens)
        decoded = masking.decode_hidden(self.predictor, jets, hidden, z, tokens, mask_tokens)
        prediction = self.tokens_out(decoded).float()  # [hidden particle, teacher's width]
        masked = jets.keep(hidden)
        return {"loss": masked.mean((prediction - target).abs().mean(1)).mean()}

    @torch.no_grad()
    def fit_statistics(self, batches: Iterable[Jets]) -> None:
        """Fit mean and standard deviation of each component of the teacher's tokens."""
        some = (jets.select(torch.arange(0, len(jets), STATISTICS_SHARE)) for jets in batches)
        tokens = torch.cat([self.teacher(jets.without(jets.context)).tokens for jets in some]).double()
        variance, mean = torch.var_mean(tokens, dim=0, correction=0)
        self.mean.copy_(mean)
        self.std.copy_((variance + 1e-8).sqrt())
