"""Joint-embedding prediction: a jet's missing regions are predicted in the space of a teacher, not as particles.

    x, x'       = two views of a jet with the same particles
    hidden      = union of B regions of (deta, dphi)
    tokens, z   = g(x without hidden)                   the student sees the context
    tokens', z' = g'(x')                                the teacher sees the whole jet, turned
    p           = predictor({z, tokens, z + place in x of each hidden particle})[hidden]
    L = mean over jets of [mean over its hidden particles of smoothL1(p, standardised(tokens'))
                           + w smoothL1(q(z), standardised(q'(z')))]
        + u (v(q(z)) + c(q(z)) / 25)                    v, c: variance and covariance of VICReg, over the jets
    g', q' <- m times themselves + (1 - m) (g, q)       after each step

I-JEPA (Assran et al., arXiv:2301.08243) on sets, as in HEP-JEPA (arXiv:2502.03933), with the variance and covariance
terms of C-JEPA (arXiv:2410.19560). A hidden particle is named by its direction alone. Targets are standardised over
the batch, not within each token: what all jets share is no target.
"""

from __future__ import annotations

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from ssl_jets.config import MethodSettings
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
    """Hide regions of a jet, predict what a teacher makes of them."""

    class Config(MethodSettings):
        """Settings of `jepa`."""

        views: Views = Views(drop=0.0, beam=2.0)
        """What differs between student and teacher; only augmentations that neither lose nor split particles."""
        regions: int = Field(default=3, ge=1)
        """Target regions B; they may overlap."""
        region_ratio: float = Field(default=0.2, gt=0, lt=1)
        """Share of the jet's particles in each region."""
        predictor_blocks: int = Field(default=3, ge=1)
        """Blocks of the predictor."""
        predictor_width: int = Field(default=64, ge=16, multiple_of=16)
        """Width of the predictor; it has one head for every 16."""
        z_weight: float = Field(default=3.0, gt=0)
        """Weight w of predicting the whole jet from the context's z."""
        spread_weight: float = Field(default=2.0, ge=0)
        """Weight u of what keeps q(z) spread out over the jets; 0 for none: z then loses its directions."""
        momentum: float = Field(default=0.95, ge=0, le=1)
        """Momentum m of the teacher at the start."""
        final_momentum: float = Field(default=1.0, ge=0, le=1)
        """Momentum at the end; it is reached by a half cosine."""

        @field_validator("views")
        @classmethod
        def _keeps_the_particles(cls, views: Views) -> Views:
            named = [name for name in ("crop_region", "crop_hardest", "thin", "drop", "split") if getattr(views, name)]
            if named:
                raise ValueError(f"student and teacher must see the same particles, so these must be 0: {named}")
            return views

    def __init__(self, cfg: Config, encoder: Encoder, labels: tuple[str, ...] = ()) -> None:
        super().__init__(cfg, encoder, labels)
        self.cfg, self.encoder, self.teacher = cfg, encoder, teacher_of(encoder)
        width = cfg.predictor_width
        self.z_in = nn.Linear(encoder.dim, width)
        self.tokens_in = nn.Linear(encoder.width, width)
        self.names = nn.Sequential(nn.Linear(4 * masking.POSITION_WAVES, width), nn.GELU(), nn.Linear(width, width))
        self.predictor = Transformer(width, cfg.predictor_blocks, max(1, width // 16))
        self.tokens_out = nn.Linear(width, encoder.width)
        self.z_out = Projector(encoder.dim, 4 * encoder.dim, encoder.width, 2, BatchNorm)
        self.teacher_out = teacher_of(self.z_out)

    def loss(self, jets: Jets, progress: float) -> dict[str, Tensor]:
        """Smooth L1 to the teacher's tokens of the hidden particles and to its z, and the spread of the student's z."""
        seen, turned = make_view(jets, self.cfg.views), make_view(jets, self.cfg.views)
        hidden = masking.hide_regions(seen, self.cfg.regions, self.cfg.region_ratio)
        with torch.no_grad():
            taught = self.teacher(turned)
            whole = standardize(self.teacher_out(taught.z))
        context = self.encoder(seen.keep(~hidden))
        per_particle = _distance(self._predict(seen, hidden, context), standardize(taught.tokens[hidden]))
        tokens = jets.keep(hidden).mean(per_particle).mean()
        said = self.projection(context.z)
        z = _distance(said, whole).mean()
        variance, covariance = vicreg_terms(gather(said))
        spread = variance + covariance / 25
        return {
            "loss": tokens + self.cfg.z_weight * z + self.cfg.spread_weight * spread,
            "token_loss": tokens.detach(),
            "z_loss": z.detach(),
            "spread_loss": spread.detach(),
        }

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

    def projection(self, z: Tensor) -> Tensor:
        """What is said of the whole jet, q(z), float32."""
        said: Tensor = self.z_out(z)
        return said.float()

    def after_step(self, progress: float) -> None:
        """The teacher follows."""
        share = rising(0, progress)
        momentum = self.cfg.momentum + (self.cfg.final_momentum - self.cfg.momentum) * share
        follow(self.teacher, self.encoder, momentum)
        follow(self.teacher_out, self.z_out, momentum)

    def exported(self) -> Encoder:
        """The student: a teacher of this momentum lags behind by hundreds of steps."""
        return self.encoder


def _distance(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean smooth L1 of each row, `[row]`."""
    return nn.functional.smooth_l1_loss(predicted.float(), target, reduction="none").mean(1)
