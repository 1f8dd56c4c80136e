"""Semi-supervised pretraining: labelled and unlabelled jets in one batch.

    L_t = losses of `supervised`, each over the jets that have the target t
    L_u = loss of a self-supervised method, over all jets
    L   = sum over t of (a L_t / s_t^2 + b ln s_t) + w (L_u / (2 s_u^2) + ln s_u)

with a and b of `supervised`, learned uncertainties s (Kendall, Gal, Cipolla, arXiv:1705.07115) or all s = 1, and a
weight w that changes linearly over the training. A loss L_u that can be negative, as of `nepa`, is added as w L_u: its
best s would be 0. One encoder is trained jointly on both kinds of jets as in S4L (Zhai
et al., arXiv:1905.03670); each batch mixes them in a fixed ratio (`data.unlabelled_ratio`). The self-supervised method
is found by its name and built as in a run of its own. The encoder that both losses train is exported, since the heads
read it, and not a teacher of the other method.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from pydantic import Field, SerializeAsAny, ValidationInfo, field_validator
from torch import Tensor

from ssl_jets.config import DataSettings, MethodSettings, Recipe, TrainSettings, resolve
from ssl_jets.errors import UsageError
from ssl_jets.jets import Jets
from ssl_jets.methods import find, names
from ssl_jets.methods._method import Method
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.task_weights import LIKELIHOOD, REGRESSION, Part, TaskLoss, TaskWeights
from ssl_jets.nn.tasks import LABEL, Tasks, TaskSettings, at_least_one

UNLABELLED = "unlabelled"


class SemiSupervised(Method):
    """Supervised losses and the loss of a self-supervised method, on one encoder."""

    class Config(TaskSettings):
        """Settings of `semi_supervised`."""

        unlabelled: str = "mae"
        """Self-supervised method whose loss all jets enter, labelled or not."""
        unlabelled_settings: SerializeAsAny[MethodSettings] = Field(default={})  # type: ignore[assignment]
        """Its settings: `method.unlabelled_settings.KEY`."""
        unlabelled_weight: tuple[float, float] = (1.0, 1.0)
        """Weight of its loss at the start and at the end of the training."""

        @field_validator("unlabelled")
        @classmethod
        def _can_be_inner(cls, name: str) -> str:
            if name in ("supervised", "semi_supervised"):
                allowed = [other for other in names() if other not in ("supervised", "semi_supervised")]
                raise UsageError("this method needs labels", where="method.unlabelled", found=name, allowed=allowed)
            if find(name).requires:
                raise UsageError("this method starts from another run", where="method.unlabelled", found=name)
            return name

        @field_validator("unlabelled_settings", mode="before")
        @classmethod
        def _resolve_settings(cls, value: Any, info: ValidationInfo) -> MethodSettings:
            tree = value.model_dump() if isinstance(value, MethodSettings) else value
            if not isinstance(tree, dict):
                raise ValueError("a tree of settings: method.unlabelled_settings.KEY")
            name = info.data["unlabelled"]
            return resolve(find(name).Config, tree, {"name": name}, under="method.unlabelled_settings")

    recipe: ClassVar[Recipe] = Recipe(
        data=DataSettings(unlabelled_ratio=3), train=TrainSettings(epochs=5, batch_size=256, lr=5e-4)
    )
    sees_context: ClassVar[bool] = True
    sees_collections: ClassVar[bool] = True
    cfg: Config

    def __init__(self, cfg: Config, encoder: Encoder, labels: tuple[str, ...]) -> None:
        super().__init__(cfg, encoder, labels)
        self.tasks = Tasks(cfg, encoder.dim, labels)
        self.method = find(cfg.unlabelled)(cfg.unlabelled_settings, encoder, labels)
        form = LIKELIHOOD if self.method.loss_can_be_negative else REGRESSION
        self.weights = TaskWeights(
            self.tasks.forms | {UNLABELLED: form}, learned=cfg.weights == "sigma", smallest=cfg.smallest_sigma
        )

    def loss(self, jets: Jets, progress: float) -> dict[str, Part]:
        """Compute the weighted losses, the parts of both methods, and every s."""
        labelled = at_least_one(jets, self.tasks.has(jets))
        losses, logged = self.tasks(self.encoder(labelled, z_only=True).z, labelled)
        parts = self.method(jets, progress)
        first, last = self.cfg.unlabelled_weight
        losses[UNLABELLED] = TaskLoss(parts.pop("loss"), len(jets), first + (last - first) * progress)
        # Both may log an accuracy: of the classes, and of the partners of views.
        others = {f"{UNLABELLED}_{name}" if name in logged else name: part for name, part in parts.items()}
        return {"loss": self.weights.terms(losses), **logged, **others, **self.weights.parts(losses)}

    def projection(self, z: Tensor) -> Tensor | None:
        """Return the projections of the other method."""
        return self.method.projection(z)

    def validation_metrics(self, batches: Iterable[Jets]) -> dict[str, float]:
        """Return the metrics of the other method."""
        return self.method.validation_metrics(batches)

    def after_step(self, progress: float) -> None:
        """Update the other method; clamp every s to its limits."""
        self.method.after_step(progress)
        self.weights.clamp()

    def lr_multipliers(self, progress: float) -> dict[str, float]:
        """Return the factors of the other method; the encoder is shared."""
        factors = self.method.lr_multipliers(progress)
        return {name if name.startswith("encoder") else f"method.{name}": value for name, value in factors.items()}

    def fit_statistics(self, batches: Iterable[Jets]) -> None:
        """Fit the statistics of the regression targets and of the other method."""
        batches = list(batches)
        self.tasks.fit_statistics(batches)
        self.method.prepare(batches)

    @classmethod
    def jet_columns(cls, cfg: MethodSettings) -> tuple[str, ...]:
        """Return the jet columns of the regression targets and of the other method."""
        assert isinstance(cfg, cls.Config)
        other = find(cfg.unlabelled).jet_columns(cfg.unlabelled_settings)
        return tuple(dict.fromkeys((*cfg.jet_columns, *other)))

    @classmethod
    def objectives(cls, cfg: MethodSettings) -> tuple[type[Method], ...]:
        """Return this method and the other one."""
        assert isinstance(cfg, cls.Config)
        return (cls, find(cfg.unlabelled))

    @classmethod
    def needs_labels(cls, cfg: MethodSettings) -> bool:
        """Check if the label is among the targets, or the other method needs it."""
        assert isinstance(cfg, cls.Config)
        return LABEL in cfg.targets or find(cfg.unlabelled).needs_labels(cfg.unlabelled_settings)
