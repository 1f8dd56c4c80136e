"""Whether a run folder may be written or taken up again, and with which settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from ssl_jets.config import MethodSettings, RunSettings, read_config, resolve, to_yaml
from ssl_jets.data.dataset import Dataset
from ssl_jets.errors import UsageError
from ssl_jets.runtime.atomic import write_text
from ssl_jets.training.run_folder import Run

_MAY_CHANGE = {
    "data.bad_files",
    "data.bad_jets",
    "data.workers",
    "train.checkpoint_minutes",
    "train.clip",
    "train.devices",
    "train.final_lr",
    "train.keep_checkpoints",
    "train.log_every",
    "train.lr",
    "train.max_nonfinite",
    "train.on_collapse",
    "train.on_nonfinite",
    "train.precision",
    "train.validate_every",
    "train.warmup",
    "train.weight_decay",
}
"""Settings that `--resume` may change: the rest of the training goes on with them, from the same weights and jets."""


def check_run(settings: RunSettings[MethodSettings], out: Path, fabric: Fabric, *, resume: bool, force: bool) -> Run:
    """The run, where `out` may be written; settings that changed since it was begun are refused. Nothing is replaced.

    A setting that came into ssl-jets after the run was begun had its default before as well.
    """
    run = Run(out, writes=fabric.is_global_zero)
    stored = out / "config.yaml"
    if resume and stored.is_file():
        begun, changes = read_config(stored), _changes(settings, stored)
        if changed := [key for key in changes if key not in _MAY_CHANGE]:
            raise UsageError(
                "the run was begun with other settings",
                where=stored,
                found=", ".join(changed),
                hint=f"--resume without them goes on with the settings of the run; it may change {_may_change()}",
            )
        if newer := sorted(set(_flat(settings.model_dump(mode="json"))) - set(_flat(begun))):
            run.say(f"settings that are newer than the run have their defaults: {', '.join(newer)}")
    else:
        run.refuse_existing(force=force)
    return run


def _may_change() -> str:
    return ", ".join(sorted(_MAY_CHANGE))


def _changes(settings: RunSettings[MethodSettings], stored: Path) -> dict[str, tuple[Any, Any]]:
    """Settings that differ from those a run was begun with, by key: before, now."""
    before = _flat(resolve(type(settings), read_config(stored)).model_dump(mode="json"))
    now = _flat(settings.model_dump(mode="json"))
    return {key: (before[key], value) for key, value in now.items() if before[key] != value}


def is_finished(run: Run, fabric: Fabric, *, resume: bool) -> bool:
    """Return whether a run that is resumed has its model already, the same on all ranks."""
    finished: bool = fabric.broadcast(resume and run.finished)
    if finished:
        run.say(f"the run is finished, nothing is left to do: {run.model}")
    return finished


def _flat(tree: dict[str, Any]) -> dict[str, Any]:
    """`{"train": {"lr": 1e-3}}` as `{"train.lr": 1e-3}`."""
    return {f"{name}.{key}": value for name, settings in tree.items() for key, value in settings.items()}


def open_run(
    run: Run, settings: RunSettings[MethodSettings], data: Dataset, fabric: Fabric, *, resume: bool, force: bool
) -> None:
    """Create the run folder, or take it up again. Called when the inputs are known to be good, as `force` removes."""
    if not (resume and (run.folder / "config.yaml").is_file()):
        run.create(settings, force=force)
    else:
        run.take()
        if run.writes and (changes := _changes(settings, run.folder / "config.yaml")):
            write_text(run.folder / "config.yaml", to_yaml(settings))
            for key, (before, now) in changes.items():
                run.say(f"changed with this --resume: {key} from {before} to {now}")
        if not run.begun:  # killed before its first one, it begins again
            run.forget_after(-1)
            if run.writes:
                run.healthy.unlink(missing_ok=True)
    run.check_files([file.identity for file in data.files])
    fabric.barrier()
