"""Jets of reconstructed particles: anti-kT clustering, soft-drop mass and N-subjettiness by FastJet and its contrib."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import awkward as ak
import numpy as np

from ssl_jets.arrays import Array
from ssl_jets.data.events.clustering import load_fastjet
from ssl_jets.simulation.detector import Candidates

RADIUS = 0.8
MIN_PT, MAX_PT, MAX_ETA = 500.0, 1000.0, 2.0
TAUS = (1, 2, 3, 4)
_ANY_RADIUS = 1000.0


@dataclass(frozen=True)
class FoundJets:
    """Jets of a batch of events; particles of all jets end to end, sorted by falling pt.

    Attributes:
        event: event of each jet, `[jet]`.
        momentum: px, py, pz, energy [GeV], sums over the particles, `[jet, 4]`.
        soft_drop_mass: [GeV], with beta = 0, z_cut = 0.1, `[jet]`.
        tau: N-subjettiness with N = 1 to 4, `[jet, 4]`.
        offsets: first particle of each jet, and the end, `[jet + 1]`.
        particles: all particles.
    """

    event: Array
    momentum: Array
    soft_drop_mass: Array
    tau: Array
    offsets: Array
    particles: Candidates

    def __len__(self) -> int:
        return len(self.event)

    @property
    def axis(self) -> tuple[Array, Array]:
        """Pseudorapidity and azimuth, `[jet]`."""
        return directions(self.momentum)


def find_jets(candidates: Candidates, events: int) -> FoundJets:
    """Return the anti-kT jets (R = 0.8) with 500 < pt < 1000 GeV and |eta| < 2, event by event, hardest first.

    Soft drop reclusters with Cambridge/Aachen and stops at z > 0.1 (arXiv:1402.2657). N-subjettiness has beta = 1, the
    normalization R = 0.8, and axes of exclusive kT with one pass of minimization (arXiv:1108.2701).

    Args:
        candidates: particles, sorted by event.
        events: number of events.
    """
    fastjet = load_fastjet()
    counts = np.bincount(candidates.event, minlength=events)
    members = _constituents(fastjet, candidates.momentum, counts)
    jets_of = np.asarray(ak.num(members, axis=1))
    lengths = np.asarray(ak.flatten(ak.num(members, axis=2))).astype(np.int64)
    event = np.repeat(np.arange(events), jets_of)
    begin = np.repeat((np.cumsum(counts) - counts)[event], lengths)
    index = np.asarray(ak.flatten(members, axis=None)).astype(np.int64) + begin
    jet = np.repeat(np.arange(len(event)), lengths)
    momentum = np.stack([np.bincount(jet, column[index], len(event)) for column in candidates.momentum.T], axis=1)
    pt, (eta, _) = np.hypot(momentum[:, 0], momentum[:, 1]), directions(momentum)
    good = np.flatnonzero((pt > MIN_PT) & (pt < MAX_PT) & (np.abs(eta) < MAX_ETA))
    good = good[np.lexsort((-pt[good], event[good]))]
    place = np.full(len(event), -1)
    place[good] = np.arange(len(good))
    kept, owner = index[place[jet] >= 0], place[jet][place[jet] >= 0]
    softness = -np.hypot(candidates.momentum[kept, 0], candidates.momentum[kept, 1])
    order = np.lexsort((softness, owner))
    particles, lengths = candidates[kept[order]], lengths[good]
    mass, tau = _substructure(fastjet, particles.momentum, lengths)
    return FoundJets(
        event=event[good],
        momentum=momentum[good],
        soft_drop_mass=mass,
        tau=tau,
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        particles=particles,
    )


def directions(momentum: Array) -> tuple[Array, Array]:
    """Return pseudorapidity and azimuth of momenta `[particle, 3 or more]`."""
    pt = np.hypot(momentum[:, 0], momentum[:, 1])
    return np.arcsinh(momentum[:, 2] / pt), np.arctan2(momentum[:, 1], momentum[:, 0])


def _vectors(momentum: Array, counts: Array) -> Any:
    return ak.unflatten(ak.zip(dict(zip(("px", "py", "pz", "E"), np.ascontiguousarray(momentum.T)))), counts)


def _constituents(fastjet: Any, momentum: Array, counts: Array) -> Any:
    """Return the indices of the particles of each jet, `[event, jet, particle]`."""
    if not len(momentum):
        return ak.Array([[[0]]])[:, :0][[0] * len(counts)]  # no jets in any event
    definition = fastjet.JetDefinition(fastjet.antikt_algorithm, RADIUS)
    return fastjet.ClusterSequence(_vectors(momentum, counts), definition).constituent_index(min_pt=MIN_PT)


def _substructure(fastjet: Any, momentum: Array, lengths: Array) -> tuple[Array, Array]:
    """Return soft-drop mass `[jet]` and tau `[jet, 4]`."""
    if not len(lengths):
        return np.zeros(0), np.zeros((0, len(TAUS)))
    definition = fastjet.JetDefinition(fastjet.cambridge_algorithm, _ANY_RADIUS)
    sequence = fastjet.ClusterSequence(_vectors(momentum, lengths), definition)
    groomed = sequence.exclusive_jets_softdrop_grooming(njets=1, beta=0.0, symmetry_cut=0.1, R0=RADIUS)
    mass = np.maximum(ak.to_numpy(ak.flatten(groomed.msoftdrop, axis=None)), 0)  # rounding: -1e-7 for one photon
    return mass, ak.to_numpy(sequence.njettiness(njets=list(TAUS), beta=1.0, R0=RADIUS))
