"""Parametric detector like CMS: tracks, two calorimeters and particle flow, after the Delphes card of JetClass.

No showers in matter, no pile-up in the nominal detector, and no identification: a track of an electron is an electron.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ssl_jets.arrays import Array
from ssl_jets.data.schemas import pdg
from ssl_jets.jets import KINDS
from ssl_jets.simulation.calorimeter import ECAL, HCAL, MAX_ETA, Deposits, log_normal, particle_flow
from ssl_jets.simulation.events import Events
from ssl_jets.simulation.tracks import (
    TRACKER_LENGTH,
    TRACKER_RADIUS,
    Helices,
    efficiency,
    impact_errors,
    resolution,
    straight_to_calorimeter,
)

_NEUTRINOS = (12, 14, 16)
_MASSLESS = 1e-9


@dataclass(frozen=True)
class Detector:
    """Differences of a detector from the nominal one.

    Attributes:
        efficiency: factor of the tracking efficiency.
        track_resolution: factor of the relative momentum resolution of tracks.
        impact_resolution: factor of the impact parameter resolution.
        ecal_scale: factor of electromagnetic energies.
        hcal_scale: factor of hadronic energies.
        calorimeter_resolution: factor of both energy resolutions.
        residue: mean number of soft particles in each event, uniform in eta and phi, which pile-up removal left over.
    """

    efficiency: float = 1.0
    track_resolution: float = 1.0
    impact_resolution: float = 1.0
    ecal_scale: float = 1.0
    hcal_scale: float = 1.0
    calorimeter_resolution: float = 1.0
    residue: float = 0.0


DETECTORS = {
    "nominal": Detector(),
    "shifted": Detector(
        efficiency=0.95,
        track_resolution=1.3,
        impact_resolution=1.25,
        ecal_scale=1.01,
        hcal_scale=0.96,
        calorimeter_resolution=1.2,
        residue=30.0,
    ),
}
"""Detectors by the name of `--detector`."""


@dataclass(frozen=True)
class Candidates:
    """Reconstructed particles of several events.

    Attributes:
        event: event of each particle, int64 `[particle]`.
        momentum: px, py, pz, energy [GeV], float64 `[particle, 4]`.
        kind: index into `KINDS`, `[particle]`.
        charge: [e], `[particle]`.
        impact: d0, d0err, dz, dzerr [mm], 0 for neutral particles, `[particle, 4]`.
        track_pt: measured by the tracker alone [GeV], 0 for neutral particles, `[particle]`.
        source: index of the generated particle of a track, -1 without one, int64 `[particle]`.
    """

    event: Array
    momentum: Array
    kind: Array
    charge: Array
    impact: Array
    track_pt: Array
    source: Array

    def __getitem__(self, rows: Array) -> Candidates:
        """Return some of the particles."""
        return Candidates(*(values[rows] for values in vars(self).values()))


@dataclass(frozen=True)
class _Stable:
    """Stable particles inside the detector, `[particle]`: their point at the calorimeters is `eta`, `phi`.

    `source` is their index among the generated particles, -1 for the residue of pile-up.
    """

    source: Array
    event: Array
    pid: Array
    momentum: Array
    vertex: Array
    charge: Array
    eta: Array
    phi: Array

    def __getitem__(self, rows: Array) -> _Stable:
        return _Stable(*(values[rows] for values in vars(self).values()))

    def deposits(self) -> Deposits:
        return Deposits(self.event, self.momentum[:, 3], self.eta, self.phi)


def reconstruct(events: Events, detector: Detector, rng: np.random.Generator) -> Candidates:
    """Return the particles that the detector reconstructs in each event, sorted by event."""
    stable = _stable(events, detector, rng)
    tracks, impact = _tracks(stable, detector, rng)
    size = np.abs(stable.pid)
    electromagnetic, muon = np.isin(size, (11, 22)), size == 13
    track_size = np.abs(tracks.pid)
    factor = np.ones(len(tracks.event))
    neutrals = []
    for calorimeter, here, tracked, scale in (
        (ECAL, electromagnetic, track_size == 11, detector.ecal_scale),
        (HCAL, ~electromagnetic & ~muon, ~np.isin(track_size, (11, 13)), detector.hcal_scale),
    ):
        neutral, factor[tracked] = particle_flow(
            calorimeter,
            stable[here].deposits(),
            tracks[tracked].deposits(),
            rng,
            scale=scale,
            smear=detector.calorimeter_resolution,
        )
        neutrals.append(neutral)
    charged = _charged(tracks, factor, impact)
    photons, hadrons = (_neutral(one, kind) for one, kind in zip(neutrals, ("photon", "neutral hadron")))
    return _sorted(charged, photons, hadrons)


def _stable(events: Events, detector: Detector, rng: np.random.Generator) -> _Stable:
    """Return the visible particles that reach the calorimeters, and the residue of pile-up."""
    keep = events.final & ~np.isin(np.abs(events.pid), _NEUTRINOS)
    x, y, z = events.vertex.T
    keep &= (np.hypot(x, y) < TRACKER_RADIUS) & (np.abs(z) < TRACKER_LENGTH)
    keep &= np.hypot(events.momentum[:, 0], events.momentum[:, 1]) > _MASSLESS
    source, event, pid = np.flatnonzero(keep), events.event[keep], events.pid[keep]
    momentum, vertex = events.momentum[keep], events.vertex[keep]
    if detector.residue:
        more = _residue(len(events), detector.residue, rng)
        source = np.concatenate([source, np.full(len(more[0]), -1)])
        event, pid = np.concatenate([event, more[0]]), np.concatenate([pid, more[1]])
        momentum = np.concatenate([momentum, more[2]])
        vertex = np.concatenate([vertex, np.zeros((len(more[0]), 3))])
    charge = pdg.charge(pid).astype(np.float64)
    eta, phi = straight_to_calorimeter(momentum[:, :3], vertex)
    bent = charge != 0
    eta[bent], phi[bent] = Helices(momentum[bent, :3], vertex[bent], charge[bent]).at_calorimeter()
    stable = _Stable(source, event, pid, momentum, vertex, charge, eta, phi)
    return stable[np.abs(eta) < MAX_ETA]


def _residue(events: int, mean: float, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Return event, PDG number and momentum of soft particles: photons, and a fifth each of pi+ and pi-."""
    event = np.repeat(np.arange(events), rng.poisson(mean, events))
    size = len(event)
    pid = rng.choice([22, 211, -211], size, p=[0.6, 0.2, 0.2])
    pt = 0.5 + rng.exponential(0.7, size)
    eta, phi = rng.uniform(-MAX_ETA, MAX_ETA, size), rng.uniform(-np.pi, np.pi, size)
    momentum = np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)], axis=1)
    energy = np.sqrt((momentum**2).sum(axis=1) + pdg.mass(pid).astype(np.float64) ** 2)
    return event, pid, np.column_stack([momentum, energy])


