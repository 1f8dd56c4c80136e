"""The command `convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ssl_jets.cli.console import log, print_result
from ssl_jets.cli.options import Force


def convert(
    architecture: Annotated[
        str, typer.Argument(metavar="ENCODER", help="`part`, or a name of $SSL_JETS_ENCODERS or of an entry point.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="The model folder.")],
    checkpoint: Annotated[
        Path | None, typer.Argument(metavar="[CHECKPOINT]", help="Its weights: .safetensors, or a file of torch.save.")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", metavar="KEY=VALUE", help="An argument of its constructor.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option("--labels", metavar="A,B,...", help="Classes of the head of the checkpoint.")
    ] = None,
    force: Force = False,
) -> None:
    """Convert an encoder of another architecture, with its weights, to a model folder; prints the folder."""
    from ssl_jets import api
    from ssl_jets.setting_tree import parse_set

    options: dict[str, Any] = parse_set(option or [])
    names = [name.strip() for name in labels.split(",")] if labels else []
    converted = api.convert(architecture, checkpoint, out=out, options=options, labels=names, force=force)
    for note in converted.notes:
        log(note)
    model = converted.model
    classes = f", {len(model.labels)} classes" if model.labels else ""
    log(f"{architecture}: {model.parameters:,} parameters, z of {model.encoder.dim} numbers{classes}")
    print_result(converted.folder)
