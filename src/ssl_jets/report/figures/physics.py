"""Figures of significance improvement, regression, physics quantities and robustness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

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

Json = Mapping[str, Any]
Values = np.ndarray[Any, Any]

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


def sic(metrics: Json, curves: Json) -> Figure | None:
    """Significance improvement eps_S / sqrt(eps_B) against the signal efficiency, where enough background passes.

    None with fewer than `SIC_BACKGROUND` background jets.
    """
    enough, classes = background_jets(metrics) >= SIC_BACKGROUND, shown_classes(metrics)
    found = (curve for curve in curves["roc"] if enough and curve.get("sic_from") is not None)
    drawn = [curve for curve in found if curve["signal"] in classes]
    if not drawn:
        return None
    figure, axes = plt.subplots(figsize=(7.6, 4.6), layout="constrained")
    for curve in drawn:
        name = curve["signal"]
        look: dict[str, Any] = {
            "color": colour(name, classes),
            "linestyle": line_style(name, classes),
            "label": in_figure(name),
        }
        _draw_sic(axes, curve, look, len(drawn))
    axes.axhline(1, color=GREY, linestyle=":", linewidth=1.2)
    axes.set(xlim=(0, 1), ylim=(0, None))
    axes.set_xlabel(r"signal efficiency $\varepsilon_S$")
    axes.set_ylabel(r"significance improvement $\varepsilon_S/\varepsilon_B^{1/2}$")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, frameon=False)
    return figure


def background_jets(metrics: Json) -> int:
    """Background jets that the head is tested on."""
    return max((entry["background_jets"] for entry in metrics["task"]["rejections"]), default=0)


def _draw_sic(axes: Axes, curve: Json, look: Mapping[str, Any], among: int) -> None:
    """One curve with its 68 % interval, from the least eps_B that the table allows."""
    eps_b, eps_s, low, high = (
        np.array(curve[key], float) for key in ("background_efficiency", "signal_efficiency", "low", "high")
    )
    known, root = eps_b >= curve["sic_from"], np.sqrt(eps_b)
    (line,) = axes.plot(eps_s[known], (eps_s / root)[known], **look)
    band(line, (low / root)[known], (high / root)[known], among=among)


def regression(curves: Json) -> Figure | None:
    """Of each target: predicted against true, and bias and resolution against pt and eta."""
    found = curves.get("regression") or []
    if not found:
        return None
    columns = 1 + max(len(entry["responses"]) for entry in found)
    size = (4.0 * columns, 3.7 * len(found))
    figure, grid = plt.subplots(len(found), columns, figsize=size, squeeze=False, layout="constrained")
    for row, entry in zip(grid, found):
        _density(row[0], entry, figure)
        for axes, response in zip(row[1:], entry["responses"]):
            _response(axes, response, entry)
        for axes in row[1 + len(entry["responses"]) :]:
            axes.set_visible(False)
    if columns > 1:
        grid[0][1].legend(frameon=False, loc="best")
    return figure


def _density(axes: Axes, entry: Json, figure: Figure) -> None:
    edges, counts = np.array(entry["density"]["edges"], float), np.array(entry["density"]["counts"], float)
    if counts.any():
        look: dict[str, Any] = {"norm": LogNorm(), "cmap": "viridis_r", "rasterized": True, "label": "_jets"}
        image = axes.pcolormesh(edges, edges, np.where(counts > 0, counts, np.nan).T, **look)
        figure.colorbar(image, ax=axes, pad=0.02).ax.set_title("jets", fontsize=11)
    axes.plot(edges[[0, -1]], edges[[0, -1]], color=GREY, linestyle=":", linewidth=1.2)
    label = axis_label(entry["target"])
    axes.set_label(f"{entry['target']}, true and regressed")
    axes.set(xlabel=f"true {label}", ylabel=f"regressed {label}")


def _response(axes: Axes, response: Json, entry: Json) -> None:
    edges, centre = np.array(response["edges"], float), np.array(response["centre"], float)
    for key, paint, label in (("bias", COLOURS[2], "bias"), ("resolution", COLOURS[0], "resolution")):
        value, low, high = (
            np.array([bin_[which] for bin_ in response[key]], float) for which in ("value", "low", "high")
        )
        (line,) = axes.plot(centre, value, "o", markersize=4, color=paint, label=label)
        bars(line, low, high)
        bars(line, edges[:-1], edges[1:], "bin", along="x")
    axes.axhline(0, color=GREY, linewidth=1)
    axes.axhline(entry["spread"], color=GREY, linestyle=":", linewidth=1.2, label="_spread")
    axes.set_label(f"{entry['target']}, against {response['against']}")
    axes.set(xlabel=axis_label(response["against"]), ylabel=f"{axis_label(entry['target'])}: regressed - true")


def physics(metrics: Json) -> Figure | None:
    """The share of the variance of each physics quantity that each reader explains."""
    found = metrics.get("physics") or []
    if not found:
        return None
    names = list(dict.fromkeys(entry["quantity"] for entry in found))
    figure, axes = plt.subplots(figsize=(8.6, 1.6 + 0.62 * len(names)), layout="constrained")
    readers = [key for key in READERS if any((entry["reader"], entry["of"]) == key for entry in found)]
    for entry in found:
        key = (entry["reader"], entry["of"])
        place = names.index(entry["quantity"]) + 0.13 * (readers.index(key) - (len(readers) - 1) / 2)
        label, paint, marker = READERS[key]
        explained = entry["explained"]
        if explained["value"] is None:
            continue
        shown = label if label not in axes.get_legend_handles_labels()[1] else f"_{label}"
        hollow: dict[str, Any] = {"markerfacecolor": "white"} if entry["reader"] == "ridge" else {}
        low, value, high = (max(explained[which], _LEAST) for which in ("low95", "value", "high95"))
        (point,) = axes.plot(value, place, marker, color=paint, markersize=6, label=shown, linestyle="none", **hollow)
        bars(point, low, high, "95 %", along="x", width=1.3)
    name_rows(axes, [axis_label(name) for name in names])
    axes.axvline(0, color=GREY, linestyle=":", linewidth=1.2)
    axes.set(xlim=(-0.22, 1.02), xlabel=r"explained share of the variance $R^2$")
    ordered = [READERS[key][0] for key in readers]
    handles = dict(zip(*reversed(axes.get_legend_handles_labels())))
    names = [name for name in ordered if name in handles]
    look: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1), "borderaxespad": 0, "frameon": False}
    axes.legend([handles[name] for name in names], names, **look)
    return figure


def robustness(found: Mapping[str, Sequence[Json]]) -> Figure | None:
    """Accuracy against the strength of each change, a line for each model; removed columns as steps."""
    stresses = list(dict.fromkeys(curve["name"] for curves in found.values() for curve in curves))
    if not stresses:
        return None
    figure, places = panel_grid(len(stresses), 3.9, 3.1, sharey=True)
    for axes, stress in zip(places, stresses):
        guess: float | None = None
        for index, (name, curves) in enumerate(found.items()):
            for curve in (curve for curve in curves if curve["name"] == stress):
                paint = COLOURS[index % len(COLOURS)]
                strengths = np.array(curve["strengths"], float)
                value, low, high = (
                    np.array([point[key] for point in curve["accuracy"]], float) for key in ("value", "low", "high")
                )
                (line,) = axes.plot(strengths, value, "o-", color=paint, markersize=4, label=name or "_accuracy")
                band_or_bars(line, low, high, "68 %", index, len(found))
                guess = curve.get("largest_class", guess)
                if curve["unit"] == "removed":
                    axes.set_xticks([0, 1], ["with", "without"])
                    axes.set_xlim(-0.2, 1.2)
                    axes.minorticks_off()
                else:
                    axes.set_xlabel(axis_label(curve["unit"]))
        if guess is not None:
            level(axes, guess, "largest class")
        axes.set_title(stress)
    for axes in places[::3]:
        axes.set_ylabel("accuracy")
    if len(found) > 1:
        places[0].legend(frameon=False, loc="best")
    return figure
