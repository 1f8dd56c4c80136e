"""The commands that only look: `methods` and `inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssl_jets.cli.options import Force, Schema, Set, set_settings
from ssl_jets.cli.talk import put, say


def methods(
    name: Annotated[str | None, typer.Argument(help="Show the formula and the settings of one.")] = None,
) -> None:
    """List the pretraining methods, or describe one."""
    from ssl_jets.methods._describe import describe_method, list_methods

    put(list_methods() if name is None else describe_method(name))


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
    from ssl_jets.data.left_out import of_files
    from ssl_jets.describe import files_as_json, files_as_text, look_at

    settings = resolve(FileSettings, set_settings(set_, schema))
    left_out: dict[str, str] = {}
    looked = look_at(sources, left_out, settings.data)
    for line in of_files(left_out):
        say(line)
    if plot is not None:
        from ssl_jets.report.columns import draw_columns

        few = draw_columns({str(one.file.source): one.seen for one in looked}, plot, force=force)
        say(f"figure: {plot}" + (f", of {few}" if few else ""))
    put(files_as_json(looked, left_out) if json_ else files_as_text(looked, columns=columns))
