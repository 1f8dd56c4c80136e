"""The commands that train: `pretrain` and `finetune`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ssl_jets import methods
from ssl_jets.cli.options import (
    BatchSize,
    Config,
    Data,
    Devices,
    Epochs,
    Force,
    Model,
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
from ssl_jets.cli.talk import on_rank_0, put, say
from ssl_jets.errors import UsageError
from ssl_jets.launch import join


class Mode(StrEnum):
    """Modes of `finetune`."""

    probe = "probe"
    head = "head"
    last = "last"
    lora = "lora"
    full = "full"
    scratch = "scratch"
    distil = "distil"
    fit = "fit"


class Adapt(StrEnum):
    """What `finetune` does with unlabelled jets of another domain."""

    none = "none"
    dann = "dann"
    coral = "coral"
    mmd = "mmd"
    reweight = "reweight"


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
        from ssl_jets.pretrain import pretrain as run_pretrain
        from ssl_jets.pretrain import resolve_pretrain

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


def finetune(
    model: Model,
    data: Data = None,
    schema: Schema = None,
    val: Val = None,
    mode: Annotated[
        Mode | None,
        typer.Option("--mode", help="What learns; `fit` is the most that fits into the memory. Default: full."),
    ] = None,
    labels: Annotated[
        float | None, typer.Option("--labels", help="Share (at most 1.0) or number of labelled jets.")
    ] = None,
    domain: Annotated[
        list[str] | None, typer.Option("--domain", metavar="SRC", help="Unlabelled jets of the target domain.")
    ] = None,
    adapt: Annotated[
        Adapt | None, typer.Option("--adapt", help="What is done with them: see docs/domain-shift.md.")
    ] = None,
    config: Config = None,
    set_: Set = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="RUN", help="Run folder. Default: runs/finetune-MODE.")
    ] = None,
    resume: Resume = False,
    force: Force = False,
    steps: Steps = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    size: Size = None,
    seed: Seed = None,
    plan: Annotated[bool, typer.Option("--plan", help="Measure what each mode takes, and train nothing.")] = False,
    memory: Annotated[
        str | None, typer.Option("--memory", help="What it may use, such as 16GB. Default: what is free.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Train heads, or heads and encoder, from a pretrained model; prints the run folder, or a plan."""
    if json_ and not plan:
        raise UsageError("this option is one of the plan", where="--json", hint="--plan --json")
    if plan and (launch := join()) is not None and launch.world > 1:
        raise UsageError("a plan is measured in one process", where="--plan", hint="--plan without torchrun or srun")
    with _watching(out, resume) as finished:
        from ssl_jets.config import read_config
        from ssl_jets.finetune import finetune as run_finetune
        from ssl_jets.finetune import make_plan, resolve_finetune

        file = read_config(config) if config is not None else {}
        options = {"mode": mode and mode.value, "labels": labels, "adapt": adapt and adapt.value, "memory": memory}
        chosen = {key: value for key, value in options.items() if value is not None}
        flags = flag_settings(data, val, steps, epochs, batch_size, seed, None) | {"method": chosen}
        flags |= {"model": {"size": size}} if size else {}
        if domain is not None:
            flags["data"]["unlabelled"] = domain
        settings = resolve_finetune(model, file, set_settings(set_, schema), flags, stored=_stored(out, resume))
        if memory and not plan and settings.method.mode != Mode.fit:
            hint = "--plan, or --memory with --mode fit"
            raise UsageError("this option is one of the plan", where="--memory", hint=hint)
        if plan:
            found = make_plan(settings, say)
            put(found.as_json() if json_ else found.table())
            return
        folder = _run_folder(out, f"finetune-{settings.method.mode}")
        _answer(run_finetune(settings, folder, resume=resume, force=force), again=finished)


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
    from ssl_jets.run import Run
    from ssl_jets.signals import watched

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
    from ssl_jets.run import free_folder

    return out if out is not None else free_folder(Path("runs"), name)
