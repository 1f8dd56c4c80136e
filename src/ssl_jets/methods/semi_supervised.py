"""Semi-supervised pretraining: labelled and unlabelled jets in one batch.

    L_t = the losses of `supervised`, each over the jets that have the target t
    L_u = the loss of another method, over all jets
    L   = sum over t of (a L_t / s_t^2 + b ln s_t) + w (L_u / (2 s_u^2) + ln s_u)

with a and b of `supervised`, learned uncertainties s (Kendall, Gal, Cipolla, arXiv:1705.07115) or all s = 1, and a
weight w that goes from its first to its second value in a straight line over the training. Joint training of one
encoder on both kinds of jets as in S4L (Zhai et al., arXiv:1905.03670); the batch has the two in a fixed ratio
(`data.unlabelled_ratio`).

The other method is found by its name and made as it always is: it does not know that it is not alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import Field, SerializeAsAny, ValidationInfo, field_validator
from torch import Tensor

from ssl_jets.config import MethodSettings, resolve
from ssl_jets.errors import UsageError
from ssl_jets.jets import Jets
from ssl_jets.methods import find, names
from ssl_jets.methods._method import Method
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.heads import ClassHead
from ssl_jets.nn.regression import Regressor
from ssl_jets.nn.task_weights import REGRESSION, TaskLoss, TaskWeights
from ssl_jets.nn.tasks import LABEL, Tasks, TaskSettings

UNLABELLED = "unlabelled"


class SemiSupervised(Method):
    """The losses of the labels and that of a self-supervised method, on one encoder."""

    class Config(TaskSettings):
        """Settings of `semi_supervised`."""

        unlabelled: str = "mae"
        """The method whose loss all jets have, labelled or not."""
        unlabelled_settings: SerializeAsAny[MethodSettings] = Field(default={})  # type: ignore[assignment]
        """Its settings: `method.unlabelled_settings.KEY`."""
        unlabelled_weight: tuple[float, float] = (1.0, 1.0)
        """Weight of its loss at the start and at the end of the training."""

        @field_validator("unlabelled")
        @classmethod
        def _known(cls, name: str) -> str:
            if name in ("supervised", "semi_supervised"):
                allowed = [other for other in names() if other not in ("supervised", "semi_supervised")]
                raise UsageError("this method needs labels", where="method.unlabelled", found=name, allowed=allowed)
            if find(name).requires:
                raise UsageError("this method starts from another run", where="method.unlabelled", found=name)
            return name

        @field_validator("unlabelled_settings", mode="before")
        @classmethod
        def _of_the_method(cls, given: Any, info: ValidationInfo) -> MethodSettings:
            tree = given.model_dump() if isinstance(given, MethodSettings) else given
            if not isinstance(tree, dict):
                raise ValueError("a tree of settings: method.unlabelled_settings.KEY")
            name = info.data["unlabelled"]
            return resolve(find(name).Config, tree, {"name": name}, under="method.unlabelled_settings")

    def __init__(self, cfg: Config, encoder: Encoder, labels: tuple[str, ...]) -> None:
        super().__init__(cfg, encoder, labels)
        self.cfg, self.encoder = cfg, encoder
        self.tasks = Tasks(cfg, encoder.dim, labels)
        self.method = find(cfg.unlabelled)(cfg.unlabelled_settings, encoder, labels)
        self.weights = TaskWeights(
            self.tasks.forms | {UNLABELLED: REGRESSION}, learned=cfg.weights == "sigma", smallest=cfg.smallest_sigma
        )

    def loss(self, jets: Jets, progress: float) -> dict[str, Tensor]:
        """The weighed losses, the parts of both, and every s."""
        having = self.tasks.having(jets)
        losses, logged = self.tasks(self.encoder(having).z, having)
        own = self.method.loss(jets, progress)
        first, last = self.cfg.unlabelled_weight
        losses[UNLABELLED] = TaskLoss(own.pop("loss"), first + (last - first) * progress)
        return {"loss": self.weights(losses), **logged, **own, **self.weights.parts(losses)}

    def projection(self, z: Tensor) -> Tensor | None:
        """What the other method compares."""
        return self.method.projection(z)

    def validation_metrics(self, batches: Iterable[Jets]) -> dict[str, float]:
        """What the other method looks at."""
        return self.method.validation_metrics(batches)

    def after_step(self, progress: float) -> None:
        """The step of the other method; every s within its limits."""
        self.method.after_step(progress)
        self.weights.clamp()

    def fit_statistics(self, batches: Iterable[Jets]) -> None:
        """Statistics of the regression targets, and those that the other method wants."""
        batches = list(batches)
        self.tasks.fit_statistics(batches)
        self.method.fit_statistics(batches)

    @classmethod
    def jet_columns(cls, cfg: MethodSettings) -> tuple[str, ...]:
        """Those of the regression targets and of the other method."""
        assert isinstance(cfg, cls.Config)
        other = find(cfg.unlabelled).jet_columns(cfg.unlabelled_settings)
        return tuple(dict.fromkeys((*cfg.jet_columns, *other)))

    @classmethod
    def needs_labels(cls, cfg: MethodSettings) -> bool:
        """Whether the label is among the targets."""
        assert isinstance(cfg, TaskSettings)
        return LABEL in cfg.targets

    def exported(self) -> Encoder:
        """The encoder that both losses train, which the heads read, and not a teacher of the other method."""
        return self.encoder

    def exported_head(self) -> ClassHead | None:
        """The class head."""
        return self.tasks.head

    def exported_regressor(self) -> Regressor | None:
        """The head of the jet columns."""
        return self.tasks.regressor
