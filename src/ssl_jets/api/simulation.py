"""The verb `simulate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ssl_jets.simulation.run import SimulateSummary


def simulate(
    process: str,
    *,
    jets: int,
    out: str | Path,
    seed: int = 0,
    tune: str | None = None,
    shower: str | None = None,
    detector: str | None = None,
    pairs: str | None = None,
    labels: bool | None = None,
    vertices: bool = False,
    processes: int = 1,
    force: bool = False,
) -> SimulateSummary:
    """Write simulated jets to a ROOT file in the JetClass layout. Needs the extra `sim` (Pythia and FastJet).

    Args:
        process: `qcd`, `hbb`, `hcc`, `hgg`, `h4q`, `hqql`, `zqq`, `wqq`, `tbqq`, `tbl`,
            `dijets`, `quark`, `gluon` or `mixture`.
        jets: number of jets.
        out: the file, which must end in `.root`; of pairs two files, `OUT-NAME.root`.
        seed: seed of every random choice.
        tune: parameters of Pythia, `monash` (default) or `a14`.
        shower: `simple` (default) or `vincia`.
        detector: `nominal` (default) or `shifted`.
        pairs: each event twice: two showers of one hard process, by two `seeds` or both `showers`, or both `detectors`.
        labels: write labels and truth matches; by default yes, except for the mixture.
        vertices: write secondary vertices, as lists `sv_*`.
        processes: number of processes; with more than one, call it under `if __name__ == "__main__"`.
        force: replace `out`, and finished parts of another simulation.

    Returns:
        `paths`, `manifest`, and the numbers of `jets` and `events`.

    Raises:
        SslJetsError: Pythia or FastJet is missing, an argument or the output is wrong, or the generator fails.
        Interrupted: a signal came; the same call goes on from the finished parts.
    """
    from ssl_jets.runtime.console import Bar
    from ssl_jets.simulation.request import request_of
    from ssl_jets.simulation.run import simulate as run_simulate

    request = request_of(
        process=process,
        jets=jets,
        seed=seed,
        tune=tune,
        shower=shower,
        detector=detector,
        pairs=pairs,
        labels=labels,
        vertices=vertices,
    )
    with Bar("simulate", jets, "jets") as bar:
        return run_simulate(request, out, processes=processes, force=force, report=bar.to_of)
