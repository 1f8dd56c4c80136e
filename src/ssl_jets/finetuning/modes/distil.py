"""Mode `distil`: a small student learns from the outputs and z of a finetuned teacher (arXiv:1503.02531).

    L = L_tasks + a (T^2 KL(p_teacher || p_student) + sum over targets of (t_teacher - t_student)^2)
        + b |W z_student - norm(z_teacher)|^2 / dim

with class probabilities p at temperature T, standardised regression targets t, and a linear map W that is thrown away.
Unlabelled jets teach as well as labelled ones.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssl_jets.errors import DataError, UsageError
from ssl_jets.finetuning.modes.base import Mode
from ssl_jets.finetuning.objective import Objective, Term
from ssl_jets.finetuning.settings import DistilSettings, known_targets
from ssl_jets.jets import Jets
from ssl_jets.model_file import Model
from ssl_jets.nn.encoder import Encoder


class DistilMode(Mode):
    """The student learns; the teacher does not."""

    def encoder(self, pretrained: Model) -> Encoder:
        """A student of the size asked for, with random weights and the teacher's statistics of the features."""
        missing = set(self.settings.method.targets) - set(known_targets(pretrained))
        if missing:
            raise UsageError(
                "the teacher has not learned a target",
                where="method.targets",
                found=", ".join(sorted(missing)),
                allowed=known_targets(pretrained),
            )
        self.teacher = pretrained
        student = Encoder(self.settings.model)
        student.features.load_state_dict(pretrained.encoder.features.state_dict())
        return student

    def terms(self, pretrained: Model, encoder: Encoder) -> dict[str, Term]:
        """What the teacher teaches."""
        return {"teacher": Teaching(pretrained, encoder.dim, self.settings.method.distil)}

    def prepare(self, objective: Objective) -> None:
        """See that teacher and jets speak of the same classes."""
        if objective.tasks.head is not None and set(self.teacher.labels) != set(objective.labels):
            raise DataError(
                "the classes of the teacher are not those of the files",
                found=f"in the files {', '.join(objective.labels)}",
                allowed=self.teacher.labels,
                hint="--set data.labels=[...] names the label columns to use",
            )


class Teaching(Term):
    """The loss of the student against its teacher, averaged over the jets of the batch.

    Args:
        teacher: the finetuned model.
        dim: numbers in the student's z.
        cfg: weights.
    """

    def __init__(self, teacher: Model, dim: int, cfg: DistilSettings) -> None:
        super().__init__()
        self.cfg, self.labels = cfg, teacher.labels
        self.encoder, self.head, self.regressor = teacher.encoder, teacher.head, teacher.regressor
        self.requires_grad_(False)
        self.to_teacher = nn.Linear(dim, teacher.encoder.dim, bias=False)

    def forward(self, objective: Objective, z: Tensor, jets: Jets, progress: float) -> Tensor:
        """The terms with a and b."""
        with torch.no_grad():
            taught = self.encoder(jets).z
        total: Tensor = self.cfg.z * (self.to_teacher(z).float() - _normed(taught)).square().mean()
        student = objective.tasks
        if self.head is not None and student.head is not None:
            with torch.no_grad():
                wanted = self._in_order(self.head(taught).float(), student.labels) / self.cfg.temperature
            logits = student.head(z).float() / self.cfg.temperature
            apart = nn.functional.kl_div(
                logits.log_softmax(1), wanted.log_softmax(1), log_target=True, reduction="none"
            )
            total = total + self.cfg.outputs * self.cfg.temperature**2 * apart.sum(1).mean()
        if self.regressor is not None and student.regressor is not None:
            columns = [self.regressor.names.index(name) for name in student.regressor.names]
            with torch.no_grad():
                wanted = student.regressor.targets.standardised(self.regressor.physical(taught)[:, columns])
            total = total + self.cfg.outputs * (student.regressor(z) - wanted).square().sum(1).mean()
        return total

    def _in_order(self, logits: Tensor, labels: tuple[str, ...]) -> Tensor:
        """The teacher's logits in the order of the student's classes."""
        return logits[:, [self.labels.index(name) for name in labels]]


def _normed(z: Tensor) -> Tensor:
    """z of each jet with mean 0 and standard deviation 1."""
    return nn.functional.layer_norm(z.float(), z.shape[1:])
