"""The sections of protocols: label curves and searches for anomalies, from `labels.json` and `anomaly.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ssl_jets.report import page
from ssl_jets.report.album import Album
from ssl_jets.report.figures.style import (
    COLOURS,
    GREY,
    band_or_bars,
    bars,
    in_figure,
    in_text,
    level,
    name_rows,
    panel_grid,
)
from ssl_jets.report.many_classes import MOST_CLASSES
from ssl_jets.report.sections.evaluation import notes

Json = Mapping[str, Any]

_MARKERS = ("o", "s", "D", "^", "v", "P")


def label_sections(metrics: Json, album: Album) -> list[str]:
    """Accuracy and area against the number of labels."""
    settings = metrics["settings"]
    rows = [
        (
            f"{100 * point['share']:g} %",
            f"{point['labels']:,}",
            point["curve"],
            f"{page.number(point['accuracy'])} ± {page.number(point['accuracy_std'])}",
            f"{page.number(point['auc'])} ± {page.number(point['auc_std'])}",
            _seconds(point),
        )
        for point in metrics["points"]
    ]
    seen = "of which a model has seen some or all in training" if metrics.get("leaked") else "that no model has seen"
    values = {"jets": metrics["test_jets"], "seen": seen, "seeds": settings["seeds"], "batch": settings["batch_size"]}
    return [
        *notes(metrics),
        page.heading("Accuracy against the number of labels"),
        *album.add("label_curves", lambda: label_curves(metrics), **values, steps=settings["steps"]),
        page.table(("share", "labels", "curve", "accuracy", "macro AUC", "seconds a training"), rows),
        page.heading("How it was made"),
        *_made(metrics, ("models", "files", "settings", "data", "classes", "versions", "package_version", "date")),
    ]


def label_curves(metrics: Json) -> Figure | None:
    """Mean and standard deviation over seeds, of accuracy and of the area; None with one number of labels."""
    if len({point["labels"] for point in metrics["points"]}) < 2:
        return None
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    for axes, key, label in ((panels[0], "accuracy", "accuracy"), (panels[1], "auc", "macro AUC (one-vs-one)")):
        for index, curve in enumerate(metrics["curves"]):
            points = [point for point in metrics["points"] if point["curve"] == curve]
            names = ("labels", key, f"{key}_std")
            x, mean, std = (np.array([point[name] for point in points], float) for name in names)
            paint = GREY if curve in ("from scratch", "boosted trees") else COLOURS[index % len(COLOURS)]
            line = "--" if curve == "boosted trees" else "-"
            look: dict[str, Any] = {"linestyle": line, "marker": _MARKERS[index % len(_MARKERS)], "markersize": 5}
            (line,) = axes.plot(x, mean, color=paint, **look, label=curve)
            ends = (mean - std, mean + std)
            band_or_bars(line, *ends, "standard deviation", index, len(metrics["curves"]))
        guess = metrics.get("largest_class") if key == "accuracy" else 0.5
        if guess is not None:
            level(axes, guess, "largest class" if key == "accuracy" else "chance")
        axes.set(xscale="log", xlabel="labelled jets", ylabel=label)
    panels[0].legend(frameon=False, fontsize=11, loc="best")
    return figure


def anomaly_sections(metrics: Json, album: Album) -> list[str]:
    """CWoLa scans and distance scores."""
    background = in_text(metrics["background"])
    scans = [
        (
            in_text(scan["signal"]),
            scan["of"],
            f"{point['signal_jets']:,}",
            page.number(point["significance"], 2),
            _mean(point, "improvement", 2),
            _mean(point, "auc", 3),
        )
        for scan in metrics["cwola"]
        for point in scan["points"]
    ]
    distances = [
        (
            in_text(entry["signal"]),
            entry["of"],
            entry["score"],
            page.number(entry["auc"]["value"], 3),
            page.interval(entry["auc"], digits=3),
            page.number(entry["improvement"]["value"], 2),
        )
        for entry in metrics["distances"]
    ]
    text = (
        f"{metrics['background_jets']:,} {background} jets are cut in two; signal jets are hidden in the one half, and "
        "a reader learns to tell the halves apart. It is judged on other jets with their true classes. Below, jets are "
        f"scored by their distance from {background} jets."
    )
    draws = {"background": background, "seeds": metrics["seeds"]}
    if len(metrics["classes"]) - 1 > MOST_CLASSES:
        text += f" The figures show the first {MOST_CLASSES} signals; all are in the tables."
    head = ("signal", "reads", "signal jets", "S/√B in the mixture", "largest ε_S/√ε_B", "AUC")
    return [
        *notes(metrics),
        page.heading("Search without labels"),
        page.paragraph(text),
        *album.add("cwola", lambda: cwola(metrics), **draws),
        page.folded("All numbers of the search", page.table(head, scans)),
        page.heading("Distance from the background"),
        *album.add("distance", lambda: distance(metrics), background=background),
        page.folded(
            "All numbers of the distances",
            page.table(("signal", "in", "score", "AUC", "68 %", "largest ε_S/√ε_B"), distances),
        ),
        page.heading("How it was made"),
        *_made(metrics, ("made_from", "classes", "background", "seeds", "versions", "package_version", "date")),
    ]


def cwola(metrics: Json) -> Figure | None:
    """One panel a signal: improvement against the number of hidden jets, a line for each thing that is read.

    Signals with one number of hidden jets have no panel; None where no signal has more.
    """
    drawn = [scan for scan in metrics["cwola"] if sum(point["improvement"] is not None for point in scan["points"]) > 1]
    signals = list(dict.fromkeys(scan["signal"] for scan in drawn))[:MOST_CLASSES]
    if not signals:
        return None
    read = list(dict.fromkeys(scan["of"] for scan in drawn))
    figure, places = panel_grid(len(signals), 3.9, 3.2, sharex=True)
    for axes, signal in zip(places, signals):
        for scan in (scan for scan in drawn if scan["signal"] == signal):
            _scan(axes, scan, read)
        axes.axhline(1, color=GREY, linestyle=":", linewidth=1.2)
        axes.set(xscale="log", ylim=(0, None))
        axes.axvline(np.sqrt(metrics["background_jets"] / 2), color=GREY, linestyle="--", linewidth=1)
        axes.set_title(in_figure(signal))
    figure.supxlabel(f"signal jets among {metrics['background_jets'] // 2:,} of background", fontsize=13)
    figure.supylabel(r"largest improvement $\varepsilon_S/\varepsilon_B^{1/2}$", fontsize=13)
    figure.legend(*places[0].get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=11)
    return figure


def distance(metrics: Json) -> Figure:
    """Area under the ROC curve of each signal, a point for each score and thing that is read."""
    signals = list(dict.fromkeys(entry["signal"] for entry in metrics["distances"]))[:MOST_CLASSES]
    read = list(dict.fromkeys(entry["of"] for entry in metrics["distances"]))
    keys = list(dict.fromkeys((entry["of"], entry["score"]) for entry in metrics["distances"]))
    height = 1.4 + len(signals) * max(0.6, 0.14 * len(keys))
    figure, axes = plt.subplots(figsize=(8.4, height), layout="constrained")
    handles: dict[tuple[str, str], Line2D] = {}
    for entry in metrics["distances"]:
        key, auc = (entry["of"], entry["score"]), entry["auc"]
        if auc["value"] is None or entry["signal"] not in signals:
            continue
        place = signals.index(entry["signal"]) + (keys.index(key) - (len(keys) - 1) / 2) / (len(keys) + 2)
        paint, _ = _look(entry["of"], read)
        shape: dict[str, Any] = (
            {"marker": "o"} if entry["score"] == "kNN" else {"marker": "s", "markerfacecolor": "white"}
        )
        label = f"_{entry['score']}, {entry['of']}"
        (point,) = axes.plot(auc["value"], place, color=paint, markersize=6, linestyle="none", label=label, **shape)
        handles.setdefault(key, point)
        bars(point, auc["low"], auc["high"], along="x")
    name_rows(axes, [in_figure(name) for name in signals])
    axes.axvline(0.5, color=GREY, linestyle=":", linewidth=1.2)
    axes.set_xlabel("area under the ROC curve")
    shown = [key for key in keys if key in handles]
    names = [f"{score}, {of}" for of, score in shown]
    where: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1), "borderaxespad": 0}
    axes.legend([handles[key] for key in shown], names, **where, frameon=False, fontsize=11)
    return figure


def _scan(axes: Axes, scan: Json, read: Sequence[str]) -> None:
    """One line: mean and standard deviation over draws; `read` are all that the panel may have."""
    there = [point for point in scan["points"] if point["improvement"] is not None]
    paint, marker = _look(scan["of"], read)
    x, mean, std = (
        np.array([point[key] or 0.0 for point in there], float)
        for key in ("signal_jets", "improvement", "improvement_std")
    )
    (line,) = axes.plot(x, mean, color=paint, marker=marker, markersize=4, label=scan["of"])
    place, among = read.index(scan["of"]), len(read)
    band_or_bars(line, mean - std, mean + std, "standard deviation", place, among)


def _look(of: str, read: Sequence[str]) -> tuple[str, str]:
    """Colour and marker of what is read: baselines are grey and red, models take the other colours."""
    if of == "z of random weights":
        return GREY, "s"
    if of == "jet columns":
        return COLOURS[2], "D"
    models = [name for name in read if name not in ("z of random weights", "jet columns")]
    colours = [colour for colour in COLOURS if colour not in (COLOURS[2], GREY)]
    return colours[models.index(of) % len(colours)], "o"


def _mean(point: Json, key: str, digits: int) -> str:
    if point[key] is None:
        return "–"
    return f"{page.number(point[key], digits)} ± {page.number(point[f'{key}_std'], digits)}"


def _seconds(point: Json) -> str:
    found = [one["seconds"] for one in point["seeds"] if one.get("seconds") is not None]
    return f"{np.mean(found):.0f}" if found else "–"


def _made(metrics: Json, keys: Sequence[str]) -> list[str]:
    facts: dict[str, Any] = {}
    for key in keys:
        value = metrics[key]
        rows = value if isinstance(value, list) else []
        facts[key] = [" ".join(map(str, row)) if isinstance(row, list) else row for row in rows] or value
    return [page.folded("Models, data and settings", page.facts(facts))]
