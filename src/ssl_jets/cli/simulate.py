"""The command `simulate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssl_jets.cli.console import log, print_result
from ssl_jets.cli.options import Force, Seed

PROCESSES = "qcd|hbb|hcc|hgg|h4q|hqql|zqq|wqq|tbqq|tbl|dijets|quark|gluon|mixture"


def simulate(
    process: Annotated[str, typer.Option("--process", metavar=PROCESSES, help="Class of the jets, or a mixture.")],
    jets: Annotated[int, typer.Option("--jets", metavar="N", help="Number of jets.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="ROOT file in the JetClass layout.")],
    seed: Seed = None,
    tune: Annotated[
        str | None, typer.Option("--tune", metavar="monash|a14", help="Parameters of Pythia. Default: monash.")
    ] = None,
    shower: Annotated[
        str | None, typer.Option("--shower", metavar="simple|vincia", help="Parton shower. Default: simple.")
    ] = None,
    detector: Annotated[
        str | None, typer.Option("--detector", metavar="nominal|shifted", help="Detector. Default: nominal.")
    ] = None,
    pairs: Annotated[
        str | None,
        typer.Option("--pairs", metavar="seeds|showers|detectors", help="Each event twice, into two aligned files."),
    ] = None,
    labels: Annotated[
        bool | None, typer.Option("--labels/--no-labels", help="Write labels. Default: not for the mixture.")
    ] = None,
    vertices: Annotated[bool, typer.Option("--vertices", help="Write secondary vertices.")] = False,
    processes: Annotated[int, typer.Option("--processes", metavar="N", help="Processes that share the work.")] = 1,
    force: Force = False,
) -> None:
    """Simulate jets with Pythia and a parametric detector (extra `sim`); prints the file."""
    from ssl_jets import api

    summary = api.simulate(
        process,
        jets=jets,
        out=out,
        seed=seed or 0,
        tune=tune,
        shower=shower,
        detector=detector,
        pairs=pairs,
        labels=labels,
        vertices=vertices,
        processes=processes,
        force=force,
    )
    before = f", {summary.resumed:,} of them by an earlier run" if summary.resumed else ""
    log(f"{summary.jets:,} jets of {summary.events:,} events in {summary.seconds:.1f} s{before}; {summary.manifest}")
    for path in summary.paths:
        print_result(path)
