"""Result of the domain protocol: every finetuning, with mean and spread over seeds. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import ConfigDict

from ssl_jets.evaluation.generated.result import Number
from ssl_jets.evaluation.metrics.bootstrap import Estimate
from ssl_jets.evaluation.result_base import Result, Written
from ssl_jets.protocols.settings import DomainRun

SUPERVISED = "supervised"
"""The start from random weights: training on the labels of the simulation alone."""


class Gap(Result):
    """Separation of two sets of jets in z.

    Attributes:
        jets: of each.
        a_distance: proxy A-distance 2 (1 - 2 error) of a linear classifier of the domain (Ben-David et al., NIPS 2006):
            0 if it cannot separate the domains, 2 if it always can.
        auc: of the same classifier, a two-sample test: 0.5 to 1.
        trees: the AUC of boosted trees on z; None if they were not asked for.
    """

    model_config = ConfigDict(extra="ignore")  # older results have a kernel distance as well

    jets: int
    a_distance: Estimate
    auc: Estimate
    trees: Estimate | None


class ObservablesGap(Result):
    """Separation of the same jets in observables computed from the particles.

    Attributes:
        a_distance: as of z.
        difference: the A-distance in z minus this one, with paired resamples of the jets.
    """

    a_distance: Estimate
    difference: Estimate


class DomainGap(Result):
    """Separation of two domains in z.

    Attributes:
        all: of all jets.
        floor: of two halves of the source.
        by_class: of the jets of each class that both domains have labels of; free of a shift of the mixture.
        observables: of all jets in observables; None in older results.
    """

    all: Gap
    floor: Gap
    by_class: dict[str, Gap]
    observables: ObservablesGap | None = None


class PretrainedGap(Result):
    """Gap in z of one start before any finetuning."""

    gap: DomainGap


class Performance(Result):
    """Accuracy and AUC on the test jets of one domain."""

    accuracy: Estimate
    auc: Estimate
    jets: int


class DomainFinetuning(Result):
    """One finetuning, measured on both domains.

    Attributes:
        start: name of the pretrained model, or "supervised".
        adapt: the adaptation.
        seed: of the subset of labels, the head and the batches.
        simulation, target: performance on held-out simulation and on labelled data.
        gap: between the two in z.
        seconds: wall time.
    """

    start: str
    adapt: str
    seed: int
    simulation: Performance
    target: Performance
    gap: DomainGap
    seconds: float


def _number(estimate: Estimate) -> float:
    return math.nan if estimate.value is None else estimate.value


VALUES: dict[str, Callable[[DomainFinetuning], float]] = {
    "simulation_accuracy": lambda row: _number(row.simulation.accuracy),
    "target_accuracy": lambda row: _number(row.target.accuracy),
    "drop_accuracy": lambda row: _number(row.simulation.accuracy) - _number(row.target.accuracy),
    "simulation_auc": lambda row: _number(row.simulation.auc),
    "target_auc": lambda row: _number(row.target.auc),
    "drop_auc": lambda row: _number(row.simulation.auc) - _number(row.target.auc),
    "a_distance": lambda row: _number(row.gap.all.a_distance),
    "gap_auc": lambda row: _number(row.gap.all.auc),
}
"""Quantities that are averaged over seeds. A drop is simulation minus target."""


@dataclass(frozen=True)
class SeedStatistics:
    """Mean over seeds, and their standard deviation (n - 1); None for one seed."""

    mean: Number
    std: float | None

    @classmethod
    def of(cls, values: list[float]) -> SeedStatistics:
        """Return the statistics of the values of all seeds.

        >>> print(SeedStatistics.of([0.5, 0.7]))
        0.6000 +- 0.1414
        """
        return cls(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None)

    def __str__(self) -> str:
        return f"{self.mean:.4f}" + ("" if self.std is None else f" +- {self.std:.4f}")


class DomainValues(Result):
    """Statistics over seeds of each quantity of `VALUES`."""

    model_config = ConfigDict(extra="ignore")  # older results have a kernel distance as well

    simulation_accuracy: SeedStatistics
    target_accuracy: SeedStatistics
    drop_accuracy: SeedStatistics
    simulation_auc: SeedStatistics
    target_auc: SeedStatistics
    drop_auc: SeedStatistics
    a_distance: SeedStatistics
    gap_auc: SeedStatistics


class DomainSummary(Result):
    """The seeds of one start and one adaptation.

    Attributes:
        start: name of the pretrained model, or "supervised".
        adapt: the adaptation.
        seeds: number of finetunings.
        values: statistics over the seeds.
    """

    start: str
    adapt: str
    seeds: int
    values: DomainValues


def summarize(rows: Sequence[DomainFinetuning]) -> list[DomainSummary]:
    """Return mean and spread over seeds, in the order of the rows."""
    groups: dict[tuple[str, str], list[DomainFinetuning]] = {}
    for row in rows:
        groups.setdefault((row.start, row.adapt), []).append(row)
    summaries = []
    for (start, adapt), seeds in groups.items():
        values = {name: SeedStatistics.of([value(row) for row in seeds]) for name, value in VALUES.items()}
        summaries.append(
            DomainSummary(start=start, adapt=adapt, seeds=len(seeds), values=DomainValues.model_validate(values))
        )
    return summaries


class DomainResult(Written):
    """Result of the protocol `domain`.

    Attributes:
        seconds: wall time of this call; finished results of an earlier call take none.
        classes: class names.
        settings: settings of the protocol.
        files: names of the files of each domain.
        files_left_out: files that could not be opened, with the reason.
        left_out: skipped test jets, by reason.
        summary: mean and spread over seeds of each start and adaptation.
        before: of each start, the gap in z before any finetuning.
        rows: one for each finetuning.
    """

    NAME: ClassVar[str] = "domain"

    seconds: float
    classes: tuple[str, ...]
    settings: DomainRun
    files: dict[str, list[str]]
    files_left_out: dict[str, str]
    left_out: dict[str, int]
    summary: list[DomainSummary]
    before: dict[str, PretrainedGap]
    rows: list[DomainFinetuning]

    def against_observables(self) -> list[str]:
        """Return a sentence for each start: the gap in its z, before finetuning, against the gap in observables."""
        sentences = []
        for start, before in self.before.items():
            gap, other = before.gap.all, before.gap.observables
            if other is None or other.difference.low95 is None or other.difference.high95 is None:
                continue
            low, high = other.difference.low95, other.difference.high95
            relation = (
                "is larger than" if low > 0 else "is smaller than" if high < 0 else "cannot be distinguished from"
            )
            sentences.append(
                f"The domain gap in z of {start} before finetuning {relation} the one in observables computed from the "
                f"particles: A-distance {gap.a_distance.value:.3f} against {other.a_distance.value:.3f}, difference "
                f"{other.difference.value:+.3f} (95 %: {low:+.3f} to {high:+.3f}) on the same jets."
            )
        return sentences

    def rows_of(self, summary: DomainSummary) -> list[DomainFinetuning]:
        """Return the finetunings of a start and an adaptation, by seed."""
        return [row for row in self.rows if (row.start, row.adapt) == (summary.start, summary.adapt)]
