"""The command `inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssl_jets.cli.console import put, say
from ssl_jets.cli.options import Force, Schema, Set, set_settings


def inspect(
    sources: Annotated[list[str], typer.Argument(metavar="SRC...", help="As for --data.")],
    schema: Schema = None,
    set_: Set = None,
    columns: Annotated[bool, typer.Option("--columns", help="Show all columns of all files.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Draw histograms into a PNG.")] = None,
    force: Force = False,
) -> None:
    """Say what files hold: format, classes, columns with their ranges, what is missing and what looks wrong."""
    from ssl_jets.config import FileSettings, resolve
    from ssl_jets.data.inspection import files_as_json, files_as_text, inspect_files
    from ssl_jets.data.skipped import skipped_files

    settings = resolve(FileSettings, set_settings(set_, schema))
    left_out: dict[str, str] = {}
    looked = inspect_files(sources, left_out, settings.data)
    for line in skipped_files(left_out):
        say(line)
    if plot is not None:
        from ssl_jets.report.figures.columns import draw_columns

        few = draw_columns({str(one.file.source): one.seen for one in looked}, plot, force=force)
        say(f"figure: {plot}" + (f", of {few}" if few else ""))
    put(files_as_json(looked, left_out) if json_ else files_as_text(looked, columns=columns))
