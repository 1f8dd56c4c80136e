"""Section of label curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ssl_jets.evaluation.result_base import Written, plain
from ssl_jets.protocols.labels_result import (
    DEEP_SETS,
    LINEAR_OBSERVABLES,
    SCRATCH,
    TREES,
    TREES_OBSERVABLES,
    LabelCurves,
    LabelPoint,
)
from ssl_jets.report import page
from ssl_jets.report.album import Album
from ssl_jets.report.figures.style import (
    COLOURS,
    GREY,
    MODEL_COLOURS,
    band_or_bars,
    count_axis,
    level,
)
from ssl_jets.report.sections.evaluation import note_lines

_MARKERS = ("o", "s", "D", "^", "v", "P")

_COLOURS = {
    SCRATCH: GREY,
    TREES: GREY,
    **dict.fromkeys((LINEAR_OBSERVABLES, TREES_OBSERVABLES, DEEP_SETS), COLOURS[2]),
}
"""Colours of baselines: red those on the particles, grey the others."""


def label_sections(result: LabelCurves, album: Album) -> list[str]:
    """Return the sections of accuracy and AUC against the number of labels."""
    settings = result.settings
    rows = [
        (
            point.curve,
            f"{100 * point.share:g} %",
            f"{point.labels:,}",
            f"{page.number(point.accuracy)} ± {page.number(point.accuracy_std)}",
            f"{page.number(point.auc)} ± {page.number(point.auc_std)}",
            _seconds(point),
        )
        for point in result.points
    ]
    seen = "of which a model has seen some or all in training" if result.leaked else "that no model has seen"
    values: dict[str, Any] = {"jets": result.test_jets, "seen": seen}
    values |= {"seeds": settings.seeds, "batch": settings.batch_size, "steps": settings.steps}
    return [
        *map(page.lead, result.against_observables()),
        *note_lines(result.notes, result.leaked),
        page.heading("Accuracy against the number of labels"),
        *album.add("label_curves", lambda: label_curves(result), result.points, **values),
        page.table(("curve", "share", "labels", "accuracy", "macro AUC", "seconds a training"), rows),
        page.heading("Provenance"),
        *provenance(result, ("models", "files", "settings", "data", "classes")),
    ]


def label_curves(result: LabelCurves) -> Figure | None:
    """Draw mean and standard deviation over seeds of accuracy and AUC; None with one number of labels."""
    if len({point.labels for point in result.points}) < 2:
        return None
    figure, (left, right) = plt.subplots(1, 2, figsize=(12.5, 4.2), layout="constrained")
    for index, curve in enumerate(result.curves):
        points = result.points_of(curve)
        _label_curve(left, curve, index, result, [(point.accuracy, point.accuracy_std) for point in points])
        _label_curve(right, curve, index, result, [(point.auc, point.auc_std) for point in points])
    if result.largest_class is not None:
        level(left, result.largest_class, "largest class")
    level(right, 0.5, "chance")
    left.set(xlabel="labelled jets", ylabel="accuracy")
    right.set(xlabel="labelled jets", ylabel="macro AUC (one-vs-one)")
    for axes in (left, right):
        count_axis(axes, (point.labels for point in result.points))
    handles = left.get_legend_handles_labels()
    figure.legend(*handles, loc="outside right upper", frameon=False, fontsize=11)
    return figure


def _label_curve(
    axes: Axes, curve: str, index: int, result: LabelCurves, statistics: Sequence[tuple[float, float]]
) -> None:
    """Draw one curve from mean and standard deviation of each of its points."""
    labels = np.array([point.labels for point in result.points_of(curve)], float)
    mean, std = np.array(statistics, float).T
    style: dict[str, Any] = {
        "color": _COLOURS.get(curve, MODEL_COLOURS[index % len(MODEL_COLOURS)]),
        "linestyle": "--" if curve in (TREES, TREES_OBSERVABLES) else ":" if curve == DEEP_SETS else "-",
        "marker": _MARKERS[index % len(_MARKERS)],
        "markersize": 5,
    }
    (line,) = axes.plot(labels, mean, **style, label=curve)
    band_or_bars(line, mean - std, mean + std, index, len(result.curves))


def _seconds(point: LabelPoint) -> str:
    seconds = [training.seconds for training in point.seeds if training.seconds is not None]
    return f"{np.mean(seconds):.0f}" if seconds else "–"


def provenance(result: Written, names: Sequence[str]) -> list[str]:
    """Return the folded facts `names` of the result of a protocol, with versions and date."""
    content = plain(result)
    facts = {name: content[name] for name in (*names, "versions", "package_version", "date")}
    return [page.folded("Models, data and settings", page.facts(facts))]
