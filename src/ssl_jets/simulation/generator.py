"""Pythia as a source of events, alone or with one hard process that is showered twice."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np

from ssl_jets.errors import SslJetsError, UsageError
from ssl_jets.runtime.native import native_stdout_to
from ssl_jets.simulation.events import Events, from_pythia
from ssl_jets.simulation.processes import Process

BATCH = 50
"""Events that are generated and reconstructed together."""
_ENERGY = 13000
"""Energy of the collisions [GeV]."""
_HARD_EVENTS = 2000
"""Hard processes that are written to a file at a time."""
_INCOMING = 3
"""Index of the first incoming parton in a record of Pythia, after the system and the beams."""
_OUTGOING = 5
"""Index of the first outgoing particle."""
_UNWEIGHTED = 3
"""Strategy of a Les Houches event file: all events have weight 1."""
_MAX_SEED = 900_000_000
_SHOWERS = {"simple": "PartonShowers:model = 1", "vincia": "PartonShowers:model = 2"}


def require_generator() -> None:
    """Check that Pythia and FastJet are installed.

    Raises:
        UsageError: one is not.
    """
    modules = {"Pythia": "pythia8mc", "FastJet": "fastjet"}
    missing = [title for title, module in modules.items() if find_spec(module) is None]
    if missing:
        raise UsageError(
            "simulate needs Pythia and FastJet",
            found=f"{' and '.join(missing)} not installed",
            hint='pip install "ssl-jets[sim]"',
        )


def pythia_of(settings: Sequence[str], seed: np.random.SeedSequence) -> Any:
    """Return an initialized Pythia.

    Raises:
        SslJetsError: Pythia refuses a setting, or cannot begin.
    """
    import pythia8mc

    number = int(seed.generate_state(1)[0]) % _MAX_SEED + 1
    common = ("Print:quiet = on", f"Beams:eCM = {_ENERGY}", "Random:setSeed = on", f"Random:seed = {number}")
    with tempfile.TemporaryFile("w+") as talk, native_stdout_to(talk.fileno()):
        pythia = pythia8mc.Pythia("", False)
        refused = [line for line in (*common, *settings) if not pythia.readString(line)]
        if refused or not pythia.init():
            talk.seek(0)
            raise SslJetsError(
                "Pythia cannot begin", where=", ".join(refused) or None, found=talk.read()[-500:].strip()
            )
    return pythia


@contextmanager
def event_batches(
    process: Process, tune: Sequence[str], showers: Sequence[str], seed: np.random.SeedSequence
) -> Iterator[Iterator[tuple[Events, ...]]]:
    """Yield an endless iterator over batches of events, each in as many versions as there are showers.

    With several showers, event i of all versions has the same hard process, with the same decays of heavy particles.
    """
    with ExitStack() as stack:
        channels = [hard_process(process, channel) for channel in process.channels]
        sources = []
        for settings, one in zip(channels, seed.spawn(len(channels))):
            if len(showers) == 1:
                sources.append(_plain([*settings, *tune, _SHOWERS[showers[0]]], one))
            else:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ssl-jets-hard-")))
                sources.append(_paired(settings, tune, showers, one, folder))
        yield _in_turn(sources)


def hard_process(process: Process, channel: Sequence[str]) -> list[str]:
    """Return the settings of a channel of a process."""
    low, high = process.pt_hat
    settings = [*channel, f"PhaseSpace:pTHatMin = {low}", f"PhaseSpace:pTHatMax = {high}"]
    if process.tilt:
        settings += ["PhaseSpace:bias2Selection = on", f"PhaseSpace:bias2SelectionPow = {process.tilt}"]
        settings.append(f"PhaseSpace:bias2SelectionRef = {low}")
    return settings


def _in_turn(sources: Sequence[Iterator[tuple[Events, ...]]]) -> Iterator[tuple[Events, ...]]:
    while True:
        for source in sources:
            yield next(source)


def _plain(settings: Sequence[str], seed: np.random.SeedSequence) -> Iterator[tuple[Events, ...]]:
    pythia = pythia_of(settings, seed)
    while True:
        yield (from_pythia(_next(pythia, BATCH)),)


def _paired(
    hard: Sequence[str], tune: Sequence[str], showers: Sequence[str], seed: np.random.SeedSequence, folder: Path
) -> Iterator[tuple[Events, ...]]:
    """Write hard processes to a file, and read it once for each shower."""
    first, *others = seed.spawn(1 + len(showers))
    source = pythia_of([*hard, *tune, "PartonLevel:all = off"], first)
    file = folder / "hard.lhe"
    while True:
        _write_hard_processes(source, file)
        read = ("Beams:frameType = 4", f"Beams:LHEF = {file}")
        readers = [pythia_of([*read, *tune, _SHOWERS[shower]], one.spawn(1)[0]) for shower, one in zip(showers, others)]
        for _ in range(_HARD_EVENTS // BATCH):
            records = [_next(reader, BATCH) for reader in readers]
            good = ~np.logical_or.reduce([ak.to_numpy(ak.is_none(one)) for one in records])
            versions = tuple(from_pythia(one[good]) for one in records)
            _check_aligned(versions)
            yield versions


def _check_aligned(versions: Sequence[Events]) -> None:
    """Check that the first outgoing particle of the hard process is the same in all versions of each event.

    Raises:
        SslJetsError: it is not.
    """
    first, *others = (events.momentum[events.offsets[:-1] + _OUTGOING] for events in versions)
    if not all(np.allclose(first, other, rtol=1e-6, atol=1e-3) for other in others):
        raise SslJetsError("the two showers read different hard processes", where="Pythia")


def _next(pythia: Any, events: int) -> Any:
    """Return the records of the next events; None for each that failed."""
    with tempfile.TemporaryFile("w+") as talk, native_stdout_to(talk.fileno()):
        return pythia.nextBatch(events, "none")


def _write_hard_processes(source: Any, file: Path) -> None:
    """Write hard processes, with decays of heavy particles, as a Les Houches event file (arXiv:hep-ph/0609017)."""
    beam = _ENERGY / 2
    head = f"2212 2212 {beam} {beam} 0 0 0 0 {_UNWEIGHTED} 1\n1.0 1.0 1.0 1\n"
    with file.open("w", encoding="utf-8") as text:
        text.write(f'<LesHouchesEvents version="1.0">\n<init>\n{head}</init>\n')
        written = 0
        while written < _HARD_EVENTS:
            if source.next():
                text.write(f"<event>\n{_hard_process_text(source)}\n</event>\n")
                written += 1
        text.write("</LesHouchesEvents>\n")


def _hard_process_text(source: Any) -> str:
    """Return the current hard process in the Les Houches format; the scale is the one at which showers begin."""
    record = source.process
    particles = [record[index] for index in range(_INCOMING, record.size())]
    lines = [f"{len(particles)} 1 1.0 {source.infoPython().QFac():.8e} 0.0 0.0"]
    for particle in particles:
        status = {21: -1, 22: 2}.get(abs(particle.status()), 1)  # incoming, decayed, outgoing
        mothers = [max(0, number - _INCOMING + 1) for number in (particle.mother1(), particle.mother2())]
        whole = [particle.id(), status, *mothers, particle.col(), particle.acol()]
        momentum = (particle.px(), particle.py(), particle.pz(), particle.e(), particle.m())
        lines.append(" ".join([*map(str, whole), *(f"{value:.12e}" for value in momentum), "0.0 9.0"]))
    return "\n".join(lines)
