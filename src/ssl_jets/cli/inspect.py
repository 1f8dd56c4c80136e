"""The command `inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssl_jets.cli.console import log, print_result
from ssl_jets.cli.options import Force, Schema, Set, Where


def inspect(
    sources: Annotated[list[str], typer.Argument(metavar="SRC...", help="As for --data.")],
    schema: Schema = None,
    where: Where = None,
    set_: Set = None,
    columns: Annotated[bool, typer.Option("--columns", help="Show all columns of all files.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Draw histograms into a PNG.")] = None,
    force: Force = False,
) -> None:
    """Show the contents of files: format, classes, columns with their ranges, missing and suspicious columns."""
    from ssl_jets.api.arguments import tree_of
    from ssl_jets.config import FileSettings, resolve
    from ssl_jets.data.inspection import files_as_json, files_as_text, inspect_files
    from ssl_jets.data.skipped import skipped_files
    from ssl_jets.setting_tree import parse_set

    settings = resolve(FileSettings, tree_of(parse_set(set_ or []), schema, where))
    unopened: dict[str, str] = {}
    inspected = inspect_files(sources, unopened, settings.data)
    for line in skipped_files(unopened):
        log(line)
    if plot is not None:
        from ssl_jets.report.figures.columns import draw_columns

        some = draw_columns({str(one.file.source): one.seen for one in inspected}, plot, force=force)
        log(f"figure: {plot}" + (f", of {some}" if some else ""))
    print_result(files_as_json(inspected, unopened) if json_ else files_as_text(inspected, columns=columns))
