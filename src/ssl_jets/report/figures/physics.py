"""Figures of significance improvement, regression, physics quantities and robustness."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from ssl_jets.arrays import Array
from ssl_jets.evaluation.metrics.bootstrap import Estimate
from ssl_jets.evaluation.metrics.classification import ClassificationMetrics
from ssl_jets.evaluation.metrics.regression import RegressionMetrics, Response
from ssl_jets.evaluation.probes.results import PhysicsProbe, RobustnessCurve
from ssl_jets.report.figures.style import (
    COLOURS,
    GREY,
    axis_label,
    band,
    band_or_bars,
    bars,
    colour,
    in_figure,
    level,
    line_style,
    name_rows,
    panel_grid,
)
from ssl_jets.report.many_classes import shown_classes

READERS = {
    ("boosted trees", "z"): ("boosted trees, z", COLOURS[0], "o"),
    ("ridge", "z"): ("ridge, z", COLOURS[0], "s"),
    ("boosted trees", "z of random weights"): ("boosted trees, random weights", GREY, "o"),
    ("ridge", "z of random weights"): ("ridge, random weights", GREY, "s"),
    ("boosted trees", "other quantities"): ("boosted trees, other quantities", COLOURS[2], "D"),
}
"""Name, colour and marker of each reader of a physics quantity."""

SIC_BACKGROUND = 1000
"""Fewest background jets of a curve of the significance improvement: with 100, its left half is a quarter of them."""

_LEAST = -0.2
"""Where an explained share below it is drawn."""


def sic(task: ClassificationMetrics) -> Figure | None:
    """Draw the significance improvement eps_S / sqrt(eps_B) against eps_S, from the least eps_B of the table on.

    Return None with fewer than `SIC_BACKGROUND` background jets.
    """
    enough, classes = background_jets(task) >= SIC_BACKGROUND, shown_classes(task)
    curves = [curve for curve in task.roc if curve.sic_from is not None and curve.signal in classes]
    if not enough or not curves:
        return None
    figure, axes = plt.subplots(figsize=(7.6, 4.6), layout="constrained")
    for curve in curves:
        passed, root = curve.background_efficiency >= curve.sic_from, np.sqrt(curve.background_efficiency)
        (line,) = axes.plot(
            curve.signal_efficiency[passed],
            (curve.signal_efficiency / root)[passed],
            color=colour(curve.signal, classes),
            linestyle=line_style(curve.signal, classes),
            label=in_figure(curve.signal),
        )
        band(line, (curve.low / root)[passed], (curve.high / root)[passed], among=len(curves))
    axes.axhline(1, color=GREY, linestyle=":", linewidth=1.2)
    axes.set(xlim=(0, 1), ylim=(0, None))
    axes.set_xlabel(r"signal efficiency $\varepsilon_S$")
    axes.set_ylabel(r"significance improvement $\varepsilon_S/\varepsilon_B^{1/2}$")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, frameon=False)
    return figure


def background_jets(task: ClassificationMetrics) -> int:
    """Return the number of background jets that the head is tested on."""
    return max((point.background_jets for point in task.rejections), default=0)


def regression(targets: Sequence[RegressionMetrics]) -> Figure | None:
    """Draw a row for each target: predicted against true, and bias and resolution against pt and eta."""
    if not targets:
        return None
    columns = 1 + max(len(target.responses) for target in targets)
    size = (4.0 * columns, 3.7 * len(targets))
    figure, grid = plt.subplots(len(targets), columns, figsize=size, squeeze=False, layout="constrained")
    for row, target in zip(grid, targets):
        _density(row[0], target, figure)
        for axes, response in zip(row[1:], target.responses):
            _response(axes, response, target)
        for axes in row[1 + len(target.responses) :]:
            axes.set_visible(False)
    if columns > 1:
        grid[0][1].legend(frameon=False, loc="best")
    return figure


def _density(axes: Axes, target: RegressionMetrics, figure: Figure) -> None:
    edges, counts = target.density.edges, target.density.counts  # [cell + 1], [true cell, predicted cell]
    if counts.any():
        look: dict[str, Any] = {"norm": LogNorm(), "cmap": "viridis_r", "rasterized": True}
        image = axes.pcolormesh(edges, edges, np.where(counts > 0, counts, np.nan).T, **look)
        figure.colorbar(image, ax=axes, pad=0.02).ax.set_title("jets", fontsize=11)
    axes.plot(edges[[0, -1]], edges[[0, -1]], color=GREY, linestyle=":", linewidth=1.2)
    label = axis_label(target.target)
    axes.set(xlabel=f"true {label}", ylabel=f"regressed {label}")


def _response(axes: Axes, response: Response, target: RegressionMetrics) -> None:
    for estimates, paint, label in (
        (response.bias, COLOURS[2], "bias"),
        (response.resolution, COLOURS[0], "resolution"),
    ):
        value, low, high = _bounds(estimates)
        (line,) = axes.plot(response.centre, value, "o", markersize=4, color=paint, label=label)
        bars(line, low, high)
        bars(line, response.edges[:-1], response.edges[1:], along="x")
    axes.axhline(0, color=GREY, linewidth=1)
    axes.axhline(target.spread, color=GREY, linestyle=":", linewidth=1.2)
    unit = re.search(r" \[.*\]$", axis_label(target.target))
    axes.set(xlabel=axis_label(response.against), ylabel=f"regressed - true{unit[0] if unit else ''}")


def _bounds(estimates: Sequence[Estimate]) -> Array:
    """Return values, and lower and upper ends of their 68 % intervals, `[3, point]`; NaN without one."""
    return np.array([(one.value, one.low, one.high) for one in estimates], dtype=float).reshape(-1, 3).T


def physics(probes: Sequence[PhysicsProbe]) -> Figure | None:
    """Draw the share of the variance of each physics quantity that each reader explains."""
    if not probes:
        return None
    names = list(dict.fromkeys(probe.quantity for probe in probes))
    figure, axes = plt.subplots(figsize=(8.6, 1.6 + 0.62 * len(names)), layout="constrained")
    readers = [key for key in READERS if any((probe.reader, probe.of) == key for probe in probes)]
    for probe in probes:
        key = (probe.reader, probe.of)
        # Readers of one quantity are 0.13 rows apart, around the middle of its row.
        row = names.index(probe.quantity) + 0.13 * (readers.index(key) - (len(readers) - 1) / 2)
        label, paint, marker = READERS[key]
        explained = probe.explained
        if explained.value is None:
            continue
        shown = label if label not in axes.get_legend_handles_labels()[1] else f"_{label}"
        hollow: dict[str, Any] = {"markerfacecolor": "white"} if probe.reader == "ridge" else {}
        low, value, high = np.fmax(np.array([explained.low95, explained.value, explained.high95], dtype=float), _LEAST)
        (point,) = axes.plot(value, row, marker, color=paint, markersize=6, label=shown, linestyle="none", **hollow)
        bars(point, low, high, along="x", width=1.3)
    name_rows(axes, [axis_label(name) for name in names])
    axes.axvline(0, color=GREY, linestyle=":", linewidth=1.2)
    axes.set(xlim=(-0.22, 1.02), xlabel=r"explained share of the variance $R^2$")
    ordered = [READERS[key][0] for key in readers]
    handles = dict(zip(*reversed(axes.get_legend_handles_labels())))
    names = [name for name in ordered if name in handles]
    look: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1), "borderaxespad": 0, "frameon": False}
    axes.legend([handles[name] for name in names], names, **look)
    return figure


def robustness(models: Mapping[str, Sequence[RobustnessCurve]]) -> Figure | None:
    """Draw accuracy against the strength of each change, a line for each model; removed columns as steps."""
    stresses = list(dict.fromkeys(curve.name for curves in models.values() for curve in curves))
    if not stresses:
        return None
    figure, panels = panel_grid(len(stresses), 3.9, 3.1, sharey=True)
    for axes, stress in zip(panels, stresses):
        shown = [(n, name, curve) for n, (name, curves) in enumerate(models.items()) for curve in curves]
        for index, name, curve in shown:
            if curve.name == stress:
                _stressed(axes, curve, name, index, len(models))
                guess = curve.largest_class
        level(axes, guess, "largest class")
        axes.set_title(stress)
    for axes in panels[::3]:
        axes.set_ylabel("accuracy")
    if len(models) > 1:
        panels[0].legend(frameon=False, loc="best")
    return figure


def _stressed(axes: Axes, curve: RobustnessCurve, name: str, index: int, among: int) -> None:
    """Draw one curve, number `index` of the `among` models of a panel."""
    value, low, high = _bounds(curve.accuracy)
    paint = COLOURS[index % len(COLOURS)]
    strengths = np.array(curve.strengths)
    (line,) = axes.plot(strengths, value, "o-", color=paint, markersize=4, label=name or None)
    band_or_bars(line, low, high, index, among)
    if curve.unit == "removed":
        axes.set_xticks([0, 1], ["with", "without"])
        axes.set_xlim(-0.2, 1.2)
        axes.minorticks_off()
    else:
        axes.set_xlabel(axis_label(curve.unit))
