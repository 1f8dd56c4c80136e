"""Figures of an evaluation, drawn from the contents of `metrics.json` and `curves.json`.

Every function returns a matplotlib figure, or None where there is nothing to draw.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import mplhep
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from ssl_jets.report.figures.style import (
    COLOURS,
    GREY,
    MOST_BANDS,
    band,
    bars,
    colour,
    colour_bar,
    in_figure,
    line_style,
    panel_grid,
    reader,
)
from ssl_jets.report.many_classes import shown_classes

Json = Mapping[str, Any]

BIN_JETS = 10
"""Fewest jets of a bin of the reliability diagram: the error of an accuracy of fewer is above 15 %."""

MAP_PANELS = 20
"""Most classes that the map of z shows: each takes a panel."""

_STYLE: dict[str, Any] = {
    "figure.dpi": 100,
    "savefig.dpi": 160,
    "savefig.bbox": None,
    "font.size": 13,
    "axes.labelsize": 14,
    "axes.titlesize": 13,
    "xtick.labelsize": 12,
    "ytick.labelsize": 12,
    "legend.fontsize": 12,
    "legend.title_fontsize": 12,
    "legend.handlelength": 1.8,
    "lines.linewidth": 1.8,
    "axes.linewidth": 1.1,
    "xtick.major.size": 7,
    "xtick.minor.size": 3.5,
    "ytick.major.size": 7,
    "ytick.minor.size": 3.5,
    "xaxis.labellocation": "right",
    "yaxis.labellocation": "top",
}


@contextmanager
def style() -> Iterator[None]:
    """mplhep's look with sizes for a page, for the figures drawn inside."""
    with plt.style.context([mplhep.style.ROOT, _STYLE]):
        yield


def roc(metrics: Json, curves: Json) -> Figure | None:
    """Background rejection against signal efficiency, with 68 % bands."""
    if not curves["roc"]:
        return None
    classes, background = shown_classes(metrics), curves["roc"][0]["background"]
    figure, axes = plt.subplots(figsize=(7.6, 5.2), layout="constrained")
    most = 0.0
    for curve in (curve for curve in curves["roc"] if curve["signal"] in classes):
        name = curve["signal"]
        eps_b = np.array(curve["background_efficiency"], dtype=float)
        eps_s, low, high = (np.array(curve[key], dtype=float) for key in ("signal_efficiency", "low", "high"))
        paint, most = colour(name, classes), max(most, float(1 / eps_b.min()))
        look: dict[str, Any] = {"color": paint, "linestyle": line_style(name, classes), "label": in_figure(name)}
        # The rejection holds from one background jet's score to the next.
        line = axes.step(eps_s, 1 / eps_b, where="post", **look)[0]
        band(line, low, high, along="x", among=len(curves["roc"]))
    for entry in (entry for entry in metrics["task"]["rejections"] if entry["signal"] in classes):
        _working_point(axes, entry, colour(entry["signal"], classes), bare=len(curves["roc"]) <= MOST_BANDS)
    axes.set(xlim=(0, 1), ylim=(1, 1.5 * most), yscale="log")
    axes.set_xlabel(r"signal efficiency $\varepsilon_S$")
    axes.set_ylabel(rf"background rejection $1/\varepsilon_B$ ({in_figure(background)})")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, frameon=False)
    return figure


def _working_point(axes: Axes, entry: Json, paint: str, *, bare: bool) -> None:
    """Mark a rejection; a triangle is a lower limit. Not `bare`: with its interval."""
    found = entry["rejection"]
    look: dict[str, Any] = {"markersize": 6, "markeredgecolor": "black", "markeredgewidth": 0.6, "linestyle": "none"}
    (point,) = axes.plot(
        entry["signal_efficiency"],
        found["value"],
        "^" if found["limit"] else "o",
        color=paint,
        label=f"_{entry['signal']}, working point",
        **look,
    )
    if not bare and found["low"] is not None and found["high"] is not None:
        bars(point, found["low"], found["high"])


def confusion(metrics: Json, curves: Json) -> Figure | None:
    """Share of the jets of each class that is taken for each class, in per cent."""
    return confusions({"": (metrics, curves)})


