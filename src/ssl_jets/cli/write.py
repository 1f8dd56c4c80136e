"""The commands that write jets and z: `embed` and `generate`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ssl_jets.cli.options import BatchSize, Data, Force, Model, Schema, Seed, Set, set_settings
from ssl_jets.cli.talk import put, say, say_sample
from ssl_jets.launch import rank


class Level(StrEnum):
    """What has a row in a z file."""

    jet = "jet"
    particle = "particle"


def embed(
    model: Model,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="z file: .root, .parquet, .h5 or .npz.")],
    data: Data = None,
    schema: Schema = None,
    level: Annotated[Level, typer.Option("--level", help="One row per jet, or one per particle.")] = Level.jet,
    keep: Annotated[
        list[str] | None, typer.Option("--keep", metavar="COLUMN", help="Jet column to copy from the input.")
    ] = None,
    set_: Set = None,
    batch_size: BatchSize = None,
    force: Force = False,
) -> None:
    """Write z of every jet, in input order; prints the file."""
    from ssl_jets.allocator import tune_memory
    from ssl_jets.config import resolve
    from ssl_jets.data.left_out import of_jets
    from ssl_jets.embed import EmbedSettings
    from ssl_jets.embed import embed as run_embed
    from ssl_jets.progress import Bar

    tune_memory()
    settings = resolve(EmbedSettings, set_settings(set_, schema), {"data": {"sources": data} if data else {}})
    sources = settings.data.sources or tuple(settings.data.proportions)
    say_sample(sources)
    with Bar("embed", None, "jets", shown=rank() == 0) as bar:
        summary = run_embed(
            model,
            sources,
            out,
            level=level.value,
            keep=keep or [],
            data=settings.data,
            batch_size=batch_size or 512,
            precision=settings.train.precision,
            force=force,
            report=bar.to_of,
            say=say,
        )
    rate = summary.jets / max(summary.seconds, 1e-9)
    say(f"{summary.jets:,} jets in {summary.seconds:.1f} s ({rate:.0f} jets/s)")
    if summary.reasons:
        say(of_jets(summary.reasons))
    if summary.files_left_out:
        say(f"files left out: {len(summary.files_left_out)}")
    put(summary.path)


def generate(
    model: Model,
    jets: Annotated[int, typer.Option("--jets", metavar="N", help="How many.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="ROOT file in the JetClass layout.")],
    seed: Seed = None,
    force: Force = False,
) -> None:
    """Write new jets of a model that can generate; prints the file."""
    from ssl_jets.allocator import tune_memory
    from ssl_jets.generate import generate as run_generate
    from ssl_jets.progress import Bar

    tune_memory()
    with Bar("generate", jets, "jets") as bar:
        summary = run_generate(model, jets, out, seed=seed or 0, force=force, report=bar.to_of)
    again = "".join(f"; {count:,} drawn again: {reason}" for reason, count in summary.redrawn.items())
    say(f"{summary.jets:,} jets in {summary.seconds:.1f} s{again}")
    put(summary.path)
