"""Secondary vertices of jets: tracks of one displaced decay, fitted with their measured impact parameters.

The generator decides which tracks belong together; the rest is measured. Tracks are straight lines near the point of
their production, displaced by the errors of d0 and dz that the detector drew, and their vertex is the point with the
least chi2. Position, errors and chi2 therefore agree with the columns of the particles. Two further tracks of a jet
that miss the beam line and belong to no vertex are tried as a pair, which gives vertices of unrelated tracks.

The cuts on pt, on both significances and on the angle are taken from the inclusive vertex finder of CMS and the table
SV of NanoAOD (github.com/cms-sw/cmssw: inclusiveCandidateVertexFinder_cfi.py, vertices_cff.py). Efficiency, limit of
chi2 and resolution of nearby decays are chosen here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ssl_jets.arrays import Array
from ssl_jets.data.schemas import pdg
from ssl_jets.simulation.clustering import FoundJets
from ssl_jets.simulation.events import Events
from ssl_jets.simulation.tracks import TRACKER_RADIUS, Helices

MIN_TRACK_PT = 0.8
"""Of the tracks of a vertex [GeV]."""
MIN_DXY_SIGNIFICANCE, MIN_DLEN_SIGNIFICANCE = 2.5, 3.0
MIN_COSINE = 0.95
"""Cosine of the angle between the momentum of a vertex and the line from the beam to it."""
MAX_CHI2 = 10.0
"""Chi2 per degree of freedom."""
MERGE = 1.0
"""Distance to a displaced decay below which the decay of its product has the same vertex [mm]."""
EFFICIENCY, OUTERMOST = 0.95, 160.0
"""Efficiency at the beam line, and distance from it at which it has fallen linearly to 0 [mm]."""
STRAY_SIGNIFICANCE = 2.0
"""Least abs(d0) / d0err of two tracks that are tried as a pair."""
_BEAM = 0.01
"""Distance below which a particle comes from the collision [mm]."""
_PION = 211


@dataclass(frozen=True)
class TrackLines:
    """Tracks as straight lines, `[track]`.

    Attributes:
        jet: jet of each track.
        decay: index of the particle whose decay made it, -1 for the collision.
        momentum: measured px, py, pz [GeV], `[track, 3]`.
        point: a measured point of the line [mm], `[track, 3]`.
        weight: inverse of the covariance of that point [1/mm^2], 0 along the line, `[track, 3, 3]`.
        significance: abs(d0) / d0err.
    """

    jet: Array
    decay: Array
    momentum: Array
    point: Array
    weight: Array
    significance: Array

    def __getitem__(self, rows: Array) -> TrackLines:
        """Return some of the tracks."""
        return TrackLines(*(values[rows] for values in vars(self).values()))


@dataclass(frozen=True)
class Vertices:
    """Secondary vertices, `[vertex]`, sorted by jet and by falling significance of their distance.

    Attributes:
        jet: jet of each vertex.
        momentum: px, py, pz, energy [GeV], sums over its tracks as pions, `[vertex, 4]`.
        tracks: number of tracks.
        chi2: chi2 per degree of freedom.
        dxy: distance from the beam line [mm], and over its error, `[vertex, 2]`.
        dlen: distance from the collision [mm], and over its error, `[vertex, 2]`.
        cosine: of the angle between its momentum and the line from the collision to it.
    """

    jet: Array
    momentum: Array
    tracks: Array
    chi2: Array
    dxy: Array
    dlen: Array
    cosine: Array

    def __getitem__(self, rows: Array) -> Vertices:
        """Return some of the vertices."""
        return Vertices(*(values[rows] for values in vars(self).values()))


def find_vertices(jets: FoundJets, events: Events, rng: np.random.Generator) -> Vertices:
    """Return the secondary vertices of the jets."""
    lines = track_lines(jets, events)
    group = group_tracks(lines)
    vertices = fit_vertices(lines[group >= 0], group[group >= 0])
    good = (vertices.dxy[:, 1] > MIN_DXY_SIGNIFICANCE) & (vertices.dlen[:, 1] > MIN_DLEN_SIGNIFICANCE)
    good &= (vertices.cosine > MIN_COSINE) & (vertices.chi2 < MAX_CHI2)
    good &= rng.random(len(good)) < EFFICIENCY * (1 - vertices.dxy[:, 0] / OUTERMOST)
    found = vertices[good]
    return found[np.lexsort((-found.dlen[:, 1], found.jet))]


def track_lines(jets: FoundJets, events: Events) -> TrackLines:
    """Return the tracks of the jets above 0.8 GeV that a generated particle made."""
    particles = jets.particles
    owner = np.repeat(np.arange(len(jets)), np.diff(jets.offsets))
    rows = np.flatnonzero((particles.source >= 0) & (particles.track_pt > MIN_TRACK_PT))
    particles, source = particles[rows], particles.source[rows]
    d0, d0err, dz, dzerr = particles.impact.T
    vertex = events.vertex[source]
    true_d0, true_dz = Helices(events.momentum[source, :3], vertex, particles.charge).impact()
    direction = particles.momentum[:, :3] / np.linalg.norm(particles.momentum[:, :3], axis=1, keepdims=True)
    sine = np.hypot(direction[:, 0], direction[:, 1])
    # d0 grows along (py, -px, 0) / pt and dz along z; across the line an error of dz counts with the sine of theta.
    beam = np.array([0.0, 0.0, 1.0])
    across = np.column_stack([direction[:, 1] / sine, -direction[:, 0] / sine, np.zeros(len(sine))])
    upward = (beam - direction[:, 2:] * direction) / sine[:, None]
    return TrackLines(
        jet=owner[rows],
        decay=np.array([_decay(events, index) for index in source.tolist()], dtype=np.int64),
        momentum=direction * (particles.track_pt / sine)[:, None],
        point=vertex + (d0 - true_d0)[:, None] * across + (dz - true_dz)[:, None] * beam,
        weight=_outer(across / d0err[:, None]) + _outer(upward / (dzerr * sine)[:, None]),
        significance=np.abs(d0) / d0err,
    )


def _decay(events: Events, index: int) -> int:
    """Return the particle whose decay made this one; a decay close to a displaced one counts as that one."""
    vertex, mothers = events.vertex, events.mothers
    while np.linalg.norm(vertex[index]) > _BEAM:
        mother = int(mothers[index, 0])
        step = np.linalg.norm(vertex[index] - vertex[mother])
        if step > 0 and (step > MERGE or np.linalg.norm(vertex[mother]) < _BEAM):
            return mother
        index = mother
    return -1


def group_tracks(lines: TrackLines) -> Array:
    """Return the vertex candidate of each track, `[track]`, -1 for none.

    Candidates are the decays with at least two tracks in one jet and, for each jet, the two most significant tracks of
    the rest.
    """
    group = np.full(len(lines.jet), -1)
    displaced = np.flatnonzero(lines.decay >= 0)
    pairs = np.stack([lines.jet[displaced], lines.decay[displaced]])
    _, number, counts = np.unique(pairs, axis=1, return_inverse=True, return_counts=True)
    number = number.reshape(-1)
    shared = counts[number] > 1
    group[displaced[shared]] = number[shared]
    stray = np.flatnonzero((group < 0) & (lines.significance > STRAY_SIGNIFICANCE))
    stray = stray[np.lexsort((-lines.significance[stray], lines.jet[stray]))]
    jet = lines.jet[stray]
    first = np.searchsorted(jet, jet)  # jets 2, 2, 2, 5 -> 0, 0, 0, 3
    paired = (np.arange(len(stray)) - first < 2) & (np.searchsorted(jet, jet, side="right") - first > 1)
    group[stray[paired]] = len(counts) + jet[paired]
    return group


def fit_vertices(lines: TrackLines, group: Array) -> Vertices:
    """Return the point of least chi2 of each group of lines, `group` as int `[track]`.

    chi2 = sum over tracks of (x - a)^T W (x - a), with a point a and the weight W of each line. Its minimum and the
    covariance of the point are x = C sum(W a) and C = 1 / sum(W).
    """
    numbers, first, group = np.unique(group, return_index=True, return_inverse=True)
    size = len(numbers)
    # The tracker bounds the point, so that parallel lines have a vertex too.
    weight = np.tile(np.eye(3) / TRACKER_RADIUS**2, (size, 1, 1))
    np.add.at(weight, group, lines.weight)
    covariance = np.linalg.inv(weight)  # [vertex, 3, 3]
    pull = np.zeros((size, 3))
    np.add.at(pull, group, np.einsum("tij,tj->ti", lines.weight, lines.point))
    point = np.einsum("vij,vj->vi", covariance, pull)
    residual = point[group] - lines.point
    chi2 = np.bincount(group, np.einsum("ti,tij,tj->t", residual, lines.weight, residual), size)
    tracks = np.bincount(group, minlength=size)
    energy = np.sqrt((lines.momentum**2).sum(axis=1) + float(pdg.mass(np.array([_PION]))[0]) ** 2)
    momentum = np.zeros((size, 4))
    np.add.at(momentum, group, np.column_stack([lines.momentum, energy]))
    length = np.linalg.norm(point, axis=1)
    cosine = (momentum[:, :3] * point).sum(axis=1) / (length * np.linalg.norm(momentum[:, :3], axis=1))
    return Vertices(
        jet=lines.jet[first],
        momentum=momentum,
        tracks=tracks,
        chi2=chi2 / (2 * tracks - 3),
        dxy=_distance(point * [1, 1, 0], covariance),
        dlen=_distance(point, covariance),
        cosine=cosine,
    )


def _distance(point: Array, covariance: Array) -> Array:
    """Return the length of vectors and its significance, `[vertex, 2]`."""
    length = np.linalg.norm(point, axis=1)
    along = point / length[:, None]
    return np.column_stack([length, length / np.sqrt(np.einsum("vi,vij,vj->v", along, covariance, along))])


def _outer(vectors: Array) -> Array:
    """Return v v^T of each vector, `[track, 3, 3]`."""
    return vectors[:, :, None] * vectors[:, None, :]
