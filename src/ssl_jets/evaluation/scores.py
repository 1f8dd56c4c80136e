"""Evaluation of a scores file of `predict`, without its model."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ssl_jets.arrays import Array, some_rows
from ssl_jets.data.request import NOT_SELECTED
from ssl_jets.data.skipped import require_jets
from ssl_jets.data.split import every_other_block
from ssl_jets.errors import DataError, UsageError, some_of
from ssl_jets.evaluation.evaluation_data import KINEMATICS
from ssl_jets.evaluation.metrics.classification import ClassificationMetrics, classification_metrics
from ssl_jets.evaluation.metrics.regression import FEWEST, RegressionMetrics
from ssl_jets.evaluation.regressed import measure_targets
from ssl_jets.evaluation.result import METRICS, Evaluation, ModelFacts, UsedSettings, ZMap
from ssl_jets.evaluation.roles import MOST_NAMED
from ssl_jets.evaluation.settings import EvaluateSettings
from ssl_jets.evaluation.zfile import weights_of_rows
from ssl_jets.evaluation.ztable import count_leaked, input_files, read_table, trained_rows, unseen_rows
from ssl_jets.nn.regression import columns_of
from ssl_jets.runtime.atomic import check_folder
from ssl_jets.runtime.console import Log, MessageLog, to_stderr
from ssl_jets.zfile import ZFile, read_scores


def evaluate_scores(
    paths: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    settings: EvaluateSettings = EvaluateSettings(),
    force: bool = False,
    log: Log = to_stderr,
) -> Evaluation:
    """Measure the predictions of a scores file, or of several of one model, and write `metrics.json`, `curves.json`.

    With labels: the metrics of the class probabilities, as of the head of a model. Of a regressed target whose true
    column is kept: bias and resolution. Jets that the model was trained on are left out.
    Arguments as in `evaluate_model`.

    Raises:
        SslJetsError: no scores file, nothing to compare with, only jets that were trained on, or an evaluation that
            exists.
    """
    began = time.perf_counter()
    out, note = Path(out), MessageLog(log)
    check_folder(out, METRICS, force=force)
    file: ZFile
    paths, entries, file = read_table(paths, read_scores)
    where = ", ".join(map(str, paths))
    if file.metadata.get("level") == "particle":
        hint = "ssl-jets evaluate --model RUN measures them on jets it was not trained on"
        raise UsageError("a scores file of particles is not measured by itself", where=where, hint=hint)
    unlabelled = _unlabelled(file)
    file, others = _of_scored_classes(file, where, note)
    rows, trained, leaked, left_out = _test_rows(file, unlabelled, settings, note, where)
    task, classes = _classification(file, rows, settings, note)
    regression = _regression(file, rows, settings, note)
    if task is None and not regression:
        hint = _needed(file)
        raise DataError("the scores file has nothing to compare its predictions with", where=where, hint=hint)
    empty = np.zeros(0)
    evaluation = Evaluation(
        folder=out,
        model=_facts(file),
        files=input_files(paths, entries, trained, labelled=task is not None),
        classes=classes,
        jets={"test": len(rows), "task": len(rows)},
        leaked=leaked,
        left_out=dict(left_out) | others,
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


def _unlabelled(file: ZFile) -> Array:
    """Return a mask of the rows without a label, bool `[row]`; none where labels are not needed."""
    if not file.metadata["scores"]["classes"] or "label" not in file.columns:
        return np.zeros(len(file), dtype=bool)
    mask: Array = file.columns["label"] < 0
    return mask


def _of_scored_classes(file: ZFile, where: str, note: MessageLog) -> tuple[ZFile, dict[str, int]]:
    """Return the file with labels numbered as the classes of the scores, by name, and how many jets have no such class.

    Scores of QCD and Tbqq, labels of QCD, Hbb, Tbqq: 0, 1, 2 -> 0, -1, 1.

    Raises:
        DataError: no class of the scores is one of the labels.
    """
    head, names = tuple(file.metadata["scores"]["classes"]), tuple(file.metadata["label_names"])
    if not head or "label" not in file.columns or set(head) == set(names):
        return file, {}
    if not set(head) & set(names):
        hint = "predict --set data.labels=[...] names the labels of the files as the model does"
        found = f"labels {', '.join(names)}"
        raise DataError("no class of the scores has a label", where=where, found=found, allowed=head, hint=hint)
    number = np.array([*(head.index(name) if name in head else -1 for name in names), -1])
    label = number[file.columns["label"]]  # -1, no class, stays
    lost = Counter(names[own] for own in file.columns["label"][(label < 0) & (file.columns["label"] >= 0)])
    if lost:
        classes = some_of(sorted(lost), MOST_NAMED)
        note(f"{lost.total():,} jets of classes that the model does not know are left out: {classes}")
    if unknown := [name for name in head if name not in names]:
        note(f"the labels lack {len(unknown)} of the classes of the scores: {some_of(unknown, MOST_NAMED)}")
    metadata = file.metadata | {"label_names": list(head)}
    others = {"its class is none of the model": lost.total()} if lost else {}
    return replace(file, columns=file.columns | {"label": label}, metadata=metadata), others


def _test_rows(
    file: ZFile, unlabelled: Array, settings: EvaluateSettings, note: MessageLog, where: str
) -> tuple[Array, Array, int, Counter[str]]:
    """Choose the rows to test on, all of weight above 0.

    They are returned with a mask of the rows trained on, the number of these among the tested, and the jets left out by
    reason.

    Raises:
        DataError: the model was trained on all jets, or none has predictions.
    """
    wanted, scores = settings.evaluate, file.metadata["scores"]
    names = [*(f"p_{name}" for name in scores["classes"]), *scores["regressed"].values()]
    finite = np.all([np.isfinite(file.columns[name]) for name in names], axis=0)
    usable = finite & ~unlabelled
    if scores["classes"] and "label" in file.columns:
        usable &= file.columns["label"] >= 0
    weightless = usable & (weights_of_rows(file, settings.data.weights) == 0)
    usable &= ~weightless
    left_out = Counter(file.metadata["left_out"])
    skipped = left_out.total() - left_out[NOT_SELECTED]  # their rows have no prediction: each jet counts once
    for reason, rows in {
        "no finite prediction": ~finite,
        "no label": finite & unlabelled,
        "weight 0": weightless,
    }.items():
        if rows.any():
            left_out[reason] += int(rows.sum())
            note(f"{int(rows.sum()):,} jets are left out: {reason}")
    left_out["no finite prediction"] -= skipped
    left_out = +left_out
    found = trained_rows(file)
    trained = np.zeros(len(file), dtype=bool) if found is None else found
    require_jets(int(usable.sum()), "with predictions", where=where, left_out=left_out)
    if (usable & trained).any() and not wanted.seen:
        usable = unseen_rows(usable, trained, note, kind="scores file", where=where, command="predict")
    rows = some_rows(np.flatnonzero(usable), wanted.test_jets, wanted.seed)
    return rows, trained, count_leaked(rows, trained, note), left_out


def _classification(
    file: ZFile, rows: Array, settings: EvaluateSettings, note: MessageLog
) -> tuple[ClassificationMetrics | None, tuple[str, ...]]:
    """Return the metrics of the probabilities, and the classes; none without labels."""
    names = tuple(file.metadata["label_names"])
    if not file.metadata["scores"]["classes"] or "label" not in file.columns:
        note("the scores file has no classes with labels, so nothing of classes is measured")
        return None, ()
    wanted, columns = settings.evaluate, file.columns
    weights = weights_of_rows(file, settings.data.weights)[rows]
    found = np.unique(columns["label"][rows][weights > 0])
    if len(found) < 2:
        only = "".join(f", {names[label]}," for label in found)
        note(f"the jets to test on are of one class{only} so nothing of classes is measured")
        return None, ()
    probabilities = np.stack([columns[f"p_{name}"][rows].astype(np.float64) for name in names], axis=1)
    task = classification_metrics(
        probabilities / probabilities.sum(axis=1, keepdims=True),
        columns["label"][rows],
        names,
        weights=weights,
        first=every_other_block(columns["source_file"][rows], columns["source_entry"][rows]),
        background=wanted.background,
        efficiencies=wanted.efficiencies or None,
        seed=wanted.seed,
    )
    return task, names


def _needed(file: ZFile) -> str:
    """Return what a scores file lacks to be measured."""
    scores, needed = file.metadata["scores"], list[str]()
    if scores["classes"]:
        needed.append("jets of two classes with labels")
    if regressed := scores["regressed"]:
        missing = [name for name in columns_of(regressed) if name not in file.columns]
        keep = "".join(f" (predict --keep {name})" for name in missing[:1])
        needed.append(f"{FEWEST} jets with the true value of a regressed target{keep}")
    return ", or ".join(needed)


def _regression(file: ZFile, rows: Array, settings: EvaluateSettings, note: MessageLog) -> list[RegressionMetrics]:
    """Return the metrics of the regressed targets whose true columns the file keeps."""
    regressed: Mapping[str, str] = file.metadata["scores"]["regressed"]
    predicted = {target: file.columns[column][rows] for target, column in regressed.items()}
    read = (*KINEMATICS, *columns_of(regressed))
    columns = {name: file.columns[name][rows] for name in read if name in file.columns}
    weights = weights_of_rows(file, settings.data.weights)[rows]
    lacking, seed = "the file does not keep", settings.evaluate.seed
    return measure_targets(predicted, columns, weights, note, lacking=lacking, seed=seed)
