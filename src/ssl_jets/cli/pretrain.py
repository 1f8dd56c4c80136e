"""The command `pretrain`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from ssl_jets import methods
from ssl_jets.cli.console import on_rank_0, put
from ssl_jets.cli.options import (
    BatchSize,
    Config,
    Data,
    Devices,
    Epochs,
    Force,
    Resume,
    Schema,
    Seed,
    Set,
    Size,
    Steps,
    Val,
    flag_settings,
    set_settings,
)
from ssl_jets.errors import UsageError


def pretrain(
    method: Annotated[
        str | None,
        typer.Option("--method", metavar="NAME", help=f"How z is learned: {', '.join(methods.names())}. No default."),
    ] = None,
    data: Data = None,
    schema: Schema = None,
    val: Val = None,
    config: Config = None,
    set_: Set = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="RUN", help="Run folder. Default: runs/METHOD.")] = None,
    resume: Resume = False,
    force: Force = False,
    steps: Steps = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    size: Size = None,
    seed: Seed = None,
    devices: Devices = None,
) -> None:
    """Pretrain an encoder; prints the run folder."""
    with _watching(out, resume) as finished:
        from ssl_jets.config import read_config
        from ssl_jets.pretraining import pretrain as run_pretrain
        from ssl_jets.pretraining import resolve_pretrain

        file = read_config(config) if config is not None else {}
        flags = flag_settings(data, val, steps, epochs, batch_size, seed, devices)
        flags |= {"model": {"size": size}} if size else {}
        stored = _stored(out, resume)
        given = file.get("method")
        in_file = given.get("name") if isinstance(given, dict) else given
        name = method or in_file or (stored and read_config(stored)["method"]["name"])
        if not name:
            raise UsageError("no method is given", where="--method", hint="ssl-jets pretrain --method mae")
        settings = resolve_pretrain(str(name), file, set_settings(set_, schema), flags, stored=stored)
        folder = _run_folder(out, settings.method.name)
        _answer(run_pretrain(settings, folder, resume=resume, force=force), again=finished)


def _stored(out: Path | None, resume: bool) -> Path | None:
    """The settings file of the run to go on with; None where there is no such run yet."""
    if not resume:
        return None
    if out is None:
        raise UsageError("--resume needs the run to go on with", where="--out", hint="--out RUN --resume")
    return out / "config.yaml" if (out / "config.yaml").is_file() else None


@contextmanager
def _watching(out: Path | None, resume: bool) -> Iterator[bool]:
    """Watch signals from before the first heavy import on.

    Yields:
        whether the run is finished already. Then no signal stops the answer.
    """
    from ssl_jets.runtime.signals import watched
    from ssl_jets.training.run_folder import Run

    with watched(pass_on=False) as watch:
        finished = resume and out is not None and Run(out).finished
        watch.at_once = not finished
        yield finished


def _answer(folder: Path, *, again: bool) -> None:
    """Write the report of a run and print its folder; the report of a run that was finished before stays."""
    from ssl_jets.report import write_run_report

    if not (again and (folder / "report.html").is_file()):
        on_rank_0(lambda: write_run_report(folder))
    put(folder)


def _run_folder(out: Path | None, name: str) -> Path:
    from ssl_jets.runtime.atomic import free_folder

    return out if out is not None else free_folder(Path("runs"), name)
