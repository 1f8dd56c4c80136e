"""Metrics of an evaluation in the model card of its run."""

from __future__ import annotations

from pathlib import Path

from ssl_jets.evaluation.metrics.bootstrap import Estimate
from ssl_jets.evaluation.result import Evaluation
from ssl_jets.sharing.model_card import CONFIG, CardMetric, write_metrics


def update_card(run: Path, evaluation: Evaluation) -> None:
    """Write the metrics into the model card, if the evaluation is in the folder of the run that it measures."""
    model = run / "model"
    inside = evaluation.folder.resolve().is_relative_to(run.resolve())
    if inside and (model / CONFIG).is_file():
        write_metrics(model, card_metrics(evaluation))


def card_metrics(evaluation: Evaluation) -> list[CardMetric]:
    """Return accuracy and AUC of the head, of the probes of z, and the resolution of regressed columns."""
    files = tuple(file.name for file in evaluation.files)
    metrics: list[CardMetric] = []
    if (task := evaluation.task) is not None:
        jets = sum(task.jets.values())
        metrics += [
            CardMetric("head: accuracy", _text(task.accuracy), jets, files),
            CardMetric("head: AUC, one-versus-one", _text(task.auc), jets, files),
        ]
    metrics += [
        CardMetric(
            f"{probe.reader} on z, {probe.fit_jets:,} labels: accuracy", _text(probe.accuracy), probe.test_jets, files
        )
        for probe in evaluation.probes
        if probe.of == "z"
    ]
    metrics += [
        CardMetric(f"{one.target}: resolution", _text(one.resolution), one.jets, files) for one in evaluation.regression
    ]
    return metrics


def _text(estimate: Estimate) -> str:
    if estimate.value is None:
        return "not defined"
    bounds = ["" if bound is None else f"{bound:.4g}" for bound in (estimate.low, estimate.high)]
    return f"{estimate.value:.4g} [{bounds[0]}, {bounds[1]}]"
