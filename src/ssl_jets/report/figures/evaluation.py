"""Figures of an evaluation: each a matplotlib figure, or None without anything to draw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from ssl_jets.evaluation.metrics.bootstrap import Estimate
from ssl_jets.evaluation.metrics.classification import ClassificationMetrics
from ssl_jets.evaluation.metrics.roc import Rejection
from ssl_jets.evaluation.probes.results import OBSERVABLES, PARTICLES, TRAINED, WITH_Z
from ssl_jets.evaluation.result import Evaluation, ZMap
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

BIN_JETS = 10
"""Fewest jets of a bin of the reliability diagram: the error of an accuracy of fewer is above 15 %."""

MAP_PANELS = 20
"""Most classes that the map of z shows: each takes a panel."""


def roc(task: ClassificationMetrics) -> Figure | None:
    """Draw the background rejection against the signal efficiency, with 68 % bands."""
    if not task.roc:
        return None
    classes, background = shown_classes(task), task.roc[0].background
    figure, axes = plt.subplots(figsize=(7.6, 5.2), layout="constrained")
    most = 0.0
    for curve in (curve for curve in task.roc if curve.signal in classes):
        name = curve.signal
        rejection = 1 / curve.background_efficiency
        paint, most = colour(name, classes), max(most, float(rejection.max()))
        look: dict[str, Any] = {"color": paint, "linestyle": line_style(name, classes), "label": in_figure(name)}
        # The rejection holds from one background jet's score to the next.
        line = axes.step(curve.signal_efficiency, rejection, where="post", **look)[0]
        band(line, curve.low, curve.high, along="x", among=len(task.roc))
    for point in (point for point in task.rejections if point.signal in classes):
        _working_point(axes, point, colour(point.signal, classes), bare=len(task.roc) <= MOST_BANDS)
    axes.set(xlim=(0, 1), ylim=(1, 1.5 * most), yscale="log")
    axes.set_xlabel(r"signal efficiency $\varepsilon_S$")
    axes.set_ylabel(rf"background rejection $1/\varepsilon_B$ ({in_figure(background)})")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, frameon=False)
    return figure


def _working_point(axes: Axes, point: Rejection, paint: str, *, bare: bool) -> None:
    """Mark a rejection; a triangle is a lower limit. Draw its interval, too, unless `bare`."""
    rejection = point.rejection
    if rejection.value is None:
        return
    look: dict[str, Any] = {"markersize": 6, "markeredgecolor": "black", "markeredgewidth": 0.6, "linestyle": "none"}
    (mark,) = axes.plot(
        point.signal_efficiency,
        rejection.value,
        "^" if rejection.limit else "o",
        color=paint,
        **look,
    )
    if not bare and rejection.low is not None and rejection.high is not None:
        bars(mark, rejection.low, rejection.high)


def confusion(task: ClassificationMetrics) -> Figure | None:
    """Draw the share of the jets of each class that is classified as each class, in per cent."""
    return confusions({"": task})


def confusions(models: Mapping[str, ClassificationMetrics]) -> Figure | None:
    """Draw one confusion matrix for each model with a head."""
    if not models:
        return None
    classes = max(len(shown_classes(task)) for task in models.values())
    side = 2.6 + 0.5 * classes
    figure, panels = panel_grid(len(models), side + 0.8, side, 2)
    for axes, (name, task) in zip(panels, models.items()):
        image = _matrix(axes, task, shown_classes(task))
        axes.set_title(name)
        colour_bar(axes, image, "jets of the true class [%]")
    return figure


def _matrix(axes: Axes, task: ClassificationMetrics, shown: Sequence[str]) -> AxesImage:
    """Draw the rows and columns of the shown classes; a last column takes the others together."""
    counts, chosen = task.confusion, [task.names.index(name) for name in shown]  # counts: [true class, class]
    total = counts.sum(axis=1, keepdims=True)[chosen]
    names, counts = [in_figure(name) for name in shown], counts[chosen]
    columns = counts[:, chosen]
    if len(shown) < len(task.names):
        columns = np.column_stack([columns, counts.sum(axis=1) - columns.sum(axis=1)])
    share = 100 * np.divide(columns, total, out=np.zeros_like(columns), where=total > 0)
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=100, aspect="auto")
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


@dataclass(frozen=True)
class ReaderRow:
    """A row of the figure and the table of readers: the head of a model, a probe, or a baseline.

    Attributes:
        reader: with its input.
        accuracy, auc, largest_class: as of `ProbeResult`.
        columns: number of columns it reads; None for a head.
        fit_jets: None where it is not known.
        of: its input: z of the model, or the input of a baseline.
    """

    reader: str
    accuracy: Estimate
    auc: Estimate
    largest_class: float
    columns: int | None
    fit_jets: int | None
    of: str

    @property
    def name(self) -> str:
        """Reader with the number of jets it is fitted on."""
        return self.reader if self.fit_jets is None else f"{self.reader} ({self.fit_jets:,} jets)"

    @property
    def baseline(self) -> bool:
        """True without z of the model as input."""
        return self.of not in WITH_Z

    @property
    def colour(self) -> str:
        """Colour: blue with z, red for baselines that read the particles, grey for random weights and jet columns."""
        colours = {OBSERVABLES: COLOURS[2], PARTICLES: COLOURS[2]}
        return colours.get(self.of, GREY) if self.baseline else COLOURS[0]


def reader_rows(evaluation: Evaluation) -> list[ReaderRow]:
    """Return the rows of the readers: the model's own come first."""
    rows = []
    if (task := evaluation.task) is not None:
        labels = evaluation.model.labelled_jets
        rows.append(ReaderRow("the model's head", task.accuracy, task.auc, task.largest_class, None, labels, TRAINED))
    for probe in sorted(evaluation.probes, key=lambda probe: probe.of not in WITH_Z):
        numbers = (probe.accuracy, probe.auc, probe.largest_class, probe.columns, probe.fit_jets)
        rows.append(ReaderRow(reader(probe.reader, probe.of), *numbers, probe.of))
    return rows


