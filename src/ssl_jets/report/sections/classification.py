"""Sections of the classification by a model's head: metrics, rejections, confusion, calibration."""

from __future__ import annotations

from ssl_jets.evaluation.metrics.bootstrap import Estimate
from ssl_jets.evaluation.metrics.classification import ClassificationMetrics
from ssl_jets.evaluation.metrics.roc import Rejection
from ssl_jets.report import captions, page
from ssl_jets.report.album import Album
from ssl_jets.report.figures import evaluation as figures
from ssl_jets.report.figures import physics
from ssl_jets.report.figures.style import in_text
from ssl_jets.report.many_classes import MOST_CLASSES, many_classes
from ssl_jets.report.numbers import confusion_cells, reliability_points, roc_points, significance_points


def classification(task: ClassificationMetrics, leaked: int, album: Album) -> list[str]:
    background = in_text(task.rejections[0].background) if task.rejections else "background"
    bands = captions.intervals(len(task.roc))
    body = [page.heading("Classification by the model's head"), *_task_tables(task, leaked), *many_classes(task)]
    body += album.add("roc", lambda: figures.roc(task), roc_points(task), background=background, intervals=bands)
    rejections, many = rejection_table(task), len(task.rejections) > 2 * MOST_CLASSES  # more rows than fit a screen
    body += [page.folded("Rejections of all classes", rejections) if many else rejections]
    body += _significance(task, album, background)
    body += album.add("confusion", lambda: figures.confusion(task), confusion_cells(task))
    body += album.add("reliability", lambda: figures.reliability(task), reliability_points(task), jets=figures.BIN_JETS)
    return body


def _task_tables(task: ClassificationMetrics, leaked: int) -> list[str]:
    after = task.calibrated
    low, high = sorted(after.temperatures)
    rows = [
        _row("accuracy", task.accuracy),
        _row("macro AUC, one-vs-one", task.auc),
        _row("macro AUC, one-vs-rest", task.auc_rest),
        _row("log loss", task.log_loss),
        _row("expected calibration error", task.calibration_error),
        _row("log loss after temperature scaling", after.log_loss),
        _row("expected calibration error after temperature scaling", after.calibration_error),
        ("temperature (of the two halves of the jets)", f"{low:.2f}, {high:.2f}", "", ""),
    ]
    by_class = [
        (
            in_text(name),
            f"{task.jets[name]:,}",
            page.number(task.class_accuracy[name].value),
            page.interval(task.class_accuracy[name]),
            page.number(task.class_auc[name].value),
            page.interval(task.class_auc[name]),
        )
        for name in task.names
    ]
    jets = sum(task.jets.values())
    seen = (
        "of which the model has seen some or all in training" if leaked else "that the model has not seen in training"
    )
    head = ("class", "jets", "accuracy", "68 %", "AUC vs rest", "68 %")
    return [
        page.paragraph(f"On {jets:,} jets {seen}."),
        page.table(("", "value", "68 %", "95 %"), rows),
        page.folded("Numbers by class", page.table(head, by_class)),
    ]


def rejection_table(task: ClassificationMetrics) -> str:
    """Return the rejections and the largest significance improvements of all classes."""
    rows = []
    for point in task.rejections:
        estimate = point.rejection
        low, high = (page.significant(end) if end is not None else "open" for end in (estimate.low, estimate.high))
        rows.append(
            (
                in_text(point.signal),
                f"{100 * point.efficiency:g} %",
                f"≥ {estimate.value:,.0f}" if estimate.limit else page.significant(estimate.value),
                f"> {low}" if estimate.limit else f"{low} to {high}",
                _passed(point),
                *_best(task, point.signal),
            )
        )
    head = (
        "signal",
        "efficiency",
        "rejection 1/ε_B",
        "68 %",
        "background jets that pass",
        "largest ε_S/√ε_B",
        "at ε_S",
    )
    return page.table(head, rows)


def _significance(task: ClassificationMetrics, album: Album, background: str) -> list[str]:
    """Return the figure of the significance improvement, or the reason that there is none."""
    bands = captions.intervals(len(task.roc))
    drawn = album.add(
        "sic", lambda: physics.sic(task), significance_points(task), background=background, intervals=bands
    )
    jets = physics.background_jets(task)
    if drawn or not jets or jets >= physics.SIC_BACKGROUND:
        return drawn
    text = f"ε_S/√ε_B is not drawn: of {background} there are {jets:,} jets, and a curve needs"
    return [page.paragraph(f"{text} {physics.SIC_BACKGROUND:,}.")]


def _passed(point: Rejection) -> str:
    """Return the background jets that pass; with weights of mean 1 their sums, whose ratio is the rejection."""
    jets = f"{point.survivors:,} of {point.background_jets:,}"
    if (point.survivor_weight, point.background_weight) == (point.survivors, point.background_jets):
        return jets
    by_weight = f"{page.significant(point.survivor_weight, 4)} of {page.significant(point.background_weight, 4)}"
    return f"{by_weight} by weight of mean 1 ({jets} jets)"


def _best(task: ClassificationMetrics, signal: str) -> tuple[str, str]:
    """Return the largest significance improvement of a class, and its signal efficiency."""
    for best in task.significance:
        if best.signal == signal and best.improvement.value is not None:
            improvement = page.with_interval(best.improvement, page.significant)
            return "≥ " * best.improvement.limit + improvement, page.number(best.efficiency, 2)
    return "–", "–"


def _row(label: str, estimate: Estimate) -> tuple[str, str, str, str]:
    return label, page.number(estimate.value), page.interval(estimate), page.interval(estimate, "95")
