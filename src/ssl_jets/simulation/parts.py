"""One part of a simulation: events of one process until there are enough jets."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ssl_jets.arrays import Array
from ssl_jets.data.write import COUNTER
from ssl_jets.errors import SslJetsError
from ssl_jets.simulation.clustering import find_jets
from ssl_jets.simulation.columns import (
    EVENT_ID,
    Table,
    jet_columns,
    joined,
    select,
    truth_columns,
    truths_of,
    vertex_columns,
    wanted,
)
from ssl_jets.simulation.detector import DETECTORS, reconstruct
from ssl_jets.simulation.events import Events
from ssl_jets.simulation.generator import event_batches
from ssl_jets.simulation.processes import MIXTURE, PROCESSES, Process
from ssl_jets.simulation.request import TUNES, Part, SimulationRequest, View, seeds, showers_of, views
from ssl_jets.simulation.truth import DecayMatcher, wrapped
from ssl_jets.simulation.vertices import find_vertices

_MAX_EVENTS_PER_JET = 500
_PAIR_DISTANCE = 0.4
"""Two jets are the same jet of an event if their axes are closer than this in (eta, phi)."""
_EVENT_BITS = 32

Progress = Callable[[int], bool]
"""Function that is called with each number of new jets, and returns True to stop."""


class _Axes(NamedTuple):
    """Event, pseudorapidity and azimuth of jets, `[jet]`."""

    event: Array
    eta: Array
    phi: Array


class StoppedError(Exception):
    """The caller asked to stop; the part is not finished."""


@dataclass(frozen=True)
class FinishedPart:
    """Jets of one part.

    Attributes:
        tables: branches for each view; in pairs row i of both is the same jet.
        events: generated events.
        seconds: CPU time.
    """

    tables: tuple[Table, ...]
    events: int
    seconds: float


def simulate_part(request: SimulationRequest, part: Part, progress: Progress = lambda new: False) -> FinishedPart:
    """Generate, reconstruct and select the jets of a part.

    The same request and part give the same jets on every machine with the same versions of Pythia and FastJet.

    Raises:
        SslJetsError: Pythia cannot begin, or hardly any event has a jet of the class.
        StoppedError: `progress` returned True.
    """
    began, process, ways = time.process_time(), PROCESSES[part.process], views(request)
    # Vertices come last, so that the other columns do not depend on them.
    of_generator, *others = seeds(request, part).spawn(1 + 2 * len(ways))
    rngs = [np.random.default_rng(seed) for seed in others]
    streams = list(zip(rngs[: len(ways)], rngs[len(ways) :]))
    found: list[tuple[Table, ...]] = []
    jets = events = 0
    with event_batches(process, TUNES[request.tune], showers_of(request), of_generator) as batches:
        while jets < part.jets:
            versions = next(batches)
            seen = [_seen(versions[view.version], view, process, request, pair) for view, pair in zip(ways, streams)]
            tables = _aligned(seen, part, events) if request.pairs else (seen[0][1],)
            new = min(len(tables[0][COUNTER]), part.jets - jets)
            found.append(tuple(select(table, np.arange(new)) for table in tables))
            jets, events = jets + new, events + len(versions[0])
            if progress(new):
                raise StoppedError
            if events > _MAX_EVENTS_PER_JET * (jets + 10):
                raise SslJetsError("hardly any event has a jet of the class", where=f"--process {part.process}")
    tables = tuple(joined([batch[index] for batch in found]) for index in range(len(ways)))
    return FinishedPart(tables, events, time.process_time() - began)


def _seen(
    events: Events,
    view: View,
    process: Process,
    request: SimulationRequest,
    rngs: tuple[np.random.Generator, np.random.Generator],
) -> tuple[_Axes, Table]:
    """Return the jets of a batch of events as one detector sees them, and their branches, both of the same rows.

    `rngs` has the random numbers of the detector, and of the vertices.
    """
    jets = find_jets(reconstruct(events, DETECTORS[view.detector], rngs[0]), len(events))
    table = jet_columns(jets)
    if request.vertices:
        table |= vertex_columns(find_vertices(jets, events, rngs[1]), jets)
    matcher = DecayMatcher(events)
    truths = truths_of(jets, matcher)
    if request.labels:
        table |= truth_columns(truths, matcher, process.label)
    # The unlabelled mixture keeps partly merged jets too, as data would.
    keep = request.process == MIXTURE and not request.labels
    rows = np.arange(len(jets)) if keep else np.flatnonzero(wanted(truths, process.matches))
    return _Axes(jets.event[rows], *(values[rows] for values in jets.axis)), select(table, rows)


def _aligned(seen: Sequence[tuple[_Axes, Table]], part: Part, events: int) -> tuple[Table, ...]:
    """Return the jets that both views see, row by row, with the number of their event."""
    (first, table), (second, other) = seen
    rows = _same_jets(first, second)
    event_id = (part.number << _EVENT_BITS) + events + first.event[rows[0]]
    return tuple(select(one, index) | {EVENT_ID: event_id.astype(np.int64)} for one, index in zip((table, other), rows))


def _same_jets(first: _Axes, second: _Axes) -> tuple[Array, Array]:
    """Return the rows of the jets of two views that are closest to each other, and closer than 0.4."""
    distance = np.hypot(first.eta[:, None] - second.eta, wrapped(first.phi[:, None] - second.phi))  # [jet, other jet]
    distance[first.event[:, None] != second.event] = np.inf
    if not distance.size:
        return np.arange(0), np.arange(0)
    partner, back = distance.argmin(axis=1), distance.argmin(axis=0)
    rows = np.flatnonzero((distance.min(axis=1) < _PAIR_DISTANCE) & (back[partner] == np.arange(len(partner))))
    return rows, partner[rows]
