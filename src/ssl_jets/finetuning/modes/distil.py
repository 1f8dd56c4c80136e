"""Mode `distil`: distillation of a teacher into a student of another size (arXiv:1503.02531).

    L = L_tasks + a (T^2 KL(p_teacher || p_student) + sum over targets of (t_teacher - t_student)^2)
        + b |W z_student - norm(z_teacher)|^2 / dim

with class probabilities p at temperature T, standardized regression targets t, and a linear map W that is not part of
the student. Unlabelled jets enter the terms of the teacher like labelled ones. With a teacher without heads the last
term is the loss, and no labels are read.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssl_jets.config import INPUT_GROUPS
from ssl_jets.errors import DataError, UsageError
from ssl_jets.finetuning.modes.base import Mode
from ssl_jets.finetuning.objective import Objective, Term
from ssl_jets.finetuning.settings import DistilSettings, targets_of
from ssl_jets.jets import Jets
from ssl_jets.model import Model, with_columns
from ssl_jets.nn.encoder import BaseEncoder, Encoder
from ssl_jets.nn.foreign.adapter import build_encoder
from ssl_jets.nn.transformer import without_dropout


class DistilMode(Mode):
    """Training of a student; the teacher is frozen."""

    own_settings = ("distil",)

    def encoder(self, pretrained: Model) -> BaseEncoder:
        """Return a student of size `model.size`, with random weights.

        It has the statistics of the teacher's inputs, unless it reads others.
        """
        known = targets_of(pretrained)
        if missing := set(self.settings.method.targets) - set(known):
            raise UsageError(
                "the teacher has not learned a target",
                where="method.targets",
                found=", ".join(sorted(missing)),
                allowed=known or ["none, it has no head"],
                hint=None if known else "--set method.targets=[] trains a student of its z",
            )
        self.teacher = pretrained
        student = build_encoder(self.settings.model)
        if self._same_inputs:
            student.copy_statistics(pretrained.encoder)
        return student

    def terms(self, pretrained: Model, encoder: BaseEncoder) -> dict[str, Term]:
        """Return the distillation term."""
        return {"teacher": DistillationTerm(pretrained, encoder.dim, self.settings.method.distil)}

    def prepare(self, objective: Objective) -> None:
        """Check that the teacher has the classes of the files."""
        objective.fits_inputs = not self._same_inputs
        if objective.tasks.head is not None and set(self.teacher.labels) != set(objective.labels):
            raise DataError(
                "the classes of the teacher are not those of the files",
                found=f"in the files {', '.join(objective.labels)}",
                allowed=self.teacher.labels,
                hint="--set data.labels=[...] names the label columns to use",
            )

    @property
    def _same_inputs(self) -> bool:
        """True if student and teacher compute the same features, of the same definitions."""
        encoder, student = self.teacher.encoder, self.settings.model
        same = all(getattr(encoder.cfg, group) == getattr(student, group) for group in INPUT_GROUPS[1:])
        return isinstance(encoder, Encoder) and same


class DistillationTerm(Term):
    """Loss of the student relative to its teacher, averaged over the jets of the batch.

    Args:
        teacher: the finetuned model.
        dim: dimension of the student's z.
        cfg: temperature and weights a (`outputs`) and b (`z`).
    """

    def __init__(self, teacher: Model, dim: int, cfg: DistilSettings) -> None:
        super().__init__()
        self.cfg, self.labels, self.columns = cfg, teacher.labels, teacher.columns
        self.encoder, self.head, self.regressor = without_dropout(teacher.encoder), teacher.head, teacher.regressor
        self.requires_grad_(False)
        self.to_teacher = nn.Linear(dim, teacher.encoder.dim, bias=False)

    def forward(self, objective: Objective, z: Tensor, jets: Jets, progress: float) -> Tensor:
        """Compute the terms with a and b."""
        with torch.no_grad():
            seen = with_columns(objective.whole(jets), self.columns)
            z_teacher = self.encoder(seen, z_only=True).z  # [jet, dim of the teacher]
        total: Tensor = self.cfg.z * (self.to_teacher(z).float() - _normalized(z_teacher)).square().mean()
        student, temperature = objective.tasks, self.cfg.temperature
        if self.head is not None and student.head is not None:
            classes = [self.labels.index(name) for name in student.labels]  # the files may order them differently
            with torch.no_grad():
                teacher_logits = self.head(z_teacher).float()[:, classes] / temperature
            logits = student.head(z).float() / temperature
            divergence = nn.functional.kl_div(
                logits.log_softmax(1), teacher_logits.log_softmax(1), log_target=True, reduction="none"
            )
            total = total + self.cfg.outputs * temperature**2 * divergence.sum(1).mean()
        if self.regressor is not None and student.regressor is not None:
            columns = [self.regressor.names.index(name) for name in student.regressor.names]
            with torch.no_grad():
                targets = student.regressor.targets.standardised(self.regressor.physical(z_teacher)[:, columns])
            total = total + self.cfg.outputs * (student.regressor(z) - targets).square().sum(1).mean()
        return total


def _normalized(z: Tensor) -> Tensor:
    """Scale z of each jet to mean 0 and standard deviation 1."""
    return nn.functional.layer_norm(z.float(), z.shape[1:])
