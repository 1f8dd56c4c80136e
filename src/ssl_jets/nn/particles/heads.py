"""Heads on the tokens of particles: classes, numbers with the statistics of their standardization, and groups."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ssl_jets.jets import TRUTH, Jets
from ssl_jets.nn.heads import ClassHead
from ssl_jets.nn.particles.pairs import PairHead, Pairs
from ssl_jets.nn.regression import LEVELS, RegressionOutput, Regressor, Targets


class ParticleTarget(NamedTuple):
    """Target of particles.

    Attributes:
        name: name of the label in the schema.
        classes: names of its classes; empty for a number.
        unit: unit of a number.
        groups: the number is that of a group, such as a vertex, and pairs of one group are the target.
    """

    name: str
    classes: tuple[str, ...] = ()
    unit: str = "1"
    groups: bool = False

    @property
    def is_number(self) -> bool:
        """True for a number that is regressed."""
        return not self.classes and not self.groups

    def truth(self, jets: Jets) -> Tensor:
        """Return the labels of the particles, float32 `[particle]`: class indices or numbers, NaN where missing.

        A value of no class has the index behind the last one.
        """
        name = f"{TRUTH}{self.name}"
        return jets.column(name) if name in jets.columns else torch.full_like(jets.column("pt"), torch.nan)

    def labels(self, jets: Jets) -> Tensor:
        """Return the class of each particle, int64 `[particle]`; -1 without a label or with one of no class."""
        truth = self.truth(jets).nan_to_num(nan=-1.0)
        return torch.where(truth < len(self.classes), truth, -1.0).long()


class _NumbersOfParticles(Targets):
    """Numbers of particles as standardized regression targets."""

    def raw(self, jets: Jets) -> Tensor:
        """Return the targets in physical units, float64 `[particle, target]`; NaN for a missing one."""
        return torch.stack([ParticleTarget(name).truth(jets).double() for name in self.names], dim=1)


class ParticleHeads(nn.Module):
    """A classifier for each target with classes, one regressor of all numbers, and a form of pairs for each grouping.

    All read tokens `[particle, width]`.

    Args:
        width: width of a token.
        targets: the targets.
        hidden: width of the hidden layer of each head; 0 for linear heads.
        kind: output of the regressor (see `Regressor`).
        levels: its quantiles.

    Example:
        >>> heads = ParticleHeads(64, [ParticleTarget("origin", ("pileup", "primary")), ParticleTarget("share")])
        >>> tokens = torch.zeros(5, 64)
        >>> heads.logits(tokens)["origin"].shape, heads.regressor.physical(tokens).shape
        (torch.Size([5, 2]), torch.Size([5, 1]))
    """

    def __init__(
        self,
        width: int,
        targets: Sequence[ParticleTarget],
        hidden: int = 0,
        kind: RegressionOutput = "mean",
        levels: Sequence[float] = LEVELS,
    ) -> None:
        super().__init__()
        self.width, self.hidden = width, hidden
        self.targets = tuple(targets)
        self.classified = tuple(target for target in targets if target.classes)
        self.regressed = tuple(target for target in targets if target.is_number)
        self.grouped = tuple(target for target in targets if target.groups)
        self.classifiers = nn.ModuleList(ClassHead(width, len(target.classes), hidden) for target in self.classified)
        self.regressor: Regressor | None = None
        if names := [target.name for target in self.regressed]:
            self.regressor = Regressor(width, names, hidden, kind, levels)
            self.regressor.targets = _NumbersOfParticles(names)
        self.pair_heads = nn.ModuleList(PairHead(width, hidden) for _ in self.grouped)

    def logits(self, tokens: Tensor) -> dict[str, Tensor]:
        """Return the logits of each target with classes, float32 `[particle, class]`."""
        return {
            target.name: head(tokens).float() for target, head in zip(self.classified, self.classifiers, strict=True)
        }

    def pairs(self, tokens: Tensor, jets: Jets) -> dict[str, Pairs]:
        """Return the pairs of each target with groups."""
        return {target.name: head(tokens, jets) for target, head in zip(self.grouped, self.pair_heads, strict=True)}

    def fit_statistics(self, batches: Iterable[Jets]) -> None:
        """Fit the statistics of the numbers.

        Raises:
            SslJetsError: no particle has a finite value of a target.
        """
        if self.regressor is not None:
            self.regressor.targets.fit_statistics(batches)

    def describe(self) -> dict[str, Any]:
        """Return the arguments of the constructor, as JSON."""
        kind = {} if self.regressor is None else {"kind": self.regressor.kind, "levels": list(self.regressor.levels)}
        targets = [{**target._asdict(), "classes": list(target.classes)} for target in self.targets]
        return {"width": self.width, "targets": targets, "hidden": self.hidden, **kind}

    @classmethod
    def of(cls, description: dict[str, Any]) -> ParticleHeads:
        """Build heads from `describe`."""
        targets = [ParticleTarget(**{**one, "classes": tuple(one["classes"])}) for one in description["targets"]]
        return cls(**{**description, "targets": targets})