def _tracks(stable: _Stable, detector: Detector, rng: np.random.Generator) -> tuple[_Stable, Array]:
    """Return tracks with measured momenta, and their impact parameters."""
    charged = stable[stable.charge != 0]
    pt = np.hypot(charged.momentum[:, 0], charged.momentum[:, 1])
    eta = np.arcsinh(charged.momentum[:, 2] / pt)
    found, relative = np.zeros(len(pt)), np.zeros(len(pt))
    size = np.abs(charged.pid)
    for species, members in (("electron", size == 11), ("muon", size == 13), ("hadron", ~np.isin(size, (11, 13)))):
        found[members] = efficiency(species, pt[members], eta[members])
        relative[members] = resolution(species, pt[members], eta[members])
    relative *= detector.track_resolution
    seen = rng.random(len(pt)) < found * detector.efficiency
    charged, relative, pt, eta = charged[seen], relative[seen], pt[seen], eta[seen]
    momentum = _scaled(charged.momentum, log_normal(pt, relative * pt, rng) / pt)
    tracks = _Stable(**vars(charged) | {"momentum": momentum})
    errors = impact_errors(pt, eta)
    true = Helices(charged.momentum[:, :3], charged.vertex, charged.charge).impact()
    columns = []
    for value, error in zip(true, errors):
        sigma = error * detector.impact_resolution
        columns += [value + sigma * rng.standard_normal(len(sigma)), sigma]
    return tracks, np.stack(columns, axis=1)


def _scaled(momentum: Array, factor: Array) -> Array:
    """Scale three-momenta; masses stay."""
    squared = momentum[:, 3] ** 2 - (momentum[:, :3] ** 2).sum(axis=1)
    scaled = momentum[:, :3] * factor[:, None]
    energy = np.sqrt((scaled**2).sum(axis=1) + np.maximum(squared, 0))
    return np.column_stack([scaled, energy])


def _charged(tracks: _Stable, factor: Array, impact: Array) -> Candidates:
    momentum = _scaled(tracks.momentum, factor)
    kind = pdg.kind(tracks.pid).astype(np.int64)
    track_pt = np.hypot(tracks.momentum[:, 0], tracks.momentum[:, 1])
    return Candidates(tracks.event, momentum, kind, tracks.charge, impact, track_pt=track_pt, source=tracks.source)


def _neutral(neutrals: Deposits, kind: str) -> Candidates:
    pt = neutrals.energy / np.cosh(neutrals.eta)
    momentum = np.stack(
        [pt * np.cos(neutrals.phi), pt * np.sin(neutrals.phi), pt * np.sinh(neutrals.eta), neutrals.energy], axis=1
    )
    size = len(pt)
    return Candidates(
        event=neutrals.event,
        momentum=momentum,
        kind=np.full(size, KINDS.index(kind)),
        charge=np.zeros(size),
        impact=np.zeros((size, 4)),
        track_pt=np.zeros(size),
        source=np.full(size, -1),
    )


def _sorted(*parts: Candidates) -> Candidates:
    """Return all particles, sorted by event and without particles of no momentum."""
    merged = Candidates(*map(np.concatenate, zip(*(vars(part).values() for part in parts))))
    order = np.argsort(merged.event, kind="stable")
    pt = np.hypot(merged.momentum[order, 0], merged.momentum[order, 1])
    return merged[order[pt > _MASSLESS]]