def confusions(models: Mapping[str, tuple[Json, Json]]) -> Figure | None:
    """One such matrix for each model, from its metrics and curves; models without a head have none."""
    headed = {name: found for name, found in models.items() if found[1]["confusion"] is not None}
    if not headed:
        return None
    classes = max(len(shown_classes(metrics)) for metrics, _ in headed.values())
    side = 2.6 + 0.5 * classes
    figure, places = panel_grid(len(headed), side + 0.8, side, 2)
    for axes, (name, (metrics, curves)) in zip(places, headed.items()):
        image = _matrix(axes, curves["confusion"], metrics["classes"], shown_classes(metrics))
        axes.set_title(name)
        colour_bar(axes, image, "jets of the true class [%]")
    return figure


def _matrix(axes: Axes, confusion: Sequence[Sequence[int]], classes: Sequence[str], shown: Sequence[str]) -> AxesImage:
    """Draw the rows and columns of the shown classes; a last column takes the others together."""
    counts, chosen = np.array(confusion, dtype=float), [list(classes).index(name) for name in shown]
    total = counts.sum(axis=1, keepdims=True)[chosen]
    names, counts = [in_figure(name) for name in shown], counts[chosen]
    columns = counts[:, chosen]
    if len(shown) < len(classes):
        columns = np.column_stack([columns, counts.sum(axis=1) - columns.sum(axis=1)])
    share = 100 * np.divide(columns, total, out=np.zeros_like(columns), where=total > 0)
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=100, label="_share [%]")
    for (row, column), value in np.ndenumerate(share):
        if value >= 0.5:  # an empty text takes as long to lay out as any
            paint = "white" if value > 55 else "black"
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=10, color=paint)
    heads = [*names, "others"][: columns.shape[1]]
    axes.set_xticks(range(len(heads)), heads, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.minorticks_off()
    axes.tick_params(length=0)
    axes.set_xlabel("classified as", loc="center")
    axes.set_ylabel("true class", loc="center")
    return image


def probes(metrics: Json, curves: Json) -> Figure | None:
    """Accuracy and AUC of the head, of the probes of z, and of the baselines."""
    rows = probe_rows(metrics)
    if not rows:
        return None
    figure, panels = plt.subplots(1, 2, figsize=(10, 1.3 + 0.5 * len(rows)), sharey=True, layout="constrained")
    guesses = [numbers.get("largest_class", math.nan) for _, numbers, _ in rows]
    for axes, key, title, levels, of in (
        (panels[0], "accuracy", "accuracy", guesses, "largest class"),
        (panels[1], "auc", "macro AUC (one-vs-one)", [0.5] * len(rows), "chance"),
    ):
        for place, (name, numbers, baseline) in enumerate(rows):
            dot(axes, numbers[key], place, GREY if baseline else COLOURS[0], name)
        # Head and probes may be tested on other jets, so that each row has a level of its own.
        ends = np.arange(len(rows))[:, None] + (-0.5, 0.5)
        axes.plot(np.repeat(levels, 2), ends.ravel(), color=GREY, linestyle=":", linewidth=1.2)
        axes.set_xlabel(title)
        if np.isfinite(levels).any():
            axes.set_xlim(min(np.nanmin(levels), axes.get_xlim()[0]) - 0.02, None)
            where = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
            axes.annotate(of, (levels[-1], 0), (5, 8), **where, color=GREY, fontsize=11)
        axes.tick_params(axis="y", which="both", length=0)
    panels[0].set_yticks(range(len(rows)), [name for name, _, _ in rows])
    panels[0].set_ylim(len(rows) - 0.4, -0.6)
    return figure


def probe_rows(metrics: Json) -> list[tuple[str, Json, bool]]:
    """Return name with the number of jets fitted on, numbers, and whether it is a baseline: the model comes first."""
    rows: list[tuple[str, Json, bool]] = []
    if metrics["task"] is not None:
        labels = metrics["model"].get("labelled_jets")
        fitted = {"fit_jets": labels} if labels is not None else {}
        rows.append(("the model's head" + _jets(fitted), {**metrics["task"], **fitted}, False))
    found = [(reader(probe) + _jets(probe), probe, probe["of"] != "z") for probe in metrics["probes"]]
    return rows + sorted(found, key=lambda row: row[2])


def _jets(numbers: Json) -> str:
    return f" ({numbers['fit_jets']:,} jets)" if "fit_jets" in numbers else ""


def dot(axes: Axes, estimate: Json, place: int, paint: str, name: str) -> None:
    """A value with its 68 % (thick) and 95 % (thin) interval."""
    if estimate["value"] is None:
        return
    (point,) = axes.plot(estimate["value"], place, "o", color=paint, markersize=8, label=f"_{name}")
    for of, low, high, width in (("95 %", "low95", "high95", 1.2), ("68 %", "low", "high", 4.0)):
        if estimate[low] is not None and estimate[high] is not None:
            bars(point, estimate[low], estimate[high], of, along="x", width=width)


def reliability(metrics: Json, curves: Json) -> Figure | None:
    """Accuracy against confidence: on the diagonal, the probabilities mean what they say."""
    found = curves["reliability"]
    if found is None:
        return None
    figure, axes = plt.subplots(figsize=(5.6, 5.0), layout="constrained")
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1.2)
    after = (curves.get("calibrated"), COLOURS[2], "s", "after temperature scaling")
    for points, paint, marker, label in ((found, COLOURS[0], "o", "as the model says"), after):
        if points is not None:
            jets, confidence, accuracy = (np.array(points[key], float) for key in ("jets", "confidence", "accuracy"))
            jets, confidence, accuracy = (of[jets >= BIN_JETS] for of in (jets, confidence, accuracy))
            # The error of a share k / n with one pseudo-count each way, so that 0 of n has one too.
            share = (accuracy * jets + 1) / (jets + 2)
            error = np.sqrt(share * (1 - share) / (jets + 2))
            (line,) = axes.plot(confidence, accuracy, marker, color=paint, markersize=6, label=label)
            bars(line, accuracy - error, accuracy + error, "binomial error")
    axes.legend(frameon=False, loc="upper left")
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="largest probability (mean of bin)", ylabel="accuracy")
    return figure


