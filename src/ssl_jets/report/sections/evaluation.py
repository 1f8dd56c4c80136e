"""The sections of an evaluation: figures with captions, tables with numbers and intervals, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ssl_jets.report import captions, page
from ssl_jets.report.album import Album
from ssl_jets.report.figures import evaluation as evaluation_figures
from ssl_jets.report.figures import physics as physics_figures
from ssl_jets.report.figures.style import in_text
from ssl_jets.report.folders import EvaluationFolder
from ssl_jets.report.many_classes import folded_if_many, many_classes, shown_classes

Json = Mapping[str, Any]


def evaluation_tiles(metrics: Json) -> str:
    """The headline numbers of an evaluation."""
    entries = []
    for name, numbers, _ in evaluation_figures.probe_rows(metrics):
        accuracy = numbers["accuracy"]
        more = f"accuracy, 68 %: {page.interval(accuracy, digits=3)}; AUC {page.number(numbers['auc']['value'], 3)}"
        entries.append((name, page.number(accuracy["value"], 3), more))
    spread = metrics["spread"]["z"]
    entries.append(("effective rank of z", page.number(spread["rankme"], 1), f"of {spread['dimensions']} dimensions"))
    return page.tiles(entries)


def evaluation(found: EvaluationFolder, album: Album) -> list[str]:
    """All sections of an evaluation."""
    metrics, curves = found.metrics, found.curves
    body = notes(metrics)
    if metrics["task"] is not None:
        rejections = metrics["task"]["rejections"]
        background = in_text(rejections[0]["background"]) if rejections else "background"
        body += [page.heading("Classification by the model's head"), *_task_tables(metrics)]
        errors = captions.intervals(len(curves["roc"]))
        body += many_classes(metrics)
        body += album.add(
            "roc", lambda: evaluation_figures.roc(metrics, curves), background=background, intervals=errors
        )
        body += [folded_if_many("Rejections of all classes", rejection_table(metrics), len(rejections))]
        body += _significance(metrics, curves, album, background)
        body += album.add("confusion", lambda: evaluation_figures.confusion(metrics, curves))
        body += _whole_confusion(metrics, curves, album)
        body += album.add(
            "reliability", lambda: evaluation_figures.reliability(metrics, curves), jets=evaluation_figures.BIN_JETS
        )
    if metrics["probes"]:
        body += [page.heading("Probes of z beside the baselines")]
        body += album.add("probes", lambda: evaluation_figures.probes(metrics, curves))
        body += [_probe_table(metrics)]
    body += _regression(metrics, curves, album)
    body += _physics(metrics, album)
    body += robustness({"": metrics}, album)
    body += [page.heading("The space of z")]
    shown = evaluation_figures.mapped_classes(metrics, curves)
    classes = ": one class in colour over all jets in grey" if shown else ""
    if shown and len(shown) < len(metrics["classes"]):
        classes += f" ({len(shown)} of the {len(metrics['classes'])} classes: those with most jets in it)"
    jets = len(curves["map"]["x"])
    body += album.add("z_map", lambda: evaluation_figures.z_map(metrics, curves), jets=jets, classes=classes)
    return [*body, _spread_table(metrics), *_provenance(metrics)]


def _whole_confusion(metrics: Json, curves: Json, album: Album) -> list[str]:
    """Write the confusion matrix of all classes as CSV, where its figure does not show all."""
    classes = metrics["classes"]
    if len(shown_classes(metrics)) == len(classes):
        return []
    rows = [[name, *row] for name, row in zip(classes, curves["confusion"], strict=True)]
    return album.table("confusion_all", ("true class", *classes), rows)


def notes(metrics: Json) -> list[str]:
    """What was said about the choice of jets; what must not be missed comes first and in a box."""
    loud = [note for note in metrics["notes"] if note.startswith("WARNING")]
    if metrics.get("leaked") and not loud:
        loud = [f"The model was trained on {metrics['leaked']:,} of the jets it is tested on"]
    calm = [note for note in metrics["notes"] if note not in loud]
    return [page.warning(f"{note}.") for note in loud] + [
        page.paragraph(note[0].upper() + note[1:] + ".") for note in calm
    ]


def robustness(found: Mapping[str, Json], album: Album) -> list[str]:
    """The curves of one or several models, by name."""
    there = {name: metrics for name, metrics in found.items() if metrics.get("robustness")}
    if not there:
        return []
    first = next(iter(there.values()))
    headed = {metrics["task"] is not None for metrics in there.values()}
    reader = "the head, or of a linear probe of z where there is none," if len(headed) > 1 else "the model's head"
    values = {
        "reader": "a linear probe of z" if headed == {False} else reader,
        "jets": min(first["settings"]["robust_jets"], first["jets"]["test"]),
    }
    curves = {name: metrics["robustness"] for name, metrics in there.items()}
    drawn = album.add("robustness", lambda: physics_figures.robustness(curves), **values)
    return [page.heading("Changed jets"), *drawn]


def _physics(metrics: Json, album: Album) -> list[str]:
    found = metrics.get("physics")
    if not found:
        return []
    rows = [
        (
            entry["quantity"],
            f"{entry['reader']}, {entry['of']}",
            page.number(entry["explained"]["value"], 3),
            page.interval(entry["explained"], digits=3),
            page.interval(entry["explained"], "95", digits=3),
        )
        for entry in found
    ]
    return [
        page.heading("What z knows of a jet"),
        *album.add("physics", lambda: physics_figures.physics(metrics)),
        page.folded("All numbers", page.table(("quantity", "reader", "R²", "68 %", "95 %"), rows)),
        page.paragraph(f"Fitted on {found[0]['fit_jets']:,} jets and tested on {found[0]['test_jets']:,} others."),
    ]


def _regression(metrics: Json, curves: Json, album: Album) -> list[str]:
    found = metrics.get("regression")
    if not found:
        return []
    rows = [
        (
            entry["target"],
            f"{entry['jets']:,}",
            *(
                f"{page.significant(entry[key]['value'])} ({page.significant(entry[key]['low'])} to "
                f"{page.significant(entry[key]['high'])})"
                for key in ("bias", "resolution")
            ),
            page.significant(entry["spread"]),
            page.number(entry["explained"]["value"], 3),
        )
        for entry in found
    ]
    head = ("target", "jets", "bias (68 %)", "resolution (68 %)", "spread of the target", "R²")
    return [
        page.heading("Regression by the model's head"),
        *album.add("regression", lambda: physics_figures.regression(curves)),
        page.table(head, rows),
    ]


def _task_tables(metrics: Json) -> list[str]:
    task = metrics["task"]
    names = {
        "accuracy": "accuracy",
        "auc": "macro AUC, one-vs-one",
        "auc_rest": "macro AUC, one-vs-rest",
        "log_loss": "log loss",
        "calibration_error": "expected calibration error",
    }
    rows = [_row(label, task[key]) for key, label in names.items()]
    if after := task.get("calibrated"):
        low, high = sorted(after["temperatures"])
        rows += [_row(f"{label} after temperature scaling", after[key]) for key, label in names.items() if key in after]
        rows.append(("temperature (of the two halves of the jets)", f"{low:.2f}, {high:.2f}", "", ""))
    per_class = [
        (
            in_text(name),
            f"{task['jets'][name]:,}",
            page.number(task["class_accuracy"][name]["value"]),
            page.interval(task["class_accuracy"][name]),
            page.number(task["class_auc"][name]["value"]),
            page.interval(task["class_auc"][name]),
        )
        for name in metrics["classes"]
    ]
    jets = sum(task["jets"].values())
    leaked = metrics.get("leaked")
    seen = (
        "of which the model has seen some or all in training" if leaked else "that the model has not seen in training"
    )
    return [
        page.paragraph(f"On {jets:,} jets {seen}."),
        page.table(("", "value", "68 %", "95 %"), rows),
        page.folded(
            "Numbers by class", page.table(("class", "jets", "accuracy", "68 %", "AUC vs rest", "68 %"), per_class)
        ),
    ]


def rejection_table(metrics: Json) -> str:
    rows = []
    for entry in metrics["task"]["rejections"]:
        found = entry["rejection"]
        low, high = (page.significant(found[key]) if found[key] is not None else "open" for key in ("low", "high"))
        rows.append(
            (
                in_text(entry["signal"]),
                f"{100 * entry['efficiency']:g} %",
                ("≥ " if found["limit"] else "") + page.significant(found["value"]),
                f"> {low}" if found["limit"] else f"{low} to {high}",
                _passed(entry),
                *_best(metrics["task"], entry["signal"]),
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


def _significance(metrics: Json, curves: Json, album: Album, background: str) -> list[str]:
    """The figure of the significance improvement, or why there is none."""
    drawn = album.add(
        "sic",
        lambda: physics_figures.sic(metrics, curves),
        background=background,
        intervals=captions.intervals(len(curves["roc"])),
    )
    jets = physics_figures.background_jets(metrics)
    if drawn or not jets or jets >= physics_figures.SIC_BACKGROUND:
        return drawn
    text = f"ε_S/√ε_B is not drawn: of {background} there are {jets:,} jets, and a curve needs"
    return [page.paragraph(f"{text} {physics_figures.SIC_BACKGROUND:,}.")]


def _passed(entry: Json) -> str:
    """Return the background jets that pass; with weights their sums, whose ratio is the rejection."""
    jets = f"{entry['survivors']:,} of {entry['background_jets']:,}"
    weights = (entry["survivor_weight"], entry["background_weight"])
    if weights == (entry["survivors"], entry["background_jets"]):
        return jets
    return f"{page.significant(weights[0], 4)} of {page.significant(weights[1], 4)} by weight ({jets} jets)"


def _best(task: Json, signal: str) -> tuple[str, str]:
    """The largest significance improvement of a class, and where it is."""
    for entry in task.get("significance", []):
        found = entry["improvement"]
        if entry["signal"] == signal and found["value"] is not None:
            bounds = f"{page.significant(found['low'])} to {page.significant(found['high'])}"
            return f"{page.significant(found['value'])} ({bounds})", page.number(entry["efficiency"], 2)
    return "–", "–"


def _probe_table(metrics: Json) -> str:
    rows = [
        (
            name,
            str(numbers.get("columns", "")),
            f"{numbers['fit_jets']:,}" if "fit_jets" in numbers else "",
            page.number(numbers["accuracy"]["value"]),
            page.interval(numbers["accuracy"]),
            page.number(numbers["auc"]["value"]),
            page.interval(numbers["auc"]),
        )
        for name, numbers, _ in evaluation_figures.probe_rows(metrics)
    ]
    jets, labels = metrics["jets"], metrics["model"].get("labelled_jets")
    text = f"Probes are fitted on {jets['fit']:,} jets and tested on {jets['test']:,} others."
    if metrics["task"] is not None and labels is not None and labels < jets["fit"]:
        text += f" The head had {labels:,} labels: compare it with the readers that are fitted on as many."
    head = ("reader", "inputs", "fitted on", "accuracy", "68 %", "macro AUC", "68 %")
    return page.table(head, rows) + page.paragraph(text)


def _spread_table(metrics: Json) -> str:
    names = {
        "rankme": ("effective rank (RankMe)", 1),
        "participation_ratio": ("participation ratio", 1),
        "variation": ("share of the length of z that varies", 3),
        "std": ("mean standard deviation", 3),
        "std_min": ("smallest standard deviation", 3),
        "dead": ("dimensions that do not vary", 0),
        "mean_cosine": ("mean cosine of two jets", 3),
        "alignment": ("alignment of two views (2: as far apart as two jets)", 2),
        "uniformity": ("uniformity (0: all point the same way)", 2),
        "dimensions": ("dimensions", 0),
    }
    spreads = metrics["spread"]
    rows = [
        (label, *(page.number(spread[key], digits) for spread in spreads.values()))
        for key, (label, digits) in names.items()
    ]
    return page.table(("", *spreads), rows)


def _provenance(metrics: Json) -> list[str]:
    files = [
        (file["name"], f"{file['entries']:,}", f"{file['bytes']:,}", "yes" if file["trained_on"] else "no")
        for file in metrics["files"]
    ]
    shown = (
        "model",
        "jets",
        "left_out",
        "files_left_out",
        "settings",
        "versions",
        "package_version",
        "date",
        "seconds",
    )
    made = {key: metrics[key] for key in shown if key in metrics}
    return [
        page.folded("Files of the evaluation", page.table(("file", "jets", "bytes", "trained on"), files)),
        page.folded("Model, settings and versions of the evaluation", page.facts(made)),
    ]


def _row(label: str, estimate: Json) -> tuple[str, str, str, str]:
    return label, page.number(estimate["value"]), page.interval(estimate), page.interval(estimate, "95")
