"""Self-distillation: a student that sees parts of a jet says how its teacher, who sees more, sorts it into prototypes.

    s_v = softmax(cos(head(z of view v), prototypes) / tau_s)                       all views, by the student
    t_u = softmax((cos(head'(z' of view u), prototypes') - centre) / tau_t)         global views, by the teacher
    L   = mean over jets, global views u and other views v of -sum over prototypes of t_u log s_v
    centre  <- c centre + (1 - c) mean over jets of the teacher's cosines           after each step
    teacher <- m teacher + (1 - m) student

Caron et al., arXiv:2104.14294. With `balance=sinkhorn` t_u is instead balanced over the jets of the batch
(arXiv:2006.09882): every prototype is used alike.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from ssl_jets.config import MethodSettings
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
        """Views of (nearly) the whole jet, which the teacher sees."""
        local_views: int = Field(default=1, ge=1)
        """Views of a part of the jet, for the student only."""
        global_view: Views = Views(thin=0.4, beam=2.0)
        """Augmentations of a global view."""
        local_view: Views = Views(thin=0.9, beam=2.0)
        """Augmentations of a local view."""
        prototypes: int = Field(default=64, ge=2)
        """Prototypes."""
        balance: Literal["sinkhorn", "centre"] = "sinkhorn"
        """What keeps the teacher from giving all jets the same prototype."""
        student_temperature: float = Field(default=0.1, gt=0)
        """Temperature tau_s of the student."""
        teacher_temperature: float = Field(default=0.04, gt=0)
        """Temperature tau_t of the teacher: smaller, hence sharper."""
        centre_momentum: float = Field(default=0.9, ge=0, le=1)
        """Momentum c of the centre."""
        momentum: float = Field(default=0.95, ge=0, le=1)
        """Momentum m of the teacher at the start; it rises to 1 by a half cosine."""

    centre: Tensor

    def __init__(self, cfg: Config, encoder: Encoder, labels: tuple[str, ...] = ()) -> None:
        super().__init__(cfg, encoder, labels)
        self.cfg, self.encoder = cfg, encoder
        self.head = PrototypeHead(encoder.dim, 4 * encoder.dim, 64, cfg.prototypes)
        self.teacher, self.teacher_head = teacher_of(encoder), teacher_of(self.head)
        self.register_buffer("centre", torch.zeros(cfg.prototypes))
        self.found: list[Tensor] = []

    def loss(self, jets: Jets, progress: float) -> dict[str, Tensor]:
        """Cross-entropy of the student's shares with the teacher's, for pairs of different views."""
        views = [make_view(jets, self.cfg.global_view) for _ in range(self.cfg.global_views)]
        with torch.no_grad():
            taught = [self.teacher_head(self.teacher(view).z) for view in views]
        views += [make_view(jets, self.cfg.local_view) for _ in range(self.cfg.local_views)]
        said = [(self.projection(self.encoder(view).z) / self.cfg.student_temperature).log_softmax(1) for view in views]
        targets = [self._target(cosines) for cosines in taught]
        pairs = [(target, share) for u, target in enumerate(targets) for v, share in enumerate(said) if u != v]
        loss = torch.stack([-(target * share).sum(1).mean() for target, share in pairs]).mean()
        if self.training:
            self.found.append(torch.stack(taught).mean((0, 1)))
        used = torch.stack(targets).mean((0, 1))
        return {"loss": loss, "prototypes_used": torch.special.entr(used).sum().exp()}

    def projection(self, z: Tensor) -> Tensor:
        """The student's cosines with the prototypes."""
        cosines: Tensor = self.head(z)
        return cosines

    def _target(self, cosines: Tensor) -> Tensor:
        if self.cfg.balance == "sinkhorn":
            return sinkhorn(cosines, self.cfg.teacher_temperature)
        return centred(cosines, self.centre, self.cfg.teacher_temperature)

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Centre and teacher move."""
        if self.found:
            mean = gather(torch.stack(self.found).mean(0, keepdim=True)).mean(0)
            self.centre.lerp_(mean, 1 - self.cfg.centre_momentum)
            self.found.clear()
        momentum = rising(self.cfg.momentum, progress)
        follow(self.teacher, self.encoder, momentum)
        follow(self.teacher_head, self.head, momentum)

    def exported(self) -> Encoder:
        """The student: a teacher of this momentum lags behind by hundreds of steps."""
        return self.encoder
