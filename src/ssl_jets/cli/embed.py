"""The command `embed`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ssl_jets.cli.console import put, say, say_sample
from ssl_jets.cli.options import BatchSize, Data, Force, Model, Schema, Set, set_settings
from ssl_jets.runtime.launcher import rank


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
    from ssl_jets.config import resolve
    from ssl_jets.data.skipped import skipped_jets
    from ssl_jets.embedding.embed import EmbedSettings
    from ssl_jets.embedding.embed import embed as run_embed
    from ssl_jets.runtime.allocator import tune_memory
    from ssl_jets.runtime.console import Bar

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
        say(skipped_jets(summary.reasons))
    if summary.files_left_out:
        say(f"files left out: {len(summary.files_left_out)}")
    put(summary.path)
