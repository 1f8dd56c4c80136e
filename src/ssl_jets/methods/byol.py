"""BYOL: predict what a slowly following teacher makes of another view of the same jet. No negatives.

    x', x''    = two views of each jet
    q', q''    = predictor(projector(g(x').z)), the same of x''
    t', t''    = whitened(teacher projector(teacher(x').z)), the same of x'', without gradient
    L          = mean over jets of (2 - 2 cos(q', t'')) + (2 - 2 cos(q'', t'))
    teacher    = m teacher + (1 - m) student after every step, m rising from m0 to 1 by a half cosine

Grill et al., arXiv:2006.07733. A constant z has L = 0 where the targets are `plain`, as in the paper. What keeps z from
it is then that the student has a predictor that the teacher has not, and that the teacher is slow. Whitened over the
jets of all ranks (as in W-MSE, arXiv:2007.06346), targets have nothing in common that a constant could meet. Projector
and predictor have BatchNorm, of the jets of all ranks.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ssl_jets.config import MethodSettings
from ssl_jets.jets import Jets
from ssl_jets.methods._method import Method
from ssl_jets.nn.augment import Views, make_view
from ssl_jets.nn.ema import follow, rising, teacher_of
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.heads import Projector
from ssl_jets.nn.normalize import BatchNorm, whiten


class BYOL(Method):
    """Bootstrap your own latent: a student predicts its own moving average."""

    class Config(MethodSettings):
        """Settings of `byol`."""

        views: Views = Views(thin=0.8, beam=2.0)
        """How the two views are made."""
        targets: Literal["whitened", "plain"] = "whitened"
        """The teacher's projections: without what all jets have in common and of one size in all directions, or as
        they are."""
        momentum: float = Field(default=0.8, ge=0, le=1)
        """Momentum m0 of the teacher at the start; it rises to 1."""
        projector_hidden: int = Field(default=256, ge=1)
        """Width of the hidden layers of projector and predictor."""
        projector_out: int = Field(default=64, ge=1)
        """Numbers that are compared."""
        projector_layers: int = Field(default=2, ge=1)
        """Linear maps of the projector."""
        predictor_layers: int = Field(default=2, ge=0)
        """Linear maps of the predictor; 0 for none, which collapses with `plain` targets."""

    def __init__(self, cfg: Config, encoder: Encoder, labels: tuple[str, ...] = ()) -> None:
        super().__init__(cfg, encoder, labels)
        self.cfg, self.encoder = cfg, encoder
        hidden, out = cfg.projector_hidden, cfg.projector_out
        self.projector = Projector(encoder.dim, hidden, out, cfg.projector_layers, BatchNorm)
        self.predictor = Projector(out, hidden, out, cfg.predictor_layers, BatchNorm)
        self.teacher = teacher_of(encoder)
        self.teacher_projector = teacher_of(self.projector)

    def loss(self, jets: Jets, progress: float) -> dict[str, Tensor]:
        """Squared distance on the sphere to the teacher of the other view, both ways."""
        first, second = (make_view(jets, self.cfg.views) for _ in range(2))
        predicted = [self.predictor(self.projection(self.encoder(view).z)) for view in (first, second)]
        with torch.no_grad():
            targets = [self._target(self.teacher_projector(self.teacher(view).z)) for view in (second, first)]
        pairs = zip(predicted, targets, strict=True)
        cosine = torch.stack([nn.functional.cosine_similarity(ours.float(), theirs.float()) for ours, theirs in pairs])
        loss = (2 - 2 * cosine).sum(0).mean()
        return {"loss": loss, "momentum": loss.new_tensor(self.momentum(progress))}

    def projection(self, z: Tensor) -> Tensor:
        """The student's projections."""
        projections: Tensor = self.projector(z)
        return projections

    def _target(self, projected: Tensor) -> Tensor:
        return whiten(projected) if self.cfg.targets == "whitened" else projected

    def momentum(self, progress: float) -> float:
        """m after the share `progress` of the training."""
        return rising(self.cfg.momentum, progress)

    def after_step(self, progress: float) -> None:
        """The teacher follows. Called once for each step, however many batches that adds up."""
        follow(self.teacher, self.encoder, self.momentum(progress))
        follow(self.teacher_projector, self.projector, self.momentum(progress))

    def exported(self) -> Encoder:
        """The student, as in the paper."""
        return self.encoder
