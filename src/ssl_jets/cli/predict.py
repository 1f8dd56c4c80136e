"""The command `predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssl_jets.cli.embed import Level, put_files
from ssl_jets.cli.options import BatchSize, Data, Force, Keep, Part, PerFile, ResumeParts, Schema, Set, Where


def predict(
    model: Annotated[
        list[Path],
        typer.Option("--model", metavar="RUN", help="Model with a head, as for embed; several are an ensemble."),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Scores file: .root, .parquet, .h5 or .npz.")],
    data: Data = None,
    schema: Schema = None,
    where: Where = None,
    score: Annotated[
        list[str] | None,
        typer.Option("--score", metavar="'NAME = FORMULA'", help="Discriminant of classes and columns."),
    ] = None,
    keep: Keep = None,
    level: Annotated[Level, typer.Option("--level", help="One row per jet, or one per particle.")] = Level.jet,
    with_z: Annotated[bool, typer.Option("--with-z", help="Also write z.")] = False,
    temperature: Annotated[
        str | None,
        typer.Option("--temperature", metavar="T|fit", help="Divide the logits by T; `fit` fits T on held-out jets."),
    ] = None,
    part: Part = None,
    per_file: PerFile = False,
    set_: Set = None,
    batch_size: BatchSize = None,
    resume: ResumeParts = False,
    force: Force = False,
) -> None:
    """Write class probabilities, regressed columns and discriminants of every jet (or particle); prints the file."""
    from ssl_jets import api
    from ssl_jets.setting_tree import parse_set

    summary = api.predict(
        model,
        out=out,
        data=data or (),
        schema=schema,
        where=where,
        score=score or (),
        keep=keep or (),
        level=level.value,
        with_z=with_z,
        temperature=temperature,
        part=part,
        per_file=per_file,
        settings=parse_set(set_ or []),
        batch_size=batch_size,
        resume=resume,
        force=force,
    )
    put_files(summary)
