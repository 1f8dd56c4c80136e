"""Everything an evaluation found, and the folder it is written to: `metrics.json` and `curves.json`."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ssl_jets import __version__
from ssl_jets.arrays import Array
from ssl_jets.diagnostics.collapse import Verdict
from ssl_jets.diagnostics.representation import RepresentationStatistics
from ssl_jets.evaluation.headline import headline
from ssl_jets.evaluation.metrics.classification import ClassificationMetrics
from ssl_jets.evaluation.metrics.regression import RegressionMetrics
from ssl_jets.evaluation.probes.classes import ProbeResult
from ssl_jets.evaluation.probes.physics import PhysicsProbe
from ssl_jets.evaluation.probes.robustness import RobustnessCurve
from ssl_jets.runtime.atomic import write_text
from ssl_jets.runtime.short_repr import ShortRepr

FORMAT_VERSION = 1
METRICS, CURVES = "metrics.json", "curves.json"

MAP_JETS = 5000
"""Most jets of the map of z."""


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

    x: Array
    y: Array
    labels: Array
    explained: tuple[float, float]

    @classmethod
    def of(cls, z: Array, labels: Array, seed: int = 0) -> ZMap:
        """Of at most `MAP_JETS` random jets of z `[jet, D]`."""
        rows = np.sort(np.random.default_rng(seed).permutation(len(z))[:MAP_JETS])
        centred = z.astype(np.float64) - z.mean(axis=0, dtype=np.float64)
        values, vectors = np.linalg.eigh(centred.T @ centred / len(z))
        # The sign of an eigenvector is arbitrary: its largest component is made positive.
        axes = vectors[:, :-3:-1] * np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(len(values))])[:-3:-1]
        points = centred[rows] @ axes / max(float(np.sqrt(values[-1])), np.finfo(np.float64).tiny)
        total = max(float(values.sum()), np.finfo(np.float64).tiny)
        if points.shape[1] < 2:
            points, values = np.column_stack([points[:, 0], np.zeros(len(rows))]), np.array([0.0, values[0]])
        return cls(points[:, 0], points[:, 1], labels[rows], (float(values[-1] / total), float(values[-2] / total)))


@dataclass(frozen=True, repr=False)
class Evaluation(ShortRepr):
    """The outcome of `evaluate_model` or `evaluate_z`.

    Attributes:
        folder: where it was written.
        model: hash, method, size of the model.
        files: what was read.
        classes: class names; empty without labels.
        jets: jets used, by purpose.
        left_out: jets left out, by reason; each jet once, also where it is missing from several selections.
        files_left_out: files that could not be opened, with the reason.
        settings: seeds, limits and split.
        task: metrics of the model's own head; None without a head or labels.
        probes: probes of z and of the baselines; empty without labels.
        spread: of z, and of z of random weights where that was computed.
        map: principal components of z.
        regression: of each column that the model regresses.
        physics: probes of physics quantities, of z and of the baselines.
        robustness: how the head (or the linear probe, without one) stands changed jets.
        leaked: jets measured on that the model was trained on; none, unless that was asked for.
        collapse: in which ways z has collapsed beside that of random weights; empty for a healthy one.
        notes: what was said about the choice of jets.
        seconds: wall time.
    """

    folder: Path
    model: dict[str, Any]
    files: list[InputFile]
    classes: tuple[str, ...]
    jets: dict[str, int]
    left_out: dict[str, int]
    settings: dict[str, Any]
    task: ClassificationMetrics | None
    probes: list[ProbeResult]
    spread: dict[str, RepresentationStatistics]
    map: ZMap
    regression: list[RegressionMetrics] = field(default_factory=list)
    physics: list[PhysicsProbe] = field(default_factory=list)
    robustness: list[RobustnessCurve] = field(default_factory=list)
    leaked: int = 0
    files_left_out: dict[str, str] = field(default_factory=dict)
    collapse: list[Verdict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def metrics(self) -> dict[str, Any]:
        """The contents of `metrics.json`: every number with its interval, and where it comes from."""
        task = None if self.task is None else _scalars(self.task)
        found = {
            "format_version": FORMAT_VERSION,
            "package_version": __version__,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(self.seconds, 2),
            "versions": versions(),
            "model": self.model,
            "files": self.files,
            "classes": self.classes,
            "jets": self.jets,
            "left_out": self.left_out,
            "files_left_out": self.files_left_out,
            "settings": self.settings,
            "task": task,
            "probes": [_without(probe, "rows") for probe in self.probes],
            "headline": headline(self.probes),
            "regression": [_without(found, "responses", "density") for found in self.regression],
            "physics": self.physics,
            "robustness": self.robustness,
            "leaked": self.leaked,
            "spread": self.spread,
            "collapse": self.collapse,
            "notes": self.notes,
        }
        return {name: plain(value) for name, value in found.items()}

    def curves(self) -> dict[str, Any]:
        """The contents of `curves.json`: what figures are drawn from, with five digits."""
        task = self.task
        found = {
            "format_version": FORMAT_VERSION,
            "classes": self.classes,
            "roc": [] if task is None else task.roc,
            "confusion": None if task is None else task.confusion,
            "reliability": None if task is None else task.reliability,
            "calibrated": None if task is None else task.calibrated.reliability,
            "regression": [_without(found, "bias", "resolution", "explained") for found in self.regression],
            "map": self.map,
        }
        return {name: plain(value, digits=5) for name, value in found.items()}

    def write(self) -> None:
        """Write both files to `folder`, each in one step, `metrics.json` last."""
        texts = {CURVES: json.dumps(self.curves()), METRICS: json.dumps(self.metrics(), indent=1)}
        for name, text in texts.items():
            write_text(self.folder / name, text + "\n")


def plain(value: Any, digits: int | None = None) -> Any:
    """`value` as JSON knows it: data classes as objects, arrays as lists, NaN and infinity as null."""
    if hasattr(value, "__dataclass_fields__"):
        return plain(asdict(value), digits)
    if isinstance(value, Mapping):
        return {str(name): plain(entry, digits) for name, entry in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist(), digits)
    if isinstance(value, list | tuple):
        return [plain(entry, digits) for entry in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return value if digits is None else float(f"{value:.{digits}g}")
    return value


def _scalars(task: ClassificationMetrics) -> dict[str, Any]:
    """The task metrics without the curves."""
    scalars = _without(task, "roc", "confusion", "reliability", "names")
    return scalars | {"calibrated": _without(task.calibrated, "reliability")}


def _without(found: Any, *names: str) -> dict[str, Any]:
    return {name: value for name, value in vars(found).items() if name not in names}


def versions() -> dict[str, str]:
    """Of Python and of the packages that numbers depend on."""
    packages = ("torch", "numpy", "scikit-learn")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
