"""Evaluate a trained model on files of jets."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssl_jets.arrays import Array, some_rows
from ssl_jets.diagnostics.monitor import spread_and_collapse
from ssl_jets.evaluation.baselines import Baselines
from ssl_jets.evaluation.card import update_card
from ssl_jets.evaluation.evaluation_data import EvaluationData, halves_of, labelled_jets, labels_of, subset
from ssl_jets.evaluation.headline import headline, together
from ssl_jets.evaluation.metrics.classification import ClassificationMetrics, classification_metrics
from ssl_jets.evaluation.metrics.regression import RegressionMetrics
from ssl_jets.evaluation.particles import evaluate_particles
from ssl_jets.evaluation.probes.classes import (
    Labelled,
    knn_probe,
    linear_probe,
    linear_reader,
    scored,
    tree_probe,
)
from ssl_jets.evaluation.probes.results import OBSERVABLES, ProbeResult, RobustnessCurve
from ssl_jets.evaluation.probes.robustness import robustness
from ssl_jets.evaluation.regressed import measure_targets
from ssl_jets.evaluation.result import METRICS, Evaluation, InputFile, ModelFacts, UsedSettings, ZMap
from ssl_jets.evaluation.settings import EvaluateSettings
from ssl_jets.jets import Jets
from ssl_jets.model import with_columns
from ssl_jets.model_file import Model, load_model
from ssl_jets.runtime.atomic import check_folder
from ssl_jets.runtime.console import Log, MessageLog, to_stderr
from ssl_jets.runtime.gpu import default_device
from ssl_jets.runtime.precision import native_precision


def evaluate_model(
    model_path: str | Path,
    sources: Sequence[str],
    out: str | Path,
    *,
    settings: EvaluateSettings = EvaluateSettings(),
    device: str | None = None,
    force: bool = False,
    log: Log = to_stderr,
) -> Evaluation:
    """Measure a model and write `metrics.json` and `curves.json`.

    With labels of two classes or more: linear, kNN and tree probes of z, a linear one of z and observables, baselines,
    and the accuracy on changed jets; for a model with a head, its classification metrics, and all readers fitted on as
    many labels as the head. For a model that regresses columns: bias and resolution. Always: probes of physics
    quantities, representation statistics and collapse verdicts. Skipped parts are logged. Of files that the model was
    trained on, only the jets held out from the training are test jets.

    Args:
        model_path: a run folder, or its `model/`.
        sources: files, folders, patterns, lists (see `resolve_sources`); none means the bundled sample.
        out: folder to write to.
        settings: measurements, labels, bad jets, and the split of files the model was not trained on.
        device: torch device; by default the GPU if there is one.
        force: replace an evaluation.
        log: called with each message.

    Raises:
        SslJetsError: no model, no jets, classes other than of the head, or an evaluation that exists.
    """
    began = time.perf_counter()
    check_folder(Path(out), METRICS, force=force)
    model = load_model(model_path)
    note = MessageLog(log)
    data = EvaluationData.of([model], sources, settings, note)
    where = default_device(device)
    measured = measure(model, data, Baselines(data, where), Path(out), where, began)
    measured.evaluation.write()
    update_card(Path(model_path), measured.evaluation)
    return measured.evaluation


@dataclass(frozen=True)
class Measured:
    """Evaluation of a model, with the predictions that a comparison of models needs.

    Attributes:
        evaluation: its numbers.
        z: of the test jets, `[jet, D]`.
        probed: probabilities of the linear probe for the test jets, `[jet, class]`; None without labels.
        headed: probabilities of the head for the task jets, `[jet, class]`; None without a head or labels.
        regressed: columns regressed for the task jets, `[jet, target]`; None without a regressor.
        targets: their names.
    """

    evaluation: Evaluation
    z: Array
    probed: Array | None
    headed: Array | None
    regressed: Array | None
    targets: tuple[str, ...]


def measure(
    model: Model,
    data: EvaluationData,
    baselines: Baselines,
    out: Path,
    device: torch.device,
    began: float | None = None,
) -> Measured:
    """Evaluate one model on jets in memory; nothing is written."""
    began = time.perf_counter() if began is None else began
    evaluating = _ModelEvaluation(model, data, baselines, device)
    results = evaluating.labelled() if data.classes else evaluating.unlabelled()
    results |= evaluate_particles(model, data, device)._asdict()
    collapsed = [f"z has collapsed: {verdict.text}" for verdict in results["collapse"]]
    for line in collapsed:
        data.note.log(line)  # of this model: the notes of `data` are of all models
    evaluation = Evaluation(
        folder=out,
        model=_facts_of(model),
        files=_input_files(data),
        classes=data.classes,
        leaked=data.roles.leaked,
        left_out=dict(data.skipped),
        files_left_out=data.files_left_out,
        settings=_used_settings(data.settings, device),
        headline=headline(results["probes"]),
        against_observables=headline(results["probes"], (OBSERVABLES,)),
        with_observables=together(results["probes"]),
        notes=[*data.note.messages, *collapsed],
        seconds=round(time.perf_counter() - began, 2),
        **results,
    )
    targets = () if model.regressor is None else model.regressor.names
    return Measured(evaluation, evaluating.z_test, evaluating.probed, evaluating.headed, evaluating.regressed, targets)


def _facts_of(model: Model) -> ModelFacts:
    """Return the facts of a model that its evaluation has."""
    encoder = model.encoder
    return ModelFacts(
        sha256=model.sha256,
        method=model.method,
        parameters=model.parameters,
        dim=encoder.dim,
        encoder=encoder.cfg.model_dump(mode="json"),
        head=model.head is not None,
        labelled_jets=labelled_jets(model),
    )


def _input_files(data: EvaluationData) -> list[InputFile]:
    """Return the files of an evaluation, with their use in the training."""
    return [
        InputFile(file.name, file.bytes, file.entries, trained, bool(file.label_names))
        for file, trained in zip(data.files, data.roles.trained)
    ]


def _used_settings(settings: EvaluateSettings, device: torch.device) -> UsedSettings:
    """Return the settings that numbers depend on."""
    data = settings.data
    return UsedSettings.of(
        settings,
        validation_fraction=data.validation_fraction,
        split_seed=data.split_seed,
        precision=native_precision(device),
        device=device.type,
    )


class _ModelEvaluation:
    """Evaluation of one model on jets in memory."""

    def __init__(self, model: Model, data: EvaluationData, baselines: Baselines, device: torch.device) -> None:
        self.model, self.data, self.baselines, self.device = model, data, baselines, device
        self.z_test = model.embed(data.test, device=device)
        self.seed = data.seed
        self.probed: Array | None = None
        self.headed: Array | None = None
        self.regressed: Array | None = None

    def unlabelled(self) -> dict[str, Any]:
        """Return the results that need no labels of two classes."""
        data, model = self.data, self.model
        physics = self.baselines.physics_of(model, "z")
        jets = {"test": len(data.test)}
        if physics:
            untrained = self.baselines.untrained(model)
            physics = [*physics, *untrained.physics, *self.baselines.reference]
            jets |= {"physics fit": len(data.fit), "physics test": len(data.probed)}
        return {
            "jets": jets,
            "physics": physics,
            "task": None,
            "probes": [],
            "regression": self.regression(self.z_test),
            **self.spread_and_collapse(),
            "map": ZMap.of(self.z_test, np.full(len(self.z_test), -1), self.seed),
        }

    def labelled(self) -> dict[str, Any]:
        """Return task metrics, probes and baselines."""
        data, model, log = self.data, self.model, self.data.note.log
        log("probes of z and of the baselines")
        z_fit = model.embed(data.fit, device=self.device)
        fit, test = data.labelled(data.fit, z_fit), data.labelled(data.test, self.z_test)
        reader = linear_reader(fit, len(data.classes))
        self.probed = reader(self.z_test)
        untrained = self.baselines.untrained(model)
        probes = [scored("linear", "z", fit.x.shape, test, self.probed, self.seed), *self._others(fit, test)]
        if (rows := data.with_labels_of(model)) is not None:
            few = fit.some(rows)
            probes += [linear_probe(few, test, seed=self.seed), *self._others(few, test, rows)]
        jets = {"fit": len(data.fit), "test": len(data.test)}
        z_task = self.z_test if data.task is data.test else model.embed(data.task, device=self.device)
        task = None
        if model.head is not None:
            self.headed = model.probabilities(z_task, data.classes)
            task = head_metrics(self.headed, data)
        if model.head is not None or model.regressor is not None:
            jets["task"] = len(data.task)
        log("physics quantities in z, changed jets, spread of z")
        physics = self.baselines.physics(z_fit, self.z_test, "z")
        return {
            "jets": jets,
            "task": task,
            "probes": probes,
            "regression": self.regression(z_task),
            "physics": [*physics, *untrained.physics, *(self.baselines.reference if physics else [])],
            "robustness": self.robustness(reader),
            **self.spread_and_collapse(),
            "map": ZMap.of(self.z_test, labels_of(data.test), self.seed),
        }

    def _others(self, fit: Labelled, test: Labelled, rows: Array | None = None) -> list[ProbeResult]:
        """Fit all probes but the linear one of z, and the baselines, on `rows` of `EvaluationData.fit`."""
        found = [knn_probe(fit, test, seed=self.seed), self.baselines.with_observables(fit, test, rows)]
        if most := self.data.settings.evaluate.physics_jets:
            found.append(tree_probe(fit.first(most, self.seed), test, of="z", seed=self.seed))
        return [*found, *self.baselines.probes(self.model, rows)]

    def regression(self, z_task: Array) -> list[RegressionMetrics]:
        """Return the metrics of the model's regressor; none without one."""
        if self.model.regressor is None:
            return []
        self.regressed = self.model.regressed(z_task)
        return regressed_metrics(self.regressed, self.model.regressor.names, self.data)

    def robustness(self, reader: Callable[[Array], Array]) -> list[RobustnessCurve]:
        """Measure the head, or the linear probe without one, on changed jets."""
        data, most = self.data, self.data.settings.evaluate.robust_jets
        if not most:
            return []
        chosen = with_columns(subset(data.test, some_rows(len(data.test), most, self.seed)), self.model.columns)

        def read(jets: Jets) -> Array:
            z = self.model.embed(jets, device=self.device)
            return self.model.probabilities(z, data.classes) if self.model.head is not None else reader(z)

        weights = data.weights(chosen)
        return robustness(read, chosen, labels_of(chosen), weights=weights, seed=self.seed)

    def spread_and_collapse(self) -> dict[str, Any]:
        """Return representation statistics of model and random weights, and collapse verdicts."""
        untrained = self.baselines.untrained(self.model)
        embed, embed_untrained = (partial(one.embed, device=self.device) for one in (self.model, untrained.model))
        pairs = (embed, self.z_test), (embed_untrained, untrained.z_test)
        targets = any((self.model.head, self.model.regressor, self.model.training.get("labelled_jets")))
        return spread_and_collapse(self.data.test, *pairs, targets=targets)


def head_metrics(headed: Array, data: EvaluationData) -> ClassificationMetrics:
    """Return the metrics of probabilities for the task jets, `[jet, class]`."""
    jets = data.task
    return classification_metrics(
        headed,
        labels_of(jets),
        data.classes,
        weights=data.weights(jets),
        first=halves_of(jets),
        background=data.settings.evaluate.background,
        efficiencies=data.settings.evaluate.efficiencies or None,
        seed=data.seed,
    )


def regressed_metrics(predicted: Array, names: Sequence[str], data: EvaluationData) -> list[RegressionMetrics]:
    """Return the metrics of regressed columns `[task jet, target]`, for targets that the files have."""
    columns = {name: values.numpy() for name, values in data.task.jet.items()}
    by_name, weights = dict(zip(names, predicted.T, strict=True)), data.weights(data.task)
    return measure_targets(by_name, columns, weights, data.note, lacking="the files lack", seed=data.seed)
