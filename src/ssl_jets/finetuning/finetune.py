"""Finetuning: a pretrained model and labelled jets in, a run folder with a finetuned model out."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from ssl_jets.config import RunSettings
from ssl_jets.data.dataset import Dataset
from ssl_jets.data.loading.counting import Labelled
from ssl_jets.data.loading.mixed import shares
from ssl_jets.data.seen import Seen, after
from ssl_jets.data.skipped import BAD_AMONG
from ssl_jets.errors import UsageError
from ssl_jets.finetuning.adaptation import adapt
from ssl_jets.finetuning.memory_plan import best_that_fits
from ssl_jets.finetuning.modes import MODES, unused_settings
from ssl_jets.finetuning.objective import Objective
from ssl_jets.finetuning.particles import describe_particles, particle_targets
from ssl_jets.finetuning.settings import FIXED_Z, FinetuneSettings
from ssl_jets.finetuning.setup import (
    build_objective,
    count_targets,
    describe_columns,
    in_batches,
    new_columns,
    open_labelled,
)
from ssl_jets.model_file import Model, load_model
from ssl_jets.nn.encoder import Encoder, parameter_count
from ssl_jets.nn.particles.heads import ParticleTarget
from ssl_jets.runtime.allocator import explain_shortage, tune_memory
from ssl_jets.runtime.atomic import write_text
from ssl_jets.runtime.console import to_stderr
from ssl_jets.runtime.memory import format_bytes, peak
from ssl_jets.runtime.reading import read_json
from ssl_jets.runtime.signals import watched
from ssl_jets.training.fabric import make_fabric
from ssl_jets.training.flattening import record_spectrum
from ssl_jets.training.resume import check_run, goes_on, is_finished, open_run
from ssl_jets.training.run_folder import TrainingRun
from ssl_jets.training.run_setup import (
    TrainingInputs,
    export,
    log_files,
    statistics_sample,
    training_facts,
    with_resolved_precision,
)
from ssl_jets.training.start import fit_new_features

_LESS_MEMORY = "ssl-jets finetune --plan measures what fits; --mode auto takes it; a smaller --batch-size takes less"


@watched()
def finetune(settings: RunSettings[FinetuneSettings], out: Path, *, resume: bool = False, force: bool = False) -> Path:
    """Train heads, or heads and encoder, on labelled jets, and write the run folder `out` with the model.

    The settings are a result of `resolve_finetune`.

    Raises:
        Interrupted: a signal came before the last step; the checkpoint is saved if a step was taken.
    """
    tune_memory()
    pretrained = load_model(settings.method.model)
    fabric = make_fabric(settings.train)
    settings = with_resolved_precision(settings, fabric)
    settings, planned = with_mode(settings, fabric)
    run = check_run(settings, out, fabric, resume=resume, force=force)
    if is_finished(run, fabric, resume=resume):
        return out

    # Data
    begins = not goes_on(run, fabric, resume=resume)
    data, request, subset = open_labelled(settings, fabric, run, begins=begins, pretrained=pretrained)
    batch_data = in_batches(data, settings)
    counts = count_targets(settings, data, request, subset)
    inputs = TrainingInputs(settings, data, request, subset, run, fabric, begins)

    # Objective, run folder
    targets = particle_targets(settings, data)
    objective = build_objective(settings, pretrained, data.label_names, targets)
    lines = fit_statistics(objective, targets, pretrained, inputs) if begins else []
    open_run(run, settings, data, fabric, resume=resume, force=force)  # the inputs are checked: `force` may replace
    record_or_check_pretrained(run, pretrained, begins=begins)
    if begins:
        record_spectrum(run, request)
    log_setup(inputs, pretrained, objective, counts)
    for line in lines:
        run.log_message(line)
    adapt(objective, inputs)

    # Training
    jets_per_epoch = data.jets(data.train) if subset is None else len(subset)
    settings = with_steps(settings, batch_data, jets_per_epoch, fabric)
    mode = MODES[settings.method.mode](settings)
    with explain_shortage(_LESS_MEMORY):
        result = mode.train(objective, replace(inputs, settings=settings, data=batch_data))
    mode.finish(objective)
    peak_memory = peak(fabric.device)
    run.log_message(
        f"peak memory: {format_bytes(peak_memory)}" + (f", {format_bytes(planned)} in the plan" if planned else "")
    )

    # Model
    facts = training_facts(inputs, result) | {
        "mode": settings.method.mode,
        "jets_per_epoch": jets_per_epoch,
        "labelled_jets": counts.labelled if settings.method.targets or settings.method.particle_targets else None,
        "labelled_seed": settings.method.subset_seed,
        "peak_memory": peak_memory,
        "planned_memory": planned,
    }
    export(inputs, objective, with_pretraining(facts, pretrained))
    return out


def record_or_check_pretrained(run: TrainingRun, pretrained: Model, *, begins: bool) -> None:
    """Record the hash of the pretrained model, or check that a resumed run still has it.

    The hash becomes a fact of the finetuned model, and L2-SP measures distances to these weights.

    Raises:
        UsageError: another model is at the path now.
    """
    record = run.folder / "checkpoints" / "pretrained.json"
    if begins and run.writes:
        write_text(record, json.dumps({"sha256": pretrained.sha256}))
    elif run.writes and record.is_file():  # earlier versions have none
        before = str(read_json(record, "the record of the pretrained model cannot be read")["sha256"])
        if before != pretrained.sha256:
            raise UsageError(
                "the pretrained model is not the one that the run began with",
                where=run.folder,
                found=f"sha256 {pretrained.sha256[:12]}",
                allowed=[f"sha256 {before[:12]}"],
                hint="--resume with that model at its place, or --out OTHER for a new run",
            )


def fit_statistics(
    objective: Objective,
    targets: Sequence[ParticleTarget],
    pretrained: Model,
    inputs: TrainingInputs[FinetuneSettings],
) -> list[str]:
    """Fit the statistics of the targets and of new columns on training jets; return lines about labels of particles.

    Raises:
        SslJetsError: the jets lack a target.
    """
    data, subset, encoder = inputs.data, inputs.subset, objective.encoder
    sample = [subset] if subset is not None else statistics_sample(data, data.train, 0, inputs.request)
    if new_columns(pretrained, inputs.columns) and isinstance(encoder, Encoder):
        sample = list(sample)
        fit_new_features(encoder.features, sample, pretrained.columns)
    if not targets:
        objective.fit_statistics(sample)
        return []
    batches = list(sample)
    lines = describe_particles(targets, batches)
    objective.fit_statistics(batches)
    return lines


def with_mode(
    settings: RunSettings[FinetuneSettings], fabric: Fabric
) -> tuple[RunSettings[FinetuneSettings], int | None]:
    """Replace mode `auto` by the best mode that fits; return the settings and the planned memory in bytes."""
    if settings.method.mode != "auto":
        return settings, None
    row = best_that_fits(settings, lambda line: to_stderr(f"plan: {line}")) if fabric.is_global_zero else None
    row = fabric.broadcast(row)
    assert row is not None
    return row.candidate.of(settings), row.cost.peak


def with_steps(
    settings: RunSettings[FinetuneSettings], data: Dataset, jets_per_epoch: int, fabric: Fabric
) -> RunSettings[FinetuneSettings]:
    """Replace `train.epochs` by the number of steps, at least `method.min_steps`.

    Heads on a fixed z are trained by each process on the z of all jets, a batch a step.
    """
    train = settings.train
    if train.steps is not None:
        return settings
    labelled = shares(train.batch_size, settings.data.unlabelled_ratio)[0] if data.unlabelled else train.batch_size
    batches = 1 if settings.method.mode in FIXED_Z else train.accumulate * fabric.world_size
    per_step = labelled * batches
    steps = max(settings.method.min_steps, math.ceil((train.epochs or 1.0) * jets_per_epoch / per_step))
    return settings.model_copy(update={"train": train.model_copy(update={"steps": steps})})


def log_setup(
    inputs: TrainingInputs[FinetuneSettings], pretrained: Model, objective: Objective, counts: Labelled
) -> None:
    """Log the files, the number of labelled jets used and available, and the number of trainable weights."""
    settings, data, run = inputs.settings, inputs.data, inputs.run
    log_files(inputs)
    if not MODES[settings.method.mode].starts_anew:
        for line in Seen.of(pretrained.facts["training"]).notes(data.files):
            run.log_message(line)
    for line in describe_columns(settings, pretrained, data, inputs.columns):
        run.log_message(line)
    targets = ", ".join((*settings.method.targets, *settings.method.particle_targets))
    classes = f", {len(data.label_names)} classes" if data.label_names else ""
    bad = BAD_AMONG * (settings.data.bad_jets == "skip")
    used = f"{counts.used:,} of {counts.available:,} {'labelled ' * bool(targets)}jets{bad}"
    run.log_message(
        f"{settings.method.mode}: {used}{classes}, "
        f"{data.jets(data.held_out):,} held out; model {settings.method.model} ({pretrained.method})"
    )
    if unused := unused_settings(settings.method):
        run.log_message(f"mode {settings.method.mode} does not use {', '.join(unused)}")
    weights = sum(parameter.numel() for parameter in objective.parameters())
    run.log_message(
        f"targets: {targets or 'z of the teacher'}; {parameter_count(objective):,} of {weights:,} weights learn"
    )
    for line in counts.lines():
        run.log_message(line)


def with_pretraining(training: dict[str, Any], pretrained: Model) -> dict[str, Any]:
    """Return the facts of the finetuned model: it has seen the jets of both trainings, except in mode `scratch`."""
    mode = training["mode"]
    if MODES[mode].starts_anew:
        return {"method": mode, "training": training}
    before = pretrained.facts["training"]
    training = after(before, training) | {"pretrained": {"sha256": pretrained.sha256, **before}}
    return {"method": pretrained.method, "training": training}
