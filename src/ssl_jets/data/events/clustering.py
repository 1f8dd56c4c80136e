"""Clustering of events without jets: jets are clustered while reading, by FastJet (arXiv:1111.6097).

Each event gives the same number of jets, its hardest, so that jets are counted without clustering. If an event has
fewer, the rest have no particles, and the `jet_cut` of a schema removes them. A jet is the sum of its particles
(E scheme), which are assumed massless.

FastJet is free software under the GPL, version 2 or later. It is not a part of this package: it is imported if the user
has installed it, for example by the extra `cluster`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from multiprocessing import parent_process
from threading import Lock
from typing import Any, ClassVar, Literal

import awkward as ak
import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from ssl_jets.arrays import Array
from ssl_jets.config import Settings
from ssl_jets.data.readers.base import Number, Table
from ssl_jets.data.rows import BadEntriesError, Entries, Raw, Rows, flatten, plain_numbers
from ssl_jets.errors import UsageError
from ssl_jets.runtime.console import log
from ssl_jets.runtime.native import native_stdout_to

JET_NAMES = ("jet_pt", "jet_eta", "jet_phi", "jet_energy", "jet_mass", "jet_nparticles")
"""Columns of a clustered jet, in GeV; NaN if an event has too few jets, except for the number of particles, 0."""


_ALGORITHMS = {"anti-kt": "antikt_algorithm", "kt": "kt_algorithm", "cambridge-aachen": "cambridge_algorithm"}


class Clustering(Settings):
    """Clustering of the particles of an event into jets."""

    table: str
    """The branch with the numbers of all particles of an event, particle after particle; a particle with a pt of zero
    is padding."""
    particle: tuple[str, ...]
    """Names of the numbers of a particle, in the order of the table; among them pt [GeV], eta and phi."""
    event: dict[str, str] = Field(default={})
    """Name in formulas to the branch with a number of the event; those that a file lacks are ignored."""
    needs: tuple[str, ...] = ()
    """Further branches that identify such a table."""
    algorithm: Literal["anti-kt", "kt", "cambridge-aachen"] = "anti-kt"
    """Jet algorithm."""
    radius: float = Field(default=1.0, gt=0)
    """Radius R of the jets."""
    min_pt: float = Field(default=20.0, gt=0)
    """Smallest transverse momentum of a jet [GeV]."""
    jets: int = Field(default=2, ge=1)
    """Number of jets of an event, the hardest first."""

    @field_validator("particle")
    @classmethod
    def _momenta(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if missing := {"pt", "eta", "phi"} - set(names):
            raise ValueError(f"clustering needs {', '.join(sorted(missing))} of each particle")
        return names

    @property
    def collection(self) -> str:
        """Name of the jets."""
        return f"{self.algorithm} R={self.radius:g}"

    others: ClassVar[tuple[str, ...]] = ()

    @property
    def branches(self) -> tuple[str, ...]:
        """Branches that identify a table of such events."""
        return (self.table, *self.needs)

    def in_file(self, names: Sequence[str]) -> list[str]:
        """Return the branches to read for names of jets and particles."""
        return [self.table, *(self.event[name] for name in names if name in self.event)]


class ClusteringTable:
    """Table of events without jets seen as a table of jets, under the names of the schema."""

    def __init__(self, table: Table, cluster: Clustering) -> None:
        self.table, self.cluster = table, cluster
        self.name = table.name
        self.entries = table.entries
        self.ignored = table.ignored
        available = set(table.branches)
        self._flat = (*JET_NAMES, *(name for name, branch in cluster.event.items() if branch in available))
        self.branches: tuple[str, ...] = (*cluster.particle, *self._flat)

    def flat(self) -> tuple[str, ...]:
        return self._flat

    def depth(self, name: str) -> int:
        """Return 1 for particles, 0 for jets, and for a number of the event its depth in the file."""
        if name in self.cluster.event:
            return self.table.depth(self.cluster.event[name])
        return int(name in self.cluster.particle)

    def is_text(self, name: str) -> bool:
        return name in self.cluster.event and self.table.is_text(self.cluster.event[name])

    def typename(self, name: str) -> str:
        return self.table.typename(self.cluster.event.get(name, self.cluster.table))

    def number(self, name: str) -> Number:
        return Number(np.dtype(np.float32)) if name in JET_NAMES else self.table.number(self.cluster.event[name])

    def boundaries(self, names: Sequence[str]) -> tuple[int, ...]:
        return self.table.boundaries(self.cluster.in_file(names))

    def lengths(self, name: str) -> npt.NDArray[np.int64]:
        """Return the number of particles that each event has room for: 2,100 values of 3 per particle -> 700."""
        return self.table.lengths(self.cluster.table) // len(self.cluster.particle)


def require_fastjet(where: object) -> None:
    """Check that FastJet is installed, which clusters the jets of a file.

    Raises:
        UsageError: FastJet is not installed.
    """
    try:
        load_fastjet()
    except ImportError:
        raise UsageError(
            "the file holds events without jets, and FastJet, which makes them, is not installed",
            where=where,
            hint='pip install "ssl-jets[cluster]"',
        ) from None


def clustered(raw: Raw, cluster: Clustering, names: Sequence[str], entry: Entries, place: str) -> Rows:
    """Cluster the jets of events, `cluster.jets` for each, and return them with the columns of the given names.

    Raises:
        BadEntriesError: a particle has a number that is not finite, or a negative pt.
    """
    counts, values = _particles(_padded(raw[cluster.table]), cluster, entry, place)
    events, most = len(counts), cluster.jets
    column = cluster.particle.index
    momenta = _momenta(values[:, column("pt")], values[:, column("eta")], values[:, column("phi")])  # [4, particle]
    jets, members, index = _constituents(momenta, counts, cluster)
    event = np.repeat(np.arange(events), jets)  # [jet]
    jet = np.repeat(np.arange(len(event)), members)  # [constituent]
    sums = np.stack([np.bincount(jet, component[index], len(event)) for component in momenta])  # [4, jet]
    # Two events with 3 and 1 jets of pt 80, 95, 30 and 60, two wanted of each: order 1, 0, 2, 3 and rank 0, 1, 2, 0
    # -> chosen 1, 0, 3 in the slots 0, 1, 2; slot 3 stays empty.
    order = np.lexsort((-np.hypot(sums[0], sums[1]), event))
    rank = np.arange(len(order)) - (np.cumsum(jets) - jets)[event[order]]
    chosen, slot = order[rank < most], (event[order] * most + rank)[rank < most]
    lengths = np.zeros(events * most, dtype=np.int64)
    lengths[slot] = members[chosen]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    # Slots rise with `chosen`: the particles of the chosen jets, one after another, fill the slots in order.
    shift = np.repeat((np.cumsum(members) - members)[chosen] - offsets[slot], members[chosen])
    index = index[np.arange(offsets[-1]) + shift]
    numbers = _numbers(sums[:, chosen], slot, lengths)
    of_events = {
        name: np.repeat(plain_numbers(raw[cluster.event[name]]), most) for name in names if name in cluster.event
    }
    return Rows(
        offsets=offsets,
        particle={name: values[index, at] for at, name in enumerate(cluster.particle) if name in names},
        jet={name: numbers[name] for name in names if name in numbers} | of_events,
        entry=np.repeat(entry, most),
        number=np.tile(np.arange(most), events),
        place=place,
    )


def _padded(lists: Any) -> Array:
    """Return the numbers of each event, `[event, number]`; lists that differ in length are filled up with zeros."""
    if isinstance(lists, np.ndarray):
        return lists
    offsets, contents = flatten(lists)
    lengths = np.diff(offsets)
    table = np.zeros((len(lengths), lengths.max(initial=0)), dtype=contents.dtype)
    table[np.arange(table.shape[1]) < lengths[:, None]] = contents
    return table


def _particles(table: Array, cluster: Clustering, entry: Entries, place: str) -> tuple[Array, Array]:
    """Return the number of particles of each event, `[event]`, and their values, float64 `[particle, number]`."""
    width = len(cluster.particle)
    most = table.shape[1] // width
    values = table[:, : most * width].reshape(len(table), most, width).astype(np.float64)
    pt = values[:, :, cluster.particle.index("pt")]
    wrong = np.flatnonzero((~np.isfinite(values).all(axis=2) | (pt < 0)).any(axis=1))
    if len(wrong):
        raise BadEntriesError(
            "an event has a particle with a number that is not finite, or a negative pt",
            entry[wrong],
            "bad_jets",
            where=f"{place}, entry {entry[wrong[0]]}",
            found=f"{len(wrong)} of the {len(table)} events read here",
        )
    return np.count_nonzero(pt, axis=1), values[pt > 0]


def _momenta(pt: Array, eta: Array, phi: Array) -> Array:
    """Return px, py, pz and E of massless particles, `[4, particle]`."""
    return np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta)])


def _constituents(momenta: Array, counts: Array, cluster: Clustering) -> tuple[Array, Array, Array]:
    """Return the number of jets of each event, of particles of each jet, and the indices of these, jet after jet."""
    if not counts.any():
        nothing = np.empty(0, dtype=np.int64)
        return np.zeros_like(counts), nothing, nothing
    fastjet = load_fastjet()
    algorithm = getattr(fastjet, _ALGORITHMS[cluster.algorithm])
    events = ak.unflatten(ak.zip(dict(zip(("px", "py", "pz", "E"), momenta))), counts)
    sequence = fastjet.ClusterSequence(events, fastjet.JetDefinition(algorithm, cluster.radius))
    constituents = sequence.constituent_index(min_pt=cluster.min_pt)  # [event, jet, constituent]
    jets = np.asarray(ak.num(constituents, axis=1))
    members = np.asarray(ak.flatten(ak.num(constituents, axis=2)))
    first = np.repeat(np.repeat(np.cumsum(counts) - counts, jets), members)
    return jets, members, np.asarray(ak.flatten(constituents, axis=None)).astype(np.int64) + first


def _numbers(sums: Array, slot: Array, lengths: Array) -> Mapping[str, Array]:
    """Return the columns of the jets, float32 `[slot]` by name, from sums of momenta `[4, jet]`."""
    px, py, pz, energy = sums
    pt = np.hypot(px, py)
    mass = np.sqrt(np.maximum(energy**2 - pt**2 - pz**2, 0))
    columns = {}
    for name, values in zip(JET_NAMES, (pt, np.arcsinh(pz / pt), np.arctan2(py, px), energy, mass)):
        columns[name] = np.full(len(lengths), np.nan, dtype=np.float32)
        columns[name][slot] = values
    return columns | {"jet_nparticles": lengths.astype(np.float32)}


_FIRST = Lock()


_LOADED: list[Any] = []


def load_fastjet() -> Any:
    """Import FastJet, and cluster once without its banner, which is replaced by one line on stderr."""
    with _FIRST:
        if not _LOADED:
            import fastjet

            with open(os.devnull, "wb") as nowhere, native_stdout_to(nowhere.fileno()):
                one = ak.Array([{"px": 1.0, "py": 0.0, "pz": 0.0, "E": 1.0}])
                fastjet.ClusterSequence(one, fastjet.JetDefinition(fastjet.antikt_algorithm, 1.0)).inclusive_jets()
            if parent_process() is None:
                log("jets are clustered by FastJet (https://fastjet.fr); please cite arXiv:1111.6097")
            _LOADED.append(fastjet)
        return _LOADED[0]
