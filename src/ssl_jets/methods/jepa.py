"""Joint-embedding prediction: a jet's missing regions are predicted in the space of a teacher, not as particles.

    hidden      = union of B regions of (deta, dphi)
    tokens, z   = g(x without hidden)                   the student sees the context
    tokens', z' = g'(x)                                 the teacher sees the whole jet
    p           = predictor({z, tokens, z + position of each hidden particle})[hidden]
    L = mean over jets of [mean over its hidden particles of smoothL1(p, norm(tokens')) + w smoothL1(q(z), norm(z'))]
    g' <- m g' + (1 - m) g                              after each step

I-JEPA (Assran et al., arXiv:2301.08243) on sets, as in HEP-JEPA (arXiv:2502.03933). A hidden particle is named by its
direction alone.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ssl_jets.config import MethodSettings
from ssl_jets.jets import Jets
from ssl_jets.methods._method import Method
from ssl_jets.nn import masking
from ssl_jets.nn.augment import Views, make_view
from ssl_jets.nn.ema import follow, rising, teacher_of
from ssl_jets.nn.encoder import Encoded, Encoder
from ssl_jets.nn.standardise import standardised, whitened
from ssl_jets.nn.trunk import Trunk


class Jepa(Method):
    """Hide regions of a jet, predict what a teacher makes of them."""

    class Config(MethodSettings):
        """Settings of `jepa`."""

        views: Views = Views(drop=0.0, beam=2.0)
        """Augmentations."""
        regions: int = Field(default=3, ge=1)
        """Target regions B; they may overlap."""
        region_ratio: float = Field(default=0.2, gt=0, lt=1)
        """Share of the jet's particles in each region."""
        predictor_blocks: int = Field(default=3, ge=1)
        """Blocks of the predictor."""
        predictor_width: int = Field(default=64, ge=8, multiple_of=8)
        """Width of the predictor; it has one head for every 16."""
        z_weight: float = Field(default=1.0, gt=0)
        """Weight w of predicting the teacher's z from the context's z."""
        normalise: Literal["layer", "batch"] = "batch"
        """Temporary."""
        floor: float = 0.01
        z_target: Literal["z", "mean", "both"] = "mean"
        momentum: float = Field(default=0.99, ge=0, le=1)
        """Momentum m of the teacher at the start; it rises to `final_momentum` by a half cosine."""
        final_momentum: float = Field(default=1.0, ge=0, le=1)
        """Momentum of the teacher at the end."""

    def __init__(self, cfg: Config, encoder: Encoder, labels: tuple[str, ...] = ()) -> None:
        super().__init__(cfg, encoder, labels)
        self.cfg, self.encoder, self.teacher = cfg, encoder, teacher_of(encoder)
        width = cfg.predictor_width
        self.z_in = nn.Linear(encoder.dim, width)
        self.tokens_in = nn.Linear(encoder.width, width)
        self.names = nn.Sequential(nn.Linear(4 * masking.POSITION_WAVES, width), nn.GELU(), nn.Linear(width, width))
        self.predictor = Trunk(width, cfg.predictor_blocks, max(1, width // 16))
        self.tokens_out = nn.Linear(width, encoder.width)
        self.z_out = nn.Sequential(
            nn.Linear(encoder.dim, 4 * encoder.dim),
            nn.GELU(),
            nn.Linear(
                4 * encoder.dim,
                {"z": encoder.dim, "mean": encoder.width, "both": encoder.dim + encoder.width}[cfg.z_target],
            ),
        )

    def loss(self, jets: Jets, progress: float) -> dict[str, Tensor]:
        """Smooth L1 to the teacher's tokens of the hidden particles, and to its z."""
        seen, whole_jets = make_view(jets, self.cfg.views), make_view(jets, self.cfg.views)
        jets = seen
        hidden = masking.hide_regions(jets, self.cfg.regions, self.cfg.region_ratio)
        with torch.no_grad():
            taught = self.teacher(whole_jets)
        context = self.encoder(jets.keep(~hidden))
        normal = standardised if self.cfg.normalise == "batch" else _layer
        per_particle = _distance(self._predict(jets, hidden, context), normal(taught.tokens[hidden]))
        tokens = jets.keep(hidden).mean(per_particle).mean()
        whole = {
            "z": taught.z,
            "mean": jets.mean(taught.tokens),
            "both": torch.cat([taught.z, jets.mean(taught.tokens)], 1),
        }[self.cfg.z_target]
        z = _distance(
            self.z_out(context.z), whitened(whole, self.cfg.floor) if self.cfg.floor else normal(whole)
        ).mean()
        return {"loss": tokens + self.cfg.z_weight * z, "token_loss": tokens.detach(), "z_loss": z.detach()}

    def _predict(self, jets: Jets, hidden: Tensor, context: Encoded) -> Tensor:
        """The predicted tokens of the hidden particles, `[hidden particle, encoder width]`."""
        z = self.z_in(context.z).float()
        names = self.names(masking.hidden_position(jets, hidden)).float() + z[jets.jet_of_particle[hidden]]
        particles = names.new_empty(len(hidden), names.shape[1])
        particles = particles.index_put((~hidden,), self.tokens_in(context.tokens).to(names.dtype))
        particles = particles.index_put((hidden,), names)
        predicted = self.predictor(particles, jets.offsets, z.unsqueeze(1))[1][hidden]
        tokens: Tensor = self.tokens_out(predicted)
        return tokens

    def after_step(self, progress: float) -> None:
        """The teacher follows."""
        share = rising(0, progress)
        follow(self.teacher, self.encoder, self.cfg.momentum + (self.cfg.final_momentum - self.cfg.momentum) * share)

    def exported(self) -> Encoder:
        """The teacher: the smoother of the two."""
        return self.teacher


def _distance(predicted: Tensor, target: Tensor) -> Tensor:
    """Smooth L1, `[row]`."""
    return nn.functional.smooth_l1_loss(predicted.float(), target, reduction="none").mean(1)


def _layer(taught: Tensor) -> Tensor:
    return nn.functional.layer_norm(taught.float(), taught.shape[-1:])
