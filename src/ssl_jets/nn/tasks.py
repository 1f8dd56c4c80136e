"""Supervised tasks on z: the class label and jet columns, each averaged over the jets that have it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from ssl_jets.config import MethodSettings
from ssl_jets.errors import SslJetsError
from ssl_jets.jets import Jets
from ssl_jets.nn import collectives
from ssl_jets.nn.heads import ClassHead
from ssl_jets.nn.regression import Regressor, columns_of
from ssl_jets.nn.task_weights import CLASSIFICATION, REGRESSION, TaskLoss

LABEL = "label"
"""The task of telling the class."""


class TaskSettings(MethodSettings):
    """Settings of the methods that learn from labels."""

    targets: tuple[str, ...] = Field(default=(LABEL,), min_length=1)
    """What is learned: `label` for the classes, and any jet columns, or ratios `A/B` of two, as regression targets."""
    weights: Literal["sigma", "equal"] = "sigma"
    """How several losses are weighed: `sigma` learns the uncertainty of each, `equal` leaves all at 1."""
    smallest_sigma: float = Field(default=0.3, gt=0, le=1)
    """Smallest learned uncertainty: bounds the weight of a task that is learned easily, or by heart."""
    head_hidden: int = Field(default=0, ge=0)
    """Width of the hidden layer of a head; 0 for a linear head."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target probability spread over all classes."""

    @field_validator("targets")
    @classmethod
    def _names(cls, targets: tuple[str, ...]) -> tuple[str, ...]:
        for name in targets:
            if name.count("/") > 1 or not all(name.split("/")):
                raise ValueError(f"a target is `label`, a jet column or a ratio A/B of two, not {name!r}")
        if len(set(targets)) < len(targets):
            raise ValueError("each target is named once")
        return targets

    @property
    def regressed(self) -> tuple[str, ...]:
        """The regression targets."""
        return tuple(name for name in self.targets if name != LABEL)

    @property
    def jet_columns(self) -> tuple[str, ...]:
        """Jet columns that the regression targets need."""
        return columns_of(self.regressed)


class Tasks(nn.Module):
    """Heads on z and their losses.

    A jet without a target (label -1, a value that is not finite) has no part in that task. A loss is the mean over the
    jets of *all* ranks that have the target: each rank divides by their number and multiplies by the number of ranks,
    so that the mean of the gradients is that of the joined batch however the labelled jets fall on the ranks.

    Args:
        cfg: targets and heads.
        dim: numbers in z.
        labels: names of the classes.
    """

    def __init__(self, cfg: TaskSettings, dim: int, labels: tuple[str, ...]) -> None:
        super().__init__()
        self.cfg = cfg
        self.head = ClassHead(dim, len(labels), cfg.head_hidden) if LABEL in cfg.targets else None
        self.regressor = Regressor(dim, cfg.regressed, cfg.head_hidden) if cfg.regressed else None
        self.factors = {name: CLASSIFICATION if name == LABEL else REGRESSION for name in cfg.targets}

    def measure(self, batches: Iterable[Jets]) -> None:
        """Statistics of the regression targets, from training jets."""
        if self.regressor is not None:
            self.regressor.targets.measure(batches)

    def has(self, jets: Jets) -> Tensor:
        """Which jets have any target, bool `[jet]`."""
        has = self._labels(jets) >= 0 if self.head else torch.zeros_like(jets.lengths, dtype=torch.bool)
        if self.regressor:
            has = has | self.regressor.targets(jets).isfinite().any(1)
        return has

    def having(self, jets: Jets) -> Jets:
        """The jets that have any target, so that no others pass the encoder; the first jet where none has."""
        has = self.has(jets)
        if bool(has.all()):
            return jets
        chosen = has.nonzero()[:, 0]
        return jets.select(chosen if len(chosen) else has.new_zeros(1, dtype=torch.int64))

    def forward(
        self, z: Tensor, jets: Jets, jet_weights: Tensor | None = None
    ) -> tuple[dict[str, TaskLoss], dict[str, Tensor]]:
        """Loss of each task, in the order of the settings, and what to log of them.

        Args:
            z: `[jet, dim]`.
            jets: their labels and targets.
            jet_weights: factor on the loss of each jet, `[jet]`, of mean 1: the sum is divided by the number of jets.
        """
        sums, counts = {}, {}
        logged: dict[str, Tensor] = {}
        if self.head is not None:
            sums[LABEL], counts[LABEL], logged["accuracy"] = self._classify(
                self.head(z).float(), self._labels(jets), jet_weights
            )
        if self.regressor is not None:
            target = self.regressor.targets(jets)
            known = target.isfinite()
            error = (self.regressor(z) - target.masked_fill(~known, 0.0)).square() * known
            if jet_weights is not None:
                error = error * jet_weights.unsqueeze(1)
            sums |= dict(zip(self.regressor.names, error.sum(0)))
            counts |= dict(zip(self.regressor.names, known.sum(0)))
        everywhere = collectives.total(torch.stack([counts[name] for name in self.factors]))
        losses = {
            name: TaskLoss(sums[name] * collectives.world() / count.clamp(min=1), (count > 0).float())
            for name, count in zip(self.factors, everywhere)
        }
        return losses, logged

    def _classify(self, logits: Tensor, labels: Tensor, jet_weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Sum of the cross-entropy, number of labelled jets, accuracy."""
        labelled = labels >= 0
        count = labelled.sum()
        reduction = "sum" if jet_weights is None else "none"
        total = nn.functional.cross_entropy(
            logits, labels, ignore_index=-1, label_smoothing=self.cfg.label_smoothing, reduction=reduction
        )
        if jet_weights is not None:
            total = (total * jet_weights).sum()
        return total, count, ((logits.argmax(1) == labels) & labelled).sum() / count.clamp(min=1)

    def _labels(self, jets: Jets) -> Tensor:
        if jets.labels is None:
            raise SslJetsError("the task of telling the class needs labels, and these jets have none")
        return jets.labels