def mapped_classes(metrics: Json, curves: Json) -> list[str]:
    """The classes that have jets in the map of z: those of most jets where there are more than `MAP_PANELS`."""
    classes: list[str] = metrics["classes"]
    jets = Counter(label for label in curves["map"]["labels"] if label >= 0)
    return [classes[label] for label in sorted(label for label, _ in jets.most_common(MAP_PANELS))]


def z_map(metrics: Json, curves: Json) -> Figure | None:
    """The first two principal components of z: one panel a class over all jets, or all jets without labels."""
    found = curves["map"]
    if not found["x"]:
        return None
    x, y, labels = np.array(found["x"], float), np.array(found["y"], float), np.array(found["labels"])
    classes, shown = metrics["classes"], mapped_classes(metrics, curves)
    if not shown:
        figure, axes = plt.subplots(figsize=(6, 5), layout="constrained")
        axes.scatter(x, y, s=3, color=COLOURS[0], linewidths=0, rasterized=True, label="_jets")
        places = [axes]
    else:
        figure, places = panel_grid(len(shown), 2.1, 2.1, 5, (0.8, 0.8), sharex=True, sharey=True)
        for axes, name in zip(places, shown):
            axes.scatter(x, y, s=2, color="#dcdcdc", linewidths=0, rasterized=True)
            own = labels == classes.index(name)
            look: dict[str, Any] = {"s": 4, "color": colour(name, classes), "linewidths": 0, "rasterized": True}
            axes.scatter(x[own], y[own], **look, label=f"_{name}")
            axes.set_title(in_figure(name))
    # The box holds all but one jet in two hundred on each side: outliers would hide the rest.
    for limit, values in ((places[0].set_xlim, x), (places[0].set_ylim, y)):
        low, high = np.percentile(values, (0.5, 99.5))
        limit(low - 0.08 * (high - low) - 1e-6, high + 0.08 * (high - low) + 1e-6)
    first, second = found["explained"]
    figure.supxlabel(f"first principal component of z ({first:.0%} of the variance)", fontsize=13)
    figure.supylabel(f"second ({second:.0%})", fontsize=13)
    return figure
