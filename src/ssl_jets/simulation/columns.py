"""Branches of the JetClass layout (arXiv:2202.03772), computed from found jets, as flat arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ssl_jets.arrays import Array
from ssl_jets.data.write import COUNTER
from ssl_jets.jets import KINDS
from ssl_jets.simulation.clustering import FoundJets
from ssl_jets.simulation.truth import DecayMatcher, Match, Truth, wrapped
from ssl_jets.simulation.vertices import Vertices

Table = dict[str, Array]
"""Branches by name: `[jet]`, and `part_*` `[particle]` and `sv_*` `[vertex]`, with the lengths of `LISTS`."""

EVENT_ID = "event_id"
VERTEX_COUNTER = "nsv"
LISTS = {"part_": COUNTER, "sv_": VERTEX_COUNTER}
"""Beginnings of the names of branches of lists, and the counters of these lists."""
_KIND_FLAGS = {
    "part_isChargedHadron": "charged hadron",
    "part_isNeutralHadron": "neutral hadron",
    "part_isPhoton": "photon",
    "part_isElectron": "electron",
    "part_isMuon": "muon",
}
LABELS = ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl")
_LABEL_TYPES = {"QCD": "float32", **dict.fromkeys(LABELS[1:6], "bool"), **dict.fromkeys(LABELS[6:], "int32")}
_PARTICLE_FLOATS = ("px", "py", "pz", "energy", "deta", "dphi", "d0val", "d0err", "dzval", "dzerr", "charge")
_JET_FLOATS = ("pt", "eta", "phi", "energy", "nparticles", "sdmass", "tau1", "tau2", "tau3", "tau4")
_TRUTH_FLOATS = ("genpart_eta", "genpart_phi", "genpart_pid", "genpart_pt", "truth_match")
LAYOUT: dict[str, str] = {
    COUNTER: "int32",
    **{f"part_{name}": "float32" for name in _PARTICLE_FLOATS},
    **dict.fromkeys(_KIND_FLAGS, "int32"),
    **{f"label_{name}": dtype for name, dtype in _LABEL_TYPES.items()},
    **{f"jet_{name}": "float32" for name in _JET_FLOATS},
    **{f"aux_{name}": "float32" for name in _TRUTH_FLOATS},
}
"""Types of the branches of JetClass and of the counter, in their order."""
_VERTEX_NUMBERS = ["pt", "deta", "dphi", "mass", "ntracks", "normchi2", "dxy", "dxysig", "dlen", "dlensig", "costheta"]
VERTEX_LAYOUT: dict[str, str] = {
    VERTEX_COUNTER: "int32",
    **{f"sv_{name}": "int32" if name == "ntracks" else "float32" for name in _VERTEX_NUMBERS},
}
"""Types of the branches of secondary vertices, in their order."""
_TYPES = LAYOUT | VERTEX_LAYOUT


def jet_columns(jets: FoundJets) -> Table:
    """Return the branches of particles and jets, with the counter.

    deta is multiplied by the sign of the jet's eta. Neutral particles have charge and impact parameters 0.
    """
    eta, phi = jets.axis
    lengths = np.diff(jets.offsets)
    owner = np.repeat(np.arange(len(jets)), lengths)
    particles = jets.particles
    px, py, pz, energy = particles.momentum.T
    deta = (np.arcsinh(pz / np.hypot(px, py)) - eta[owner]) * np.where(eta >= 0, 1.0, -1.0)[owner]
    dphi = wrapped(np.arctan2(py, px) - phi[owner])
    values = (px, py, pz, energy, deta, dphi, *particles.impact.T, particles.charge)
    columns: Table = {COUNTER: lengths, **{f"part_{name}": one for name, one in zip(_PARTICLE_FLOATS, values)}}
    for flag, kind in _KIND_FLAGS.items():
        columns[flag] = particles.kind == KINDS.index(kind)
    pt = np.hypot(jets.momentum[:, 0], jets.momentum[:, 1])
    values = (pt, eta, phi, jets.momentum[:, 3], lengths, jets.soft_drop_mass, *jets.tau.T)
    columns |= {f"jet_{name}": one for name, one in zip(_JET_FLOATS, values)}
    return _typed(columns)


def vertex_columns(vertices: Vertices, jets: FoundJets) -> Table:
    """Return the branches of secondary vertices, with their counter.

    deta and dphi are of the momentum of the vertex, deta multiplied by the sign of the jet's eta.
    """
    eta, phi = (axis[vertices.jet] for axis in jets.axis)
    px, py, pz, energy = vertices.momentum.T
    pt = np.hypot(px, py)
    deta = (np.arcsinh(pz / pt) - eta) * np.where(eta >= 0, 1.0, -1.0)
    mass = np.sqrt(np.maximum(energy**2 - px**2 - py**2 - pz**2, 0))
    dphi = wrapped(np.arctan2(py, px) - phi)
    distances = (*vertices.dxy.T, *vertices.dlen.T)
    values = (pt, deta, dphi, mass, vertices.tracks, vertices.chi2, *distances, vertices.cosine)
    columns = {f"sv_{name}": one for name, one in zip(_VERTEX_NUMBERS, values)}
    return _typed({VERTEX_COUNTER: np.bincount(vertices.jet, minlength=len(jets)), **columns})


def truth_columns(truths: Sequence[Truth], matcher: DecayMatcher, label: str) -> Table:
    """Return labels and truth matches, `[jet]`; the particle of a QCD jet is 0 in all columns."""
    particle = np.array([truth.particle for truth in truths], dtype=np.int64)
    match = np.array([int(truth.match) for truth in truths], dtype=np.int64)
    none = particle < 0
    columns: Table = {f"label_{name}": np.full(len(truths), name == label) for name in LABELS}
    values = (matcher.eta, matcher.phi, matcher.pid, matcher.pt)
    for name, one in zip(_TRUTH_FLOATS, values):
        columns[f"aux_{name}"] = np.where(none, 0, one[particle])
    return _typed(columns | {"aux_truth_match": match})


def truths_of(jets: FoundJets, matcher: DecayMatcher) -> list[Truth]:
    """Return the truth match of each jet."""
    eta, phi = jets.axis
    return [matcher(*one) for one in zip(jets.event.tolist(), eta.tolist(), phi.tolist())]


def wanted(truths: Sequence[Truth], matches: Sequence[Match]) -> Array:
    """Return a mask of the jets with one of these matches, bool `[jet]`."""
    return np.array([truth.match in matches for truth in truths], dtype=bool)


def select(table: Mapping[str, Array], rows: Array) -> Table:
    """Return some jets of a table, in the order of `rows` (integers, `[jet]`)."""
    elements = {counter: _elements(table[counter], rows) for counter in LISTS.values() if counter in table}
    return {name: values[elements.get(counter_of(name), rows)] for name, values in table.items()}


def counter_of(name: str) -> str:
    """Return the counter of a branch of lists, an empty string for a branch of numbers.

    Example:
        >>> counter_of("part_px"), counter_of("jet_pt")
        ('npart', '')
    """
    return next((counter for prefix, counter in LISTS.items() if name.startswith(prefix)), "")


def _elements(lengths: Array, rows: Array) -> Array:
    """Return the indices of the elements of some jets, `[element]`."""
    lengths = lengths.astype(np.int64)
    begin = np.cumsum(lengths) - lengths
    kept = lengths[rows]
    # Jets of 2, 3 and 1 particles, rows 2, 0: begin 0, 2, 5; kept 1, 2 -> particles 5, 0, 1.
    shift = np.repeat(begin[rows] - (np.cumsum(kept) - kept), kept)
    elements: Array = np.arange(kept.sum()) + shift
    return elements


def joined(tables: Sequence[Mapping[str, Array]]) -> Table:
    """Return the jets of several tables with the same branches, one after another."""
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def _typed(columns: Table) -> Table:
    return {name: values.astype(_TYPES[name]) for name, values in columns.items()}
