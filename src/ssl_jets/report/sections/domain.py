"""Section of the domain protocol: the drop from simulation to data, and the gap in z before and after finetuning."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ssl_jets.evaluation.metrics.bootstrap import Estimate
from ssl_jets.evaluation.result_base import plain
from ssl_jets.protocols.domain_result import DomainResult, DomainSummary, SeedStatistics
from ssl_jets.report import page
from ssl_jets.report.album import Album
from ssl_jets.report.figures.style import COLOURS, GREY, bars, in_text
from ssl_jets.report.numbers import Record

ROW_OFFSET = 0.14
"""Offset of the two domains from the middle of their row, so that neither error bar hides the other."""


def _tiles(result: DomainResult) -> str:
    """Return the headline numbers: for each start without adaptation the accuracy on the data, and the drop."""
    entries = []
    for entry in result.summary:
        if entry.adapt == result.summary[0].adapt:
            simulation, drop = _number(entry.values.simulation_accuracy), _number(entry.values.drop_accuracy)
            more = f"accuracy on the data; on the simulation {simulation}, lost {drop}"
            title = f"start {entry.start}, adaptation {entry.adapt}"
            entries.append((title, _number(entry.values.target_accuracy), more))
    return page.tiles(entries)


def domain_sections(result: DomainResult, album: Album) -> list[str]:
    """Return all sections of a domain protocol."""
    content, protocol = plain(result), result.settings.protocol
    facts = {name: content[name] for name in ("files", "settings", "versions", "package_version", "date")}
    return [
        _tiles(result),
        page.heading("Performance on both domains"),
        page.paragraph(
            f"Trained on labels of the simulation alone, {protocol.steps:,} steps of {protocol.batch_size:,} labelled "
            f"jets; mean and standard deviation over {protocol.seeds} seeds. A start is a pretrained model; "
            "“supervised” is the same network from random weights. “Lost” is simulation minus data: an "
            "adaptation helps if the accuracy on the data is higher than with none, by more than the spread over seeds."
        ),
        *album.add("domain_accuracy", lambda: accuracy_figure(result), result.summary),
        _performance_table(result),
        page.heading("Domain gap in z"),
        page.paragraph(
            "Proxy A-distance: 0 if a linear classifier cannot separate the domains by z, 2 if it always can. AUC: of "
            "the same classifier, 0.5 to 1. The floor is the same of two halves of the simulation. A small gap is no "
            "aim in itself: a constant z has none."
        ),
        *map(page.paragraph, result.against_observables()),
        *album.add("domain_gap", lambda: gap_figure(result), _gaps(result)),
        _gap_table(result),
        page.folded("The gap of each class", _class_table(result)),
        page.folded("Every finetuning", _row_table(result)),
        page.folded("Files, settings and versions", page.facts(facts)),
    ]


def _gaps(result: DomainResult) -> list[Record]:
    """Return the A-distances of the figure: floor, before and after finetuning."""
    rows: list[Record] = []
    for entry in result.summary:
        gap = result.before[entry.start].gap
        distances = {"floor": gap.floor.a_distance, "before": gap.all.a_distance, "after": entry.values.a_distance}
        rows.append({"start": entry.start, "adapt": entry.adapt, **distances})
    return rows


def accuracy_figure(result: DomainResult) -> Figure:
    """Draw the accuracy on both domains, a row for each start and adaptation; the line between them is the drop."""
    figure, axes = _rows(result.summary, "accuracy")
    for row, entry in enumerate(result.summary):
        simulation, target = entry.values.simulation_accuracy, entry.values.target_accuracy
        upper, lower = row - ROW_OFFSET, row + ROW_OFFSET
        axes.plot([simulation.mean, target.mean], [upper, lower], color=GREY, linewidth=1)
        hidden = "_" * (row > 0)  # once in the legend
        _point(axes, simulation, upper, COLOURS[0], f"{hidden}simulation")
        _point(axes, target, lower, COLOURS[2], f"{hidden}data")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def gap_figure(result: DomainResult) -> Figure:
    """Draw the proxy A-distance after finetuning, before it, and its floor."""
    figure, axes = _rows(result.summary, "proxy A-distance in z")
    for row, entry in enumerate(result.summary):
        before = result.before[entry.start].gap
        hidden = "_" * (row > 0)  # once in the legend
        axes.plot(_value(before.floor.a_distance), row, "|", color=GREY, markersize=12, label=f"{hidden}floor")
        axes.plot(_value(before.all.a_distance), row, "o", color=GREY, fillstyle="none", label=f"{hidden}before")
        _point(axes, entry.values.a_distance, row, COLOURS[0], f"{hidden}after")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _point(axes: Axes, statistics: SeedStatistics, row: float, colour: str, label: str) -> None:
    """Draw a mean over seeds, with its standard deviation as a bar if there are several."""
    point: Line2D = axes.plot(statistics.mean, row, "o", color=colour, label=label)[0]
    if statistics.std is not None:
        bars(point, statistics.mean - statistics.std, statistics.mean + statistics.std, along="x")


def _rows(summary: Sequence[DomainSummary], quantity: str) -> tuple[Figure, Axes]:
    """Return an empty figure of a quantity with a named row for each start and adaptation, the first on top."""
    figure, axes = plt.subplots(figsize=(7.6, 1.2 + 0.42 * len(summary)), layout="constrained")
    axes.set_yticks(range(len(summary)), [f"{entry.start}, {entry.adapt}" for entry in summary])
    axes.minorticks_off()
    axes.set_ylim(len(summary) - 0.5, -0.5)
    axes.set_xlabel(quantity)
    return figure, axes


def _performance_table(result: DomainResult) -> str:
    rows = []
    for entry in result.summary:
        values = entry.values
        accuracy = (values.simulation_accuracy, values.target_accuracy, values.drop_accuracy)
        auc = (values.simulation_auc, values.target_auc, values.drop_auc)
        rows.append((entry.start, entry.adapt, *map(_number, (*accuracy, *auc))))
    head = ("accuracy, simulation", "data", "lost", "macro AUC, simulation", "data", "lost")
    return page.table(("start", "adaptation", *head), rows)


def _gap_table(result: DomainResult) -> str:
    rows: list[tuple[str, ...]] = []
    for start, before in result.before.items():
        for label, gap in (("two halves of the simulation", before.gap.floor), ("before finetuning", before.gap.all)):
            rows.append((start, label, page.number(gap.a_distance.value), page.number(gap.auc.value)))
        for after in result.summary:
            if after.start == start:
                cells = (_number(after.values.a_distance), _number(after.values.gap_auc))
                rows.append((start, f"after, {after.adapt}", *cells))
    return page.table(("start", "", "proxy A-distance", "AUC"), rows)


def _class_table(result: DomainResult) -> str:
    """Return the A-distance of each class before and after finetuning, averaged over seeds."""
    rows = []
    for entry in result.summary:
        for name, before in result.before[entry.start].gap.by_class.items():
            # Models that held out other jets may have too few of a class.
            gaps = [row.gap.by_class[name] for row in result.rows_of(entry) if name in row.gap.by_class]
            after = float(np.mean([_value(gap.a_distance) for gap in gaps])) if gaps else None
            cells = (page.number(before.a_distance.value), page.number(after))
            rows.append((entry.start, entry.adapt, in_text(name), *cells))
    return page.table(("start", "adaptation", "class", "A-distance before", "after"), rows)


def _row_table(result: DomainResult) -> str:
    rows = []
    for row in result.rows:
        estimates = (row.simulation.accuracy, row.simulation.auc, row.target.accuracy, row.target.auc)
        against = row.gap.observables
        more = "" if against is None else page.with_interval(against.difference)
        rows.append((row.start, row.adapt, str(row.seed), *map(page.with_interval, estimates), more))
    head = ("accuracy, simulation (68 %)", "AUC, simulation", "accuracy, data", "AUC, data")
    return page.table(("start", "adaptation", "seed", *head, "A-distance in z minus in observables"), rows)


def _number(statistics: SeedStatistics) -> str:
    std = "" if statistics.std is None else f" ± {page.number(statistics.std)}"
    return page.number(statistics.mean) + std


def _value(estimate: Estimate) -> float:
    return np.nan if estimate.value is None else estimate.value
