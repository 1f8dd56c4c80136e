"""Pretrain: files in, a run folder with a model out."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from ssl_jets import methods
from ssl_jets.config import DataSettings, MethodSettings, RunSettings, read_config, resolve
from ssl_jets.data.dataset import Dataset
from ssl_jets.data.files import count
from ssl_jets.data.loading.stream import Request
from ssl_jets.data.schemas.check import like_labels
from ssl_jets.data.skipped import BAD_AMONG
from ssl_jets.data.subset import choose, count_labelled
from ssl_jets.errors import DataError, UsageError
from ssl_jets.jets import Jets
from ssl_jets.methods._method import Method
from ssl_jets.methods._renamed import rename_settings
from ssl_jets.model_file import load_method, load_model
from ssl_jets.nn.encoder import Encoder, parameter_count
from ssl_jets.nn.tasks import LABEL, TaskSettings
from ssl_jets.runtime.allocator import LESS_TO_TRAIN, explain_shortage, tune_memory
from ssl_jets.runtime.signals import watched
from ssl_jets.training.fabric import make_fabric
from ssl_jets.training.loop import fit
from ssl_jets.training.resume import check_run, is_finished, open_run
from ssl_jets.training.run_folder import Run
from ssl_jets.training.run_setup import (
    finish,
    log_files,
    make_monitor,
    sample_of,
    training_facts,
    with_resolved_precision,
)
from ssl_jets.training.streams import make_stream, open_for


def resolve_pretrain(method: str, *layers: dict[str, Any], stored: Path | None = None) -> RunSettings[MethodSettings]:
    """The settings of a pretraining run: the method's recipe (or the `stored` settings of a run), then `layers`."""
    cls = methods.find(method)
    base: dict[str, Any] = cls.recipe.layer() if stored is None else read_config(stored)
    if isinstance(base.get("method"), dict):
        base["method"] = rename_settings(base["method"])  # of a run begun by an earlier version
    begun = base.get("method", {}).get("name", method)
    if begun != method:
        raise UsageError("the run was begun with another method", where="--method", found=method, allowed=[begun])
    return resolve(RunSettings[cls.Config], {"method": {"name": method}}, base, *layers)  # type: ignore[name-defined]


@watched()
def pretrain(settings: RunSettings[MethodSettings], out: Path, *, resume: bool = False, force: bool = False) -> Path:
    """Pretrain an encoder and write a run folder.

    Args:
        settings: as `resolve_pretrain` made them.
        out: the run folder.
        resume: go on with the run in `out`; where there is none, begin it.
        force: replace the run in `out`.

    Returns:
        `out`.

    Raises:
        Interrupted: a signal came before the last step; where steps were taken, the checkpoint is saved.
    """
    tune_memory()
    fabric = make_fabric(settings.train)
    settings = with_resolved_precision(settings, fabric)
    run = check_run(settings, out, fabric, resume=resume, force=force)
    if is_finished(run, fabric, resume=resume):
        return out
    data = open_for(settings.data, fabric)
    name = settings.method.name
    cls = methods.find(name)
    needs_labels = cls.needs_labels(settings.method) or settings.data.labelled is not None
    if needs_labels and not data.label_names:
        raise DataError(
            f"method {name} needs labels, and these files have none",
            where=", ".join(data.names[:8]),
            hint=like_labels(column for file in data.files for column in file.jet_columns),
        )
    weighted = isinstance(settings.method, TaskSettings)
    if settings.data.weights and not weighted:
        raise UsageError(f"method {name} has no labels to weigh", where="data.weights", found=settings.data.weights)
    request = Request.of(settings.data, cls.jet_columns(settings.method), weighted=weighted)
    subset = labelled_subset(data, settings.data, request)
    if isinstance(settings.method, TaskSettings):
        count_labelled(data.files, data.train, request, subset, classes=LABEL in settings.method.targets)
    parts = load_required(cls, settings.method, data.columns)
    seed = settings.train.seed
    torch.manual_seed(seed)
    encoder = Encoder(settings.model)
    begins = not (resume and run.begun)
    if begins:
        encoder.features.fit_statistics(sample_of(data.blind, data.all_train, seed, Request.of(settings.data)))
    method = cls(settings.method, encoder, data.label_names, **parts)
    if begins:
        method.fit_statistics([subset] if subset is not None else sample_of(data.files, data.train, seed, request))
    open_run(run, settings, data, fabric, resume=resume, force=force)
    log_setup(run, settings, data, method, subset)
    opened = make_stream(data, settings, fabric, request, subset)
    with explain_shortage(LESS_TO_TRAIN), closing(opened) as stream:
        done = fit(
            method,
            stream,
            run,
            settings.train,
            fabric=fabric,
            monitor=make_monitor(data, settings.train, request, run.say),
            file_names=data.names,
            resume=resume,
            title=f"pretrain {name}",
        )
    training = training_facts(data, settings, done)
    if needs_labels:
        training["labelled_jets"] = count(data.train) if subset is None else len(subset)
    finish(run, method, data.label_names, {"method": name, "training": training}, fabric)
    return out


