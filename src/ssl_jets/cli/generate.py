"""The command `generate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssl_jets.cli.console import log, print_result
from ssl_jets.cli.options import Force, Model, Seed


def generate(
    model: Model,
    jets: Annotated[int, typer.Option("--jets", metavar="N", help="Number of jets.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="ROOT file in the JetClass layout.")],
    seed: Seed = None,
    force: Force = False,
) -> None:
    """Write new jets of a generative model; prints the file."""
    from ssl_jets import api

    summary = api.generate(model, jets=jets, out=out, seed=seed, force=force)
    again = "".join(f"; {count:,} drawn again: {reason}" for reason, count in summary.redrawn.items())
    log(f"{summary.jets:,} jets in {summary.seconds:.1f} s{again}")
    print_result(summary.path)
