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
class DistanceScore:
    """Separation of one class from the background by the distance from background jets.

    Attributes:
        of: input of the distance: "z", "z of random weights", "jet columns", "observables".
        score: "kNN" or "Mahalanobis".
        signal: the class.
        fit_jets: background jets that the distance is measured from.
        auc: area under the ROC curve.
        improvement: the largest significance improvement.
    """

    of: str
    score: str
    signal: str
    fit_jets: int
    auc: Estimate
    improvement: Estimate


class DistanceScores(Result):
    """Distance scores of all signals for one input."""

    scores: list[DistanceScore]


class CwolaDraw(Result):
    """One CWoLa search.

    Attributes:
        improvement: the largest significance improvement; None if it is not defined.
        auc: area under the ROC curve of signal against background; None if it is not defined.
        significance: S / sqrt(B) in the mixture; of weighted jets sum(w_S) / sqrt(sum(w_B^2)).
    """

    improvement: float | None
    auc: float | None
    significance: float


class CwolaPoint(Result):
    """CWoLa searches for one number of hidden signal jets: mean and standard deviation (n - 1) over draws.

    Attributes:
        signal_jets: signal jets hidden in the mixture; 0 in the floor of the search.
        significance: S / sqrt(B) in the mixture, of the first draw.
        improvement, auc: means; None if no draw has the number.
        improvement_std, auc_std: standard deviations; None with fewer than two draws that have it.
    """

    signal_jets: int
    significance: float
    improvement: float | None
    improvement_std: float | None
    auc: float | None
    auc_std: float | None

    @classmethod
    def of(cls, signal_jets: int, draws: list[CwolaDraw]) -> Self:
        """Return the point of all draws."""
        improvement, improvement_std = _mean_and_std([draw.improvement for draw in draws])
        auc, auc_std = _mean_and_std([draw.auc for draw in draws])
        return cls(
            signal_jets=signal_jets,
            significance=draws[0].significance,
            improvement=improvement,
            improvement_std=improvement_std,
            auc=auc,
            auc_std=auc_std,
        )


def _mean_and_std(numbers: list[float | None]) -> tuple[float | None, float | None]:
    defined = [number for number in numbers if number is not None]
    mean = float(np.mean(defined)) if defined else None
    return mean, float(np.std(defined, ddof=1)) if len(defined) > 1 else None


class CwolaScan(Result):
    """CWoLa searches for one signal over growing numbers of hidden jets.

    Attributes:
        of: input of the classifier: "z", "z of random weights", "jet columns", "observables".
        signal: the class that is hidden.
        points: by rising number of signal jets; the first has none and is the floor, except in older results.
    """

    of: str
    signal: str
    points: list[CwolaPoint]

    @property
    def floor(self) -> CwolaPoint | None:
        """Point without signal jets: a classifier of two equal samples, whose score separates the signal by chance."""
        return next((point for point in self.points if point.signal_jets == 0), None)

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
        cwola: CWoLa scan of every input and signal.
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
