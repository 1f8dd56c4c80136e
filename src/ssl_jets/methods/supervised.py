"""Supervised pretraining: classification, and regression of jet columns, several tasks at once.

    L_label  = mean over labelled jets of -log softmax(f(g(x)))[y]
    L_target = mean over jets that have it of (f(g(x)) - t)^2,       t the standardized jet column
    L        = L_label / s^2 + 2 ln C ln s + sum over targets of (L_target / (2 s^2) + ln s)

with the encoder g, a head f on z for each task, C classes, and a learned uncertainty s of each task (Kendall, Gal,
Cipolla, arXiv:1705.07115, except for the factor 2 ln C, see `nn/task_weights.py`). With a single task, L is its loss.
The default is the class label alone, as ParT is trained (Qu, Li, Qian, arXiv:2202.03772). Jets without a label (-1) or
a target (NaN) do not enter that task's loss.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from ssl_jets.config import MethodSettings, Recipe, TrainSettings
from ssl_jets.jets import Jets
from ssl_jets.methods._method import Method
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.task_weights import Part, TaskWeights
from ssl_jets.nn.tasks import LABEL, Tasks, TaskSettings, at_least_one


class Supervised(Method):
    """Cross-entropy on the class labels, squared error on standardized jet columns."""

    class Config(TaskSettings):
        """Settings of `supervised`."""

    recipe: ClassVar[Recipe] = Recipe(train=TrainSettings(epochs=5, batch_size=128, lr=5e-4, optimizer="muon"))
    sees_context: ClassVar[bool] = True
    sees_collections: ClassVar[bool] = True

    def __init__(self, cfg: Config, encoder: Encoder, labels: tuple[str, ...]) -> None:
        super().__init__(cfg, encoder, labels)
        self.tasks = Tasks(cfg, encoder.dim, labels)
        self.weights = TaskWeights(self.tasks.forms, learned=cfg.weights == "sigma", smallest=cfg.smallest_sigma)

    def loss(self, jets: Jets, progress: float) -> dict[str, Part]:
        """Compute the weighted losses, each task's loss and s, and the accuracy on the batch."""
        jets = at_least_one(jets, self.tasks.has(jets))
        losses, logged = self.tasks(self.encoder(jets, z_only=True).z, jets)
        return {"loss": self.weights.terms(losses), **logged, **self.weights.parts(losses)}

    def after_step(self, progress: float) -> None:
        """Clamp every s to its limits."""
        self.weights.clamp()

    def fit_statistics(self, batches: Iterable[Jets]) -> None:
        """Fit the statistics of the regression targets."""
        self.tasks.fit_statistics(batches)

    @classmethod
    def jet_columns(cls, cfg: MethodSettings) -> tuple[str, ...]:
        """Return the jet columns of the regression targets."""
        assert isinstance(cfg, TaskSettings)
        return cfg.jet_columns

    @classmethod
    def needs_labels(cls, cfg: MethodSettings) -> bool:
        """Check if the label is among the targets."""
        assert isinstance(cfg, TaskSettings)
        return LABEL in cfg.targets
