"""Cross-validation: a finetuned model for each fold, and scores of every jet by the model that has not seen it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssl_jets.arrays import Array
from ssl_jets.config import RunSettings
from ssl_jets.data.dataset import Dataset, open_dataset
from ssl_jets.data.inputs import requests_of
from ssl_jets.data.request import Request
from ssl_jets.data.sources import resolve_sources
from ssl_jets.embedding.encoding import embed_parts
from ssl_jets.embedding.predictions import ScoresOutput
from ssl_jets.errors import UsageError
from ssl_jets.finetuning.finetune import finetune
from ssl_jets.finetuning.settings import FinetuneSettings
from ssl_jets.model_file import Model, load_model
from ssl_jets.nn.encoder import Encoded
from ssl_jets.runtime.atomic import check_output
from ssl_jets.runtime.console import Log, to_stderr
from ssl_jets.runtime.gpu import default_device
from ssl_jets.runtime.launcher import join
from ssl_jets.runtime.overwriting import check_apart
from ssl_jets.runtime.precision import SCORES_PRECISION
from ssl_jets.runtime.signals import watched
from ssl_jets.zfile import Column, ZMetadata, ZWriter, read_metadata

SCORES = "scores.root"
"""Out-of-fold scores in the folder of the folds."""

_KEY = {"source_file": "i4", "source_entry": "i8", "source_jet": "i4", "label": "i8", "fold": "i4"}


def finetune_folds(
    settings: RunSettings[FinetuneSettings],
    out: Path,
    *,
    resume: bool = False,
    force: bool = False,
    log: Log = to_stderr,
) -> list[Path]:
    """Finetune a model for each of `data.folds` folds, and write the out-of-fold scores to `scores.root`.

    Args:
        settings: result of `resolve_finetune`, with `data.folds` and without `data.fold`.
        out: folder of the runs `fold-0`, `fold-1`, ... and of the scores.
        resume: continue the runs in `out`; finished ones stay as they are.
        force: replace runs and scores.
        log: logger of messages.

    Returns:
        The run folders.

    Raises:
        UsageError: several processes share the launch, an output exists, or the mode is `auto`.
        Interrupted: a signal came; `resume` goes on with the fold that was interrupted.
    """
    if (launch := join()) is not None and launch.world > 1:
        raise UsageError("folds are trained in one process", where="--folds", hint="--set data.fold=0 trains one fold")
    if settings.method.mode == "auto":  # each fold could get another mode
        hint = "--plan, then --mode with one that fits"
        raise UsageError("the folds are trained in one mode", where="--mode auto", hint=hint)
    if out.exists():
        check_output(out / SCORES, force=force or resume)
    if named := settings.data.named:
        check_apart([out / SCORES], [source.path for source in resolve_sources(named)])
    folds = [with_fold(settings, fold) for fold in range(settings.data.folds or 0)]
    runs = [out / f"fold-{fold}" for fold in range(len(folds))]
    with watched() as watch:
        for fold, (own, run) in enumerate(zip(folds, runs, strict=True)):
            watch.stop_at_once()  # the end of the fold before has let signals wait
            log(f"fold {fold} of {len(folds)}")
            finetune(own, run, resume=resume, force=force)
        watch.stop_at_once()
        models = [load_model(run) for run in runs]
        if resume and _has_scores_of(out / SCORES, models):
            log(f"finished before: {out / SCORES}")
        else:
            _write_scores(folds, models, out / SCORES, log)
    return runs


def _has_scores_of(path: Path, models: list[Model]) -> bool:
    """Check whether the scores file is there, of these models."""
    stored = read_metadata(path).get("scores", {}) if path.is_file() else {}
    return bool(stored.get("models") == [model.sha256 for model in models])


def with_fold(settings: RunSettings[FinetuneSettings], fold: int) -> RunSettings[FinetuneSettings]:
    """Return the settings of the training that holds out one fold."""
    return settings.model_copy(update={"data": settings.data.model_copy(update={"fold": fold})})


def _write_scores(folds: list[RunSettings[FinetuneSettings]], models: list[Model], path: Path, log: Log) -> None:
    """Write the scores and true targets of all jets, in input order; in memory, about 50 bytes and 4 a class each."""
    blocks: list[dict[str, Array]] = []
    for fold, (settings, model) in enumerate(zip(folds, models, strict=True)):
        data = open_dataset(settings.data)
        blocks += [rows | {"fold": np.full(len(rows["label"]), fold)} for rows in _rows(settings, data, model, log)]
    rows = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    order = np.lexsort((rows["source_jet"], rows["source_entry"], rows["source_file"]))
    kept = folds[0].method.jet_columns
    types = _KEY | {name: data.files[0].types.of[name].str for name in kept}
    columns = [Column(name, types.get(name, "f4")) for name in rows]
    scores = replace(
        ScoresOutput([models[0]]).metadata,
        temperatures=(1.0,) * len(models),
        models=tuple(model.sha256 for model in models),
    )
    metadata = ZMetadata(
        model_sha256="",
        method=models[0].method,
        dim=models[0].encoder.dim,
        level="jet",
        files=tuple(data.names),
        label_names=tuple(data.label_names),
        digests=tuple(file.digest for file in data.files),
        schemas=tuple(file.schema.sha256 for file in data.files),
        kept=kept,
        where=folds[0].data.where,
        scores=scores,
    )
    with ZWriter(path, columns, metadata, force=True) as writer:
        writer.write({column.name: rows[column.name][order].astype(column.dtype) for column in columns})
    log(f"out-of-fold scores of {len(order):,} jets: {path}" + _accuracy(rows, models[0].labels))


def _rows(settings: RunSettings[FinetuneSettings], data: Dataset, model: Model, log: Log) -> Iterator[dict[str, Array]]:
    """Yield keys, labels, scores and true regression targets of the jets that a fold holds out."""
    output = ScoresOutput([model])
    columns = output.prepare(data.files, log)
    collections = requests_of(model.collections)
    kept = settings.method.jet_columns
    request = Request.of(settings.data, kept, columns, context=model.context, collections=collections)
    options: Any = {"device": default_device(), "workers": settings.data.workers, "precision": SCORES_PRECISION}
    for jets, z in embed_parts(model.encoder, data.files, data.held_out, request, **options):
        assert jets.source is not None
        keys = dict(zip(("source_file", "source_entry", "source_jet"), jets.source.numpy().T, strict=True))
        rows: dict[str, Array] = {**keys, "label": np.full(len(jets), -1)}
        if jets.labels is not None:
            rows["label"] = jets.labels.numpy()
        rows |= output.compute(jets, Encoded(z, torch.empty(0, 0)))
        yield rows | {name: jets.jet[name].numpy() for name in kept}


def _accuracy(rows: dict[str, Array], labels: tuple[str, ...]) -> str:
    """Return the accuracy of the out-of-fold classes, as the end of a message; empty without classes."""
    labelled = rows["label"] >= 0
    if not labels or f"p_{labels[0]}" not in rows or not labelled.any():
        return ""
    scores = np.stack([rows[f"p_{name}"] for name in labels], axis=1)  # [jet, class]
    right = scores.argmax(axis=1)[labelled] == rows["label"][labelled]
    return f", accuracy {right.mean():.4f}"
