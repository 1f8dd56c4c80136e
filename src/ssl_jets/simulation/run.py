"""The verb `simulate`: parts, the file of all jets, and its manifest."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from ssl_jets import __version__
from ssl_jets.data.write import COUNTER, check_suffix
from ssl_jets.errors import UsageError
from ssl_jets.runtime.atomic import WholeFile, check_output, disk_error, write_text
from ssl_jets.runtime.reading import sha256_of
from ssl_jets.simulation.columns import joined, select
from ssl_jets.simulation.generator import require_generator
from ssl_jets.simulation.parts import FinishedPart
from ssl_jets.simulation.processes import MIXTURE
from ssl_jets.simulation.request import Part, SimulationRequest, parts_of, views
from ssl_jets.simulation.storage import PartFolder, check_parts, jet_tree
from ssl_jets.simulation.workers import run_parts

Progress = Callable[[int, int], None]
"""Function that is called with the jets so far and the total number."""

_SHUFFLE = 2**32
"""Added to the seed of the order in a mixture, which no part uses."""


@dataclass(frozen=True)
class SimulateSummary:
    """Result of `simulate`.

    Attributes:
        paths: the file of jets, or the two files of pairs.
        manifest: JSON file with the request, versions, counts and hashes.
        jets: jets in each file.
        events: generated events.
        seconds: wall time.
        resumed: jets of parts that were finished before.
    """

    paths: tuple[Path, ...]
    manifest: Path
    jets: int
    events: int
    seconds: float
    resumed: int = field(default=0)


def simulate(
    request: SimulationRequest,
    out: str | Path,
    *,
    processes: int = 1,
    force: bool = False,
    report: Progress = lambda done, total: None,
) -> SimulateSummary:
    """Write simulated jets as ROOT in the JetClass layout, with a manifest beside the file.

    The same request gives the same jets, whatever the number of processes, and stopped or not.

    Raises:
        UsageError: Pythia or FastJet is missing, the output exists, or parts of another request are in the way.
        SslJetsError: the generator or the disk fails.
        Interrupted: a signal came. Finished parts are kept, and the same call goes on from them.
    """
    began, out = time.monotonic(), check_suffix(out)
    require_generator()
    if processes < 1:
        raise UsageError("this number is too small", where="--processes", found=processes, hint="--processes 1")
    paths, manifest = paths_of(request, out), out.with_name(f"{out.name}.json")
    for path in (*paths, manifest):
        check_output(path, force=force)
    facts = {"request": request.model_dump(mode="json"), "versions": versions()}
    folder, parts = PartFolder(out, facts, force=force), parts_of(request)
    try:
        jobs = [(part, folder.file(part.number)) for part in parts if folder.load(part.number) is None]
        resumed = done = request.jets - sum(part.jets for part, _ in jobs)

        def progress(new: int) -> None:
            nonlocal done
            done += new
            report(done, request.jets)

        report(done, request.jets)
        run_parts(request, jobs, processes=processes, report=progress)
        results = _write(request, parts, folder, paths, force=force)
        write_text(manifest, json.dumps(facts | results, indent=2) + "\n")
        folder.remove()
    finally:
        folder.release()
    events = sum(one["events"] for one in results["processes"].values())
    return SimulateSummary(paths, manifest, request.jets, events, time.monotonic() - began, resumed)


def paths_of(request: SimulationRequest, out: Path) -> tuple[Path, ...]:
    """Return the output files: `pairs.root`, or `pairs-simple.root` and `pairs-vincia.root`."""
    return tuple(out.with_stem(f"{out.stem}-{view.name}") if view.name else out for view in views(request))


def versions() -> dict[str, str]:
    """Return the versions that the jets depend on."""
    return {"ssl-jets": __version__} | {name: version(name) for name in ("pythia8mc", "fastjet", "numpy")}


def _write(
    request: SimulationRequest, parts: Sequence[Part], folder: PartFolder, paths: Sequence[Path], *, force: bool
) -> dict[str, Any]:
    """Write the jets of all parts to the output files, and return hashes and counts for the manifest."""
    counts: dict[str, dict[str, float]] = {}
    with ExitStack() as stack:
        files = [WholeFile(path, force=force) for path in paths]
        for file in files:
            stack.callback(file.discard)
        try:
            with ExitStack() as open_trees:
                trees = [open_trees.enter_context(jet_tree(file.fresh)) for file in files]
                for group, members in groupby(parts, key=lambda part: part.group):
                    names = list(members)
                    finished = check_parts([folder.load(part.number) for part in names])
                    _count(counts, names, finished)
                    order = _order(request, group, names)
                    for view, tree in enumerate(trees):
                        tree.extend(select(joined([part.tables[view] for part in finished]), order))
            hashes = [
                {"file": path.name, "sha256": sha256_of(file.fresh), "content_sha256": tree.content, "jets": tree.jets}
                for path, file, tree in zip(paths, files, trees)
            ]
            for file in files:
                file.commit()
        except OSError as error:
            raise disk_error(paths[0], error) from error
    return {"files": hashes, "processes": counts}


def _order(request: SimulationRequest, group: int, parts: Sequence[Part]) -> np.ndarray[Any, Any]:
    """Return the order of the jets of a group: shuffled in a mixture, else as generated."""
    jets = sum(part.jets for part in parts)
    if request.process != MIXTURE:
        return np.arange(jets)
    return np.random.default_rng([request.seed, _SHUFFLE + group]).permutation(jets)


def _count(counts: dict[str, dict[str, float]], parts: Sequence[Part], finished: Sequence[FinishedPart]) -> None:
    """Add jets, particles, events and CPU seconds of each process."""
    for part, result in zip(parts, finished):
        one = counts.setdefault(part.process, {"jets": 0, "particles": 0, "events": 0, "cpu_seconds": 0.0})
        one["jets"] += part.jets
        one["particles"] += int(result.tables[0][COUNTER].sum())
        one["events"] += result.events
        one["cpu_seconds"] = round(one["cpu_seconds"] + result.seconds, 3)
