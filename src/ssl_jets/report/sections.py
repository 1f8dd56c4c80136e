"""The sections of a report: figures with captions, tables with numbers and intervals, and where they come from."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from ssl_jets.report import figures, page
from ssl_jets.report.captions import caption
from ssl_jets.report.folders import EvaluationFolder, RunFolder
from ssl_jets.report.names import in_text
from ssl_jets.report.training import collapse, training
from ssl_jets.run import replace

Json = Mapping[str, Any]

PIXELS = 92
"""Pixels of CSS for an inch of a figure: its letters are then as large as those of the text."""


class Album:
    """Draws figures, writes each as PNG to a folder, and embeds it in the page.

    Args:
        folder: for the PNG files.
        prefix: of their names.
    """

    def __init__(self, folder: Path, prefix: str = "") -> None:
        self.folder, self.prefix = folder, prefix

    def add(self, name: str, draw: Callable[[], Figure | None], **values: object) -> list[str]:
        """The figure as HTML with its caption, filled in with `values`; nothing where there is nothing to draw."""
        with figures.style():
            figure = draw()
            if figure is None:
                return []
            stream = io.BytesIO()
            figure.savefig(stream, format="png", metadata={"Software": None})
            width = round(PIXELS * figure.get_figwidth())
            plt.close(figure)
        png = stream.getvalue()
        replace(self.folder / f"{self.prefix}{name}.png", lambda path: path.write_bytes(png))
        return [page.picture(png, width, *caption(name, **values))]


def evaluation_tiles(metrics: Json) -> str:
    """The headline numbers of an evaluation."""
    entries = []
    for name, numbers, _ in figures.probe_rows(metrics):
        accuracy = numbers["accuracy"]
        more = f"accuracy, 68 %: {page.interval(accuracy, digits=3)}; AUC {page.number(numbers['auc']['value'], 3)}"
        entries.append((name, page.number(accuracy["value"], 3), more))
    spread = metrics["spread"]["z"]
    entries.append(("effective rank of z", page.number(spread["rankme"], 1), f"of {spread['dimensions']} dimensions"))
    return page.tiles(entries)


def evaluation(found: EvaluationFolder, album: Album) -> list[str]:
    """All sections of an evaluation."""
    metrics, curves = found.metrics, found.curves
    body = [page.paragraph(note[0].upper() + note[1:] + ".") for note in metrics["notes"]]
    if metrics["task"] is not None:
        rejections = metrics["task"]["rejections"]
        background = in_text(rejections[0]["background"]) if rejections else "background"
        body += [page.heading("Classification by the model's head"), *_task_tables(metrics)]
        body += album.add("roc", lambda: figures.roc(metrics, curves), background=background)
        body += [_rejection_table(metrics)]
        body += album.add("confusion", lambda: figures.confusion(metrics, curves))
        body += album.add("reliability", lambda: figures.reliability(metrics, curves))
    if metrics["probes"]:
        body += [page.heading("Probes of z beside the baselines")]
        body += album.add("probes", lambda: figures.probes(metrics, curves))
        body += [_probe_table(metrics)]
    body += [page.heading("The space of z")]
    classes = ": one class in colour over all jets in grey" if metrics["classes"] else ""
    jets = len(curves["map"]["x"])
    body += album.add("z_map", lambda: figures.z_map(metrics, curves), jets=jets, classes=classes)
    return [*body, _spread_table(metrics), *_provenance(metrics)]


def run_sections(run: RunFolder, album: Album) -> list[str]:
    """Training curves and settings of a run."""
    body: list[str] = []
    if run.lines:
        body += [page.heading("Training"), *album.add("training", lambda: training(run.lines))]
        body += album.add("collapse", lambda: collapse(run.lines), verdicts=_verdicts(run.lines))
    details = [page.folded("Settings (config.yaml)", page.facts(run.settings))]
    if run.model:
        shown = {name: value for name, value in run.model.items() if name not in ("features", "training")}
        details += [page.folded("Model (model/config.json)", page.facts(shown), _feature_table(run.model["features"]))]
        details += [page.folded("Training facts", page.facts(_one_line(run.model["training"])))]
    return [*body, page.heading("How it was made"), *details]


def run_tiles(run: RunFolder) -> str:
    """The headline numbers of a run."""
    train = [line for line in run.lines if line["kind"] == "train"]
    held = [line for line in run.lines if line["kind"] == "validation"]
    entries = []
    if train:
        entries.append(("training loss", page.significant(train[-1]["loss"], 4), f"step {train[-1]['step']:,}"))
    if held:
        entries.append(("held-out loss", page.significant(held[-1]["loss"], 4), f"step {held[-1]['step']:,}"))
    if held and held[-1].get("probe_accuracy") is not None:
        entries.append(
            ("linear probe while training", page.number(held[-1]["probe_accuracy"], 3), "a quick look, no interval")
        )
    if held and held[-1].get("rankme") is not None:
        entries.append(("effective rank of z", page.number(held[-1]["rankme"], 1), "1 is a collapse"))
    if train and train[-1].get("jets_per_second") is not None:
        minutes = train[-1].get("seconds", 0) / 60
        entries.append(("speed", f"{train[-1]['jets_per_second']:,.0f} jets/s", f"{minutes:,.1f} min in all"))
    return page.tiles(entries)


def _verdicts(lines: list[dict[str, Any]]) -> str:
    """The looks that found a collapse, as a sentence."""
    found = [f"{' and '.join(line['collapse'])} at step {line['step']:,}" for line in lines if line.get("collapse")]
    return f" Found: {'; '.join(found)}." if found else ""


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
    return [
        page.paragraph(f"On {jets:,} jets that the model has not seen in training."),
        page.table(("", "value", "68 %", "95 %"), rows),
        page.folded(
            "Numbers by class", page.table(("class", "jets", "accuracy", "68 %", "AUC vs rest", "68 %"), per_class)
        ),
    ]


def _rejection_table(metrics: Json) -> str:
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
                f"{entry['survivors']:,} of {entry['background_jets']:,}",
            )
        )
    return page.table(("signal", "efficiency", "rejection 1/ε_B", "68 %", "background jets that pass"), rows)


def _probe_table(metrics: Json) -> str:
    rows = [
        (
            name,
            str(numbers.get("columns", "")),
            page.number(numbers["accuracy"]["value"]),
            page.interval(numbers["accuracy"]),
            page.number(numbers["auc"]["value"]),
            page.interval(numbers["auc"]),
        )
        for name, numbers, _ in figures.probe_rows(metrics)
    ]
    jets = metrics["jets"]
    return page.table(("reader", "inputs", "accuracy", "68 %", "macro AUC", "68 %"), rows) + page.paragraph(
        f"Probes are fitted on {jets['fit']:,} jets and tested on {jets['test']:,} others."
    )


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
    made = {
        key: metrics[key]
        for key in ("model", "jets", "left_out", "settings", "versions", "package_version", "date", "seconds")
    }
    return [
        page.folded("Files of the evaluation", page.table(("file", "jets", "bytes", "trained on"), files)),
        page.folded("Model, settings and versions of the evaluation", page.facts(made)),
    ]


def _feature_table(features: list[Json]) -> str:
    rows = [(f["name"], f["unit"], page.significant(f["mean"], 4), page.significant(f["std"], 4)) for f in features]
    return page.table(("feature", "unit", "mean", "std"), rows)


def _one_line(values: Json) -> dict[str, Any]:
    """Lists of lists (files, ranges of entries) as lists of texts."""
    texts = dict(values)
    for name, value in values.items():
        if isinstance(value, list):
            texts[name] = [" ".join(map(str, entry)) if isinstance(entry, list) else entry for entry in value]
    return texts


def _row(label: str, estimate: Json) -> tuple[str, str, str, str]:
    return label, page.number(estimate["value"]), page.interval(estimate), page.interval(estimate, "95")
