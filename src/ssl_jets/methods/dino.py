"""Self-distillation: a student predicts, from part of a jet, its teacher's assignment of the jet to prototypes.

    s_v = softmax(cos(head(z of view v), prototypes) / tau_s)                       all views, by the student
    t_u = softmax((cos(head'(z' of view u), prototypes') - centre) / tau_t)         global views, by the teacher
    L   = mean over jets, global views u and other views v of -sum over prototypes of t_u log s_v
    centre  <- c centre + (1 - c) mean over jets of the teacher's cosines           after each step
    teacher <- m teacher + (1 - m) student

Caron et al., arXiv:2104.14294. The teacher is sharper than the student (tau_t < tau_s), which alone would
assign all jets to one prototype; centring prevents it. With `balance=sinkhorn` t_u is instead balanced over the jets of
the batch (arXiv:2006.09882), so that every prototype is used equally.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from ssl_jets.config import MethodSettings, Recipe, TrainSettings
from ssl_jets.jets import Jets
from ssl_jets.methods._method import Method
from ssl_jets.nn.augment import Views, make_view
from ssl_jets.nn.collectives import gather
from ssl_jets.nn.ema import follow, rising, teacher_of
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.prototypes import PrototypeHead, centred, sinkhorn


class Dino(Method):
    """Student and teacher agree on prototypes."""

    class Config(MethodSettings):
        """Settings of `dino`."""

        global_views: int = Field(default=2, ge=1)
        """Views of (nearly) the whole jet, for teacher and student."""
        local_views: int = Field(default=1, ge=1)
        """Views of part of the jet, for the student only."""
        global_view: Views = Views(thin=0.4, beam=2.0)
        """Augmentations of a global view."""
        local_view: Views = Views(thin=0.9, beam=2.0)
        """Augmentations of a local view."""
        prototypes: int = Field(default=64, ge=2)
        """Number of prototypes."""
        balance: Literal["sinkhorn", "centre"] = "sinkhorn"
        """Method that keeps the teacher from assigning all jets to the same prototype."""
        student_temperature: float = Field(default=0.1, gt=0)
        """Temperature tau_s of the student."""
        teacher_temperature: float = Field(default=0.04, gt=0)
        """Temperature tau_t of the teacher: smaller, hence sharper."""
        centre_momentum: float = Field(default=0.9, ge=0, le=1)
        """Momentum c of the centre."""
        momentum: float = Field(default=0.95, ge=0, le=1)
        """Momentum m of the teacher at the start; it rises to 1 by a half cosine."""

    recipe: ClassVar[Recipe] = Recipe(train=TrainSettings(epochs=5, batch_size=128, lr=1e-3))
    cfg: Config
    centre: Tensor

    def __init__(self, cfg: Config, encoder: Encoder, labels: tuple[str, ...] = ()) -> None:
        super().__init__(cfg, encoder, labels)
        self.head = PrototypeHead(encoder.dim, 4 * encoder.dim, 64, cfg.prototypes)
        self.teacher, self.teacher_head = teacher_of(encoder), teacher_of(self.head)
        self.register_buffer("centre", torch.zeros(cfg.prototypes))
        self.teacher_means: list[Tensor] = []  # of the batches since the last step

    def loss(self, jets: Jets, progress: float) -> dict[str, Tensor]:
        """Compute the cross-entropy of the student's assignments with the teacher's, for pairs of different views."""
        views = [make_view(jets, self.cfg.global_view) for _ in range(self.cfg.global_views)]
        with torch.no_grad():
            # [jet, prototype] for each view
            teacher_cosines = [self.teacher_head(self.teacher(view, z_only=True).z) for view in views]
        views += [make_view(jets, self.cfg.local_view) for _ in range(self.cfg.local_views)]
        student_cosines = [self.projection(self.encoder(view, z_only=True).z) for view in views]
        predictions = [(cosines / self.cfg.student_temperature).log_softmax(1) for cosines in student_cosines]
        targets = [self._target(cosines) for cosines in teacher_cosines]
        entropies = [
            -(target * prediction).sum(1).mean()
            for u, target in enumerate(targets)
            for v, prediction in enumerate(predictions)
            if u != v
        ]
        loss = torch.stack(entropies).mean()
        if self.training:
            self.teacher_means.append(torch.stack(teacher_cosines).mean((0, 1)))
        usage = torch.stack(targets).mean((0, 1))  # [prototype]
        return {"loss": loss, "prototypes_used": torch.special.entr(usage).sum().exp()}

    def projection(self, z: Tensor) -> Tensor:
        """Return the student's cosines with the prototypes, `[jet, prototype]`."""
        cosines: Tensor = self.head(z)
        return cosines

    def _target(self, cosines: Tensor) -> Tensor:
        if self.cfg.balance == "sinkhorn":
            return sinkhorn(cosines, self.cfg.teacher_temperature)
        return centred(cosines, self.centre, self.cfg.teacher_temperature)

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Update the centre and the teacher."""
        if self.teacher_means:
            mean = gather(torch.stack(self.teacher_means).mean(0, keepdim=True)).mean(0)
            self.centre.lerp_(mean, 1 - self.cfg.centre_momentum)
            self.teacher_means.clear()
        momentum = rising(self.cfg.momentum, progress)
        follow(self.teacher, self.encoder, momentum)
        follow(self.teacher_head, self.head, momentum)
