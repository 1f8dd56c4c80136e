"""The command `merge`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssl_jets.cli.console import log, print_result
from ssl_jets.cli.options import Force


def merge(
    parts: Annotated[
        list[Path], typer.Argument(metavar="PART...", help="Files of --part or --per-file, in any order.")
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="A .root, .parquet, .h5 or .npz file, or a .json index.")
    ],
    partial: Annotated[bool, typer.Option("--partial", help="Accept missing parts.")] = False,
    force: Force = False,
) -> None:
    """Join the parts of an array job into one file, or into an index that stands for all of them; prints the file."""
    from ssl_jets import api

    merged = api.merge(parts, out=out, partial=partial, force=force)
    log(f"{merged.rows:,} rows of {merged.parts} parts")
    if merged.missing:
        log(f"missing parts: {', '.join(map(str, merged.missing))}")
    print_result(merged.path)
