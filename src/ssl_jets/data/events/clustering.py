"""Events whose files hold particles and no jets: the jets are made while reading, by FastJet (arXiv:1111.6097).

An event gives the same number of jets, its hardest, so that jets are counted without clustering anything. Where an
event has fewer, the others have no particles, and a format leaves them out by its `jet_cut`. A jet is the sum of its
particles (E scheme), which are taken to be massless.

FastJet is free software under the GPL, version 2 or later. It is not a part of this package: it is imported where a
user has installed it, as the extra `cluster` does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any, Literal

import awkward as ak
import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from ssl_jets.arrays import Array
from ssl_jets.config import Settings
from ssl_jets.data.readers.base import Number, Table
from ssl_jets.data.rows import BadEntriesError, Entries, Raw, Rows
from ssl_jets.errors import UsageError

JET_NAMES = ("jet_pt", "jet_eta", "jet_phi", "jet_energy", "jet_mass", "jet_nparticles")
"""Numbers of a clustered jet, in GeV; NaN where an event has no such jet, but for the number of its particles, 0."""


_ALGORITHMS = {"anti-kt": "antikt_algorithm", "kt": "kt_algorithm", "cambridge-aachen": "cambridge_algorithm"}


class Clustering(Settings):
    """How jets are made of the particles of an event."""

    table: str
    """The branch with the numbers of all particles of an event, particle after particle; a place with a pt of zero is
    empty."""
    particle: tuple[str, ...]
    """Names of the numbers of a particle, in the order of the table; among them pt [GeV], eta and phi."""
    event: dict[str, str] = Field(default={})
    """Name in formulas to the branch with a number of the event; those that a file lacks are passed over."""
    needs: tuple[str, ...] = ()
    """Further branches by which such a table is known."""
    algorithm: Literal["anti-kt", "kt", "cambridge-aachen"] = "anti-kt"
    """Which jets."""
    radius: float = Field(default=1.0, gt=0)
    """Their radius R."""
    min_pt: float = Field(default=20.0, gt=0)
    """Smallest transverse momentum of a jet [GeV]."""
    jets: int = Field(default=2, ge=1)
    """How many jets of an event, the hardest first."""

    @field_validator("particle")
    @classmethod
    def _momenta(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if missing := {"pt", "eta", "phi"} - set(names):
            raise ValueError(f"clustering needs {', '.join(sorted(missing))} of each particle")
        return names

    @property
    def collection(self) -> str:
        """What the jets are called."""
        return f"{self.algorithm} R={self.radius:g}"

    @property
    def others(self) -> tuple[str, ...]:
        """There are no other collections to choose from."""
        return (self.collection,)

    @property
    def branches(self) -> tuple[str, ...]:
        """Branches of the file by which a table is known."""
        return (self.table, *self.needs)

    def refuse_choice(self, asked: str | None, where: object) -> None:
        """Refuse a collection of jets that is asked for.

        Raises:
            UsageError: one is.
        """
        if asked is not None:
            raise UsageError(
                "the jets of the file are made by clustering, so there are none to choose from",
                where=f"data.jets, {where}",
                found=asked,
                allowed=[self.collection],
                hint="a schema with `extends: lhco` and `cluster: {radius: 0.4}` changes how they are made",
            )

    def in_file(self, names: Sequence[str]) -> list[str]:
        """The branches to read for names of jets and particles."""
        return [self.table, *(self.event[name] for name in names if name in self.event)]


class ClusteringTable:
    """A table of events, as if it were one of jets, under the names of the format."""

    def __init__(self, table: Table, cluster: Clustering) -> None:
        self.table, self.cluster = table, cluster
        self.name, self.entries, self.ignored = table.name, table.entries, table.ignored
        there = set(table.branches)
        self._flat = (*JET_NAMES, *(name for name, branch in cluster.event.items() if branch in there))
        self.branches: tuple[str, ...] = (*cluster.particle, *self._flat)

    def flat(self) -> tuple[str, ...]:
        """Names with one number for each jet; those of the event count for all its jets."""
        return self._flat

    def not_lists(self, names: Sequence[str]) -> list[str]:
        """Those of `names` that are not of particles."""
        return [name for name in names if name not in self.cluster.particle]

    def depth(self, name: str) -> int:
        """1 for particles, 0 for jets; of a number of the event as in the file."""
        if name in self.cluster.event:
            return self.table.depth(self.cluster.event[name])
        return int(name in self.cluster.particle)

    def is_text(self, name: str) -> bool:
        """Whether the event has a string by this name."""
        return name in self.cluster.event and self.table.is_text(self.cluster.event[name])

    def typename(self, name: str) -> str:
        """The type of the branch that a number comes from."""
        return self.table.typename(self.cluster.event.get(name, self.cluster.table))

    def number(self, name: str) -> Number:
        """The type of a number of a jet or of its event."""
        return Number(np.dtype(np.float32)) if name in JET_NAMES else self.table.number(self.cluster.event[name])

    def clusters(self, names: Sequence[str]) -> tuple[int, ...]:
        """Events at which a read may begin without decoding anything twice."""
        return self.table.clusters(self.cluster.in_file(names))

    def lengths(self, name: str) -> npt.NDArray[np.int64]:
        """Places for particles in each event."""
        return self.table.lengths(self.cluster.table) // len(self.cluster.particle)


def require_fastjet(where: object) -> None:
    """Refuse a file whose jets cannot be made here.

    Raises:
        UsageError: FastJet is not installed.
    """
    try:
        _fastjet()
    except ImportError:
        raise UsageError(
            "the file holds events without jets, and FastJet, which makes them, is not installed",
            where=where,
            hint='pip install "ssl-jets[cluster]"',
        ) from None


def clustered(raw: Raw, cluster: Clustering, names: Sequence[str], entry: Entries, place: str) -> Rows:
    """The jets of events, `cluster.jets` for each, with the branches of the given names.

    Args:
        raw: the branches of the events.
        cluster: how jets are made.
        names: names of particles, jets and events as the format's formulas use them.
        entry: numbers of the events in the file.
        place: the file, for messages.

    Raises:
        BadEntriesError: a particle whose numbers are not finite, or whose pt is negative.
    """
    counts, values = _particles(np.asarray(raw[cluster.table]), cluster, entry, place)
    events, most = len(counts), cluster.jets
    momenta = _momenta(*(values[:, cluster.particle.index(name)] for name in ("pt", "eta", "phi")))
    jets, members, index = _constituents(momenta, counts, cluster)
    event = np.repeat(np.arange(events), jets)
    sums = np.stack(
        [np.bincount(np.repeat(np.arange(len(event)), members), part[index], len(event)) for part in momenta]
    )
    order = np.lexsort((-np.hypot(sums[0], sums[1]), event))
    rank = np.arange(len(order)) - (np.cumsum(jets) - jets)[event[order]]
    chosen, slot = order[rank < most], (event[order] * most + rank)[rank < most]
    lengths = np.zeros(events * most, dtype=np.int64)
    lengths[slot] = members[chosen]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    # Slots rise with `chosen`, so the particles of the chosen jets, one after the other, are those of the slots.
    shift = np.repeat((np.cumsum(members) - members)[chosen] - offsets[slot], members[chosen])
    index = index[np.arange(offsets[-1]) + shift]
    numbers = _numbers(sums[:, chosen], slot, lengths)
    of_events = {name: np.repeat(np.asarray(raw[cluster.event[name]]), most) for name in names if name in cluster.event}
    return Rows(
        offsets=offsets,
        particle={name: values[index, at] for at, name in enumerate(cluster.particle) if name in names},
        jet={name: numbers[name] for name in names if name in numbers} | of_events,
        entry=np.repeat(entry, most),
        number=np.tile(np.arange(most), events),
        place=place,
    )


def _particles(table: Array, cluster: Clustering, entry: Entries, place: str) -> tuple[Array, Array]:
    """Particles of each event, `[event]`, and the numbers of all, float64 `[particle, number]`."""
    width = len(cluster.particle)
    places = table.shape[1] // width
    values = table[:, : places * width].reshape(len(table), places, width).astype(np.float64)
    pt = values[:, :, cluster.particle.index("pt")]
    wrong = np.flatnonzero((~np.isfinite(values).all(axis=2) | (pt < 0)).any(axis=1))
    if len(wrong):
        raise BadEntriesError(
            "an event has a particle whose numbers are not finite, or whose pt is negative",
            entry[wrong],
            "bad_jets",
            where=f"{place}, entry {entry[wrong[0]]}",
            found=f"{len(wrong)} of the {len(table)} events read here",
        )
    return np.count_nonzero(pt, axis=1), values[pt > 0]


def _momenta(pt: Array, eta: Array, phi: Array) -> Array:
    """px, py, pz and E of massless particles, `[4, particle]`."""
    return np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta)])


def _constituents(momenta: Array, counts: Array, cluster: Clustering) -> tuple[Array, Array, Array]:
    """Jets of each event, particles of each jet, and the numbers of these particles among all, jet after jet."""
    if not counts.any():
        nothing = np.empty(0, dtype=np.int64)
        return np.zeros_like(counts), nothing, nothing
    fastjet = _fastjet()
    algorithm = getattr(fastjet, _ALGORITHMS[cluster.algorithm])
    events = ak.unflatten(ak.zip(dict(zip(("px", "py", "pz", "E"), momenta))), counts)
    sequence = fastjet.ClusterSequence(events, fastjet.JetDefinition(algorithm, cluster.radius))
    found = sequence.constituent_index(min_pt=cluster.min_pt)
    jets = np.asarray(ak.num(found, axis=1))
    members = np.asarray(ak.flatten(ak.num(found, axis=2)))
    first = np.repeat(np.repeat(np.cumsum(counts) - counts, jets), members)
    return jets, members, np.asarray(ak.flatten(found, axis=None)).astype(np.int64) + first


def _numbers(sums: Array, slot: Array, lengths: Array) -> Mapping[str, Array]:
    """The numbers of the jets, float32 `[slot]` by name, from sums of momenta `[4, jet]`."""
    px, py, pz, energy = sums
    pt = np.hypot(px, py)
    mass = np.sqrt(np.maximum(energy**2 - pt**2 - pz**2, 0))
    found = {}
    for name, values in zip(JET_NAMES, (pt, np.arcsinh(pz / pt), np.arctan2(py, px), energy, mass)):
        found[name] = np.full(len(lengths), np.nan, dtype=np.float32)
        found[name][slot] = values
    return found | {"jet_nparticles": lengths.astype(np.float32)}


_FIRST = Lock()


_LOADED: list[Any] = []


def _fastjet() -> Any:
    """The package. It prints its banner when it clusters for the first time: to stderr, since stdout has results."""
    with _FIRST:
        if not _LOADED:
            import fastjet

            with _stdout_to_stderr():
                one = ak.Array([{"px": 1.0, "py": 0.0, "pz": 0.0, "E": 1.0}])
                fastjet.ClusterSequence(one, fastjet.JetDefinition(fastjet.antikt_algorithm, 1.0)).inclusive_jets()
            _LOADED.append(fastjet)
        return _LOADED[0]


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Send what C++ prints on stdout to stderr."""
    sys.stdout.flush()
    saved = os.dup(1)
    try:
        os.dup2(2, 1)
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)
