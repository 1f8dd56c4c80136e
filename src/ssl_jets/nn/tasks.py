"""Supervised tasks on z: the class label and jet columns, each averaged over the jets that have it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from ssl_jets.config import MethodSettings
from ssl_jets.errors import SslJetsError, UsageError
from ssl_jets.jets import Jets
from ssl_jets.nn import collectives
from ssl_jets.nn.heads import ClassHead
from ssl_jets.nn.regression import LEVELS, RegressionOutput, Regressor, columns_of, jets_having
from ssl_jets.nn.task_weights import LIKELIHOOD, REGRESSION, Mean, Part, TaskLoss, classification

LABEL = "label"
"""Name of the classification task."""


class TaskSettings(MethodSettings):
    """Settings of the methods that learn from labels."""

    targets: tuple[str, ...] = Field(default=(LABEL,), min_length=1)
    """Targets: `label` for the classes, and any jet columns, or ratios `A/B` of two, for regression."""
    weights: Literal["sigma", "equal"] = "sigma"
    """Weighting of several losses: `sigma` learns the uncertainty of each, `equal` keeps all at 1."""
    smallest_sigma: float = Field(default=0.5, gt=0, le=1)
    """Smallest learned uncertainty, which bounds the weight of an easy or overfitted task."""
    head_hidden: int = Field(default=0, ge=0)
    """Width of the hidden layer of a head; 0 for a linear head."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Fraction of the target probability spread over all classes."""
    class_weights: tuple[float, ...] | Literal["balanced"] | None = None
    """Weight of the jets of each class in the loss, in the order of the classes; `balanced` gives all classes the same
    total weight; by default all jets have the same weight."""
    regression: RegressionOutput = "mean"
    """Output for a jet column: its `mean`, several `quantile`s, or a `gaussian` with a width for each jet."""
    quantiles: tuple[float, ...] = LEVELS
    """The quantiles, in rising order and including 0.5."""

    @field_validator("targets")
    @classmethod
    def _names(cls, targets: tuple[str, ...]) -> tuple[str, ...]:
        for name in targets:
            if name.count("/") > 1 or not all(name.split("/")):
                raise ValueError(f"a target is `label`, a jet column or a ratio A/B of two, not {name!r}")
        if len(set(targets)) < len(targets):
            raise ValueError("each target is named once")
        return targets

    @field_validator("class_weights")
    @classmethod
    def _weights(cls, weights: tuple[float, ...] | str | None) -> tuple[float, ...] | str | None:
        if isinstance(weights, tuple) and (min(weights, default=0) < 0 or not any(weights)):
            raise ValueError("weights are not negative, and not all of them zero")
        return weights

    @field_validator("quantiles")
    @classmethod
    def _levels(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        if list(levels) != sorted(set(levels)) or not all(0 < level < 1 for level in levels) or 0.5 not in levels:
            raise ValueError("quantiles rise from above 0 to below 1, and 0.5 is one of them")
        return levels

    @property
    def regressed(self) -> tuple[str, ...]:
        """The regression targets."""
        return tuple(name for name in self.targets if name != LABEL)

    @property
    def jet_columns(self) -> tuple[str, ...]:
        """Jet columns that the regression targets need."""
        return columns_of(self.regressed)


def wanted_of(cfg: TaskSettings) -> tuple[bool, Callable[[Jets], dict[str, Tensor]] | None]:
    """Return whether classes are learned, and the function that finds the jets with each regression target, if any."""
    return LABEL in cfg.targets, partial(jets_having, cfg.regressed) if cfg.regressed else None


class Tasks(nn.Module):
    """Heads on z and their losses.

    Jets without a target (label -1, a value that is not finite) or with weight 0 do not enter that task. A loss is the
    mean over the jets of *all* ranks that have the target,

        L = sum_i w_i l_i / sum_i w_i,       w_i = (weight of the jet, `Jets.weights`) x (weight of its class)

    where sum_i w_i is the sum that so many jets have on average (`WeightSums`). Each rank divides by the sum over all
    ranks and multiplies by the number of ranks, so that the mean gradient equals the gradient of the joined batch for
    any distribution of the labelled jets over ranks.
    """

    class_weights: Tensor | None

    def __init__(self, cfg: TaskSettings, dim: int, labels: tuple[str, ...]) -> None:
        super().__init__()
        self.cfg = cfg
        self.labels = labels
        self.head = ClassHead(dim, len(labels), cfg.head_hidden) if LABEL in cfg.targets else None
        heads = {"kind": cfg.regression, "levels": cfg.quantiles}
        self.regressor = Regressor(dim, cfg.regressed, cfg.head_hidden, **heads) if cfg.regressed else None  # type: ignore[arg-type]
        regression = LIKELIHOOD if cfg.regression == "gaussian" else REGRESSION
        self.forms = {name: classification(len(labels)) if name == LABEL else regression for name in cfg.targets}
        self.register_buffer("class_weights", self._initial_class_weights())
        self.weight_sums = WeightSums(self.forms)

    def fit_statistics(self, batches: Iterable[Jets]) -> None:
        """Fit the regression targets and the class fractions on training jets of weight above 0."""
        balanced = self.head is not None and self.cfg.class_weights == "balanced"
        if self.regressor is None and not balanced:
            return
        batches = [jets.select(weights_of(jets).nonzero()[:, 0]) for jets in batches]
        if self.regressor is not None:
            self.regressor.targets.fit_statistics(batches)
        if balanced:
            labels = torch.cat([self._labels(jets) for jets in batches])
            weights = torch.cat([weights_of(jets) for jets in batches])[labels >= 0]
            counts = torch.bincount(labels[labels >= 0], weights, minlength=len(self.labels)).float()
            assert self.class_weights is not None
            self.class_weights.copy_(balanced_weights(counts))

    def has(self, jets: Jets) -> Tensor:
        """Return the jets that have any target, bool `[jet]`."""
        has = self._labels(jets) >= 0 if self.head else torch.zeros_like(jets.lengths, dtype=torch.bool)
        if self.regressor:
            has = has | self.regressor.targets(jets).isfinite().any(1)
        return has & (weights_of(jets) > 0)

    def forward(
        self, z: Tensor, jets: Jets, jet_weights: Tensor | None = None
    ) -> tuple[dict[str, TaskLoss], dict[str, Part]]:
        """Compute the loss of each task, in the order of the settings, and parts to log.

        Args:
            z: `[jet, dim]`.
            jets: the jets with labels and targets.
            jet_weights: further factor on the loss of each jet, `[jet]`, of mean 1: it is not in the sum of weights.
        """
        weights = weights_of(jets)
        factor = torch.ones_like(weights) if jet_weights is None else jet_weights
        sums: dict[str, Tensor] = {}
        counted: dict[str, Tensor] = {}  # weight of each jet in the loss, 0 without the target, [jet]
        logged: dict[str, Part] = {}
        if self.head is not None:
            logits, labels = self.head(z).float(), self._labels(jets)
            known = weights * (labels >= 0)
            logged["accuracy"] = mean_over(known, (logits.argmax(1) == labels).float())
            counted[LABEL] = known if self.class_weights is None else known * self.class_weights[labels.clamp(min=0)]
            how = {"ignore_index": -1, "label_smoothing": self.cfg.label_smoothing}
            each = nn.functional.cross_entropy(logits, labels, reduction="none", **how)  # type: ignore[arg-type]
            sums[LABEL] = (counted[LABEL] * each * factor).sum()
        if self.regressor is not None:
            target = self.regressor.targets(jets)
            finite = target.isfinite()
            of_targets = finite * weights.unsqueeze(1)  # [jet, target]
            error = self.regressor.error(z, target.masked_fill(~finite, 0.0)) * of_targets * factor.unsqueeze(1)
            sums |= dict(zip(self.regressor.names, error.sum(0)))
            counted |= dict(zip(self.regressor.names, of_targets.unbind(1)))
        return mean_losses(sums, self.weight_sums(counted)), logged

    def _initial_class_weights(self) -> Tensor | None:
        """Return the weights of the classes before `fit_statistics`; None without class weights."""
        weights = self.cfg.class_weights
        if weights is None or self.head is None:
            return None
        if weights == "balanced":
            return torch.ones(len(self.labels))
        if len(weights) != len(self.labels):
            raise UsageError(
                "there is a weight for each class",
                where="method.class_weights",
                found=f"{len(weights)} weights",
                allowed=[f"{len(self.labels)}, for {', '.join(self.labels)}"],
            )
        return torch.tensor(weights)

    def _labels(self, jets: Jets) -> Tensor:
        if jets.labels is None:
            raise SslJetsError("classification needs labels, and these jets have none")
        return jets.labels


class WeightSums(nn.Module):
    """Sums of weights over all ranks, to divide the losses of a batch by.

    In training, n jets have the sum n times the mean weight of all jets so far. Their own sum would be a wrong divisor:
    the loss of a jet that has most of the weight of its batch would not depend on its weight, and the mean over batches
    would not be the weighted mean over jets. In evaluation, where batches are averaged by their sums, it is their own.

    Args:
        names: names of the tasks.
    """

    seen: Tensor

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        self.register_buffer("seen", torch.zeros(2, len(self.names), dtype=torch.float64))  # weights and jets so far
        self.register_load_state_dict_pre_hook(_begin_with_none)

    def forward(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the sum of each task, from the weights of the jets of a batch, `[jet]` by task; 0 without the target.

        Example:
            >>> sums = WeightSums(["label"])
            >>> [sums({"label": torch.tensor(weights)})["label"].item() for weights in ([1.0, 1.0], [10.0, 0.0])]
            [2.0, 4.0]
        """
        if not self.names:
            return {}
        each = [weights[name].double() for name in self.names]
        own = torch.stack([torch.stack([one.sum(), (one > 0).double().sum()]) for one in each], dim=1)
        sums, jets = totals = collectives.total(own)  # [task] each
        if self.training:
            self.seen += totals
            sums = jets * self.seen[0] / self.seen[1].clamp(min=1)
        return dict(zip(self.names, sums.float()))


def _begin_with_none(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Let a run of an earlier version, which divided by the sum of each batch, go on: the mean begins with its rest."""
    state.setdefault(f"{prefix}seen", torch.zeros_like(module.get_buffer("seen")))


def at_least_one(jets: Jets, has: Tensor) -> Jets:
    """Select the jets with a target (bool `[jet]`), so that no others pass the encoder; the first jet if none has."""
    if bool(has.all()):
        return jets
    chosen = has.nonzero()[:, 0]
    return jets.select(chosen if len(chosen) else has.new_zeros(1, dtype=torch.int64))


def mean_over(weights: Tensor, values: Tensor) -> Mean:
    """Return the mean of values on this rank, with their weights; 0 without any weight."""
    count = weights.sum()
    total = (weights * values).sum()  # autocast would round the factors of a product of vectors to bfloat16
    return Mean(total / torch.where(count > 0, count, 1), count)


def mean_losses(sums: Mapping[str, Tensor], totals: Mapping[str, Tensor]) -> dict[str, TaskLoss]:
    """Divide the sum of each loss by the sum of weights over all ranks; a loss without weight is 0 and does not count.

    Args:
        sums: sum of the weighted losses on this rank, by task.
        totals: result of `WeightSums`, in the order of the tasks.
    """
    return {
        name: TaskLoss(sums[name] * collectives.world() / torch.where(total > 0, total, 1), total)
        for name, total in totals.items()
    }


def balanced_weights(counts: Tensor) -> Tensor:
    """Return weights of classes that give each the same total, from their sums of weights `[class]`, in any unit.

    A class of mean size has weight 1, and so has one that is absent.

    Example:
        >>> balanced_weights(torch.tensor([1.0, 3.0, 0.0]))
        tensor([2.0000, 0.6667, 1.0000])
    """
    present = counts > 0
    return torch.where(present, counts[present].mean() / counts, 1.0)


def weights_of(jets: Jets) -> Tensor:
    """Return the weight of each jet, float32 `[jet]`; 1 for jets without weights."""
    return torch.ones_like(jets.lengths, dtype=torch.float32) if jets.weights is None else jets.weights
