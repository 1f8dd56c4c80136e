"""The protocol `labels`: accuracy against the number of labels, finetuned, from scratch, and of baselines.

Every training takes the same number of steps, and all are tested on the same jets, which neither the pretraining of any
model nor the finetuning has seen. At each share of the labels there are several seeds, each with its own subset.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from ssl_jets.arrays import Array
from ssl_jets.config import DataSettings
from ssl_jets.data.dataset import Dataset, open_dataset
from ssl_jets.data.inputs import columns_of
from ssl_jets.data.request import Request
from ssl_jets.data.seen import Seen
from ssl_jets.data.subset import choose_subset
from ssl_jets.errors import DataError
from ssl_jets.evaluation.compare import names_of
from ssl_jets.evaluation.evaluation_data import EvaluationData, labels_of, tree_inputs
from ssl_jets.evaluation.metrics.bootstrap import Bootstrap, effective
from ssl_jets.evaluation.metrics.classification import accuracy_and_auc_rows, largest_class
from ssl_jets.evaluation.probes.classes import STRENGTHS, TREE_COLUMNS, TREE_SIZES, fitted_trees, linear_reader
from ssl_jets.evaluation.probes.deep_sets import trained_deep_sets
from ssl_jets.evaluation.probes.observables import INPUTS, observable_inputs
from ssl_jets.evaluation.result_base import Result
from ssl_jets.evaluation.settings import EvaluateSettings, LabelSettings
from ssl_jets.finetuning import finetune, resolve_finetune
from ssl_jets.model_file import Model, load_model
from ssl_jets.protocols.cache import ResultCache
from ssl_jets.protocols.labels_result import (
    DEEP_SETS,
    LINEAR_OBSERVABLES,
    SCRATCH,
    TREES,
    TREES_OBSERVABLES,
    LabelCurves,
    LabelPoint,
    LabelTraining,
    PretrainedModel,
    UsedLabelSettings,
)
from ssl_jets.runtime.atomic import open_to_append
from ssl_jets.runtime.console import Log, MessageLog, to_stderr
from ssl_jets.runtime.gpu import default_device


@dataclass(frozen=True)
class LabelCurve:
    """One line of the figure: a model in a mode, the network from scratch, or a baseline without a model."""

    name: str
    mode: str
    model: Path | None
    sha256: str

    def file_name(self, share: float) -> str:
        """Return the stem of the files of a point: `mae-full-0.01`."""
        return f"{self.name.replace(' ', '-')}-{share:g}"


def label_curves(
    models: Sequence[str | Path],
    sources: Sequence[str],
    out: str | Path,
    *,
    settings: EvaluateSettings = EvaluateSettings(),
    device: str | None = None,
    log: Log = to_stderr,
) -> LabelCurves:
    """Finetune each model on growing shares of the labels, and write `labels.json`.

    Baselines, on the same subsets: the network of the first model from scratch, trees on jet columns, linear and trees
    on observables computed from the particles, and Deep Sets (`evaluate.deep_sets`). A stopped protocol resumes:
    finished points are in `out/pieces`, the last checkpoint of a stopped training in `out/runs`.
    Settings: `labels.*`, and `data.*` for the split.

    Raises:
        SslJetsError: no labels, no jets left to test on, or an error of finetuning.
    """
    data = settings.data.model_copy(update={"sources": tuple(sources)})
    settings, out, log = settings.model_copy(update={"data": data}), Path(out), MessageLog(log)
    paths = [Path(path) for path in models]
    loaded = dict(zip(names_of(paths), (load_model(path) for path in paths), strict=True))
    settings = _with_split_of(next(iter(loaded.values())), settings)
    dataset = open_dataset(settings.data)
    if not dataset.label_names:
        where = ", ".join(dataset.names[:8])
        raise DataError("the protocol labels needs labels, and these files have none", where=where)
    to_come = Seen.of_parts(dataset.files, dataset.train, dataset.held_out).facts()
    # The columns of the modes that train the embedding, which can be more than those of the pretraining.
    read = (columns_of(model.encoder.cfg, dataset.files) or dataset.columns for model in loaded.values())
    to_come["columns"] = list(dict.fromkeys(name for columns in read for name in columns))
    evaluation = EvaluationData.of(list(loaded.values()), settings.data.sources, settings, log, also=[to_come])
    evaluation.need_classes("the protocol labels")
    curves = list(_curves(loaded, paths, settings.labels, deep_sets=settings.evaluate.deep_sets))
    assert evaluation.task.source is not None
    provenance = {
        "files": [list(file.identity) for file in dataset.files],
        "data": settings.data.model_dump(mode="json"),
        # Other models can leave other test jets.
        "tested": hashlib.sha256(evaluation.task.source.numpy().tobytes()).hexdigest(),
    }
    total = len(curves) * len(settings.labels.shares) * settings.labels.seeds
    cache = ResultCache(out / "pieces", provenance, total, log.log)
    trainings = _CurveTrainings(out, dataset, evaluation, settings, default_device(device))
    result = LabelCurves(
        models={name: PretrainedModel(sha256=model.sha256, method=model.method) for name, model in loaded.items()},
        **provenance,
        classes=dataset.label_names,
        settings=UsedLabelSettings(**settings.labels.model_dump(), figures=settings.figures),
        test_jets=len(evaluation.task),
        effective_test_jets=effective(evaluation.weights(evaluation.task)),
        largest_class=largest_class(labels_of(evaluation.task), evaluation.weights(evaluation.task)),
        leaked=evaluation.roles.leaked,
        curves=[curve.name for curve in curves],
        points=_points(curves, settings.labels, trainings, cache),
        notes=log.messages,
        folder=out,
    )
    result.write()
    return result


def _curves(
    loaded: Mapping[str, Model], paths: Sequence[Path], settings: LabelSettings, *, deep_sets: bool
) -> Iterator[LabelCurve]:
    for (name, model), path in zip(loaded.items(), paths, strict=True):
        for mode in settings.modes:
            yield LabelCurve(f"{name} {mode}", mode, path, model.sha256)
    first = next(iter(loaded.values()))
    yield LabelCurve(SCRATCH, "scratch", paths[0], first.sha256)
    yield LabelCurve(TREES, "trees", None, "")
    yield LabelCurve(LINEAR_OBSERVABLES, "observables-linear", None, "")
    yield LabelCurve(TREES_OBSERVABLES, "observables-trees", None, "")
    if deep_sets:
        yield LabelCurve(DEEP_SETS, "deep-sets", None, "")


def _with_split_of(model: Model, settings: EvaluateSettings) -> EvaluateSettings:
    """Return the settings with the split of the pretraining; a split that the user sets is kept."""
    training = model.training
    defaults = DataSettings()
    split = {}
    for key in ("validation_fraction", "split_seed"):
        is_default = getattr(settings.data, key) == getattr(defaults, key)
        if is_default and training.get(key) is not None:
            split[key] = training[key]
    data = settings.data.model_copy(update=split)
    evaluate = settings.evaluate.model_copy(update={"test_jets": settings.labels.test_jets})
    return settings.model_copy(update={"data": data, "evaluate": evaluate})


def _points(
    curves: Sequence[LabelCurve], settings: LabelSettings, trainings: _CurveTrainings, cache: ResultCache
) -> list[LabelPoint]:
    """Return the points of all curves, by rising share; each is logged."""
    points = []
    for share in sorted(settings.shares):
        for curve in curves:
            facts = {
                "model": curve.sha256,
                "mode": curve.mode,
                "share": share,
                "steps": settings.steps,
                "batch_size": settings.batch_size,
                "test_jets": settings.test_jets,
            }
            if curve.model is None:  # baselines read the columns of all models
                facts["columns"] = trainings.evaluation.columns
            if curve.name in (LINEAR_OBSERVABLES, TREES_OBSERVABLES):
                facts["observables"] = INPUTS
            if curve.name == LINEAR_OBSERVABLES:
                facts["strengths"] = STRENGTHS
            if curve.name in (TREES, TREES_OBSERVABLES):
                facts["trees"] = TREE_SIZES
            seeds = []
            for seed in range(settings.seeds):
                measure = partial(trainings.measure, curve, share, seed)
                seeds.append(cache.get(f"{curve.file_name(share)}-{seed}", facts, measure, LabelTraining))
            points.append(LabelPoint.of(curve.name, share, seeds))
            cache.log(_line(points[-1]))
    return points


class _TrainingFacts(Result):
    """Facts of a finetuning in its model file."""

    model_config = ConfigDict(extra="ignore")

    labelled_jets: int
    seconds: float
    steps: int


@dataclass(frozen=True)
class _CurveTrainings:
    """Trainings of the points, each measured on the same test jets."""

    out: Path
    data: Dataset
    evaluation: EvaluationData
    settings: EvaluateSettings
    device: Any

    def measure(self, curve: LabelCurve, share: float, seed: int) -> LabelTraining:
        """Train on a share of the labels, and measure accuracy and AUC."""
        if curve.model is None:
            return self._baseline(curve.mode, share, seed)
        return self._network(curve, curve.model, share, seed)

    def _network(self, curve: LabelCurve, path: Path, share: float, seed: int) -> LabelTraining:
        settings = self.settings.labels
        same = {"sources", "validation_fraction", "split_seed", "bad_jets", "bad_files"}
        same |= {"labels", "weights", "format", "jets", "where"}
        layers = {
            "data": self.settings.data.model_dump(mode="json", include=same),
            "method": {"mode": curve.mode, "labels": share, "subset_seed": seed},
            "train": {
                "steps": settings.steps,
                "batch_size": settings.batch_size,
                "seed": seed,
                "validation_jets": 500,
                "validate_every": 10**6,
            },
        }
        # Other settings or files have another folder: their trainings cannot be resumed with these.
        made_from = [layers, curve.sha256, [file.identity for file in self.data.files]]
        digest = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:8]
        folder = self.out / "runs" / f"{curve.file_name(share)}-{seed}-{digest}"
        folder.parent.mkdir(parents=True, exist_ok=True)
        with open_to_append(folder.parent / f"{folder.name}.log") as log, redirect_stderr(log):
            finetune(resolve_finetune(path, layers), folder, resume=True)
        model = load_model(folder)
        z = model.embed(self.evaluation.task, device=self.device)
        facts = _TrainingFacts.model_validate(model.facts.get("training"))
        accuracy, auc = self._score(model.probabilities(z, self.evaluation.classes))
        return LabelTraining(
            accuracy=accuracy, auc=auc, labels=facts.labelled_jets, seconds=facts.seconds, steps=facts.steps
        )

    def _baseline(self, mode: str, share: float, seed: int) -> LabelTraining:
        """Fit a baseline on the same subset of the labels."""
        available = set.intersection(*(set(file.jet_columns) for file in self.data.files))
        columns = tuple(name for name in TREE_COLUMNS if name in available)
        request = Request.of(self.settings.data, columns, self.evaluation.columns, weighted=True)
        jets = choose_subset(self.data.files, self.data.train, share, seed, request)
        test, classes = self.evaluation.task, len(self.evaluation.classes)
        of_columns = mode in ("trees", "deep-sets")
        x_fit, x_test = (tree_inputs(jets), tree_inputs(test)) if of_columns else observable_inputs(jets, test)
        fit = self.evaluation.labelled(jets, x_fit)
        if mode == "deep-sets":
            probabilities = trained_deep_sets(jets, fit, classes, seed)(test)
        elif mode == "observables-linear":
            probabilities = linear_reader(fit, classes)(x_test)
        else:
            probabilities = fitted_trees(fit, classes, seed)(x_test)
        accuracy, auc = self._score(probabilities)
        return LabelTraining(accuracy=accuracy, auc=auc, labels=len(jets))

    def _score(self, probabilities: Array) -> tuple[float, float]:
        """Return accuracy and macro AUC of probabilities `[jet, class]` of the test jets."""
        jets = self.evaluation.task
        bootstrap = Bootstrap(len(jets), 1, 0, self.evaluation.weights(jets))
        accuracy, auc = accuracy_and_auc_rows(probabilities, labels_of(jets), bootstrap)
        return float(accuracy[0]), float(auc[0])


def _line(point: LabelPoint) -> str:
    return f"{point.curve}, {point.labels:,} labels: accuracy {point.accuracy:.4f} +- {point.accuracy_std:.4f}"
