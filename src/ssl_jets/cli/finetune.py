"""The command `finetune`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ssl_jets.cli.console import put, say
from ssl_jets.cli.options import (
    BatchSize,
    Config,
    Data,
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
from ssl_jets.cli.pretrain import _answer, _run_folder, _stored, _watching
from ssl_jets.errors import UsageError
from ssl_jets.runtime.launcher import join


class ModeName(StrEnum):
    """Modes of `finetune`."""

    probe = "probe"
    head = "head"
    last_blocks = "last-blocks"
    lora = "lora"
    full = "full"
    scratch = "scratch"
    distil = "distil"
    auto = "auto"


class AdaptName(StrEnum):
    """What `finetune` does with unlabelled jets of another domain."""

    none = "none"
    dann = "dann"
    coral = "coral"
    mmd = "mmd"
    reweight = "reweight"


def finetune(
    model: Model,
    data: Data = None,
    schema: Schema = None,
    val: Val = None,
    mode: Annotated[
        ModeName | None,
        typer.Option("--mode", help="What learns; `auto` is the most that fits into the memory. Default: full."),
    ] = None,
    labels: Annotated[
        float | None, typer.Option("--labels", help="Share (at most 1.0) or number of labelled jets.")
    ] = None,
    domain: Annotated[
        list[str] | None, typer.Option("--domain", metavar="SRC", help="Unlabelled jets of the target domain.")
    ] = None,
    adapt: Annotated[
        AdaptName | None, typer.Option("--adapt", help="What is done with them: see docs/domain-shift.md.")
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
        from ssl_jets.finetuning import finetune as run_finetune
        from ssl_jets.finetuning import make_plan, resolve_finetune

        file = read_config(config) if config is not None else {}
        options = {"mode": mode and mode.value, "labels": labels, "adapt": adapt and adapt.value, "memory": memory}
        chosen = {key: value for key, value in options.items() if value is not None}
        flags = flag_settings(data, val, steps, epochs, batch_size, seed, None) | {"method": chosen}
        flags |= {"model": {"size": size}} if size else {}
        if domain is not None:
            flags["data"]["unlabelled"] = domain
        settings = resolve_finetune(model, file, set_settings(set_, schema), flags, stored=_stored(out, resume))
        if memory and not plan and settings.method.mode != ModeName.auto:
            hint = "--plan, or --memory with --mode auto"
            raise UsageError("this option is one of the plan", where="--memory", hint=hint)
        if plan:
            found = make_plan(settings, say)
            put(found.as_json() if json_ else found.table())
            return
        folder = _run_folder(out, f"finetune-{settings.method.mode}")
        _answer(run_finetune(settings, folder, resume=resume, force=force), again=finished)
