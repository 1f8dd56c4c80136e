"""The road of finetuning: a pretrained model and labelled jets in, a run folder with a finetuned model out."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from ssl_jets.config import RunSettings
from ssl_jets.data.dataset import Dataset
from ssl_jets.data.files import count
from ssl_jets.data.loading.mixed import shares
from ssl_jets.data.seen import Seen, joint_training
from ssl_jets.data.skipped import BAD_AMONG
from ssl_jets.finetuning.adaptation import adapt
from ssl_jets.finetuning.memory_plan import best_that_fits
from ssl_jets.finetuning.modes import MODES, Work
from ssl_jets.finetuning.objective import Objective
from ssl_jets.finetuning.settings import FinetuneSettings
from ssl_jets.finetuning.start import build_objective, labelled_jets, read_data, trained_on
from ssl_jets.model_file import Model, load_model
from ssl_jets.nn.encoder import parameter_count
from ssl_jets.runtime.allocator import explain_shortage, tune_memory
from ssl_jets.runtime.console import to_stderr
from ssl_jets.runtime.memory import peak, shown
from ssl_jets.runtime.signals import watched
from ssl_jets.training.fabric import make_fabric
from ssl_jets.training.loop import Fit
from ssl_jets.training.resume import check_run, is_finished, open_run
from ssl_jets.training.run_folder import Run
from ssl_jets.training.run_setup import finish, log_files, sample_of, training_facts, with_resolved_precision


@watched()
def finetune(settings: RunSettings[FinetuneSettings], out: Path, *, resume: bool = False, force: bool = False) -> Path:
    """Train heads, or heads and encoder, on labelled jets, and write a run folder with the model.

    Args:
        settings: as `resolve_finetune` made them.
        out: the run folder.
        resume: go on with the run in `out`; where there is none, begin it.
        force: replace the run in `out`.

    Returns:
        `out`.

    Raises:
        Interrupted: a signal came before the last step; where steps were taken, the checkpoint is saved.
    """
    tune_memory()
    pretrained = load_model(settings.method.model)
    fabric = make_fabric(settings.train)
    settings = with_resolved_precision(settings, fabric)
    settings, planned = _fitted(settings, fabric)
    run = check_run(settings, out, fabric, resume=resume, force=force)
    if is_finished(run, fabric, resume=resume):
        return out
    data, request, subset = read_data(settings, fabric)
    mixed = trained_on(data, settings)
    counts = labelled_jets(settings, data, request, subset)
    objective = build_objective(settings, pretrained, data.label_names)
    begins = not (resume and run.begun)
    if begins:
        objective.fit_statistics([subset] if subset is not None else sample_of(data.files, data.train, 0, request))
    open_run(run, settings, data, fabric, resume=resume, force=force)
    _announce(run, settings, data, pretrained, objective, counts)
    adapt(objective, settings, data, subset, run, begins=begins)
    an_epoch = count(data.train) if subset is None else len(subset)
    work = Work(_with_length(settings, mixed, an_epoch, fabric), mixed, request, subset, run, fabric, resume)
    mode = MODES[settings.method.mode](work.settings)
    hint = "ssl-jets finetune --plan measures what fits; --mode fit takes it; a smaller --batch-size takes less"
    with explain_shortage(hint):
        done = mode.train(objective, work)
    mode.finish(objective)
    most = peak(fabric.device)
    run.say(f"peak memory: {shown(most)}" + (f", {shown(planned)} in the plan" if planned else ""))
    facts = facts_of(
        pretrained,
        replace(work, data=data),
        done,
        labelled_jets=counts[0],
        labelled_seed=settings.method.subset_seed,
        peak_memory=most,
        planned_memory=planned,
    )
    finish(run, objective, data.label_names, facts, fabric)
    return out


def _fitted(
    settings: RunSettings[FinetuneSettings], fabric: Fabric
) -> tuple[RunSettings[FinetuneSettings], int | None]:
    """The settings with the mode that fits best, where they ask for it, and the bytes it is planned to use."""
    if settings.method.mode != "fit":
        return settings, None
    row = best_that_fits(settings, _tell_plan) if fabric.is_global_zero else None
    row = fabric.broadcast(row)
    assert row is not None
    return row.candidate.of(settings), row.cost.peak


def _tell_plan(text: str) -> None:
    to_stderr(f"plan: {text}")


def _announce(
    run: Run,
    settings: RunSettings[FinetuneSettings],
    data: Dataset,
    pretrained: Model,
    objective: Objective,
    counts: tuple[int, int],
) -> None:
    """Say what is about to be trained, on what."""
    used, of = counts
    log_files(run, data)
    if not MODES[settings.method.mode].starts_anew:
        for line in Seen.of(pretrained.facts["training"]).notes(data.files):
            run.say(line)
    classes = f", {len(data.label_names)} classes" if data.label_names else ""
    bad = BAD_AMONG * (settings.data.bad_jets == "skip")
    run.say(
        f"{settings.method.mode}: {used:,} of {of:,} labelled jets{bad}{classes}, "
        f"{count(data.held_out):,} held out; model {settings.method.model} ({pretrained.method})"
    )
    every = sum(parameter.numel() for parameter in objective.parameters())
    run.say(f"targets: {', '.join(settings.method.targets)}; {parameter_count(objective):,} of {every:,} weights learn")


def _with_length(
    settings: RunSettings[FinetuneSettings], data: Dataset, jets: int, fabric: Fabric
) -> RunSettings[FinetuneSettings]:
    """The settings with the number of steps written out."""
    train = settings.train
    if train.steps is not None:
        return settings
    labelled = shares(train.batch_size, settings.data.unlabelled_ratio)[0] if data.unlabelled else train.batch_size
    per_step = labelled * train.accumulate * fabric.world_size
    steps = max(settings.method.min_steps, math.ceil((train.epochs or 1.0) * jets / per_step))
    return settings.model_copy(update={"train": train.model_copy(update={"steps": steps})})


def facts_of(pretrained: Model, work: Work, done: Fit, **more: Any) -> dict[str, Any]:
    """Training facts of the finetuned model: the jets of both trainings count as seen."""
    facts, mode = training_facts(work.data, work.settings, done), work.settings.method.mode
    if not MODES[mode].starts_anew:
        before = pretrained.facts["training"]
        joint = joint_training([facts, before])
        facts = {name: value for name, value in facts.items() if name != "held_out"} | joint
        facts["pretrained"] = {"sha256": pretrained.sha256, **before}
    facts |= {"mode": mode, **more}
    return {"method": mode if MODES[mode].starts_anew else pretrained.method, "training": facts}
