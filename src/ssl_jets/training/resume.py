"""Start and resume of runs: check the run folder and its settings before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from ssl_jets import methods
from ssl_jets.config import MethodSettings, RunSettings, resolve, to_yaml
from ssl_jets.data.dataset import Dataset
from ssl_jets.errors import UsageError
from ssl_jets.methods._renamed import read_run_config
from ssl_jets.runtime.atomic import write_text
from ssl_jets.runtime.overwriting import check_apart
from ssl_jets.sharing.location import is_elsewhere, model_folder
from ssl_jets.training.loggers import Loggers, check_loggers
from ssl_jets.training.required import TEACHER
from ssl_jets.training.run_folder import TrainingRun

_MAY_CHANGE = {
    "data.bad_files",
    "data.bad_jets",
    "data.cache",
    "data.cache_gb",
    "data.workers",
    "train.checkpoint_minutes",
    "train.clip",
    "train.devices",
    "train.final_lr",
    "train.keep_checkpoints",
    "train.log",
    "train.log_every",
    "train.lr",
    "train.max_nonfinite",
    "train.on_collapse",
    "train.on_nonfinite",
    "train.precision",
    "train.snapshot_minutes",
    "train.strategy",
    "train.validate_every",
    "train.warmup",
    "train.weight_decay",
}
"""Settings that `--resume` may change: the rest of the training uses them, with the same weights and jets."""
_SOURCES = "data.sources"
"""It may change too while the run has a record of its files, since files in other folders are compared with it."""


def check_run(
    settings: RunSettings[MethodSettings], out: Path, fabric: Fabric, *, resume: bool, force: bool
) -> TrainingRun:
    """Check that a run can be started or resumed in `out`. Nothing is written or removed.

    A setting that is newer than the run counts as its default.

    Raises:
        UsageError: settings that `--resume` may not change differ from the run, `out` is occupied, or the package of a
            logger is not installed.
    """
    run = TrainingRun(out, writes=fabric.is_global_zero)
    check_loggers(settings.train.log)
    config = out / "config.yaml"
    if not (resume and config.is_file()):
        run.check_replaceable(force=force)
        return run
    allowed = _MAY_CHANGE | ({_SOURCES} if run.can_check_files and not run.finished else set())
    if changed := [key for key in _changes(settings, config) if key not in allowed]:
        may_change = ", ".join(sorted(_MAY_CHANGE))
        raise UsageError(
            "the run was begun with other settings",
            where=config,
            found=", ".join(changed),
            hint=f"--resume without them goes on with the settings of the run; it may change {may_change}",
        )
    if newer := sorted(set(_flat(settings.model_dump(mode="json"))) - set(_flat(read_run_config(config)))):
        run.log_message(f"settings that are newer than the run have their defaults: {', '.join(newer)}")
    return run


def is_finished(run: TrainingRun, fabric: Fabric, *, resume: bool) -> bool:
    """Return True if a resumed run has its model already, the same on all ranks."""
    finished: bool = fabric.broadcast(resume and run.finished)
    if finished:
        run.log_message(f"the run is finished, nothing is left to do: {run.model}")
    return finished


def goes_on(run: TrainingRun, fabric: Fabric, *, resume: bool) -> bool:
    """Return True if a run continues from a checkpoint, the same on all ranks.

    Rank 0 decides: other machines may see a file on a network disk later, or have none in a folder of their own.
    """
    continues: bool = fabric.broadcast(resume and run.has_checkpoint)
    return continues


def open_run(
    run: TrainingRun, settings: RunSettings[MethodSettings], data: Dataset, fabric: Fabric, *, resume: bool, force: bool
) -> None:
    """Create or reopen the run folder. Called after the inputs are checked, since `force` removes the old run.

    Raises:
        UsageError: the run to be removed contains files of jets, the model to begin from, or a schema of this run.
    """
    config = run.folder / "config.yaml"
    files = [view.identity for file in data.files for view in file.views]
    own = {file.schema.sha256 for file in data.files} if Path(settings.data.format or "").is_file() else set()
    if not (resume and config.is_file()):
        check_apart([run.folder], [*_files_of(settings, data), *_models_of(settings)])
        run.create(settings, force=force)
        run.record_or_check_files(files, own)
    else:
        run.lock()
        run.record_or_check_files(files, own)
        if run.writes and (changes := _changes(settings, config)):
            write_text(config, to_yaml(settings))
            for key, (before, now) in changes.items():
                run.log_message(f"changed with this --resume: {key} from {before} to {now}")
        if not run.has_checkpoint:  # killed before the first checkpoint: it begins again
            run.drop_metrics_after(-1)
    run.loggers = Loggers(settings.train.log, run.folder, _flat(settings.model_dump(mode="json")))
    fabric.barrier()


def _files_of(settings: RunSettings[MethodSettings], data: Dataset) -> list[str]:
    """Return the files of jets, including unreadable ones, and the schema if one is named."""
    views = [view.source.path for file in data.files for view in file.views]
    return [*views, *data.left_out, *([settings.data.format] if settings.data.format else [])]


def _models_of(settings: RunSettings[MethodSettings]) -> list[Path]:
    """Return the folders on this machine of the trained models that a run begins from."""
    of_method = (getattr(settings.method, name, None) for name in ("model", TEACHER, *methods.names()))
    named = [name for name in (settings.train.model, *of_method) if isinstance(name, str) and name]
    return [model_folder(Path(name)) for name in named if not is_elsewhere(name)]


def _changes(settings: RunSettings[MethodSettings], config: Path) -> dict[str, tuple[Any, Any]]:
    """Compare the settings with the stored ones of a run; return those that differ by key: before, now."""
    before = _flat(resolve(type(settings), read_run_config(config)).model_dump(mode="json"))
    now = _flat(settings.model_dump(mode="json"))
    if now["train.steps"] is not None and now["train.steps"] == before["train.steps"]:
        before["train.epochs"] = now["train.epochs"]  # the number of steps decides
    return {key: (before[key], value) for key, value in now.items() if before[key] != value}


def _flat(tree: dict[str, Any]) -> dict[str, Any]:
    """Flatten `{"train": {"lr": 1e-3}}` to `{"train.lr": 1e-3}`."""
    return {f"{name}.{key}": value for name, settings in tree.items() for key, value in settings.items()}
