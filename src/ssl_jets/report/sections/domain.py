"""The section of the domain protocol: what is lost between simulation and data, and the gap in z before and after."""

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
from ssl_jets.report.figures.style import COLOURS, GREY, bars, in_text

Json = Mapping[str, Any]


def domain_tiles(found: Json) -> str:
    """For each start without adaptation: the accuracy on the data, and what is lost on the way there."""
    entries = []
    for entry in found["summary"]:
        if entry["adapt"] == found["summary"][0]["adapt"]:
            values = entry["values"]
            more = (
                f"on the simulation {_number(values['simulation_accuracy'])}; lost {_number(values['drop_accuracy'])}"
            )
            entries.append((f"{entry['start']}, {entry['adapt']}", _number(values["target_accuracy"]), more))
    return page.tiles(entries)


def domain_sections(found: Json, album: Album) -> list[str]:
    """All sections of a domain protocol."""
    seeds = found["settings"]["protocol"]["seeds"]
    return [
        page.heading("Does it hold on the other domain?"),
        page.paragraph(
            f"Trained on labels of the simulation alone; mean and standard deviation over {seeds} seeds. The start "
            "“supervised” is the same network from random weights. “Lost” is simulation minus data."
        ),
        *album.add("domain_accuracy", lambda: accuracy_figure(found)),
        _performance_table(found),
        page.heading("How far are the domains apart in z?"),
        page.paragraph(
            "Proxy A-distance: 0 where a linear classifier cannot tell the domains by z, 2 where it always can. AUC: "
            "of the same classifier, 0.5 to 1. MMD: distance of the clouds of z, squared. The floor is the same of two "
            "halves of the simulation. A small gap is no aim in itself: a z that says nothing has none."
        ),
        *album.add("domain_gap", lambda: gap_figure(found)),
        _gap_table(found),
        page.folded("The gap of each class", _class_table(found)),
        page.folded("Every finetuning", _row_table(found)),
        page.folded(
            "Files, settings and versions",
            page.facts({key: found[key] for key in ("files", "settings", "versions", "package_version", "date")}),
        ),
    ]


APART = 0.14
"""Half of what the two domains of a row stand apart, so that neither error bar hides the other."""


def accuracy_figure(found: Json) -> Figure:
    """Accuracy on both domains, a row for each start and adaptation; the line between them is what is lost."""
    summary = found["summary"]
    figure, axes = _rows(summary, "accuracy")
    for place, entry in enumerate(summary):
        values = [entry["values"][name] for name in ("simulation_accuracy", "target_accuracy")]
        places = (place - APART, place + APART)
        axes.plot([value["mean"] for value in values], places, color=GREY, linewidth=1)
        for value, at, colour, label in zip(values, places, (COLOURS[0], COLOURS[2]), ("simulation", "data")):
            shown = label if place == 0 else f"_{label}"
            _with_spread(axes.plot(value["mean"], at, "o", color=colour, label=shown)[0], value)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def gap_figure(found: Json) -> Figure:
    """Proxy A-distance after finetuning beside that before it and its floor."""
    summary = found["summary"]
    figure, axes = _rows(summary, "proxy A-distance in z")
    for place, entry in enumerate(summary):
        before = found["before"][entry["start"]]["gap"]
        value = entry["values"]["a_distance"]
        floor, all_ = (before[of]["a_distance"]["value"] for of in ("floor", "all"))
        behind = "_" * (place > 0)  # once in the legend
        axes.plot(floor, place, "|", color=GREY, markersize=12, label=f"{behind}floor")
        axes.plot(all_, place, "o", color=GREY, fillstyle="none", label=f"{behind}before")
        _with_spread(axes.plot(value["mean"], place, "o", color=COLOURS[0], label=f"{behind}after")[0], value)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _with_spread(point: Line2D, value: Json) -> None:
    """Its standard deviation over seeds as a bar, where there are several."""
    if value["std"] is not None:
        bars(point, value["mean"] - value["std"], value["mean"] + value["std"], "standard deviation", along="x")


def _rows(summary: Sequence[Json], quantity: str) -> tuple[Figure, Axes]:
    """An empty figure of a quantity with a named row for each start and adaptation, the first on top."""
    figure, axes = plt.subplots(figsize=(7.6, 1.2 + 0.42 * len(summary)), layout="constrained")
    axes.set_yticks(range(len(summary)), [f"{entry['start']}, {entry['adapt']}" for entry in summary])
    axes.minorticks_off()
    axes.set_ylim(len(summary) - 0.5, -0.5)
    axes.set_xlabel(quantity)
    return figure, axes


def _performance_table(found: Json) -> str:
    names = ("simulation_accuracy", "target_accuracy", "drop_accuracy", "simulation_auc", "target_auc", "drop_auc")
    rows = [(e["start"], e["adapt"], *(_number(e["values"][name]) for name in names)) for e in found["summary"]]
    head = ("accuracy, simulation", "data", "lost", "macro AUC, simulation", "data", "lost")
    return page.table(("start", "adaptation", *head), rows)


def _gap_table(found: Json) -> str:
    rows: list[tuple[str, ...]] = []
    for start, entry in found["before"].items():
        for name, label in (("floor", "two halves of the simulation"), ("all", "before finetuning")):
            gap = entry["gap"][name]
            mmd = f"{page.significant(gap['mmd']['value'])} ± {page.significant(gap['mmd']['error'], 2)}"
            rows.append((start, label, page.number(gap["a_distance"]["value"]), page.number(gap["auc"]["value"]), mmd))
        for after in found["summary"]:
            if after["start"] == start:
                values = after["values"]
                cells = (_number(values["a_distance"]), _number(values["gap_auc"]), _number(values["mmd"], 5))
                rows.append((start, f"after, {after['adapt']}", *cells))
    return page.table(("start", "", "proxy A-distance", "AUC", "MMD, squared"), rows)


def _class_table(found: Json) -> str:
    """Before and after, averaged over seeds."""
    rows = []
    for after in found["summary"]:
        before = found["before"][after["start"]]["gap"]["by_class"]
        seeds = [row for row in found["rows"] if (row["start"], row["adapt"]) == (after["start"], after["adapt"])]
        for name, gap in before.items():
            values = [row["gap"]["by_class"][name]["a_distance"]["value"] for row in seeds]
            cells = (page.number(gap["a_distance"]["value"]), page.number(float(np.mean(values))))
            rows.append((after["start"], after["adapt"], in_text(name), *cells))
    return page.table(("start", "adaptation", "class", "A-distance before", "after"), rows)


def _row_table(found: Json) -> str:
    rows = [
        (
            row["start"],
            row["adapt"],
            str(row["seed"]),
            *(
                f"{page.number(row[where][what]['value'])} ({page.interval(row[where][what])})"
                for where in ("simulation", "target")
                for what in ("accuracy", "auc")
            ),
        )
        for row in found["rows"]
    ]
    head = ("accuracy, simulation (68 %)", "AUC, simulation", "accuracy, data", "AUC, data")
    return page.table(("start", "adaptation", "seed", *head), rows)


def _number(value: Json, digits: int = 4) -> str:
    return page.number(value["mean"], digits) + (
        "" if value["std"] is None else f" ± {page.number(value['std'], digits)}"
    )
