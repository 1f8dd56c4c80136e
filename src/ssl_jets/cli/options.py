"""Options that several commands share, and the settings that they name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from ssl_jets import methods
from ssl_jets.config import ModelSettings, TrainSettings
from ssl_jets.methods._describe import described_recipe

_SIZE = ModelSettings.model_fields["size"]
_EPOCHS = sorted({described_recipe(name).train.epochs or 1 for name in methods.names()})
_DEFAULT_EPOCHS = " or ".join(f"{epochs:g}" for epochs in _EPOCHS)

Data = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        metavar="SRC",
        help="File, folder, glob, @list.txt, - (names on stdin) or file.root:tree. Default: the bundled sample.",
    ),
]
Val = Annotated[
    list[str] | None, typer.Option("--val", metavar="SRC", help="Jets to validate on. Default: a part of --data.")
]
Config = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="YAML file of settings.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting, such as train.lr=1e-4.")
]
Schema = Annotated[
    str | None, typer.Option("--schema", metavar="FILE", help="YAML file (or name) of the format of the files.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
Steps = Annotated[int | None, typer.Option("--steps", help="Optimizer steps. Default: as many as --epochs takes.")]
Epochs = Annotated[
    float | None,
    typer.Option("--epochs", help=f"Passes over the training jets. Default: the recipe's, {_DEFAULT_EPOCHS}."),
]
BatchSize = Annotated[
    int | None, typer.Option("--batch-size", min=1, help="Jets of one forward pass. Default: the recipe's.")
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
        help=f"Width and blocks of the encoder; with --mode distil of the student. Default: {_SIZE.default}.",
    ),
]
Model = Annotated[Path, typer.Option("--model", metavar="RUN", help="A run folder, or its model/ folder.")]


def flag_settings(
    data: list[str] | None,
    val: list[str] | None,
    steps: int | None,
    epochs: float | None,
    batch_size: int | None,
    seed: int | None,
    devices: int | None,
) -> dict[str, Any]:
    """The settings that options name, without those that were not given."""
    train = {"steps": steps, "epochs": epochs, "batch_size": batch_size, "seed": seed, "devices": devices}
    files = {"sources": data, "validation": val}
    return {
        "data": {key: value for key, value in files.items() if value is not None},
        "train": {key: value for key, value in train.items() if value is not None},
    }


def set_settings(assignments: list[str] | None, schema: str | None, **of_options: object) -> dict[str, Any]:
    """The settings of `--set`; over them the format of `--schema`, and keys of `evaluate.*` that options name."""
    from ssl_jets.config import merge, parse_set

    given = {key: value for key, value in of_options.items() if value is not None}
    options = ({"data": {"format": schema}} if schema else {}) | ({"evaluate": given} if given else {})
    return merge(parse_set(assignments or []), options)
