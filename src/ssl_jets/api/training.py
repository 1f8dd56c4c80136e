"""The verbs that train: `pretrain` and `finetune`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_jets.api.arguments import Names, SettingTree, given, model_of, names_of, path_of, tree_of
from ssl_jets.api.early import check_new_run, check_where, no_method
from ssl_jets.errors import UsageError
from ssl_jets.runtime.console import log
from ssl_jets.runtime.launcher import rank

if TYPE_CHECKING:
    from ssl_jets.config import RunSettings
    from ssl_jets.finetuning import FinetuneSettings
    from ssl_jets.finetuning.memory_plan import MemoryPlan


def pretrain(
    method: str | None = None,
    *,
    model: str | Path | None = None,
    data: Names = (),
    schema: str | Path | None = None,
    where: str | None = None,
    val: Names = (),
    config: str | Path | None = None,
    settings: SettingTree | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    force: bool = False,
    steps: int | None = None,
    epochs: float | None = None,
    batch_size: int | None = None,
    size: str | None = None,
    seed: int | None = None,
    devices: int | None = None,
) -> Path:
    """Pretrain an encoder and write a run folder with its report.

    Args:
        method: name of the method, such as "mae"; `config`, `model` or the run to resume may name it, too.
        model: trained run, or its `model/` folder, to go on from, with the same or another method and data.
        data: jets to train on; by default the bundled sample.
        schema: YAML file (or name) of the format of the files.
        where: selection of jets, such as "jet_pt > 300 && abs(jet_eta) < 2"; by default all.
        val: jets to validate on; by default a part of `data` is held out.
        config: YAML file of settings; `settings` and the other arguments win over it.
        settings: further settings, such as `{"train.lr": 5e-4}`.
        out: the run folder; by default `runs/METHOD`.
        resume: continue the run in `out`, or begin it if there is none.
        force: replace the run in `out`.
        steps: optimizer steps; by default as many as `epochs` takes.
        epochs: passes over the training jets.
        batch_size: jets of one forward pass.
        size: encoder size: tiny, small, base, large or giant.
        seed: seed of every random choice.
        devices: devices of this machine; by default all GPUs, or one CPU process.

    Returns:
        The run folder.

    Raises:
        SslJetsError: a setting, an input file or the output is wrong.
        Interrupted: a signal came; the checkpoint is saved.
    """
    tree = tree_of(settings, schema, where)
    check_new_run(path_of(out), resume=resume, force=force)
    check_where(tree)

    from ssl_jets.config import read_config
    from ssl_jets.model_file import load_model
    from ssl_jets.pretraining import pretrain as run_pretrain
    from ssl_jets.pretraining import resolve_pretrain

    stored = _stored_settings(path_of(out), resume)
    in_config = read_config(Path(config)) if config is not None else {}
    if isinstance(short := in_config.get("method"), str):  # `method: mae`
        in_config["method"] = {"name": short}
    name = method or _method_of(in_config) or (stored and _method_of(read_config(stored)))
    if not name and model is not None:
        name = load_model(model_of(model)).method
    if not name:
        raise no_method(path_of(out), resume)
    arguments = _layer(data, val, steps=steps, epochs=epochs, batch_size=batch_size, seed=seed, devices=devices)
    arguments["model"] = given(size=size)
    arguments["train"] |= given(model=None if model is None else str(model_of(model)))
    resolved = resolve_pretrain(name, in_config, tree, arguments, stored=stored)
    folder = _run_folder(path_of(out), resolved.method.name)
    return _with_report(folder, resume, lambda: run_pretrain(resolved, folder, resume=resume, force=force))


def finetune(
    model: str | Path,
    *,
    data: Names = (),
    schema: str | Path | None = None,
    where: str | None = None,
    val: Names = (),
    mode: str | None = None,
    labels: float | None = None,
    folds: int | None = None,
    domain: Names = (),
    adapt: str | None = None,
    config: str | Path | None = None,
    settings: SettingTree | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    force: bool = False,
    steps: int | None = None,
    epochs: float | None = None,
    batch_size: int | None = None,
    size: str | None = None,
    seed: int | None = None,
    memory: str | None = None,
) -> Path:
    """Train heads, or heads and encoder, from a pretrained model, and write a run folder with its report.

    Args:
        model: the pretrained run, or its `model/` folder.
        data: labelled jets; by default the bundled sample.
        schema: YAML file (or name) of the format of the files.
        where: selection of jets, such as "jet_pt > 300 && abs(jet_eta) < 2"; by default all.
        val: jets to validate on; by default a part of `data` is held out, the same as in the pretraining.
        mode: weights that are trained, such as "head", "lora" or "full" (the default).
        labels: share (at most 1.0) or number of labelled jets; by default all.
        folds: train a model for each fold, which holds that fold out, and write the out-of-fold scores of all jets.
        domain: unlabelled jets of the target domain.
        adapt: domain adaptation with these jets: "dann", "coral", "mmd", "sinkhorn" or "reweight".
        config: YAML file of settings; `settings` and the other arguments win over it.
        settings: further settings, such as `{"train.lr": 5e-4}`.
        out: the run folder; by default `runs/finetune-MODE`.
        resume: continue the run in `out`, or begin it if there is none.
        force: replace the run in `out`.
        steps: optimizer steps; by default as many as `epochs` takes.
        epochs: passes over the labelled jets.
        batch_size: jets of one forward pass.
        size: encoder size of the student of mode "distil".
        seed: seed of every random choice.
        memory: memory limit of the automatic choice of the mode, such as "16GB"; by default the free memory.

    Returns:
        The run folder.

    Raises:
        SslJetsError: a setting, the model, an input file or the output is wrong.
        Interrupted: a signal came; the checkpoint is saved.
    """
    tree = tree_of(settings, schema, where)
    if folds is None and config is None and "folds" not in (tree.get("data") or {}):  # folds have a folder of runs
        check_new_run(path_of(out), resume=resume, force=force)
    check_where(tree)

    from ssl_jets.finetuning import finetune as run_finetune

    stored = _stored_settings(path_of(out), resume)
    resolved = _finetune_settings(
        model_of(model),
        stored,
        config,
        tree,
        _layer(data, val, domain, folds, steps=steps, epochs=epochs, batch_size=batch_size, seed=seed)
        | {"method": given(mode=mode, labels=labels, adapt=adapt, memory=memory), "model": given(size=size)},
    )
    if memory and resolved.method.mode != "auto" and stored is None:  # a resumed run has the mode that was chosen
        hint = "--plan, or --memory with --mode auto"
        raise UsageError("this option belongs to the plan", where="--memory", hint=hint)
    folder = _run_folder(path_of(out), f"finetune-{resolved.method.mode}")
    if resolved.data.folds is not None and resolved.data.fold is None:
        return _finetune_folds(resolved, folder, resume=resume, force=force)
    return _with_report(folder, resume, lambda: run_finetune(resolved, folder, resume=resume, force=force))


def _finetune_folds(resolved: RunSettings[FinetuneSettings], folder: Path, *, resume: bool, force: bool) -> Path:
    """Train all folds, and write the report of each."""
    from ssl_jets.finetuning.folds import finetune_folds

    before = {run for run in folder.glob("fold-*") if resume and _is_reported(run)}
    for run in finetune_folds(resolved, folder, resume=resume, force=force, log=log):
        if run not in before:
            _write_report(run)
    return folder


def plan_finetuning(
    model: str | Path,
    *,
    data: Names = (),
    schema: str | Path | None = None,
    where: str | None = None,
    val: Names = (),
    mode: str | None = None,
    labels: float | None = None,
    folds: int | None = None,
    domain: Names = (),
    adapt: str | None = None,
    config: str | Path | None = None,
    settings: SettingTree | None = None,
    steps: int | None = None,
    epochs: float | None = None,
    batch_size: int | None = None,
    size: str | None = None,
    seed: int | None = None,
    memory: str | None = None,
) -> MemoryPlan:
    """Measure memory and time of every mode of `finetune`, and train nothing (`ssl-jets finetune --plan`).

    It takes the arguments of `finetune` except `out`, `resume` and `force`. `mode` and `size` are checked, but every
    mode is measured; with `folds`, on the jets of the first training.

    Returns:
        The modes that fit and their cost.

    Raises:
        SslJetsError: a setting, the model or an input file is wrong.
    """
    from ssl_jets.finetuning import make_plan
    from ssl_jets.finetuning.folds import with_fold

    resolved = _finetune_settings(
        model_of(model),
        None,
        config,
        tree_of(settings, schema, where),
        _layer(data, val, domain, folds, steps=steps, epochs=epochs, batch_size=batch_size, seed=seed)
        | {"method": given(mode=mode, labels=labels, adapt=adapt, memory=memory), "model": given(size=size)},
    )
    one_of_folds = resolved.data.folds is not None and resolved.data.fold is None
    return make_plan(with_fold(resolved, 0) if one_of_folds else resolved, log)


def _finetune_settings(
    model: Path, stored: Path | None, config: str | Path | None, *layers: dict[str, Any]
) -> RunSettings[FinetuneSettings]:
    from ssl_jets.config import read_config
    from ssl_jets.finetuning import resolve_finetune

    in_config = read_config(Path(config)) if config is not None else {}
    return resolve_finetune(model, in_config, *layers, stored=stored)


def _layer(
    data: Names, val: Names, domain: Names = (), folds: int | None = None, **train: float | None
) -> dict[str, Any]:
    """Return the settings that arguments name, without the arguments left at their default."""
    files = given(sources=names_of(data), validation=names_of(val), unlabelled=names_of(domain), folds=folds)
    return {"data": files, "train": given(**train)}


def _method_of(config: dict[str, Any]) -> str | None:
    """Return the method that settings name; None if they name none."""
    method = config.get("method")
    name = method.get("name") if isinstance(method, dict) else None
    return None if name is None else str(name)


def _stored_settings(out: Path | None, resume: bool) -> Path | None:
    """Return the settings file of the run to resume; None if there is no such run yet."""
    if not resume:
        return None
    if out is None:
        raise UsageError("--resume needs the run to go on with", where="--out", hint="--out RUN --resume")
    return out / "config.yaml" if (out / "config.yaml").is_file() else None


def _run_folder(out: Path | None, name: str) -> Path:
    from ssl_jets.runtime.atomic import free_folder

    return out if out is not None else free_folder(Path("runs"), name)


def _with_report(folder: Path, resume: bool, train: Callable[[], Path]) -> Path:
    """Train and write the report of the run; a run that was finished before keeps its report."""
    before = resume and _is_reported(folder)
    train()
    if rank() == 0 and not before:
        _write_report(folder)
    return folder


def _is_reported(folder: Path) -> bool:
    """Return True if a run is finished and has its report."""
    from ssl_jets.training.run_folder import TrainingRun

    return TrainingRun(folder).finished and (folder / "report.html").is_file()


def _write_report(folder: Path) -> None:
    from ssl_jets.report import write_run_report

    write_run_report(folder)
