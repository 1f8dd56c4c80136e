"""The command `runs`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssl_jets.cli.console import log, print_result

if TYPE_CHECKING:
    from ssl_jets.report.run_list import RunSummary

HEADERS = ("run", "method", "size", "data", "steps", "loss", "probe", "RankMe", "sha256", "state")


def runs(
    folder: Annotated[
        Path, typer.Argument(metavar="[FOLDER]", help="Folder of runs, searched with its subfolders.")
    ] = (Path("runs")),
    sort: Annotated[str, typer.Option("--sort", metavar="KEY", help="Order; -KEY for falling order.")] = "run",
    filter_: Annotated[
        list[str] | None,
        typer.Option("--filter", metavar="CONDITION", help="Such as method=mae, 'data=*QCD*' or 'probe>0.5'."),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List runs with method, data, steps, held-out loss, probe, RankMe and state."""
    from json import dumps

    from ssl_jets.report.run_list import list_runs
    from ssl_jets.runtime.terminal import plain_table

    found = list_runs(folder, sort=sort, conditions=filter_ or ())
    rows = [row_of(summary, folder) for summary in found]
    if json_:
        print_result(dumps([summary.model_dump() for summary in found], indent=1))
    elif not found:
        log(f"no runs in {folder}" + (" pass the filter" if filter_ else ""))
    elif sys.stdout.isatty():
        print_table(rows)
    else:
        print_result(plain_table(HEADERS, rows))


def row_of(summary: RunSummary, folder: Path) -> tuple[str, ...]:
    """Return the cells of a run."""
    path = Path(summary.run)
    steps = "" if summary.steps is None else f"{summary.steps:,}"
    if summary.of_steps not in (None, summary.steps):
        steps += f" of {summary.of_steps:,}"
    numbers = (
        "" if value is None else f"{value:{form}}"
        for value, form in ((summary.loss, ".4g"), (summary.probe, ".3f"), (summary.rankme, ".1f"))
    )
    return (
        str(path.relative_to(folder)) if path != folder else str(path),
        summary.method,
        summary.size,
        summary.data,
        steps,
        *numbers,
        summary.sha256[:12],
        summary.state + (f": {summary.error}" if summary.error else ""),
    )


def print_table(rows: list[tuple[str, ...]]) -> None:
    """Print a table in colour on the terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from ssl_jets.runtime.terminal import escaped

    styles = {"finished": "green", "unfinished": "yellow"}
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    for header in HEADERS:
        right, wraps = header in ("steps", "loss", "probe", "RankMe"), header in ("run", "method", "data", "state")
        width = 10 if header == "state" else None
        table.add_column(
            header, justify="right" if right else "left", overflow="fold", min_width=width, no_wrap=right or not wraps
        )
    for row in rows:
        *cells, sha256, state = row
        table.add_row(
            *(Text(escaped(cell)) for cell in (*cells, sha256[:8])), Text(escaped(state), styles.get(state, "red"))
        )
    Console(file=sys.stdout).print(table)
