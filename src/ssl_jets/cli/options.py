"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

import typer

from ssl_jets.config import ModelSettings, Recipe, TrainSettings

_SIZE = ModelSettings.model_fields["size"]

Data = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        metavar="SRC",
        help="File, folder, glob, @list.txt, - (names on stdin), file.root:tree. Default: a sample, or a run's files.",
    ),
]
Val = Annotated[
    list[str] | None, typer.Option("--val", metavar="SRC", help="Jets to validate on. Default: a part of --data.")
]
Config = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="YAML file of settings.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting, such as data.bad_jets=skip.")
]
Schema = Annotated[
    str | None, typer.Option("--schema", metavar="FILE", help="Format of the files: a YAML file, or a known name.")
]
Where = Annotated[
    str | None, typer.Option("--where", metavar="FORMULA", help="Select jets: 'jet_pt > 300 && abs(jet_eta) < 2'.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in --out, or start it.")]
Force = Annotated[bool, typer.Option("--force", help="Replace an existing output.")]
Steps = Annotated[int | None, typer.Option("--steps", help="Optimizer steps. Default: as many as --epochs takes.")]
Epochs = Annotated[
    float | None,
    typer.Option("--epochs", help=f"Passes over the training jets. Default: the recipe's, {Recipe().train.epochs:g}."),
]
BatchSize = Annotated[
    int | None,
    typer.Option("--batch-size", min=1, help="Jets per forward pass. Default: the recipe's, or 512 without training."),
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", help=f"Seed of every random choice. Default: {TrainSettings.model_fields['seed'].default}."),
]
Devices = Annotated[
    int | None, typer.Option("--devices", help="Devices of this machine to use. Default: all GPUs, or one CPU process.")
]
Size = Annotated[
    str | None,
    typer.Option(
        "--size",
        metavar="|".join(get_args(_SIZE.annotation)),
        help=f"Width and blocks of the encoder, or of the student of --mode distil. Default: {_SIZE.default}.",
    ),
]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="RUN",
        help="Run or model folder, RUN@step-N, bundled model (small-ssl), https://...#sha256=... or hf:...",
    ),
]
Keep = Annotated[list[str] | None, typer.Option("--keep", metavar="COLUMN", help="Jet column to copy from the input.")]
Part = Annotated[
    str | None, typer.Option("--part", metavar="I/N", help="Write part I (from 1) of N; `merge` joins the parts.")
]
PerFile = Annotated[
    bool, typer.Option("--per-file", help="Write one file per input; put {name} or {index} into --out.")
]
ResumeParts = Annotated[bool, typer.Option("--resume", help="Keep finished parts; after a kill, continue from them.")]
