"""Evaluation of a scores file of `predict`, without its model."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ssl_jets.arrays import Array
from ssl_jets.data.skipped import require_jets
from ssl_jets.data.split import first_halves
from ssl_jets.errors import DataError, UsageError
from ssl_jets.evaluation.evaluation_data import KINEMATICS
from ssl_jets.evaluation.metrics.classification import ClassificationMetrics, classification_metrics
from ssl_jets.evaluation.metrics.regression import RegressionMetrics
from ssl_jets.evaluation.regressed import measure_targets
from ssl_jets.evaluation.result import METRICS, Evaluation, InputFile, ModelFacts, UsedSettings, ZMap
from ssl_jets.evaluation.settings import EvaluateSettings
from ssl_jets.evaluation.unseen import count_leaked, some_rows, trained_rows, unseen_rows
from ssl_jets.evaluation.zfile import weights_of_rows
from ssl_jets.evaluation.ztable import read_table
from ssl_jets.nn.regression import columns_of
from ssl_jets.runtime.atomic import check_folder
from ssl_jets.runtime.console import Log, MessageLog, to_stderr
from ssl_jets.zfile import ZFile, read_scores

_SETTINGS = EvaluateSettings()


def evaluate_scores(
    paths: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    settings: EvaluateSettings = _SETTINGS,
    force: bool = False,
    log: Log = to_stderr,
) -> Evaluation:
    """Measure the predictions of a scores file, or of several of one model, and write `metrics.json`, `curves.json`.

    With labels: the metrics of the class probabilities, as of the head of a model. Of a regressed target whose true
    column is kept: bias and resolution. Jets that the model was trained on are left out.

    Args:
        paths: the scores file, or several.
        out: as `evaluate_model`.
        settings: as `evaluate_model`.
        force: as `evaluate_model`.
        log: as `evaluate_model`.

    Raises:
        SslJetsError: no scores file, nothing to compare with, only jets that were trained on, or an evaluation that
            exists.
    """
    began = time.perf_counter()
    out, note = Path(out), MessageLog(log)
    check_folder(out, METRICS, force=force)
    paths, entries, file = read_table(paths, read_scores)
    where = ", ".join(map(str, paths))
    if file.metadata.get("level") == "particle":
        hint = "ssl-jets evaluate --model RUN measures them on jets it was not trained on"
        raise UsageError("a scores file of particles is not measured by itself", where=where, hint=hint)
    rows, trained, leaked = _test_rows(file, settings, note, where)
    task, classes = _classification(file, rows, settings, note)
    regression = _regression(file, rows, settings, note)
    if task is None and not regression:
        hint = "labels in the input files, or predict --keep COLUMN of a regressed target"
        raise DataError("the scores file has nothing to compare its predictions with", where=where, hint=hint)
    empty = np.zeros(0)
    each = np.split(trained, np.cumsum(entries)[:-1])
    evaluation = Evaluation(
        folder=out,
        model=_facts(file),
        files=[
            InputFile(path.name, path.stat().st_size, number, bool(seen.any()), task is not None)
            for path, number, seen in zip(paths, entries, each, strict=True)
        ],
        classes=classes,
        jets={"test": len(rows), "task": len(rows)},
        leaked=leaked,
        left_out=file.metadata["left_out"],
        settings=UsedSettings.of(settings),
        task=task,
        probes=[],
        regression=regression,
        spread={},
        map=ZMap(empty, empty, empty, (0.0, 0.0)),
        notes=note.messages,
        seconds=round(time.perf_counter() - began, 2),
    )
    evaluation.write()
    return evaluation


def _facts(file: ZFile) -> ModelFacts:
    metadata = file.metadata
    models = metadata["scores"]["models"]
    method = metadata["method"] if len(models) == 1 else f"ensemble of {len(models)}"
    head = bool(metadata["scores"]["classes"])
    return ModelFacts(sha256=metadata["model_sha256"], method=method, dim=metadata["dim"], head=head)


def _test_rows(file: ZFile, settings: EvaluateSettings, note: MessageLog, where: str) -> tuple[Array, Array, int]:
    """Choose the rows to test on; return them, a mask of the rows trained on, and the number of these among the tested.

    Raises:
        DataError: the model was trained on all jets, or none has predictions.
    """
    wanted, scores = settings.evaluate, file.metadata["scores"]
    names = [*(f"p_{name}" for name in scores["classes"]), *scores["regressed"].values()]
    usable = np.all([np.isfinite(file.columns[name]) for name in names], axis=0)
    if scores["classes"] and "label" in file.columns:
        usable &= file.columns["label"] >= 0
    found = trained_rows(file)
    trained = np.zeros(len(file), dtype=bool) if found is None else found
    require_jets(int(usable.sum()), "with predictions", where=where, left_out=file.metadata["left_out"])
    if (usable & trained).any() and not wanted.seen:
        usable = unseen_rows(usable, trained, note, kind="scores file", where=where, command="predict")
    rows = some_rows(np.flatnonzero(usable), wanted.test_jets, wanted.seed)
    return rows, trained, count_leaked(rows, trained, note)


def _classification(
    file: ZFile, rows: Array, settings: EvaluateSettings, note: MessageLog
) -> tuple[ClassificationMetrics | None, tuple[str, ...]]:
    """Return the metrics of the probabilities, and the classes; none without labels."""
    head, names = tuple(file.metadata["scores"]["classes"]), tuple(file.metadata["label_names"])
    if not head or "label" not in file.columns:
        note("the scores file has no classes with labels, so nothing of classes is measured")
        return None, ()
    if set(head) != set(names):
        raise DataError("the classes of the scores are not those of the labels", found=", ".join(names), allowed=head)
    wanted, columns = settings.evaluate, file.columns
    probabilities = np.stack([columns[f"p_{name}"][rows].astype(np.float64) for name in names], axis=1)
    task = classification_metrics(
        probabilities / probabilities.sum(axis=1, keepdims=True),
        columns["label"][rows],
        names,
        weights=weights_of_rows(file, settings.data.weights)[rows],
        first=first_halves(columns["source_file"][rows], columns["source_entry"][rows]),
        background=wanted.background,
        efficiencies=wanted.efficiencies or None,
        seed=wanted.seed,
    )
    return task, names


def _regression(file: ZFile, rows: Array, settings: EvaluateSettings, note: MessageLog) -> list[RegressionMetrics]:
    """Return the metrics of the regressed targets whose true columns the file keeps."""
    regressed: Mapping[str, str] = file.metadata["scores"]["regressed"]
    predicted = {target: file.columns[column][rows] for target, column in regressed.items()}
    read = (*KINEMATICS, *columns_of(regressed))
    columns = {name: file.columns[name][rows] for name in read if name in file.columns}
    weights = weights_of_rows(file, settings.data.weights)[rows]
    lacking, seed = "the file does not keep", settings.evaluate.seed
    return measure_targets(predicted, columns, weights, note, lacking=lacking, seed=seed)
