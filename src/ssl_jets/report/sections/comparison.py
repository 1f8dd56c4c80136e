"""The page of several models side by side: tables, overlaid figures, paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from ssl_jets.report import page
from ssl_jets.report.album import Album
from ssl_jets.report.figures.evaluation import confusions, dot, probe_rows
from ssl_jets.report.figures.style import COLOURS, GREY, band, in_figure, in_text, panel_grid
from ssl_jets.report.figures.training import COLLAPSE, PROGRESS, overlaid
from ssl_jets.report.folders import ComparisonFolder, RunFolder
from ssl_jets.report.many_classes import many_classes, shown_classes
from ssl_jets.report.sections.evaluation import notes, robustness
from ssl_jets.report.sections.run import inside, run_facts

Json = Mapping[str, Any]

_STYLES = ("-", "--", "-.", ":")


def compared(found: ComparisonFolder, runs: Mapping[str, RunFolder], album: Album) -> list[str]:
    """All sections of a comparison."""
    metrics = {name: one.metrics for name, one in found.models.items()}
    curves = {name: one.curves for name, one in found.models.items()}
    first = next(iter(metrics.values()))
    body = notes({**found.comparison, "leaked": first.get("leaked", 0)})
    body += [page.heading("The models"), _models(metrics)]
    body += album.add("compared_probes", lambda: probes(metrics))
    if found.comparison["differences"]:
        body += [page.heading("Differences"), _differences(found.comparison)]
    headed = {name: one for name, one in curves.items() if one["roc"]}
    if headed:
        classes = shown_classes(metrics[next(iter(headed))])
        body += [page.heading("Classification by the heads"), *many_classes(metrics[next(iter(headed))])]
        body += album.add("compared_roc", lambda: roc(headed, classes))
        body += [_rejections({name: metrics[name] for name in headed})]
        both = {name: (metrics[name], one) for name, one in headed.items()}
        body += album.add("compared_confusion", lambda: confusions(both))
    body += robustness(metrics, album)
    if found.comparison["cka"]:
        body += [page.heading("How alike the z are"), *album.add("cka", lambda: cka(found.comparison))]
    colours = {name: paint(name, list(metrics)) for name in metrics}
    trained = {name: run.lines for name, run in runs.items() if run.lines}
    if trained:
        body += [page.heading("Training")]
        body += album.add("compared_training", lambda: overlaid(trained, PROGRESS, colours))
        body += album.add("compared_collapse", lambda: overlaid(trained, COLLAPSE, colours))
    for name, run in runs.items():
        body += inside(run.folder, album.folder, name)
    made = {key: found.comparison[key] for key in ("versions", "package_version", "date")}
    body += [page.heading("How it was made")]
    for name, one in metrics.items():
        body += [page.folded(f"Model {name}", page.facts(one["model"]))]
        body += [page.folded(f"Training of {name}", *run_facts(runs[name]))] if name in runs else []
    files = [(file["name"], f"{file['entries']:,}", f"{file['bytes']:,}") for file in first["files"]]
    body.append(page.folded("Files", page.table(("file", "jets", "bytes"), files)))
    return [*body, page.folded("Settings and versions", page.facts({"settings": first["settings"], **made}))]


def paint(name: str, names: Sequence[str]) -> str:
    """The colour of a model."""
    return COLOURS[list(names).index(name) % len(COLOURS)]


def probes(metrics: Mapping[str, Json]) -> Figure | None:
    """Accuracy and AUC of every reader of every model, and of the baselines once."""
    names, rows = list(metrics), list[tuple[str, Json, str]]()
    for name, one in metrics.items():
        rows += [(f"{name}: {label}", found, paint(name, names)) for label, found, base in probe_rows(one) if not base]
    seen: dict[str, Json] = {}
    for one in metrics.values():
        seen |= {label: found for label, found, base in probe_rows(one) if base and label not in seen}
    rows += [(label, found, GREY) for label, found in seen.items()]
    if not rows:
        return None
    figure, panels = plt.subplots(1, 2, figsize=(10, 1.3 + 0.42 * len(rows)), sharey=True, layout="constrained")
    for axes, key, title in ((panels[0], "accuracy", "accuracy"), (panels[1], "auc", "macro AUC (one-vs-one)")):
        for place, (label, found, colour) in enumerate(rows):
            dot(axes, found[key], place, colour, label)
        axes.set_xlabel(title)
        axes.tick_params(axis="y", which="both", length=0)
    panels[0].set_yticks(range(len(rows)), [label for label, _, _ in rows])
    panels[0].set_ylim(len(rows) - 0.4, -0.6)
    return figure


def roc(curves: Mapping[str, Json], classes: Sequence[str]) -> Figure | None:
    """One panel for each of `classes`, one line a model."""
    names = list(curves)
    signals = [curve["signal"] for curve in curves[names[0]]["roc"] if curve["signal"] in classes]
    background = curves[names[0]]["roc"][0]["background"]
    figure, places = panel_grid(len(signals), 3.9, 3.2, sharex=True)
    for axes, signal in zip(places, signals):
        for name, one in curves.items():
            for curve in (curve for curve in one["roc"] if curve["signal"] == signal):
                eps_b, eps_s, low, high = (
                    np.array(curve[key], float) for key in ("background_efficiency", "signal_efficiency", "low", "high")
                )
                colour, style = paint(name, names), _STYLES[names.index(name) % len(_STYLES)]
                look: dict[str, Any] = {"color": colour, "linestyle": style, "label": name}
                band(axes.step(eps_s, 1 / eps_b, where="post", **look)[0], low, high, along="x")
        axes.set(xlim=(0, 1), ylim=(1, None), yscale="log")
        axes.set_title(in_figure(signal))
    figure.supxlabel(r"signal efficiency $\varepsilon_S$", fontsize=13)
    figure.supylabel(rf"background rejection $1/\varepsilon_B$ ({in_figure(background)})", fontsize=13)
    places[0].legend(frameon=False, fontsize=10, loc="upper right")
    return figure


def cka(comparison: Json) -> Figure | None:
    """A square for each two models."""
    names = list(dict.fromkeys(entry[side] for entry in comparison["cka"] for side in ("first", "second")))
    values = np.eye(len(names))
    for entry in comparison["cka"]:
        one, other = names.index(entry["first"]), names.index(entry["second"])
        values[one, other] = values[other, one] = np.nan if entry["cka"]["value"] is None else entry["cka"]["value"]
    size = 2.4 + 0.8 * len(names)
    figure, axes = plt.subplots(figsize=(size + 1, size), layout="constrained")
    image = axes.imshow(values, cmap="Blues", vmin=0, vmax=1, label="_linear CKA")
    for (row, column), value in np.ndenumerate(values):
        colour = "white" if value > 0.55 else "black"
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=11, color=colour)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.minorticks_off()
    axes.tick_params(length=0)
    figure.colorbar(image, ax=axes, label="linear CKA", shrink=0.8, pad=0.02)
    return figure


def _models(metrics: Mapping[str, Json]) -> str:
    """Two tables, each narrow enough for a page: the numbers of each run, and its model."""
    numbers, models = [], []
    for name, one in metrics.items():
        model, spread, found = one["model"], one["spread"]["z"], one["task"] or {}
        linear = [probe for probe in one["probes"] if (probe["reader"], probe["of"]) == ("linear", "z")]
        labels = model.get("labelled_jets")
        had = ("–" if labels is None else f"{labels:,}") if found else "–"
        heads = (_with_interval(found.get(key)) for key in ("accuracy", "auc", "calibration_error"))
        numbers.append((name, had, *heads, _fitted(linear[1:2]), _fitted(linear[:1])))
        parameters = f"{model['parameters']:,}" if "parameters" in model else "–"
        rank = f"{page.number(spread['rankme'], 1)} of {spread['dimensions']}"
        models.append((name, str(model["method"]), parameters, rank, model["sha256"][:12] or "–"))
    probed = ("linear probe on these labels", "linear probe on all")
    head = ("run", "labels", "head: accuracy", "macro AUC", "calibration error", *probed)
    text = "A head is to be compared with the probe that is fitted on as many labels."
    of_models = page.table(("run", "method", "parameters", "effective rank of z", "model"), models)
    return page.table(head, numbers) + page.paragraph(text) + of_models


def _fitted(probes: Sequence[Json]) -> str:
    """Return the accuracy of a probe and the number of jets it is fitted on; a dash without one."""
    return "–" if not probes else f"{_with_interval(probes[0]['accuracy'])}, on {probes[0]['fit_jets']:,} jets"


def _differences(comparison: Json) -> str:
    rows = [
        (
            f"{entry['second']} - {entry['first']}",
            entry["of"],
            page.number(entry["accuracy"]["value"]),
            page.interval(entry["accuracy"]),
            page.interval(entry["accuracy"], "95"),
            page.number(entry["auc"]["value"]),
            page.interval(entry["auc"]),
        )
        for entry in comparison["differences"]
    ]
    text = (
        "Both models of a pair are tested on the same jets, and both terms of a difference are resampled together. An "
        "interval that does not hold 0 means that the test jets tell the models apart; it does not hold what another "
        "seed of the training would change."
    )
    head = ("difference", "of", "accuracy", "68 %", "95 %", "macro AUC", "68 %")
    return page.table(head, rows) + page.paragraph(text)


def _rejections(metrics: Mapping[str, Json]) -> str:
    """Rejections, a row a class and a column a model."""
    first = next(iter(metrics.values()))["task"]["rejections"]
    rows = []
    for entry in first:
        cells = []
        for one in metrics.values():
            found = next(other["rejection"] for other in one["task"]["rejections"] if _same_point(other, entry))
            bounds = " to ".join(page.significant(found[which]) for which in ("low", "high"))
            limit = "≥ " if found["limit"] else ""
            cells.append(f"{limit}{page.significant(found['value'])}" + ("" if found["limit"] else f" ({bounds})"))
        rows.append((in_text(entry["signal"]), f"{100 * entry['efficiency']:g} %", *cells))
    return page.table(("rejection of", "efficiency", *metrics), rows)


def _same_point(one: Json, other: Json) -> bool:
    return all(one[key] == other[key] for key in ("signal", "efficiency"))


def _with_interval(estimate: Json | None) -> str:
    if not estimate or estimate["value"] is None:
        return "–"
    return f"{page.number(estimate['value'])} ({page.interval(estimate)})"
