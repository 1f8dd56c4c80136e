"""Sections of a run: training curves, collapse, settings, model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ssl_jets.evaluation.generated.result import GeneratedEvaluation
from ssl_jets.protocols.anomaly_result import AnomalyScan
from ssl_jets.protocols.domain_result import DomainResult
from ssl_jets.protocols.labels_result import LabelCurves
from ssl_jets.report import page
from ssl_jets.report.album import Album
from ssl_jets.report.figures.spectra import spectra
from ssl_jets.report.figures.training import collapse, training
from ssl_jets.report.folders import RunFolder
from ssl_jets.report.numbers import spectrum_bins, training_lines
from ssl_jets.report.sections.anomaly import anomaly_sections
from ssl_jets.report.sections.domain import domain_sections
from ssl_jets.report.sections.generated import generated_sections
from ssl_jets.report.sections.labels import label_sections

Json = Mapping[str, Any]

_LISTED = ("features", "context", "collections", "training")
"""Keys of a model's description that are shown apart."""


def run_sections(run: RunFolder, album: Album) -> list[str]:
    """Return training curves and settings of a run."""
    body: list[str] = []
    drawn = album.add("training", lambda: training(run.lines), training_lines(run.lines, "train", "validation"))
    looks = training_lines(run.lines, "check", "validation")
    drawn += album.add("collapse", lambda: collapse(run.lines), looks, verdicts=_verdicts(run.lines))
    if run.spectrum:
        effective = ", ".join(f"{name or 'all jets'} {share:.0%}" for name, share in run.spectrum["effective"].items())
        drawn += album.add("spectra", lambda: spectra(run.spectrum), spectrum_bins(run.spectrum), effective=effective)
    if drawn:
        body += [page.heading("Training"), *drawn]
    return [*body, page.heading("Provenance"), *run_facts(run)]


def run_facts(run: RunFolder) -> list[str]:
    """Return settings, model and training facts of a run, to open."""
    details = [page.folded("Settings (config.yaml)", page.facts(run.settings))]
    if run.model:
        shown = {name: value for name, value in run.model.items() if name not in _LISTED}
        features = [*run.model["features"], *run.model.get("context", []), *run.model.get("collections", [])]
        table = page.table(("feature", "unit", "mean", "std"), map(_feature_row, features))
        details += [page.folded("Model (model/config.json)", page.facts(shown), table)]
        details += [page.folded("Training facts", page.facts(run.model["training"]))]
    return details


def run_tiles(run: RunFolder) -> str:
    """Return the headline numbers of a run."""
    train = [line for line in run.lines if line["kind"] == "train" and line["loss"] is not None]  # null: skipped
    held = [line for line in run.lines if line["kind"] == "validation"]
    entries = []
    if train:
        entries.append(("training loss", page.significant(train[-1]["loss"], 4), f"step {train[-1]['step']:,}"))
    if held and held[-1].get("loss") is not None:  # no held-out jet may have a target
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
    """Return the steps with a collapse verdict as a sentence."""
    found = [f"{' and '.join(line['collapse'])} at step {line['step']:,}" for line in lines if line.get("collapse")]
    return f" Found: {'; '.join(found)}." if found else ""


def _feature_row(feature: Json) -> tuple[str, ...]:
    if "mean" not in feature:
        return feature["name"], f"{len(feature['categories'])} categories", "", ""
    transform = feature.get("transform", "none")  # of the features of a schema
    unit = feature["unit"] if transform == "none" else f"{transform} {feature['unit']}"
    return feature["name"], unit, page.significant(feature["mean"], 4), page.significant(feature["std"], 4)


PartResult = GeneratedEvaluation | LabelCurves | AnomalyScan | DomainResult

PARTS: dict[type[PartResult], tuple[str, Callable[[Any, Album], list[str]]]] = {
    GeneratedEvaluation: ("Generated jets", generated_sections),
    LabelCurves: ("Label curves", label_sections),
    AnomalyScan: ("Search for anomalies", anomaly_sections),
    DomainResult: ("Simulation and data", domain_sections),
}
"""Title and sections of the results that a run folder may have."""


def inside(run: Path, figures: Path, of: str = "") -> list[str]:
    """Return one part of the page for each comparison and protocol in a run; `of` names the run among several."""
    prefix, whose = (f"{of}-", f", {of}") if of else ("", "")
    body = []
    for kind, (title, sections_of) in PARTS.items():
        for path in sorted(run.glob(f"*/{kind.NAME}.json")):
            result, name = kind.read(path.parent), path.parent.name
            named = "" if name == kind.NAME else f": {name}"
            album = Album(figures, f"{prefix}{name}-", result.settings.figures)
            body.append(page.part(f"{title}{named}{whose}", sections_of(result, album)))
    return body