def probes(evaluation: Evaluation) -> Figure | None:
    """Draw accuracy and AUC of the head, of the probes of z, and of the baselines."""
    rows = reader_rows(evaluation)
    if not rows:
        return None
    figure, panels = plt.subplots(1, 2, figsize=(10, 1.3 + 0.5 * len(rows)), sharey=True, layout="constrained")
    guesses = [row.largest_class for row in rows]
    draw_readers(panels, [(row, row.colour) for row in rows])
    for axes, levels, guess in (panels[0], guesses, "largest class"), (panels[1], [0.5] * len(rows), "chance"):
        # Head and probes may be tested on other jets, so that each row has a level of its own.
        ends = np.arange(len(rows))[:, None] + (-0.5, 0.5)
        axes.plot(np.repeat(levels, 2), ends.ravel(), color=GREY, linestyle=":", linewidth=1.2)
        axes.set_xlim(min(*levels, axes.get_xlim()[0]) - 0.02, None)
        position: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
        axes.annotate(guess, (levels[-1], 0), (5, 8), **position, color=GREY, fontsize=11)
    return figure


def draw_readers(panels: Sequence[Axes], rows: Sequence[tuple[ReaderRow, str]]) -> None:
    """Draw rows with their colours into a panel of the accuracy and one of the AUC."""
    for number, (row, paint) in enumerate(rows):
        _interval(panels[0], row.accuracy, number, paint)
        _interval(panels[1], row.auc, number, paint)
    for axes, title in zip(panels, ("accuracy", "macro AUC (one-vs-one)")):
        axes.set_xlabel(title)
        axes.tick_params(axis="y", which="both", length=0)
    panels[0].set_yticks(range(len(rows)), [row.name for row, _ in rows])
    panels[0].set_ylim(len(rows) - 0.4, -0.6)


def _interval(axes: Axes, estimate: Estimate, row: int, paint: str) -> None:
    """Draw a value with its 68 % (thick) and 95 % (thin) interval."""
    if estimate.value is None:
        return
    (point,) = axes.plot(estimate.value, row, "o", color=paint, markersize=8)
    bars(point, estimate.low95, estimate.high95, along="x", width=1.2)
    bars(point, estimate.low, estimate.high, along="x", width=4.0)


def reliability(task: ClassificationMetrics) -> Figure:
    """Draw accuracy against confidence, before and after temperature scaling; calibrated is the diagonal."""
    figure, axes = plt.subplots(figsize=(5.6, 5.0), layout="constrained")
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1.2)
    after = (task.calibrated.reliability, COLOURS[2], "s", "after temperature scaling")
    for points, paint, marker, label in ((task.reliability, COLOURS[0], "o", "before temperature scaling"), after):
        enough = points.jets >= BIN_JETS
        jets, accuracy = points.jets[enough], points.accuracy[enough]
        # The error of a share k / n with one pseudo-count each way, so that 0 of n has one too.
        share = (accuracy * jets + 1) / (jets + 2)
        error = np.sqrt(share * (1 - share) / (jets + 2))
        (line,) = axes.plot(points.confidence[enough], accuracy, marker, color=paint, markersize=6, label=label)
        bars(line, accuracy - error, accuracy + error)
    axes.legend(frameon=False, loc="upper left")
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="largest probability (mean of bin)", ylabel="accuracy")
    return figure


def mapped_classes(points: ZMap, classes: Sequence[str]) -> list[str]:
    """Return the classes that have jets in the map of z: of more than `MAP_PANELS` those with most jets."""
    jets = Counter(label for label in points.labels.tolist() if label >= 0)
    return [classes[label] for label in sorted(label for label, _ in jets.most_common(MAP_PANELS))]


def z_map(points: ZMap, classes: Sequence[str]) -> Figure | None:
    """Draw the first two principal components of z: one panel a class over all jets, or all jets without labels."""
    if not len(points.x):
        return None
    x, y, labels = points.x, points.y, points.labels
    shown = mapped_classes(points, classes)
    if not shown:
        figure, axes = plt.subplots(figsize=(6, 5), layout="constrained")
        axes.scatter(x, y, s=3, color=COLOURS[0], linewidths=0, rasterized=True)
        panels = [axes]
    else:
        figure, panels = panel_grid(len(shown), 2.1, 2.1, 5, (0.8, 0.8), sharex=True, sharey=True)
        for axes, name in zip(panels, shown):
            axes.scatter(x, y, s=2, color="#dcdcdc", linewidths=0, rasterized=True)
            own = labels == classes.index(name)
            look: dict[str, Any] = {"s": 4, "color": colour(name, classes), "linewidths": 0, "rasterized": True}
            axes.scatter(x[own], y[own], **look)
            axes.set_title(in_figure(name))
    # The box holds all but one jet in two hundred on each side: outliers would hide the rest.
    for limit, values in ((panels[0].set_xlim, x), (panels[0].set_ylim, y)):
        low, high = np.percentile(values, (0.5, 99.5))
        limit(low - 0.08 * (high - low) - 1e-6, high + 0.08 * (high - low) + 1e-6)
    first, second = points.explained
    figure.supxlabel(f"first principal component of z ({first:.0%} of the variance)", fontsize=13)
    figure.supylabel(f"second ({second:.0%})", fontsize=13)
    return figure
