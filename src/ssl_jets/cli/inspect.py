"""The command `inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssl_jets.cli.console import log, print_result
from ssl_jets.cli.options import Force, Schema, Set, Where


def inspect(
    sources: Annotated[list[str] | None, typer.Argument(metavar="SRC...", help="As for --data.")] = None,
    schema: Schema = None,
    where: Where = None,
    set_: Set = None,
    columns: Annotated[bool, typer.Option("--columns", help="Show all columns of all files.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    schema_from: Annotated[
        Path | None,
        typer.Option("--schema-from", metavar="FILE", help="Print a schema made from a YAML file of weaver or salt."),
    ] = None,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Draw histograms into a PNG.")] = None,
    force: Force = False,
) -> None:
    """Show the contents of files: format, classes, columns with their ranges, missing and suspicious columns."""
    if schema_from is not None or not sources:
        _print_schema(schema_from, sources)
        return
    from ssl_jets.api.arguments import tree_of
    from ssl_jets.api.early import check_read
    from ssl_jets.config import FileSettings, resolve
    from ssl_jets.data.inspection import files_as_json, files_as_text, inspect_files
    from ssl_jets.data.skipped import skipped_files
    from ssl_jets.runtime.terminal import folded
    from ssl_jets.setting_tree import parse_set

    if plot is not None:
        _check_plot(plot, force=force)
    tree = tree_of(parse_set(set_ or []), schema, where)
    check_read(tree)
    settings = resolve(FileSettings, tree)
    unopened: dict[str, str] = {}
    inspected = inspect_files(sources, unopened, settings.data)
    for line in skipped_files(unopened):
        log(line)
    if plot is not None:
        from ssl_jets.report.figures.columns import draw_columns

        some = draw_columns({str(one.file.source): one.seen for one in inspected}, plot, force=force)
        log(f"figure: {plot}" + (f", of {some}" if some else ""))
    print_result(files_as_json(inspected, unopened) if json_ else folded(files_as_text(inspected, columns=columns)))


def _check_plot(path: Path, *, force: bool) -> None:
    """Check that a figure may be written, before files are read."""
    from ssl_jets.runtime.atomic import check_output, check_suffix

    check_suffix(path, ".png", "columns are drawn as PNG", option="--plot")
    check_output(path, force=force, option="--plot")


def _print_schema(path: Path | None, sources: list[str] | None) -> None:
    """Print the schema of `--schema-from`; files and this option exclude each other, and one of them is needed."""
    from ssl_jets.data.schemas.starting.reader import starting_point
    from ssl_jets.errors import UsageError

    if path is None or sources:
        hint = "ssl-jets inspect FILE, or ssl-jets inspect --schema-from weaver.yaml"
        raise UsageError("inspect takes files, or --schema-from", found=" ".join(sources or ["neither"]), hint=hint)
    started = starting_point(path)
    for line in started.left_out:
        log(f"left out: {line}")
    print_result(started.text())
