"""The command `pretrain`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from ssl_jets import methods
from ssl_jets.cli.console import print_result
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
    Where,
)


def pretrain(
    method: Annotated[
        str | None,
        typer.Option("--method", metavar="NAME", help=f"One of {', '.join(methods.names())}. No default."),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="RUN", help="Trained model to continue from, of any method.")
    ] = None,
    data: Data = None,
    schema: Schema = None,
    where: Where = None,
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
    with watching(out, resume):
        from ssl_jets import api
        from ssl_jets.setting_tree import parse_set

        run = api.pretrain(
            method,
            model=model,
            data=data or (),
            schema=schema,
            where=where,
            val=val or (),
            config=config,
            settings=parse_set(set_ or []),
            out=out,
            resume=resume,
            force=force,
            steps=steps,
            epochs=epochs,
            batch_size=batch_size,
            size=size,
            seed=seed,
            devices=devices,
        )
        print_result(run)


@contextmanager
def watching(out: Path | None, resume: bool) -> Iterator[None]:
    """Watch for signals from before the first heavy import on; no signal stops the answer of a finished run."""
    from ssl_jets.runtime.signals import watched
    from ssl_jets.training.run_folder import TrainingRun

    with watched(pass_on=False) as watch:
        watch.at_once = not (resume and out is not None and TrainingRun(out).finished)
        yield
