"""The command `embed`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssl_jets.cli.console import log, print_result
from ssl_jets.cli.options import BatchSize, Data, Force, Keep, Model, Part, PerFile, ResumeParts, Schema, Set, Where
from ssl_jets.runtime.package_files import DEFAULT_MODEL

if TYPE_CHECKING:
    from ssl_jets.embedding.job import OutputSummary


class Level(StrEnum):
    """Unit of a row in a z or scores file."""

    jet = "jet"
    particle = "particle"


def embed(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="z file: .root, .parquet, .h5 or .npz.")],
    model: Model = DEFAULT_MODEL,
    data: Data = None,
    schema: Schema = None,
    where: Where = None,
    level: Annotated[Level, typer.Option("--level", help="One row per jet, or one per particle.")] = Level.jet,
    keep: Keep = None,
    part: Part = None,
    per_file: PerFile = False,
    set_: Set = None,
    batch_size: BatchSize = None,
    resume: ResumeParts = False,
    force: Force = False,
) -> None:
    """Write z of every jet, in input order; prints the file."""
    from ssl_jets import api
    from ssl_jets.setting_tree import parse_set

    summary = api.embed(
        model,
        out=out,
        data=data or (),
        schema=schema,
        where=where,
        level=level.value,
        keep=keep or (),
        part=part,
        per_file=per_file,
        settings=parse_set(set_ or []),
        batch_size=batch_size,
        resume=resume,
        force=force,
    )
    put_files(summary)


def put_files(summary: OutputSummary) -> None:
    """Print the files on stdout, and rate and skipped jets on stderr."""
    from ssl_jets.data.request import NOT_SELECTED
    from ssl_jets.data.skipped import skipped_jets

    rate = summary.jets / max(summary.seconds, 1e-9)
    selected = summary.jets - summary.reasons.get(NOT_SELECTED, 0)
    jets = f"{summary.jets:,} jets" if selected == summary.jets else f"{selected:,} of {summary.jets:,} jets"
    log(f"{jets} in {summary.seconds:.1f} s ({rate:.0f} jets/s)")
    if summary.reasons:
        log(skipped_jets(summary.reasons))
    if selected < summary.jets:
        log("rows are the selected jets: join them by source_file, source_entry and source_jet, not as a ROOT friend")
    if summary.files_left_out:
        log(f"files left out: {len(summary.files_left_out)}")
    for path in summary.paths:
        print_result(path)
