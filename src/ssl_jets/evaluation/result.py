"""Result of an evaluation, and the folder it is written to: `metrics.json` and `curves.json`. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from pydantic import Field

from ssl_jets.arrays import Array, some_rows
from ssl_jets.diagnostics.results import RepresentationStatistics, Verdict
from ssl_jets.evaluation.headline import Headline, headline_sentences
from ssl_jets.evaluation.metrics.classification import ClassificationMetrics
from ssl_jets.evaluation.metrics.particles import ParticleClasses, ParticleGroups, ParticleNumbers
from ssl_jets.evaluation.metrics.regression import RegressionMetrics
from ssl_jets.evaluation.probes.results import TRAINED, PhysicsProbe, ProbeResult, RobustnessCurve
from ssl_jets.evaluation.result_base import (
    FORMAT_VERSION,
    NAN_IF_NULL,
    Facts,
    Values,
    Written,
    plain,
    read_result,
    without,
)
from ssl_jets.evaluation.settings import EvaluateSettings, FigureSettings, MeasureSettings

__all__ = ["CURVES", "METRICS", "TRAINED", "Evaluation", "InputFile", "ModelFacts", "ZMap"]

METRICS, CURVES = "metrics.json", "curves.json"

DIGITS = 5
"""Significant digits of curves."""

MAP_JETS = 5000
"""Most jets of the map of z."""

_CURVES = ("roc", "confusion", "reliability")
"""Fields of `ClassificationMetrics` that are in `curves.json`."""


@dataclass(frozen=True)
class InputFile:
    """A file of jets or of z, without the folder it lay in."""

    name: str
    bytes: int
    entries: int
    trained_on: bool
    labelled: bool


@dataclass(frozen=True)
class ZMap:
    """The first two principal components of z.

    Attributes:
        x, y: `[jet]`, in units of the standard deviation of x.
        labels: int64 `[jet]`; -1 for a jet without.
        explained: share of the variance of z along each.
    """

    x: Values
    y: Values
    labels: Values
    explained: tuple[float, float]

    @classmethod
    def of(cls, z: Array, labels: Array, seed: int = 0) -> ZMap:
        """Project at most `MAP_JETS` random jets of z `[jet, D]`; `labels` are int64 `[jet]`."""
        rows = some_rows(len(z), MAP_JETS, seed)
        centred = z.astype(np.float64) - z.mean(axis=0, dtype=np.float64)
        values, vectors = np.linalg.eigh(centred.T @ centred / len(z))
        # The sign of an eigenvector is arbitrary: its largest component is made positive.
        axes = vectors[:, :-3:-1] * np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(len(values))])[:-3:-1]
        points = centred[rows] @ axes / max(float(np.sqrt(values[-1])), np.finfo(np.float64).tiny)
        total = max(float(values.sum()), np.finfo(np.float64).tiny)
        if points.shape[1] < 2:
            points, values = np.column_stack([points[:, 0], np.zeros(len(rows))]), np.array([0.0, values[0]])
        return cls(points[:, 0], points[:, 1], labels[rows], (float(values[-1] / total), float(values[-2] / total)))


class ModelFacts(Facts):
    """Facts of an evaluated model.

    Attributes:
        sha256: of its weights; "" for an ensemble, or where a z file has none.
        method: how it was trained.
        parameters: their number.
        dim: width of z.
        encoder: settings of the encoder.
        head: True with a classification head.
        labelled_jets: jets its head was trained on; None where that is not known.
        members: facts of the models of an ensemble.
    """

    sha256: str
    method: str
    parameters: int | None = None
    dim: int
    encoder: dict[str, Any] | None = None
    head: bool = False
    labelled_jets: int | None = None
    members: dict[str, ModelFacts] | None = None


class UsedSettings(Facts, MeasureSettings):
    """Settings of an evaluation: `evaluate.*`, all of `data.*` that change numbers, the device, and `figures.*`."""

    weights: str | None = None
    validation_fraction: float | None = None
    split_seed: int | None = None
    precision: str | None = None
    device: str | None = None
    figures: FigureSettings = FigureSettings()

    @classmethod
    def of(cls, settings: EvaluateSettings, **more: object) -> UsedSettings:
        """Return the settings that numbers depend on; `more` are fields that only an evaluation of a model has."""
        own = {"weights": settings.data.weights, "figures": settings.figures.model_dump()}
        return cls.model_validate(settings.evaluate.model_dump(mode="json") | own | more)


class Evaluation(Written):
    """Result of `evaluate_model` or `evaluate_z`.

    Attributes:
        seconds: wall time.
        model: hash, method, size of the model.
        files: input files.
        classes: class names; empty without labels.
        jets: jets used, by purpose.
        left_out: jets left out, by reason; each jet once, also where it is missing from several selections.
        files_left_out: files that could not be opened, with the reason.
        settings: seeds, limits and split.
        task: metrics of the model's own head; None without a head or labels.
        probes: probes of z and of the baselines; empty without labels.
        headline: best reader of z against the strongest baseline.
        against_observables: best reader of z against the best reader of observables; None in older results.
        with_observables: reader of z and observables against the best reader of one of them; None in older results.
        regression: of each column that the model regresses.
        particle_classes: of each target of particles with classes.
        particle_numbers: of each number of particles that the model regresses.
        particle_groups: of each grouping of particles, such as into vertices.
        physics: probes of physics quantities, of z and of the baselines.
        robustness: accuracy of the head (or the linear probe, without one) on changed jets.
        leaked: test jets that the model was trained on; none, unless that was asked for.
        spread: representation statistics of z, and of z of random weights where that was computed.
        collapse: collapse verdicts on z, compared with random weights; empty for a healthy one.
        notes: messages about the choice of jets.
        map: principal components of z.
    """

    NAME: ClassVar[str] = "metrics"
    CURVES: ClassVar[str] = CURVES

    seconds: float = 0.0
    model: ModelFacts
    files: list[InputFile]
    classes: tuple[str, ...]
    jets: dict[str, int]
    left_out: dict[str, int]
    files_left_out: dict[str, str] = Field(default_factory=dict)
    settings: UsedSettings
    task: ClassificationMetrics | None
    probes: list[ProbeResult]
    headline: Headline | None = None
    against_observables: Headline | None = None
    with_observables: Headline | None = None
    regression: list[RegressionMetrics] = Field(default_factory=list)
    particle_classes: list[ParticleClasses] = Field(default_factory=list)
    particle_numbers: list[ParticleNumbers] = Field(default_factory=list)
    particle_groups: list[ParticleGroups] = Field(default_factory=list)
    physics: list[PhysicsProbe] = Field(default_factory=list)
    robustness: list[RobustnessCurve] = Field(default_factory=list)
    leaked: int = 0
    spread: dict[str, Annotated[RepresentationStatistics, NAN_IF_NULL]]
    collapse: list[Verdict] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    map: ZMap

    @property
    def representation(self) -> RepresentationStatistics:
        """Statistics of z of the evaluated model."""
        return self.spread[TRAINED]

    def headlines(self) -> list[str]:
        """Return the sentences on z against observables and the strongest baseline, and on z with observables."""
        both, labels = self.with_observables, self.model.labelled_jets
        return headline_sentences(self.headline, self.against_observables, labels, both)

    @property
    def fit_jets(self) -> int:
        """Jets that probes are fitted on; 0 without probes."""
        return self.jets.get("fit", 0)

    @property
    def test_jets(self) -> int:
        """Jets that probes are tested on."""
        return self.jets.get("test", 0)

    def metrics(self) -> dict[str, Any]:
        """Return the contents of `metrics.json`: every number with its interval, and its provenance."""
        task = self.task
        numbers = {
            "task": task and without(task, *_CURVES, "names") | {"calibrated": without(task.calibrated, "reliability")},
            "probes": [without(probe, "rows", "effective_jets") for probe in self.probes],
            "regression": [without(target, "responses", "density") for target in self.regression],
        }
        return {name: plain(value) for name, value in {**without(self, "map", "folder"), **numbers}.items()}

    def curve_points(self) -> dict[str, Any]:
        """Return the contents of `curves.json`: the points of figures, with five digits."""
        task = self.task
        content = {
            "format_version": FORMAT_VERSION,
            "classes": self.classes,
            "roc": [] if task is None else task.roc,
            "confusion": None if task is None else task.confusion,
            "reliability": None if task is None else task.reliability,
            "calibrated": None if task is None else task.calibrated.reliability,
            "regression": [without(target, "bias", "resolution", "explained") for target in self.regression],
            "map": self.map,
        }
        return {name: plain(value, digits=DIGITS) for name, value in content.items()}

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the evaluation of a folder; curves have five digits, probes no `rows`.

        Raises:
            DataError: a file is missing, is not JSON, or is of another version.
        """
        content, curves = read_result(folder / METRICS), read_result(folder / CURVES)
        if task := content.get("task"):
            content["task"] = task | _of_task(task, curves)
        drawn = curves.get("regression") or []
        content["regression"] = [{**one, **other} for one, other in zip(content.get("regression") or [], drawn)]
        return cls.of_json({**content, "map": curves.get("map"), "folder": folder}, folder)


def _of_task(task: Mapping[str, Any], curves: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of `ClassificationMetrics` that `curves.json` has."""
    calibrated = {**task.get("calibrated", {}), "reliability": curves.get("calibrated")}
    return {name: curves.get(name) for name in _CURVES} | {"names": curves.get("classes"), "calibrated": calibrated}
