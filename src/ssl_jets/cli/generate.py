"""The command `generate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssl_jets.cli.console import put, say
from ssl_jets.cli.options import Force, Model, Seed


def generate(
    model: Model,
    jets: Annotated[int, typer.Option("--jets", metavar="N", help="How many.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="ROOT file in the JetClass layout.")],
    seed: Seed = None,
    force: Force = False,
) -> None:
    """Write new jets of a model that can generate; prints the file."""
    from ssl_jets.generation import generate as run_generate
    from ssl_jets.runtime.allocator import tune_memory
    from ssl_jets.runtime.console import Bar

    tune_memory()
    with Bar("generate", jets, "jets") as bar:
        summary = run_generate(model, jets, out, seed=seed or 0, force=force, report=bar.to_of)
    again = "".join(f"; {count:,} drawn again: {reason}" for reason, count in summary.redrawn.items())
    say(f"{summary.jets:,} jets in {summary.seconds:.1f} s{again}")
    put(summary.path)
