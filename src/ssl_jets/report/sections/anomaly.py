"""Sections of an anomaly search: CWoLa scans with floor and ceiling, distances from the background."""

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
from ssl_jets.protocols.anomaly_result import AnomalyScan, CwolaPoint, CwolaScan, DistanceScore, Separation
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
    name_rows,
    panel_grid,
)
from ssl_jets.report.many_classes import MOST_CLASSES
from ssl_jets.report.numbers import flat
from ssl_jets.report.sections.evaluation import note_lines
from ssl_jets.report.sections.labels import provenance

_INPUTS = {RANDOM: (GREY, "s"), COLUMNS: ("black", "D"), OBSERVABLES: (COLOURS[2], "D")}
"""Colours and markers of the inputs of a search that are no model."""


def anomaly_sections(result: AnomalyScan, album: Album) -> list[str]:
    """Return the sections of CWoLa scans and distance scores."""
    background = in_text(result.background)
    distances = [
        (in_text(entry.signal), entry.of, entry.score, page.interval(entry.auc, digits=3), *_separation(entry))
        for entry in result.distances
    ]
    text = (
        f"{result.background_jets:,} {background} jets are cut in two halves; signal jets are hidden in one of them, "
        "and a classifier learns to separate the halves. It is tested on other jets with their true classes, which "
        "also choose the cut of the largest improvement. 0 signal jets are the floor, and the same classifier fitted "
        f"with true labels is the ceiling. Below, the score of a jet is its distance from {background} jets."
    )
    if len(result.classes) - 1 > MOST_CLASSES:
        text += f" The figures show the first {MOST_CLASSES} signals; all are in the tables."
    draws = [
        {"of": scan.of, "reader": scan.reader, "signal": scan.signal} | flat(point)
        for scan in result.cwola
        for point in scan.points
    ]
    figure = album.add("cwola", lambda: cwola(result), draws, background=background, seeds=result.seeds)
    head = ("signal", "reads", "reader", "signal jets", "S/√B in the mixture", *_MEASURES)
    searches = page.table(head, [row for scan in result.cwola for row in _rows(scan)])
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
            page.table(("signal", "in", "score", "68 % of the AUC", *_MEASURES), distances),
        ),
        page.heading("Provenance"),
        *provenance(result, ("made_from", "classes", "background", "seeds")),
    ]


_MEASURES = ("largest ε_S/√ε_B (SIC)", "AUC", "1/ε_B at ε_S = 0.5 (R50)")


def _rows(scan: CwolaScan) -> list[tuple[str, ...]]:
    """Return the rows of a scan: a row for each number of signal jets, then the ceiling."""
    head = (in_text(scan.signal), scan.of, scan.reader)
    searches = [
        (
            *head,
            f"{point.signal_jets:,}",
            page.number(point.significance, 2),
            "≥ " * point.improvement_limit + _mean(point.improvement, point.improvement_std, 2),
            _mean(point.auc, point.auc_std, 3),
            _mean(point.rejection, point.rejection_std, 1),
        )
        for point in scan.points
    ]
    return [*searches, (*head, "all, with labels", "–", *_separation(scan.supervised))]


def _separation(found: Separation | DistanceScore) -> tuple[str, str, str]:
    """Return SIC, AUC and R50; the first and the last can be lower limits."""
    return (
        "≥ " * found.improvement.limit + page.number(found.improvement.value, 2),
        page.number(found.auc.value, 3),
        "≥ " * found.rejection.limit + page.number(found.rejection.value, 1),
    )


def cwola(result: AnomalyScan) -> Figure | None:
    """Draw improvement against the number of hidden jets: a panel for each signal and reader, a line for each input.

    The floor, a search without signal jets, stands at the left, the ceiling at the right. Signals with one number of
    hidden jets have no panel; None if no signal has more.
    """
    drawn = [scan for scan in result.cwola if len(_defined(scan)) > 1]
    signals = list(dict.fromkeys(scan.signal for scan in drawn))[:MOST_CLASSES]
    if not signals:
        return None
    inputs, readers = (list(dict.fromkeys(names)) for names in zip(*((scan.of, scan.reader) for scan in drawn)))
    numbers = [point.signal_jets for scan in drawn for point in _defined(scan)]
    ends = min(numbers) / 10**0.5, max(numbers) * 10**0.5
    each = [(signal, reader) for signal in signals for reader in readers]
    figure, panels = panel_grid(len(each), 4.4, 3.0, most=len(readers), sharex=True, sharey="row")
    for axes, (signal, reader) in zip(panels, each):
        for scan in (scan for scan in drawn if (scan.signal, scan.reader) == (signal, reader)):
            _scan(axes, scan, inputs, ends)
        # Away from their markers: floors are low, ceilings high.
        axes.annotate("no signal", (ends[0], 1), (0, -4), **_UPRIGHT, va="top")
        axes.annotate("labels", (ends[1], 0), (0, 4), **_UPRIGHT, va="bottom")
        axes.axhline(1, color=GREY, linestyle=":", linewidth=1.2)
        count_axis(axes, numbers)
        axes.margins(0.1)  # no marker on the frame
        axes.set_ylim(0, None)
        axes.axvline(np.sqrt(result.background_jets / 2), color=GREY, linestyle="--", linewidth=1)
        axes.set_title(f"{in_figure(signal)}, {reader}")
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


_UPRIGHT: dict[str, Any] = {
    "xycoords": ("data", "axes fraction"),
    "textcoords": "offset points",
    "rotation": 90,
    "ha": "center",
    "color": GREY,
    "fontsize": 9,
}


def _defined(scan: CwolaScan) -> list[CwolaPoint]:
    return [point for point in scan.searches if point.improvement is not None]


def _scan(axes: Axes, scan: CwolaScan, inputs: Sequence[str], ends: tuple[float, float]) -> None:
    """Draw one line: mean and standard deviation over draws; `inputs` are all that the panel may have.

    Floor and ceiling are markers at the `ends`: an open one, and a full one with its 68 % interval.
    """
    colour, marker = _colour_and_marker(scan.of, inputs)
    look: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 4}
    position, among = inputs.index(scan.of), len(inputs)
    points = _defined(scan)
    mean, low, high = _improvements(points)
    (line,) = axes.plot([point.signal_jets for point in points], mean, **look, label=scan.of)
    band_or_bars(line, low, high, position, among)
    among = max(among, MOST_BANDS + 1)  # a band of one point is no area
    ceiling = scan.supervised.improvement
    known = [(ends[1], np.array([[ceiling.value], [ceiling.low], [ceiling.high]], float), colour)]
    if scan.floor.improvement is not None:
        known.append((ends[0], _improvements([scan.floor]), "white"))
    for end, (mean, low, high), face in known:
        (mark,) = axes.plot([end], mean, **look, markerfacecolor=face, linestyle="none")
        band_or_bars(mark, low, high, position, among)


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
