"""Result of the protocol `labels`: accuracy and AUC against the number of labels. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import Field
from scipy.special import ndtri, stdtrit

from ssl_jets.evaluation.result_base import Facts, Result, Written
from ssl_jets.evaluation.settings import FigureSettings, LabelSettings

SCRATCH, TREES = "from scratch", "boosted trees"
"""Label curves without pretraining: the same network from random weights, and trees on jet columns."""

LINEAR_OBSERVABLES, TREES_OBSERVABLES = "linear on observables", "boosted trees on observables"
"""Label curves of observables computed from the particles."""

DEEP_SETS = "Deep Sets"
"""Label curve of a small network of the particles from random weights."""

BASELINES = (SCRATCH, TREES, LINEAR_OBSERVABLES, TREES_OBSERVABLES, DEEP_SETS)


class LabelTraining(Facts):
    """One training of a label curve, on the test jets.

    Attributes:
        accuracy, auc: the latter macro, one-versus-one.
        labels: labelled jets it was trained on.
        seconds, steps: wall time and optimizer steps of a network.
    """

    accuracy: float
    auc: float
    labels: int
    seconds: float | None = None
    steps: int | None = None


class LabelPoint(Result):
    """One share of the labels of one curve: mean and standard deviation over seeds.

    Attributes:
        curve: its name.
        share: share of the labels.
        labels: labelled jets of the first seed.
        seeds: the training of each seed.
        accuracy, auc: means; the latter macro, one-versus-one.
        accuracy_std, auc_std: standard deviations (n - 1).
    """

    curve: str
    share: float
    labels: int
    seeds: list[LabelTraining]
    accuracy: float
    accuracy_std: float
    auc: float
    auc_std: float

    @classmethod
    def of(cls, curve: str, share: float, trainings: list[LabelTraining]) -> Self:
        """Return the point of the trainings of all seeds.

        >>> trainings = [LabelTraining(accuracy=value, auc=0.8, labels=10) for value in (0.5, 0.7)]
        >>> point = LabelPoint.of("mae full", 0.1, trainings)
        >>> f"{point.accuracy:.2f} +- {point.accuracy_std:.3f}"
        '0.60 +- 0.141'
        """
        accuracy = np.array([training.accuracy for training in trainings])
        auc = np.array([training.auc for training in trainings])
        return cls(
            curve=curve,
            share=share,
            labels=trainings[0].labels,
            seeds=trainings,
            accuracy=float(accuracy.mean()),
            accuracy_std=float(accuracy.std(ddof=1)),
            auc=float(auc.mean()),
            auc_std=float(auc.std(ddof=1)),
        )


class PretrainedModel(Result):
    """Hash and method of a model of a label curve."""

    sha256: str
    method: str


class UsedLabelSettings(Facts, LabelSettings):
    """Settings of label curves: `labels.*` and `figures.*`."""

    figures: FigureSettings = FigureSettings()


def mean_and_interval(
    values: Sequence[float], confidence: float = 0.95, *, other_error: float = 0.0
) -> tuple[float, float, float]:
    """Return the mean of a few independent numbers and its interval by Student's t: mean -+ t std / sqrt(n).

    t of 95 % is 12.7 for two numbers, 4.3 for three and 2.8 for five; 2, the limit of many, is passed by chance by
    18 % of three. A standard error that all numbers share, `other_error`, is added in quadrature, with t of the normal
    distribution.

    >>> [round(end, 2) for end in mean_and_interval([0.1, 0.2, 0.3])]
    [0.2, -0.05, 0.45]
    """
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / len(values) ** 0.5
    level = (1 + confidence) / 2
    reach = float(np.hypot(stdtrit(len(values) - 1, level) * error, ndtri(level) * other_error))
    return mean, mean - reach, mean + reach


class LabelCurves(Written):
    """Result of the protocol `labels`.

    Attributes:
        models: the pretrained models, by name.
        files: name, size and entries of the input files.
        data: settings `data.*`.
        tested: hash of the origin of the test jets.
        classes: class names.
        settings: settings of the protocol.
        test_jets: jets that all trainings are tested on.
        effective_test_jets: their effective number, (sum w)^2 / sum w^2; None in older results.
        largest_class: accuracy of a constant prediction; None in older results.
        leaked: test jets that a model was trained on; none, unless that was asked for.
        curves: names of the curves.
        points: one for each share and curve.
        notes: messages about the choice of jets.
    """

    NAME: ClassVar[str] = "labels"

    models: dict[str, PretrainedModel]
    files: list[list[Any]]
    data: dict[str, Any]
    tested: str = ""
    classes: tuple[str, ...]
    settings: UsedLabelSettings
    test_jets: int
    effective_test_jets: float | None = None
    largest_class: float | None = None
    leaked: int = 0
    curves: list[str]
    points: list[LabelPoint]
    notes: list[str] = Field(default=[])

    def against_observables(self) -> list[str]:
        """Return a sentence for each share: best curve of a model against the best of the observables.

        The seeds of both draw the same subsets of labels, so the difference is paired by seed. Its interval is the one
        of Student's t, with the error of the test jets, which all seeds share. Both curves are chosen on the test jets;
        the interval does not include this choice.
        """
        sentences = []
        for share in dict.fromkeys(point.share for point in self.points):
            points = [point for point in self.points if point.share == share]
            of_models = [point for point in points if point.curve not in BASELINES]
            of_observables = [point for point in points if point.curve in (LINEAR_OBSERVABLES, TREES_OBSERVABLES)]
            if not of_models or not of_observables:
                continue
            best, baseline = (max(some, key=lambda point: point.accuracy) for some in (of_models, of_observables))
            pairs = zip(best.seeds, baseline.seeds, strict=True)
            # Jets that one of two readers classifies correctly: at most all that either classifies wrongly.
            variance = min(1.0, 2 - best.accuracy - baseline.accuracy) - (best.accuracy - baseline.accuracy) ** 2
            error = (max(0.0, variance) / (self.effective_test_jets or self.test_jets)) ** 0.5
            gains = [one.accuracy - other.accuracy for one, other in pairs]
            mean, low, high = mean_and_interval(gains, other_error=error)
            relation = "is above" if low > 0 else "is below" if high < 0 else "cannot be distinguished from"
            sentences.append(
                f"With {best.labels:,} labels {best.curve} {relation} {baseline.curve}: accuracy "
                f"{best.accuracy:.3f} against {baseline.accuracy:.3f}, difference {mean:+.3f} "
                f"(95 %: {low:+.3f} to {high:+.3f}, over {len(best.seeds)} seeds and the choice of test jets)."
            )
        return sentences

    def points_of(self, curve: str) -> list[LabelPoint]:
        """Return the points of a curve, by rising share."""
        return [point for point in self.points if point.curve == curve]
