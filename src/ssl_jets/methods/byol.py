"""BYOL: predict a momentum teacher's projection of another view of the same jet, without negatives.

    x', x''    = two views of each jet
    q', q''    = predictor(projector(g(x').z)), the same of x''
    t', t''    = whitened(teacher projector(teacher(x').z)), the same of x'', without gradient
    L          = mean over jets of (2 - 2 cos(q', t'')) + (2 - 2 cos(q'', t'))
    teacher    = m teacher + (1 - m) student after every step, m rising from m0 to 1 by a half cosine

Grill et al., arXiv:2006.07733. With `plain` targets, as in the paper, a constant z has L = 0. Collapse is then
prevented only by the student's predictor and the slowly updated teacher. With targets whitened over the jets of all
ranks (as in W-MSE, arXiv:2007.06346) no constant prediction has a low loss. Projector and predictor have BatchNorm over
the jets of all ranks.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ssl_jets.config import MethodSettings, Recipe, TrainSettings
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
        """Augmentations of the two views."""
        targets: Literal["whitened", "plain"] = "whitened"
        """The teacher's projections with mean 0 and unit covariance over the batch, or unchanged."""
        momentum: float = Field(default=0.8, ge=0, le=1)
        """Momentum m0 of the teacher at the start; it rises to 1 by a half cosine."""
        projector_hidden: int = Field(default=256, ge=1)
        """Width of the hidden layers of projector and predictor."""
        projector_out: int = Field(default=64, ge=1)
        """Dimension of the projections."""
        projector_layers: int = Field(default=2, ge=1)
        """Linear layers of the projector."""
        predictor_layers: int = Field(default=2, ge=0)
        """Linear layers of the predictor; 0 for none, which collapses with `plain` targets."""

    recipe: ClassVar[Recipe] = Recipe(train=TrainSettings(epochs=5, batch_size=128, lr=1e-3))
    compares_jets: ClassVar[bool] = True  # whitening and BatchNorm are over the jets
    compares_views: ClassVar[bool] = True
    cfg: Config

    def __init__(self, cfg: Config, encoder: Encoder, labels: tuple[str, ...] = ()) -> None:
        super().__init__(cfg, encoder, labels)
        hidden, out = cfg.projector_hidden, cfg.projector_out
        self.projector = Projector(encoder.dim, hidden, out, cfg.projector_layers, BatchNorm)
        self.predictor = Projector(out, hidden, out, cfg.predictor_layers, BatchNorm)
        self.teacher = teacher_of(encoder)
        self.teacher_projector = teacher_of(self.projector)

    def loss(self, jets: Jets, progress: float) -> dict[str, Tensor]:
        """Compute the symmetrized squared distance on the sphere to the teacher's projection of the other view."""
        first, second = (make_view(view, self.cfg.views) for view in (jets, jets.second_view()))
        predictions = [self.predictor(self.projector(self.encoder(view, z_only=True).z)) for view in (first, second)]
        with torch.no_grad():
            teacher_z = [self.teacher(view, z_only=True).z for view in (second, first)]
            targets = [self._target(self.teacher_projector(z)) for z in teacher_z]
        cosines = [
            nn.functional.cosine_similarity(prediction.float(), target.float())
            for prediction, target in zip(predictions, targets, strict=True)
        ]
        loss = (2 - 2 * torch.stack(cosines)).sum(0).mean()  # cosines [2, jet]
        return {"loss": loss, "momentum": loss.new_tensor(self.momentum(progress))}

    def _target(self, projections: Tensor) -> Tensor:
        return whiten(projections) if self.cfg.targets == "whitened" else projections

    def momentum(self, progress: float) -> float:
        """Return m after the fraction `progress` of the training."""
        return rising(self.cfg.momentum, progress)

    def after_step(self, progress: float) -> None:
        """Update the teacher, once per step and not per accumulated batch."""
        follow(self.teacher, self.encoder, self.momentum(progress))
        follow(self.teacher_projector, self.projector, self.momentum(progress))
