"""The protocol `labels`: accuracy against the number of labels, finetuned, from scratch, and trees.

Every training takes the same number of steps, and all are tested on the same jets: those that neither the pretraining
of any model nor the finetuning has seen. At each share of the labels there are several seeds, each with its own subset.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ssl_jets import __version__
from ssl_jets.arrays import Array
from ssl_jets.config import DataSettings
from ssl_jets.data.dataset import Dataset, open_dataset
from ssl_jets.data.loading.stream import Request
from ssl_jets.data.seen import Seen
from ssl_jets.data.subset import choose
from ssl_jets.embedding.predict import encode, probabilities
from ssl_jets.errors import DataError
from ssl_jets.evaluation.compare import names_of
from ssl_jets.evaluation.evaluation_data import EvaluationData, labels_of, tree_inputs
from ssl_jets.evaluation.metrics.bootstrap import Bootstrap
from ssl_jets.evaluation.metrics.classification import accuracy_and_auc_rows, largest_class
from ssl_jets.evaluation.one import torch_device
from ssl_jets.evaluation.probes.classes import TREE_COLUMNS, Labelled, fitted_trees
from ssl_jets.evaluation.result import FORMAT_VERSION, plain, versions
from ssl_jets.evaluation.settings import EvaluateSettings
from ssl_jets.evaluation.tables import plain_table
from ssl_jets.finetuning import finetune, resolve_finetune
from ssl_jets.model_file import Model, load_model
from ssl_jets.protocols.cache import ResultCache
from ssl_jets.runtime.atomic import open_to_append, write_text
from ssl_jets.runtime.console import Log, MessageLog, to_stderr
from ssl_jets.runtime.short_repr import ShortRepr

LABELS = "labels.json"
SCRATCH, TREES = "from scratch", "boosted trees"

_SETTINGS = EvaluateSettings()


@dataclass(frozen=True, repr=False)
class LabelCurves(ShortRepr):
    """The outcome of `label_curves`; the contents of `labels.json` are in `metrics`."""

    folder: Path
    metrics: dict[str, Any]


@dataclass(frozen=True)
class LabelCurve:
    """One line of the figure: a model in a mode, the network from scratch, or trees (no model)."""

    name: str
    mode: str
    model: Path | None
    sha256: str


def label_curves(
    models: Sequence[str | Path],
    sources: Sequence[str],
    out: str | Path,
    *,
    settings: EvaluateSettings = _SETTINGS,
    device: str | None = None,
    say: Log = to_stderr,
) -> LabelCurves:
    """Finetune each model on growing shares of the labels, and write `labels.json`.

    Beside the models stand the network of the first one from scratch, and trees on jet columns of the same subsets. A
    protocol that was stopped goes on where it was: what is finished lies in `out/pieces`; of a training that was
    stopped, the last checkpoint in `out/runs`.

    Args:
        models: run folders of pretrained models.
        sources: jets with labels, of which a part is held out to test on, as `evaluate_model`.
        out: folder to write to.
        settings: `labels.*`, and `data.*` for the split.
        device, say: as `evaluate_model`.

    Raises:
        SslJetsError: no labels, no jets left to test on, or what finetuning refuses.
    """
    out, tell = Path(out), MessageLog(say)
    paths = [Path(path) for path in models]
    loaded = dict(zip(names_of(paths), (load_model(path) for path in paths), strict=True))
    settings = _split_of(settings, next(iter(loaded.values())), sources)
    data = open_dataset(settings.data)
    if not data.label_names:
        raise DataError("the protocol labels needs labels, and these files have none", where=", ".join(data.names[:8]))
    bench = EvaluationData.of(list(loaded.values()), sources, settings, tell, also=[_facts(data)])
    bench.need_classes("the protocol labels")
    curves = list(_curves(loaded, paths, settings))
    wanted = settings.labels
    assert bench.task.source is not None
    tested = hashlib.sha256(bench.task.source.numpy().tobytes()).hexdigest()  # other models can leave other jets
    made = {"files": [list(file.identity) for file in data.files], "data": settings.data.model_dump(mode="json")}
    made |= {"tested": tested}
    pieces = ResultCache(out / "pieces", made, len(curves) * len(wanted.shares) * wanted.seeds, say)
    work = _CurvePoints(out, data, bench, settings, device)
    points = []
    for share in sorted(wanted.shares):
        for curve in curves:
            facts = {"model": curve.sha256, "mode": curve.mode, "share": share, "steps": wanted.steps}
            facts |= {"batch_size": wanted.batch_size, "test_jets": wanted.test_jets}
            name = f"{curve.name.replace(' ', '-')}-{share:g}"
            makers = [partial(work.point, curve, share, seed) for seed in range(wanted.seeds)]
            found = [pieces.get(f"{name}-{seed}", facts, make) for seed, make in enumerate(makers)]
            points.append({"curve": curve.name, "share": share, **_summary(found)})
            say(_line(points[-1]))
    metrics = plain(
        {
            "format_version": FORMAT_VERSION,
            "package_version": __version__,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": versions(),
            "models": {name: {"sha256": model.sha256, "method": model.method} for name, model in loaded.items()},
            **made,
            "classes": data.label_names,
            "settings": {**wanted.model_dump(mode="json"), "figures": settings.figures.model_dump()},
            "test_jets": len(bench.task),
            "largest_class": largest_class(labels_of(bench.task), bench.weights(bench.task)),
            "leaked": bench.roles.leaked,
            "curves": [curve.name for curve in curves],
            "points": points,
            "notes": tell.said,
        }
    )
    text = json.dumps(metrics, indent=1) + "\n"
    write_text(out / LABELS, text)
    return LabelCurves(out, metrics)


def _curves(loaded: Mapping[str, Model], paths: Sequence[Path], settings: EvaluateSettings) -> Iterator[LabelCurve]:
    for (name, model), path in zip(loaded.items(), paths, strict=True):
        for mode in settings.labels.modes:
            yield LabelCurve(f"{name} {mode}", mode, path, model.sha256)
    first = next(iter(loaded.values()))
    yield LabelCurve(SCRATCH, "scratch", paths[0], first.sha256)
    yield LabelCurve(TREES, "trees", None, "")


def _split_of(settings: EvaluateSettings, model: Model, sources: Sequence[str]) -> EvaluateSettings:
    """The settings with the sources, and with the split of the pretraining where nothing else was asked for."""
    training = model.facts.get("training", {})
    keys = ("validation_fraction", "split_seed")
    standard = DataSettings()
    asked = {key for key in keys if getattr(settings.data, key) != getattr(standard, key)}
    free = [key for key in keys if training.get(key) is not None and key not in asked]
    split = {key: training[key] for key in free}
    data = settings.data.model_copy(update={"sources": tuple(sources), **split})
    evaluate = settings.evaluate.model_copy(update={"test_jets": settings.labels.test_jets})
    return settings.model_copy(update={"data": data, "evaluate": evaluate})


def _facts(data: Dataset) -> dict[str, Any]:
    """What the finetunings will have seen, as a model remembers it."""
    return Seen.of_parts(data.files, data.train, data.held_out).facts()


class _CurvePoints:
    """Makes the points."""

    def __init__(
        self, out: Path, data: Dataset, bench: EvaluationData, settings: EvaluateSettings, device: str | None
    ) -> None:
        self.out, self.data, self.bench, self.settings = out, data, bench, settings
        self.device = torch_device(device)

    def point(self, curve: LabelCurve, share: float, seed: int) -> dict[str, Any]:
        """Accuracy and area of one training."""
        return self._trees(share, seed) if curve.model is None else self._network(curve, share, seed)

    def _network(self, curve: LabelCurve, share: float, seed: int) -> dict[str, Any]:
        wanted, data = self.settings.labels, self.settings.data
        same = {"sources", "validation_fraction", "split_seed", "bad_jets", "bad_files"}
        same |= {"labels", "weights", "format", "jets"}
        layers = {
            "data": data.model_dump(mode="json", include=same),
            "method": {"mode": curve.mode, "labels": share, "subset_seed": seed},
            "train": {
                "steps": wanted.steps,
                "batch_size": wanted.batch_size,
                "seed": seed,
                "validation_jets": 500,
                "validate_every": 10**6,
            },
        }
        assert curve.model is not None
        # Another folder for other settings or files: a training of theirs cannot be gone on with.
        made_from = [layers, curve.sha256, [file.identity for file in self.data.files]]
        mark = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:8]
        folder = self.out / "runs" / f"{curve.name.replace(' ', '-')}-{share:g}-{seed}-{mark}"
        folder.parent.mkdir(parents=True, exist_ok=True)
        with open_to_append(folder.parent / f"{folder.name}.log") as log, redirect_stderr(log):
            finetune(resolve_finetune(curve.model, layers), folder, resume=True)
        model = load_model(folder)
        z = encode(model.encoder, self.bench.task, self.device)
        facts = model.facts["training"]
        found = self._scored(probabilities(model, z, self.bench.classes))
        return found | {"labels": facts["labelled_jets"], "seconds": facts["seconds"], "steps": facts["steps"]}

    def _trees(self, share: float, seed: int) -> dict[str, Any]:
        there = set.intersection(*(set(file.jet_columns) for file in self.data.files))
        columns = tuple(name for name in TREE_COLUMNS if name in there)
        request = Request.of(self.settings.data, columns, weighted=True)
        jets = choose(self.data.files, self.data.train, share, seed, request)
        fit = Labelled(tree_inputs(jets), labels_of(jets), self.bench.weights(jets))
        found = fitted_trees(fit, len(self.bench.classes), seed)(tree_inputs(self.bench.task))
        return self._scored(found) | {"labels": len(jets)}

    def _scored(self, found: Array) -> dict[str, Any]:
        jets = self.bench.task
        bootstrap = Bootstrap(len(jets), 1, 0, self.bench.weights(jets))
        accuracy, auc = accuracy_and_auc_rows(found, labels_of(jets), bootstrap)
        return {"accuracy": float(accuracy[0]), "auc": float(auc[0])}


def labels_table(found: LabelCurves) -> str:
    """What to print of label curves: mean and standard deviation over seeds."""
    rows = [
        (
            f"{100 * point['share']:g} %",
            f"{point['labels']:,}",
            point["curve"],
            f"{point['accuracy']:.4f} +- {point['accuracy_std']:.4f}",
            f"{point['auc']:.4f} +- {point['auc_std']:.4f}",
        )
        for point in found.metrics["points"]
    ]
    return plain_table(("share", "labels", "curve", "accuracy", "macro AUC"), rows)


def _summary(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation over seeds, and every seed."""
    summary: dict[str, Any] = {"labels": found[0]["labels"], "seeds": [dict(one) for one in found]}
    for key in ("accuracy", "auc"):
        values = np.array([one[key] for one in found])
        summary |= {key: float(values.mean()), f"{key}_std": float(values.std(ddof=1))}
    return summary


def _line(point: Mapping[str, Any]) -> str:
    accuracy = f"{point['accuracy']:.4f} +- {point['accuracy_std']:.4f}"
    return f"{point['curve']}, {point['labels']:,} labels: accuracy {accuracy}"