def labelled_subset(data: Dataset, settings: DataSettings, request: Request) -> Jets | None:
    """The labelled jets to train on, in memory; None for all of them."""
    if settings.labelled is None or settings.labelled == 1.0:
        return None
    wanted, skipped = (settings.labelled, settings.labelled_seed), data.jets_left_out
    return choose(data.files, data.train, *wanted, request, "data.labelled", skipped)


def load_required(cls: type[Method], settings: MethodSettings, columns: tuple[str, ...]) -> dict[str, Method]:
    """The trained methods that a method starts from, by name, from the runs that its settings name.

    Raises:
        UsageError: no run is named, it is of another method, or its jets had other particle columns.
        SslJetsError: there is no trained model.
    """
    parts = {}
    for name in cls.requires:
        key, run = f"method.{name}", getattr(settings, name)
        if not run:
            hint = f"ssl-jets pretrain --method {name} --out RUN, then --set {key}=RUN"
            raise UsageError(f"method {settings.name} starts from a run of method {name}", where=key, hint=hint)
        model = load_model(run)
        if model.method != name:
            raise UsageError(f"the run is not a {name}", where=f"{key}={run}", found=model.method, allowed=[name])
        trained = model.facts["training"].get("columns", [])
        if set(trained) != set(columns):
            raise UsageError(
                f"the {name} was trained on jets with other particle columns",
                where=f"{key}={run}",
                found=f"not in both: {', '.join(sorted(set(trained) ^ set(columns)))}",
            )
        parts[name] = load_method(run)
    return parts


def log_setup(
    run: Run, settings: RunSettings[MethodSettings], data: Dataset, method: Method, subset: Jets | None
) -> None:
    """Say what is about to be trained, on what."""
    if not (settings.data.sources or settings.data.proportions):
        run.say("no --data: training on the sample that comes with ssl-jets (10 classes of simulated jets)")
    log_files(run, data)
    classes = f", {len(data.label_names)} classes" if data.label_names else ", no labels"
    classes += f", weights {settings.data.weights}" if settings.data.weights else ""
    of_events = " ".join(sorted({file.collection for file in data.files} - {""}))
    jets = f"{of_events} jets" if of_events else "jets"
    jets += " to train on" + BAD_AMONG * (settings.data.bad_jets == "skip")
    run.say(f"data: {count(data.train):,} {jets}, {count(data.held_out):,} held out{classes}")
    if subset is not None:
        run.say(f"labels of {len(subset):,} jets")
    if data.unlabelled:
        ratio = settings.data.unlabelled_ratio
        run.say(f"unlabelled: {count(data.unlabelled):,} jets, {ratio:g} in a batch for each labelled one")
    encoder = method.exported()
    run.say(
        f"encoder: {settings.model.size}, {parameter_count(encoder):,} parameters, z of {encoder.dim} numbers; "
        f"trained together: {parameter_count(method):,} parameters, {settings.train.precision}"
    )
