"""Sections of label curves and of anomaly searches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ssl_jets.arrays import Array
from ssl_jets.evaluation.probes.results import COLUMNS, OBSERVABLES, RANDOM
from ssl_jets.evaluation.result_base import Written, plain
from ssl_jets.protocols.anomaly_result import AnomalyScan, CwolaPoint, CwolaScan
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
    MOST_BANDS,
    band_or_bars,
    bars,
    count_axis,
    in_figure,
    in_text,
    level,
    name_rows,
    panel_grid,
)
from ssl_jets.report.many_classes import MOST_CLASSES
from ssl_jets.report.numbers import flat
from ssl_jets.report.sections.evaluation import note_lines

_MARKERS = ("o", "s", "D", "^", "v", "P")

_COLOURS = {
    SCRATCH: GREY,
    TREES: GREY,
    **dict.fromkeys((LINEAR_OBSERVABLES, TREES_OBSERVABLES, DEEP_SETS), COLOURS[2]),
}
"""Colours of baselines: red those on the particles, grey the others."""

_INPUTS = {RANDOM: (GREY, "s"), COLUMNS: ("black", "D"), OBSERVABLES: (COLOURS[2], "D")}
"""Colours and markers of the inputs of a search that are no model."""


def label_sections(result: LabelCurves, album: Album) -> list[str]:
    """Return the sections of accuracy and AUC against the number of labels."""
    settings = result.settings
    rows = [
        (
            f"{100 * point.share:g} %",
            f"{point.labels:,}",
            point.curve,
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
        page.table(("share", "labels", "curve", "accuracy", "macro AUC", "seconds a training"), rows),
        page.heading("Provenance"),
        *_provenance(result, ("models", "files", "settings", "data", "classes")),
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


def anomaly_sections(result: AnomalyScan, album: Album) -> list[str]:
    """Return the sections of CWoLa scans and distance scores."""
    background = in_text(result.background)
    scans = [
        (
            in_text(scan.signal),
            scan.of,
            f"{point.signal_jets:,}",
            page.number(point.significance, 2),
            _mean(point.improvement, point.improvement_std, 2),
            _mean(point.auc, point.auc_std, 3),
        )
        for scan in result.cwola
        for point in scan.points
    ]
    distances = [
        (
            in_text(entry.signal),
            entry.of,
            entry.score,
            page.number(entry.auc.value, 3),
            page.interval(entry.auc, digits=3),
            "≥ " * entry.improvement.limit + page.number(entry.improvement.value, 2),
        )
        for entry in result.distances
    ]
    text = (
        f"{result.background_jets:,} {background} jets are cut in two halves; signal jets are hidden in one of them, "
        "and a classifier learns to separate the halves. It is tested on other jets with their true classes. Below, "
        f"the score of a jet is its distance from {background} jets."
    )
    if len(result.classes) - 1 > MOST_CLASSES:
        text += f" The figures show the first {MOST_CLASSES} signals; all are in the tables."
    draws = [{"of": scan.of, "signal": scan.signal} | flat(point) for scan in result.cwola for point in scan.points]
    figure = album.add("cwola", lambda: cwola(result), draws, background=background, seeds=result.seeds)
    head = ("signal", "reads", "signal jets", "S/√B in the mixture", "largest ε_S/√ε_B", "AUC")
    searches = page.table(head, scans)
    return [
        *note_lines(result.notes),
        page.heading("CWoLa search"),
        page.paragraph(text),
        *figure,
        page.folded("All numbers of the search", searches) if figure else searches,
        page.heading("Distance from the background"),
        *album.add("distance", lambda: distance(result), result.distances, background=background),
        page.folded(
            "All numbers of the distances",
            page.table(("signal", "in", "score", "AUC", "68 %", "largest ε_S/√ε_B"), distances),
        ),
        page.heading("Provenance"),
        *_provenance(result, ("made_from", "classes", "background", "seeds")),
    ]


def cwola(result: AnomalyScan) -> Figure | None:
    """Draw improvement against the number of hidden jets, a panel for each signal and a line for each input.

    The floor, a search without signal jets, stands at the left. Signals with one number of hidden jets have no panel;
    None if no signal has more.
    """
    drawn = [scan for scan in result.cwola if len(_defined(scan)) > 1]
    signals = list(dict.fromkeys(scan.signal for scan in drawn))[:MOST_CLASSES]
    if not signals:
        return None
    inputs = list(dict.fromkeys(scan.of for scan in drawn))
    left = min(point.signal_jets for scan in drawn for point in _defined(scan)) / 10**0.5
    figure, panels = panel_grid(len(signals), 3.9, 3.2, sharex=True)
    for axes, signal in zip(panels, signals):
        for scan in (scan for scan in drawn if scan.signal == signal):
            _scan(axes, scan, inputs, left)
        axes.annotate("no signal", (left, 1), (0, -4), **_AT_THE_TOP, color=GREY, fontsize=9)
        axes.axhline(1, color=GREY, linestyle=":", linewidth=1.2)
        count_axis(axes, (point.signal_jets for scan in drawn for point in _defined(scan)))
        axes.margins(0.1)  # no marker on the frame
        axes.set_ylim(0, None)
        axes.axvline(np.sqrt(result.background_jets / 2), color=GREY, linestyle="--", linewidth=1)
        axes.set_title(in_figure(signal))
    figure.supxlabel(f"signal jets among {result.background_jets // 2:,} of background", fontsize=13)
    figure.supylabel(r"largest improvement $\varepsilon_S/\varepsilon_B^{1/2}$", fontsize=13)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=11)
    return figure


def distance(result: AnomalyScan) -> Figure:
    """Draw the area under the ROC curve of each signal, a point for each score and input."""
    signals = list(dict.fromkeys(entry.signal for entry in result.distances))[:MOST_CLASSES]
    inputs = list(dict.fromkeys(entry.of for entry in result.distances))
    keys = list(dict.fromkeys((entry.of, entry.score) for entry in result.distances))
    height = 1.4 + len(signals) * max(0.6, 0.14 * len(keys))
    figure, axes = plt.subplots(figsize=(8.4, height), layout="constrained")
    handles: dict[tuple[str, str], Line2D] = {}
    for entry in result.distances:
        if entry.auc.value is None or entry.signal not in signals:
            continue
        key = (entry.of, entry.score)
        # 4 keys: rows at -1.5/6, -0.5/6, 0.5/6, 1.5/6 around the row of the signal.
        row = signals.index(entry.signal) + (keys.index(key) - (len(keys) - 1) / 2) / (len(keys) + 2)
        colour, _ = _colour_and_marker(entry.of, inputs)
        style: dict[str, Any] = {"marker": "s", "markerfacecolor": "white"}
        if entry.score == "kNN":
            style = {"marker": "o"}
        (point,) = axes.plot(entry.auc.value, row, color=colour, markersize=6, linestyle="none", **style)
        handles.setdefault(key, point)
        bars(point, entry.auc.low, entry.auc.high, along="x")
    name_rows(axes, [in_figure(name) for name in signals])
    axes.axvline(0.5, color=GREY, linestyle=":", linewidth=1.2)
    axes.set_xlabel("area under the ROC curve")
    shown = [key for key in keys if key in handles]
    names = [f"{score}, {of}" for of, score in shown]
    right: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1), "borderaxespad": 0}
    axes.legend([handles[key] for key in shown], names, **right, frameon=False, fontsize=11)
    return figure


_AT_THE_TOP: dict[str, Any] = {
    "xycoords": ("data", "axes fraction"),
    "textcoords": "offset points",
    "rotation": 90,
    "ha": "center",
    "va": "top",
}


def _defined(scan: CwolaScan) -> list[CwolaPoint]:
    return [point for point in scan.searches if point.improvement is not None]


def _scan(axes: Axes, scan: CwolaScan, inputs: Sequence[str], left: float) -> None:
    """Draw one line: mean and standard deviation over draws; `inputs` are all that the panel may have.

    The floor is an open marker at `left`.
    """
    points, floor = _defined(scan), scan.floor
    colour, marker = _colour_and_marker(scan.of, inputs)
    look: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 4}
    position, among = inputs.index(scan.of), len(inputs)
    mean, low, high = _improvements(points)
    (line,) = axes.plot([point.signal_jets for point in points], mean, **look, label=scan.of)
    band_or_bars(line, low, high, position, among)
    if floor is not None and floor.improvement is not None:
        mean, low, high = _improvements([floor])
        (mark,) = axes.plot([left], mean, **look, markerfacecolor="white", linestyle="none")
        band_or_bars(mark, low, high, position, max(among, MOST_BANDS + 1))  # a band of one point is no area


def _improvements(points: Sequence[CwolaPoint]) -> Array:
    """Return mean, and mean minus and plus the standard deviation, `[3, point]`."""
    mean = np.array([point.improvement or 0.0 for point in points], float)
    std = np.array([point.improvement_std or 0.0 for point in points], float)
    return np.stack([mean, mean - std, mean + std])


def _colour_and_marker(of: str, inputs: Sequence[str]) -> tuple[str, str]:
    """Return colour and marker of an input: baselines are grey and red, models take the other colours."""
    if of in _INPUTS:
        return _INPUTS[of]
    models = [name for name in inputs if name not in _INPUTS]
    return MODEL_COLOURS[models.index(of) % len(MODEL_COLOURS)], "o"


def _mean(value: float | None, std: float | None, digits: int) -> str:
    return "–" if value is None else f"{page.number(value, digits)} ± {page.number(std, digits)}"


def _seconds(point: LabelPoint) -> str:
    seconds = [training.seconds for training in point.seeds if training.seconds is not None]
    return f"{np.mean(seconds):.0f}" if seconds else "–"


def _provenance(result: Written, names: Sequence[str]) -> list[str]:
    content = plain(result)
    facts = {name: content[name] for name in (*names, "versions", "package_version", "date")}
    return [page.folded("Models, data and settings", page.facts(facts))]
