"""Joint-embedding prediction: predict a teacher's tokens of a jet's hidden regions, not their particles.

    x, x'       = two views of a jet with the same particles
    hidden      = union of B regions of (deta, dphi)
    tokens, z   = g(x without hidden)                   the student sees the context
    tokens', z' = g'(x')                                the teacher sees the whole jet, rotated
    p           = predictor({z, tokens, z + mask token of the position in x of each hidden particle})[hidden]
    L = mean over jets of [mean over its hidden particles of smoothL1(p, standardized(tokens'))
                           + w smoothL1(q(z), standardized(q'(z')))]
        + u (v(q(z)) + c(q(z)) / 25)                    v, c: variance and covariance of VICReg, over the jets
    g', q' <- m times themselves + (1 - m) (g, q)       after each step

I-JEPA (Assran et al., arXiv:2301.08243) on sets, as in HEP-JEPA (arXiv:2502.03933), with the variance and covariance
terms of C-JEPA (arXiv:2410.19560). The mask token of a hidden particle encodes its direction only. Targets are
standardized over the batch, not within each token, which removes the component common to all jets. The second term
trains z; without the third, student and teacher agree on one or two directions of z.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from ssl_jets.config import MethodSettings, Recipe, TrainSettings
from ssl_jets.jets import Jets
from ssl_jets.methods._method import Method
from ssl_jets.nn import masking
from ssl_jets.nn.augment import Views, make_view
from ssl_jets.nn.collectives import gather
from ssl_jets.nn.ema import follow, rising, teacher_of
from ssl_jets.nn.encoder import Encoded, Encoder
from ssl_jets.nn.heads import Projector
from ssl_jets.nn.normalize import BatchNorm, standardize
from ssl_jets.nn.regularizers import vicreg_terms
from ssl_jets.nn.transformer import Transformer


class Jepa(Method):
    """Hide regions of a jet, predict a teacher's tokens of them."""

    class Config(MethodSettings):
        """Settings of `jepa`."""

        views: Views = Views(drop=0.0, beam=2.0)
        """Augmentations of student and teacher; only those that neither lose nor split particles."""
        regions: int = Field(default=3, ge=1)
        """Target regions B; they may overlap."""
        region_ratio: float = Field(default=0.2, gt=0, lt=1)
        """Fraction of the jet's particles in each region."""
        predictor_blocks: int = Field(default=3, ge=1)
        """Blocks of the predictor."""
        predictor_width: int = Field(default=64, ge=16, multiple_of=16)
        """Width of the predictor; one attention head for every 16."""
        z_weight: float = Field(default=3.0, gt=0)
        """Weight w of predicting the teacher's z of the whole jet from the context's z."""
        spread_weight: float = Field(default=2.0, ge=0)
        """Weight u of the variance and covariance terms of q(z); with 0 the rank of z collapses."""
        momentum: float = Field(default=0.95, ge=0, le=1)
        """Momentum m of the teacher at the start."""
        final_momentum: float = Field(default=1.0, ge=0, le=1)
        """Momentum at the end, reached by a half cosine."""

        @field_validator("views")
        @classmethod
        def _keeps_the_particles(cls, views: Views) -> Views:
            changing = ("crop_region", "crop_hardest", "thin", "drop", "split")
            set_ = [name for name in changing if getattr(views, name)]
            if set_:
                raise ValueError(f"student and teacher must see the same particles, so these must be 0: {set_}")
            return views

    recipe: ClassVar[Recipe] = Recipe(train=TrainSettings(epochs=5, batch_size=128, lr=1e-3))
    sees_collections: ClassVar[bool] = True
    compares_jets: ClassVar[bool] = True  # the spread of z and BatchNorm are over the jets
    cfg: Config

    def __init__(self, cfg: Config, encoder: Encoder, labels: tuple[str, ...] = ()) -> None:
        super().__init__(cfg, encoder, labels)
        self.teacher = teacher_of(encoder)
        width = cfg.predictor_width
        self.z_in = nn.Linear(encoder.dim, width)
        self.tokens_in = nn.Linear(encoder.width, width)
        waves = 4 * masking.POSITION_WAVES
        self.mask_tokens = nn.Sequential(nn.Linear(waves, width), nn.GELU(), nn.Linear(width, width))
        self.predictor = Transformer(width, cfg.predictor_blocks, max(1, width // 16))
        self.tokens_out = nn.Linear(width, encoder.width)
        self.z_out = Projector(encoder.dim, 4 * encoder.dim, encoder.width, 2, BatchNorm)
        self.teacher_out = teacher_of(self.z_out)

    def loss(self, jets: Jets, progress: float) -> dict[str, Tensor]:
        """Compute smooth L1 to the teacher's hidden tokens and to its z, and the spread of the student's z."""
        student_view, teacher_view = make_view(jets, self.cfg.views), make_view(jets, self.cfg.views)
        hidden = masking.hide_regions(student_view, self.cfg.regions, self.cfg.region_ratio)  # bool [particle]
        with torch.no_grad():
            target = self.teacher(teacher_view)
            target_z = standardize(self.teacher_out(target.z))  # [jet, encoder width]
        context = self.encoder(masking.visible(student_view, hidden))
        prediction = self._predict(student_view, hidden, context)  # [hidden particle, encoder width]
        per_particle = _distance(prediction, standardize(target.tokens[hidden]))
        token_loss = jets.keep(hidden).mean(per_particle).mean()
        projections = self.projection(context.z)
        z_loss = _distance(projections, target_z).mean()
        variance, covariance = vicreg_terms(gather(projections))
        spread_loss = variance + covariance / 25
        return {
            "loss": token_loss + self.cfg.z_weight * z_loss + self.cfg.spread_weight * spread_loss,
            "token_loss": token_loss.detach(),
            "z_loss": z_loss.detach(),
            "spread_loss": spread_loss.detach(),
        }

    def _predict(self, jets: Jets, hidden: Tensor, context: Encoded) -> Tensor:
        """Return the predicted tokens of the hidden particles, `[hidden particle, encoder width]`."""
        z, tokens = self.z_in(context.z), self.tokens_in(context.tokens)
        mask_tokens = self.mask_tokens(masking.hidden_position(jets, hidden))
        decoded = masking.decode_hidden(self.predictor, jets, hidden, z, tokens, mask_tokens)
        prediction: Tensor = self.tokens_out(decoded)
        return prediction

    def projection(self, z: Tensor) -> Tensor:
        """Return q(z), the prediction of the teacher's q'(z'), float32 `[jet, encoder width]`."""
        projections: Tensor = self.z_out(z)
        return projections.float()

    def after_step(self, progress: float) -> None:
        """Update the teacher."""
        fraction = rising(0, progress)
        momentum = self.cfg.momentum + (self.cfg.final_momentum - self.cfg.momentum) * fraction
        follow(self.teacher, self.encoder, momentum)
        follow(self.teacher_out, self.z_out, momentum)


def _distance(predicted: Tensor, target: Tensor) -> Tensor:
    """Return the mean smooth L1 of each row, `[row]`."""
    return nn.functional.smooth_l1_loss(predicted.float(), target, reduction="none").mean(1)
