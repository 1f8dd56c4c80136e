"""Sections of a comparison of models: tables, overlaid figures, paired differences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from ssl_jets.evaluation.comparison import Comparison, Difference, Similarity
from ssl_jets.evaluation.metrics.bootstrap import Estimate
from ssl_jets.evaluation.metrics.classification import ClassificationMetrics
from ssl_jets.evaluation.probes.results import ProbeResult
from ssl_jets.evaluation.result import TRAINED, Evaluation
from ssl_jets.evaluation.result_base import plain
from ssl_jets.report import page
from ssl_jets.report.album import Album
from ssl_jets.report.figures.evaluation import ReaderRow, confusions, draw_readers, reader_rows
from ssl_jets.report.figures.style import (
    MODEL_COLOURS,
    band,
    colour_bar,
    in_figure,
    in_text,
    line_style,
    panel_grid,
)
from ssl_jets.report.figures.training import COLLAPSE, PROGRESS, overlaid
from ssl_jets.report.folders import RunFolder
from ssl_jets.report.many_classes import many_classes, shown_classes
from ssl_jets.report.numbers import Record, confusion_cells, of_models, roc_points, training_lines
from ssl_jets.report.sections.evaluation import note_lines, robustness
from ssl_jets.report.sections.run import inside, run_facts


def compared(result: Comparison, runs: Mapping[str, RunFolder], album: Album) -> list[str]:
    """Return all sections of a comparison."""
    models = result.evaluations
    first = next(iter(models.values()))
    body = note_lines(result.notes, first.leaked)
    sentences = {name: one.headlines() for name, one in models.items()}
    body += [page.lead(f"{name}: {line}") for name, lines in sentences.items() for line in lines[:1]]
    body += [page.heading("The models"), _models(models)]
    body += album.add("compared_probes", lambda: probes(models), _rows(models, reader_rows))
    if result.differences:
        body += [page.heading("Differences"), _differences(result.differences)]
    tasks = {name: one.task for name, one in models.items() if one.task is not None}
    headed = {name: task for name, task in tasks.items() if task.roc}
    if headed:
        task = next(iter(headed.values()))
        body += [page.heading("Classification by the heads"), *many_classes(task)]
        body += album.add("compared_roc", lambda: roc(headed, shown_classes(task)), _rows(headed, roc_points))
        body += [_rejections(headed)]
        body += album.add("compared_confusion", lambda: confusions(headed), _rows(headed, confusion_cells))
    body += robustness(models, album)
    if result.cka:
        body += [
            page.heading("Similarity of the representations (CKA)"),
            *album.add("cka", lambda: cka(result.cka), result.cka),
        ]
    colours = {name: paint(name, list(models)) for name in models}
    trained = {name: run.lines for name, run in runs.items() if run.lines}
    if trained:
        body += [page.heading("Training")]
        looks = of_models({name: training_lines(lines, "check", "validation") for name, lines in trained.items()})
        body += album.add("compared_training", lambda: overlaid(trained, PROGRESS, colours), looks)
        body += album.add("compared_collapse", lambda: overlaid(trained, COLLAPSE, colours), looks)
    for name, run in runs.items():
        body += inside(run.folder, album.folder, name)
    return [*body, page.heading("Provenance"), *_provenance(result, runs)]


def _provenance(result: Comparison, runs: Mapping[str, RunFolder]) -> list[str]:
    body = []
    for name, one in result.evaluations.items():
        body += [page.folded(f"Model {name}", page.facts(one.model.model_dump()))]
        body += [page.folded(f"Training of {name}", *run_facts(runs[name]))] if name in runs else []
    first = next(iter(result.evaluations.values()))
    files = [(file.name, f"{file.entries:,}", f"{file.bytes:,}") for file in first.files]
    facts = {
        "settings": plain(first.settings),
        "versions": result.versions,
        "package_version": result.package_version,
        "date": result.date,
    }
    return [
        *body,
        page.folded("Files", page.table(("file", "jets", "bytes"), files)),
        page.folded("Settings and versions", page.facts(facts)),
    ]


ResultT = TypeVar("ResultT")


def _rows(models: Mapping[str, ResultT], rows_of: Callable[[ResultT], Iterable[Any]]) -> list[Record]:
    return of_models({name: rows_of(result) for name, result in models.items()})


def paint(name: str, names: Sequence[str]) -> str:
    """Return the colour of a model."""
    return MODEL_COLOURS[list(names).index(name) % len(MODEL_COLOURS)]


def probes(models: Mapping[str, Evaluation]) -> Figure | None:
    """Draw accuracy and AUC of every reader of every model, and of the baselines once."""
    rows: list[tuple[ReaderRow, str]] = []
    baselines: dict[ReaderRow, list[str]] = {}
    for name, one in models.items():
        for row in reader_rows(one):
            if row.baseline:
                baselines.setdefault(row, []).append(name)
            else:
                rows.append((replace(row, reader=f"{name}: {row.reader}"), paint(name, list(models))))
    # Models of other shapes have other random weights, those of other subsets of labels other fits: side by side.
    alike = Counter(row.name for row in baselines)
    for row, of in sorted(baselines.items(), key=lambda entry: list(alike).index(entry[0].name)):
        named = replace(row, reader=f"{', '.join(of)}: {row.reader}") if alike[row.name] > 1 else row
        rows.append((named, row.colour))
    if not rows:
        return None
    figure, panels = plt.subplots(1, 2, figsize=(10, 1.3 + 0.42 * len(rows)), sharey=True, layout="constrained")
    draw_readers(panels, rows)
    return figure


def roc(models: Mapping[str, ClassificationMetrics], classes: Sequence[str]) -> Figure | None:
    """Draw one panel for each of `classes`, one line a model."""
    names = list(models)
    first = models[names[0]].roc
    signals = [curve.signal for curve in first if curve.signal in classes]
    background = first[0].background
    figure, panels = panel_grid(len(signals), 3.9, 3.2, sharex=True)
    for axes, signal in zip(panels, signals):
        for name, task in models.items():
            look: dict[str, Any] = {"color": paint(name, names), "linestyle": line_style(name, names), "label": name}
            for curve in (curve for curve in task.roc if curve.signal == signal):
                line = axes.step(curve.signal_efficiency, 1 / curve.background_efficiency, where="post", **look)[0]
                band(line, curve.low, curve.high, along="x")
        axes.set(xlim=(0, 1), ylim=(1, None), yscale="log")
        axes.set_title(in_figure(signal))
    figure.supxlabel(r"signal efficiency $\varepsilon_S$", fontsize=13)
    figure.supylabel(rf"background rejection $1/\varepsilon_B$ ({in_figure(background)})", fontsize=13)
    panels[0].legend(frameon=False, fontsize=10, loc="upper right")
    return figure


def cka(similarities: Sequence[Similarity]) -> Figure | None:
    """Draw a matrix of the CKA of each two models."""
    names = list(dict.fromkeys(name for pair in similarities for name in (pair.first, pair.second)))
    values = np.eye(len(names))
    for pair in similarities:
        one, other = names.index(pair.first), names.index(pair.second)
        values[one, other] = values[other, one] = np.nan if pair.cka.value is None else pair.cka.value
    size = 2.4 + 0.8 * len(names)
    figure, axes = plt.subplots(figsize=(size + 1, size), layout="constrained")
    image = axes.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        colour = "white" if value > 0.55 else "black"
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=11, color=colour)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.minorticks_off()
    axes.tick_params(length=0)
    colour_bar(axes, image, "linear CKA")
    return figure


def _models(models: Mapping[str, Evaluation]) -> str:
    """Return two tables, each narrow enough for a page: what compares the runs, and further facts of each."""
    accuracies, facts = [], []
    for name, one in models.items():
        model, spread, task = one.model, one.representation, one.task
        linear = [probe for probe in one.probes if (probe.reader, probe.of) == ("linear", TRAINED)]
        labels = "–" if task is None or model.labelled_jets is None else f"{model.labelled_jets:,}"
        heads = () if task is None else (task.accuracy, task.auc, task.calibration_error)
        accuracy, *others = [page.with_interval(estimate, _short) for estimate in heads] or ["–"] * 3
        accuracies.append((name, labels, accuracy, _fitted(linear[1:2]), _fitted(linear[:1])))
        parameters = "–" if model.parameters is None else f"{model.parameters:,}"
        rank = f"{page.number(spread.rankme, 1)} of {spread.dimensions}"
        facts.append((name, model.method, parameters, *others, rank))
    head = ("run", "labels", "head: accuracy (68 %)", "linear probe on these labels", "linear probe on all")
    text = "Compare a head with the probe that is fitted on as many labels."
    further = ("run", "method", "parameters", "head: macro AUC (68 %)", "calibration error (68 %)", "effective rank")
    return page.table(head, accuracies) + page.paragraph(text) + page.table(further, facts)


def _short(value: float | None) -> str:
    return page.number(value, 3)


def _fitted(probes: Sequence[ProbeResult]) -> str:
    """Return the accuracy of a probe and the number of jets it is fitted on; a dash without one."""
    return "–" if not probes else f"{page.with_interval(probes[0].accuracy, _short)}, on {probes[0].fit_jets:,} jets"


def _differences(differences: Sequence[Difference]) -> str:
    rows = [
        (
            f"{pair.second} - {pair.first}",
            pair.of,
            page.number(pair.accuracy.value),
            page.interval(pair.accuracy),
            page.interval(pair.accuracy, "95"),
            page.number(pair.auc.value),
            page.interval(pair.auc),
        )
        for pair in differences
    ]
    text = (
        "Both models of a pair are tested on the same jets, and both terms of a difference are resampled together. If "
        "the 95 % interval does not contain 0, the test jets distinguish the models; another seed of the training can "
        "change more than that."
    )
    head = ("difference", "of", "accuracy", "68 %", "95 %", "macro AUC", "68 %")
    return page.table(head, rows) + page.paragraph(text)


def _rejections(models: Mapping[str, ClassificationMetrics]) -> str:
    """Return the rejections, a row a class and a column a model."""
    first = next(iter(models.values()))
    rows = []
    for point in first.rejections:
        working_point = (point.signal, point.efficiency)
        cells = []
        for task in models.values():
            same = (other for other in task.rejections if (other.signal, other.efficiency) == working_point)
            cells.append(_rejection(next(same).rejection))
        rows.append((in_text(point.signal), f"{100 * point.efficiency:g} %", *cells))
    return page.table(("rejection of", "efficiency", *models), rows)


def _rejection(estimate: Estimate) -> str:
    if estimate.limit:
        return f"≥ {estimate.value:,.0f} (> {page.significant(estimate.low)})"
    return page.with_interval(estimate, page.significant)
