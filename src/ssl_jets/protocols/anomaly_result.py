"""Result of the protocol `anomaly`: distance scores and CWoLa scans. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import Field

from ssl_jets.evaluation.metrics.bootstrap import Estimate
from ssl_jets.evaluation.result_base import Facts, Result, Written
from ssl_jets.evaluation.settings import FigureSettings


@dataclass(frozen=True)
class Separation:
    """Separation of one class from the background by a score.

    Attributes:
        auc: area under the ROC curve.
        rejection: R50, the background rejection 1 / eps_B at eps_S = 0.5.
        improvement: the largest significance improvement.
    """

    auc: Estimate
    rejection: Estimate
    improvement: Estimate


@dataclass(frozen=True)
class DistanceScore:
    """Separation of one class from the background by the distance from background jets.

    Attributes:
        of: input of the distance: "z", "z of random weights", "jet columns", "observables".
        score: "kNN" or "Mahalanobis".
        signal: the class.
        fit_jets: background jets that the distance is measured from.
        auc, rejection, improvement: as in `Separation`.
    """

    of: str
    score: str
    signal: str
    fit_jets: int
    auc: Estimate
    rejection: Estimate
    improvement: Estimate


class DistanceScores(Result):
    """Distance scores of all signals for one input."""

    scores: list[DistanceScore]


class CwolaDraw(Result):
    """One CWoLa search.

    Attributes:
        improvement: the largest significance improvement; None if it is not defined.
        improvement_limit: True if it is at the tightest cut, a lower limit.
        auc: area under the ROC curve of signal against background; None if it is not defined.
        rejection: R50, 1 / eps_B at eps_S = 0.5; a lower limit if no background jet passes; None if it is not defined.
        significance: S / sqrt(B) in the mixture; of weighted jets sum(w_S) / sqrt(sum(w_B^2)).
    """

    improvement: float | None
    improvement_limit: bool
    auc: float | None
    rejection: float | None
    significance: float


class CwolaPoint(Result):
    """CWoLa searches for one number of hidden signal jets: mean and standard deviation (n - 1) over draws.

    Attributes:
        signal_jets: signal jets hidden in the mixture; 0 in the floor of the search.
        significance: S / sqrt(B) in the mixture, of the first draw.
        improvement, auc, rejection: means; None if no draw has the number.
        improvement_std, auc_std, rejection_std: standard deviations; None with fewer than two draws that have it.
        improvement_limit: True if the improvement of any draw is a lower limit.
        draws: the searches. Draw i has the same jets for all inputs and readers, so differences are paired.
    """

    signal_jets: int
    significance: float
    improvement: float | None
    improvement_std: float | None
    improvement_limit: bool
    auc: float | None
    auc_std: float | None
    rejection: float | None
    rejection_std: float | None
    draws: list[CwolaDraw]

    @classmethod
    def of(cls, signal_jets: int, draws: list[CwolaDraw]) -> Self:
        """Return the point of all draws."""
        improvement, improvement_std = _mean_and_std([draw.improvement for draw in draws])
        auc, auc_std = _mean_and_std([draw.auc for draw in draws])
        rejection, rejection_std = _mean_and_std([draw.rejection for draw in draws])
        return cls(
            signal_jets=signal_jets,
            significance=draws[0].significance,
            improvement=improvement,
            improvement_std=improvement_std,
            improvement_limit=any(draw.improvement_limit for draw in draws),
            auc=auc,
            auc_std=auc_std,
            rejection=rejection,
            rejection_std=rejection_std,
            draws=draws,
        )


def _mean_and_std(numbers: list[float | None]) -> tuple[float | None, float | None]:
    defined = [number for number in numbers if number is not None]
    mean = float(np.mean(defined)) if defined else None
    return mean, float(np.std(defined, ddof=1)) if len(defined) > 1 else None


class CwolaScan(Result):
    """CWoLa searches for one signal over growing numbers of hidden jets, between their floor and their ceiling.

    Attributes:
        of: input of the classifier: "z", "z of random weights", "jet columns", "observables".
        reader: classifier: "linear" (logistic regression) or "boosted trees".
        signal: the class that is hidden.
        points: by rising number of signal jets; the first has none and is the floor.
        supervised: the ceiling: the same classifier, fitted with the true labels of all jets to fit on.
    """

    of: str
    reader: str
    signal: str
    points: list[CwolaPoint]
    supervised: Separation

    @property
    def floor(self) -> CwolaPoint:
        """Point without signal jets: a classifier of two equal samples, whose score separates the signal by chance."""
        return self.points[0]

    @property
    def searches(self) -> list[CwolaPoint]:
        """Points with signal jets."""
        return [point for point in self.points if point.signal_jets > 0]


class SearchedFiles(Facts):
    """Provenance of an anomaly search: of models and their input files, or of z files.

    Attributes:
        models: hash of each model.
        files: name, size and entries of the input files.
        z: name and SHA-256 of each z file, one after the other.
        data, evaluate: settings `data.*` and `evaluate.*`.
    """

    models: dict[str, str] | None = None
    files: list[list[Any]] | None = None
    z: list[str] | None = None
    data: dict[str, Any]
    evaluate: dict[str, Any]

    @property
    def title(self) -> str:
        """Names of the models, or the name of the first z file."""
        return ", ".join(self.models) if self.models else (self.z or [""])[0]


class UsedAnomalySettings(Result):
    """Settings of a search that stand nowhere else in its result: `figures.*`."""

    figures: FigureSettings = FigureSettings()


class AnomalyScan(Written):
    """Result of the protocol `anomaly`.

    Attributes:
        made_from: models or z files, and settings of the choice of jets.
        classes: class names.
        background: the background class.
        background_jets: its jets to search in.
        seeds: draws for each number of signal jets.
        settings: settings `figures.*`.
        distances: distance scores of every input and signal.
        cwola: CWoLa scan of every input, reader and signal.
        notes: messages about the choice of jets.
    """

    NAME: ClassVar[str] = "anomaly"

    made_from: SearchedFiles
    classes: tuple[str, ...]
    background: str
    background_jets: int
    seeds: int
    settings: UsedAnomalySettings = UsedAnomalySettings()
    distances: list[DistanceScore]
    cwola: list[CwolaScan]
    notes: list[str] = Field(default=[])
