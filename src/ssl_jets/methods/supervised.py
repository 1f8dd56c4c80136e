"""Supervised pretraining: classification, and regression of jet columns, several tasks at once.

    L_label  = mean over labelled jets of -log softmax(f(g(x)))[y]
    L_target = mean over jets that have it of (f(g(x)) - t)^2,       t the standardised jet column
    L        = L_label / s^2 + 2 ln C ln s + sum over targets of (L_target / (2 s^2) + ln s)

with the encoder g, a head f on z for each task, C classes, and a learned uncertainty s of each task (Kendall, Gal,
Cipolla, arXiv:1705.07115, but for the factor 2 ln C, see `nn/task_weights.py`). With one task L is its loss: the label
alone, the default, is how ParT is trained (Qu, Li, Qian, arXiv:2202.03772). A jet without a label (-1) or a target
(NaN) does not enter that task's loss.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from ssl_jets.config import MethodSettings
from ssl_jets.jets import Jets
from ssl_jets.methods._method import Method
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.heads import ClassHead
from ssl_jets.nn.regression import Regressor
from ssl_jets.nn.task_weights import TaskWeights
from ssl_jets.nn.tasks import LABEL, Tasks, TaskSettings


class Supervised(Method):
    """Cross-entropy on the class labels, squared error on standardised jet columns."""

    class Config(TaskSettings):
        """Settings of `supervised`."""

    def __init__(self, cfg: Config, encoder: Encoder, labels: tuple[str, ...]) -> None:
        super().__init__(cfg, encoder, labels)
        self.encoder = encoder
        self.tasks = Tasks(cfg, encoder.dim, labels)
        self.weights = TaskWeights(self.tasks.forms, learned=cfg.weights == "sigma", smallest=cfg.smallest_sigma)

    def loss(self, jets: Jets, progress: float) -> dict[str, Tensor]:
        """The weighed losses; of each its value and its s, and the accuracy on the batch."""
        jets = self.tasks.having(jets)
        losses, logged = self.tasks(self.encoder(jets).z, jets)
        return {"loss": self.weights(losses), **logged, **self.weights.parts(losses)}

    def after_step(self, progress: float) -> None:
        """Keep every s within its limits."""
        self.weights.clamp()

    def fit_statistics(self, batches: Iterable[Jets]) -> None:
        """Statistics of the regression targets."""
        self.tasks.fit_statistics(batches)

    @classmethod
    def jet_columns(cls, cfg: MethodSettings) -> tuple[str, ...]:
        """Those of the regression targets."""
        assert isinstance(cfg, TaskSettings)
        return cfg.jet_columns

    @classmethod
    def needs_labels(cls, cfg: MethodSettings) -> bool:
        """Whether the label is among the targets."""
        assert isinstance(cfg, TaskSettings)
        return LABEL in cfg.targets

    def exported(self) -> Encoder:
        """The encoder itself."""
        return self.encoder

    @property
    def head(self) -> ClassHead | None:
        """The class head; None where the label is not a target."""
        return self.tasks.head

    def exported_head(self) -> ClassHead | None:
        """The class head."""
        return self.tasks.head

    def exported_regressor(self) -> Regressor | None:
        """The head of the jet columns."""
        return self.tasks.regressor
