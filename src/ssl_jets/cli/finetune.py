"""The command `finetune`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from ssl_jets.cli.console import print_result
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
    Where,
)
from ssl_jets.cli.pretrain import watching
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
    """Domain adaptations of `finetune`."""

    none = "none"
    dann = "dann"
    coral = "coral"
    mmd = "mmd"
    sinkhorn = "sinkhorn"
    reweight = "reweight"


def finetune(
    model: Model,
    data: Data = None,
    schema: Schema = None,
    where: Where = None,
    val: Val = None,
    mode: Annotated[
        ModeName | None,
        typer.Option("--mode", help="Weights to train; `auto`: the most that fits into the memory. Default: full."),
    ] = None,
    labels: Annotated[
        float | None, typer.Option("--labels", help="Share (at most 1.0) or number of labelled jets.")
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option("--folds", min=2, help="Cross-validate: one model per fold, out-of-fold scores of all jets."),
    ] = None,
    domain: Annotated[
        list[str] | None, typer.Option("--domain", metavar="SRC", help="Unlabelled jets of the target domain.")
    ] = None,
    adapt: Annotated[
        AdaptName | None, typer.Option("--adapt", help="Domain adaptation with these jets: see docs/domain-shift.md.")
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
    plan: Annotated[bool, typer.Option("--plan", help="Measure memory and time of each mode, train nothing.")] = False,
    memory: Annotated[
        str | None, typer.Option("--memory", help="Memory limit, such as 16GB. Default: the free memory.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Train heads, or heads and encoder, from a pretrained model; prints the run folder, or a plan."""
    if json_ and not plan:
        raise UsageError("this option belongs to the plan", where="--json", hint="--plan --json")
    if plan and (launch := join()) is not None and launch.world > 1:
        raise UsageError("a plan is measured in one process", where="--plan", hint="--plan without torchrun or srun")
    with watching(out, resume):
        from ssl_jets import api
        from ssl_jets.setting_tree import parse_set

        options: dict[str, Any] = {
            "data": data or (),
            "schema": schema,
            "where": where,
            "val": val or (),
            "mode": mode and mode.value,
            "labels": labels,
            "folds": folds,
            "domain": domain or (),
            "adapt": adapt and adapt.value,
            "config": config,
            "settings": parse_set(set_ or []),
            "steps": steps,
            "epochs": epochs,
            "batch_size": batch_size,
            "size": size,
            "seed": seed,
            "memory": memory,
        }
        if plan:
            measured = api.plan_finetuning(model, **options)
            print_result(measured.as_json() if json_ else measured.table())
        else:
            print_result(api.finetune(model, out=out, resume=resume, force=force, **options))
