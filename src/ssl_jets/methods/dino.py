"""Self-distillation: a student predicts, from part of a jet, its teacher's assignment of the jet to prototypes.

    s_v = softmax(cos(head(z of view v), prototypes) / tau_s)                       all views, by the student
    t_u = softmax((cos(head'(z' of view u), prototypes') - centre) / tau_t)         global views, by the teacher
    L   = mean over jets, global views u and other views v of -sum over prototypes of t_u log s_v
    centre  <- c centre + (1 - c) mean over jets of the teacher's cosines           after each step
    teacher <- m teacher + (1 - m) student

With a particle weight w the student reads global views without some particles, and L += w times the loss of
`ParticleDistillation` (`nn/prototypes.py`): it predicts the teacher's assignment of each hidden particle to prototypes.

Caron et al., arXiv:2104.14294; with particles iBOT, arXiv:2111.07832, and jBOT, arXiv:2601.11719. The teacher is
sharper than the student (tau_t < tau_s), which alone would assign all jets to one prototype; centring prevents it.
With `balance=sinkhorn` t_u is instead balanced over the jets of the batch (arXiv:2006.09882), so that every prototype
is used equally.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from ssl_jets.config import MethodSettings, Recipe, TrainSettings
from ssl_jets.jets import Jets
from ssl_jets.methods._method import Method
from ssl_jets.nn import masking
from ssl_jets.nn.augment import Views, make_view
from ssl_jets.nn.collectives import gather
from ssl_jets.nn.ema import Collected, follow, rising, teacher_of
from ssl_jets.nn.encoder import Encoded, Encoder
from ssl_jets.nn.prototypes import ParticleDistillation, PrototypeHead, centred, sinkhorn


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
        particle_weight: float = Field(default=0.0, ge=0)
        """Weight w of the distillation of hidden particles; 0 for jets alone."""
        particle_mask_ratio: float = Field(default=0.3, gt=0, lt=1)
        """Fraction of the particles of a global view that the student then does not read."""

    recipe: ClassVar[Recipe] = Recipe(train=TrainSettings(epochs=5, batch_size=128, lr=1e-3))
    compares_jets: ClassVar[bool] = True  # assignments are balanced over the jets
    cfg: Config
    centre: Tensor

    def __init__(self, cfg: Config, encoder: Encoder, labels: tuple[str, ...] = ()) -> None:
        super().__init__(cfg, encoder, labels)
        self.head = PrototypeHead(encoder.dim, 4 * encoder.dim, 64, cfg.prototypes)
        self.teacher, self.teacher_head = teacher_of(encoder), teacher_of(self.head)
        self.register_buffer("centre", torch.zeros(cfg.prototypes))
        self.teacher_means = Collected[Tensor]()
        temperatures = cfg.student_temperature, cfg.teacher_temperature
        self.particles = ParticleDistillation(encoder, cfg.prototypes, *temperatures) if cfg.particle_weight else None

    def loss(self, jets: Jets, progress: float) -> dict[str, Tensor]:
        """Compute the cross-entropy of the student's assignments with the teacher's, for pairs of different views."""
        views = [make_view(jets, self.cfg.global_view) for _ in range(self.cfg.global_views)]
        with torch.no_grad():
            taught = [self.teacher(view, z_only=self.particles is None) for view in views]
            teacher_cosines = [self.teacher_head(encoded.z) for encoded in taught]  # [jet, prototype] for each view
        views += [make_view(jets, self.cfg.local_view) for _ in range(self.cfg.local_views)]
        z, particle_losses = self._read(views, taught)
        predictions = [(self.head(one) / self.cfg.student_temperature).log_softmax(1) for one in z]
        targets = [self._target(cosines) for cosines in teacher_cosines]
        entropies = [
            -(target * prediction).sum(1).mean()
            for u, target in enumerate(targets)
            for v, prediction in enumerate(predictions)
            if u != v
        ]
        loss = torch.stack(entropies).mean()
        if self.training:
            self.teacher_means.items.append(torch.stack(teacher_cosines).mean((0, 1)))
        usage = torch.stack(targets).mean((0, 1))  # [prototype]
        parts = {"prototypes_used": torch.special.entr(usage).sum().exp()}
        if particle_losses:
            particle_loss = torch.stack(particle_losses).mean()
            parts |= {"jet_loss": loss.detach(), "particle_loss": particle_loss.detach()}
            loss = loss + self.cfg.particle_weight * particle_loss
        return {"loss": loss} | parts

    def _read(self, views: list[Jets], taught: list[Encoded]) -> tuple[list[Tensor], list[Tensor]]:
        """Return the student's z of each view, and the loss of the hidden particles of each global view.

        Args:
            views: the global views, then the local ones.
            taught: z and tokens of the global views by the teacher.
        """
        if self.particles is None:
            return [self.encoder(view, z_only=True).z for view in views], []
        z, losses = [], []
        for view, teacher in zip(views[: len(taught)], taught, strict=True):
            hidden = masking.hide(view, "random", self.cfg.particle_mask_ratio)  # bool [particle]
            student = self.encoder(view.keep(~hidden))
            losses.append(self.particles(view, hidden, student, teacher.tokens))
            z.append(student.z)
        return z + [self.encoder(view, z_only=True).z for view in views[len(taught) :]], losses

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
        if means := self.teacher_means.take():
            mean = gather(torch.stack(means).mean(0, keepdim=True)).mean(0)
            self.centre.lerp_(mean, 1 - self.cfg.centre_momentum)
        momentum = rising(self.cfg.momentum, progress)
        follow(self.teacher, self.encoder, momentum)
        follow(self.teacher_head, self.head, momentum)
        if self.particles is not None:
            self.particles.update(momentum, self.cfg.centre_momentum)
