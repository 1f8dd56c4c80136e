"""The command `evaluate`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from ssl_jets.cli.command import NUMBER
from ssl_jets.cli.console import put, say
from ssl_jets.cli.options import Data, Force, Schema, Seed, Set, set_settings
from ssl_jets.errors import UsageError


class Protocol(StrEnum):
    """Long evaluations, which train."""

    labels = "labels"
    anomaly = "anomaly"
    domain = "domain"


def evaluate(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[RUN]...", help="Run folders; several are compared on the same jets."),
    ] = None,
    model: Annotated[
        list[Path] | None, typer.Option("--model", metavar="RUN", help="RUN, spelled as for other commands.")
    ] = None,
    z: Annotated[
        list[Path] | None,
        typer.Option("--z", metavar="FILE", help="A z file, of this or any other tool; several are one table."),
    ] = None,
    generated: Annotated[
        list[str] | None, typer.Option("--generated", metavar="SRC", help="Generated jets, to compare with --data.")
    ] = None,
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="Measure the mean of the runs' predictions, too.")
    ] = False,
    protocol: Annotated[
        Protocol | None, typer.Option("--protocol", help="Curves of many trainings; go on where they were stopped.")
    ] = None,
    data: Data = None,
    domain: Annotated[
        list[str] | None, typer.Option("--domain", metavar="SRC", help="Of a domain protocol: the unlabelled data.")
    ] = None,
    target: Annotated[
        list[str] | None, typer.Option("--target", metavar="SRC", help="Its labelled data, only to test on.")
    ] = None,
    schema: Schema = None,
    efficiency: Annotated[
        list[float] | None,
        typer.Option("--efficiency", metavar=NUMBER, help="Signal efficiencies of rejections: --efficiency 0.3 0.5."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Default: beside what is measured.")] = None,
    set_: Set = None,
    json_: Annotated[bool, typer.Option("--json", help="Print all metrics as JSON instead of a table.")] = False,
    seed: Seed = None,
    force: Force = False,
) -> None:
    """Measure models, z alone, or generated jets: numbers beside baselines, figures, a report."""
    from ssl_jets.cli.evaluation import EvaluateRequest, run_evaluation

    of_domain = protocol is Protocol.domain
    wrong: dict[str, object] = {"--domain": domain, "--target": target}
    if protocol is not None and force:
        anew = "a protocol goes on with what it finds; to begin anew, give another --out or remove the folder"
        raise UsageError("this option does not go with --protocol", where="--force", hint=anew)
    if of_domain:
        wrong = {
            "--z": z,
            "--generated": generated,
            "--ensemble": ensemble,
            "--seed": seed is not None,
            "--efficiency": efficiency,
        }
    if given := [option for option, value in wrong.items() if value]:
        hint = "--set protocol.seeds=3 says how many" if "--seed" in given else None
        which = "does not go with" if of_domain else "goes only with"
        raise UsageError(f"this option {which} --protocol domain", where=", ".join(given), hint=hint)
    if of_domain:
        models = [*(runs or []), *(model or [])]
        _domain_protocol(models, data, domain, target, out, set_settings(set_, schema), json_)
        return
    asked = EvaluateRequest(
        models=(*(runs or []), *(model or [])),
        z=tuple(z or ()),
        generated=tuple(generated or ()),
        ensemble=ensemble,
        protocol=protocol and protocol.value,
        data=tuple(data or ()),
        out=out,
        settings=set_settings(set_, schema, seed=seed, efficiencies=efficiency or None),
        json=json_,
        force=force,
    )
    put(run_evaluation(asked))


def _domain_protocol(
    models: list[Path],
    data: list[str] | None,
    domain: list[str] | None,
    target: list[str] | None,
    out: Path | None,
    tree: dict[str, Any],
    json_: bool,
) -> None:
    from ssl_jets.cli.evaluation import log_reports
    from ssl_jets.config import resolve
    from ssl_jets.protocols import DomainRun, domain_protocol, domain_table
    from ssl_jets.report import write_domain_report
    from ssl_jets.runtime.allocator import tune_memory

    files = {"data": {"sources": data or [], "unlabelled": domain or []}, "protocol": {"target": target or []}}
    tune_memory()
    one = models[0] if len(models) == 1 else Path("runs")
    folder = out or (one.parent if one.name == "model" else one) / "domain"
    found = domain_protocol(resolve(DomainRun, tree, files), folder, models=models, say=say)
    log_reports(write_domain_report(folder))
    put((folder / "domain.json").read_text(encoding="utf-8").rstrip() if json_ else domain_table(found))
