"""The command `evaluate`."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ssl_jets.cli.command import NUMBER
from ssl_jets.cli.console import print_result
from ssl_jets.cli.options import Data, Force, Schema, Seed, Set, Where

if TYPE_CHECKING:
    from ssl_jets.api.evaluation import Result


class Protocol(StrEnum):
    """Evaluations that train models."""

    labels = "labels"
    anomaly = "anomaly"
    domain = "domain"


def evaluate(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN]...", help="Run folders; several are compared on the same jets."),
    ] = None,
    model: Annotated[list[str] | None, typer.Option("--model", metavar="RUN", help="The same as RUN.")] = None,
    z: Annotated[
        list[Path] | None,
        typer.Option(
            "--z", metavar="FILE", help="z file of this or any other tool, or scores file; several are one table."
        ),
    ] = None,
    generated: Annotated[
        list[str] | None, typer.Option("--generated", metavar="SRC", help="Generated jets, to compare with --data.")
    ] = None,
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="Also evaluate the mean of the runs' predictions.")
    ] = False,
    protocol: Annotated[
        Protocol | None,
        typer.Option("--protocol", help="Evaluation that trains models; a stopped one continues."),
    ] = None,
    data: Data = None,
    domain: Annotated[
        list[str] | None,
        typer.Option("--domain", metavar="SRC", help="With --protocol domain: unlabelled target jets."),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option("--target", metavar="SRC", help="With --protocol domain: labelled jets to test on."),
    ] = None,
    schema: Schema = None,
    where: Where = None,
    efficiency: Annotated[
        list[float] | None,
        typer.Option("--efficiency", metavar=NUMBER, help="Signal efficiencies of the background rejections: 0.3 0.5."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Default: next to the run or file.")] = None,
    set_: Set = None,
    json_: Annotated[bool, typer.Option("--json", help="Print all metrics as JSON instead of a table.")] = False,
    seed: Seed = None,
    force: Force = False,
) -> None:
    """Evaluate models, z alone, or generated jets next to baselines; prints a table and writes figures and a report."""
    from ssl_jets import api
    from ssl_jets.setting_tree import parse_set

    result = api.evaluate(
        [*(runs or []), *(model or [])],
        z=z or (),
        generated=generated or (),
        ensemble=ensemble,
        protocol=protocol and protocol.value,
        data=data or (),
        domain=domain or (),
        target=target or (),
        schema=schema,
        where=where,
        efficiency=efficiency or (),
        out=out,
        settings=parse_set(set_ or []),
        seed=seed,
        force=force,
    )
    print_result(as_json(result) if json_ else as_table(result))


def as_table(result: Result) -> str:
    """Return the table of a result."""
    from ssl_jets.evaluation.tables import comparison_table, generated_table, summary_table
    from ssl_jets.protocols.tables import anomaly_table, domain_table, labels_table

    tables: dict[str, Callable[[Any], str]] = {
        "metrics": summary_table,
        "comparison": comparison_table,
        "generated": generated_table,
        "labels": labels_table,
        "anomaly": anomaly_table,
        "domain": domain_table,
    }
    return tables[result.NAME](result)


def as_json(result: Result) -> str:
    """Return the JSON file of a result; for a comparison with the metrics of each model."""
    from ssl_jets.evaluation.comparison import Comparison

    if isinstance(result, Comparison):
        metrics = {name: one.metrics() for name, one in result.evaluations.items()}
        return dumps(result.metrics() | {"evaluations": metrics}, indent=1)
    return (result.folder / f"{result.NAME}.json").read_text(encoding="utf-8").rstrip()
