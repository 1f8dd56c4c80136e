"""Truth matching of jets to decays of heavy particles, with the conditions and numbers of JetClass (arXiv:2202.03772).

A jet matches a decay if all quarks, gluons and charged leptons of the decay lie within 0.8 of its axis in (eta, phi).
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np

from ssl_jets.arrays import Array
from ssl_jets.simulation.events import Events

RADIUS = 0.8


class Match(IntEnum):
    """Decay that a jet contains; the values of the branch `aux_truth_match`."""

    NONE = 0
    TOP_BCQ = 11
    TOP_BQQ = 12
    TOP_BC = 13
    TOP_BQ = 14
    TOP_BEN = 15
    TOP_BMN = 16
    W_CQ = 21
    W_QQ = 22
    Z_BB = 31
    Z_CC = 32
    Z_QQ = 33
    H_BB = 41
    H_CC = 42
    H_QQ = 43
    H_GG = 44
    H_4Q = 45
    H_2Q1L = 46
    QCD = 50


class Truth(NamedTuple):
    """Truth match of a jet, and the particle that decayed (-1 for QCD)."""

    match: Match
    particle: int


_BOTTOM, _CHARM, _TOP, _GLUON, _Z, _W, _HIGGS = 5, 4, 6, 21, 23, 24, 25
_LEPTONS = (11, 13)
_HEAVY = (_TOP, _HIGGS, _W, _Z)
"""Particles whose decays are matched, in the order of the search."""


class DecayMatcher:
    """Search for the decay that a jet contains."""

    def __init__(self, events: Events) -> None:
        self.pid, self.daughters_of = events.pid, events.daughters
        px, py, pz = events.momentum[:, :3].T
        with np.errstate(divide="ignore", invalid="ignore"):
            self.pt, self.phi = np.hypot(px, py), np.arctan2(py, px)
            self.eta = np.arcsinh(pz / self.pt)
        self.copies = _copies(events)
        heavy = np.flatnonzero(np.isin(np.abs(events.pid), _HEAVY) & (events.daughters[:, 0] >= 0))
        event = np.searchsorted(events.offsets, heavy, side="right") - 1
        self.decays: list[list[int]] = [[] for _ in range(len(events))]
        inside: set[int] = set()
        for index, number in zip(heavy.tolist(), event.tolist()):
            if index not in self.copies:
                self.decays[number].append(index)
                if abs(self.pid[index]) in (_TOP, _HIGGS):  # their bosons are matched with them
                    inside.update(self._last_copy(child) for child in self._daughters(index))
        for number, found in enumerate(self.decays):
            order = sorted(found, key=lambda index: (_HEAVY.index(abs(self.pid[index])), index))
            self.decays[number] = [index for index in order if index not in inside]

    def __call__(self, event: int, eta: float, phi: float) -> Truth:
        """Return the match of a jet with this axis."""
        for index in self.decays[event]:
            match = self._match(index, eta, phi)
            if match.match is not Match.NONE:
                return match
        return Truth(Match.QCD, -1)

    def _match(self, index: int, eta: float, phi: float) -> Truth:
        kind = abs(self.pid[index])
        if kind == _TOP:
            return self._top(index, eta, phi)
        if kind == _HIGGS:
            return Truth(self._higgs(index, eta, phi), index)
        return Truth(self._boson(index, eta, phi), index)

    def _top(self, top: int, eta: float, phi: float) -> Truth:
        """Match a top quark: all of it, b and one quark, or the W boson alone."""
        children = self._daughters(top)
        bosons = [self._last_copy(child) for child in children if abs(self.pid[child]) == _W]
        bottoms = self._quarks(children)
        if not (bosons and bottoms):  # radiation whose copy the record hides
            return Truth(Match.NONE, -1)
        boson, bottom = bosons[0], bottoms[0]
        decay = self._daughters(boson)
        quarks, leptons = self._quarks(decay), self._leptons(decay)
        b_inside = self._distance(bottom, eta, phi) < RADIUS
        if quarks and not b_inside:
            return Truth(self._boson(boson, eta, phi), boson)
        if quarks:
            inside = [abs(self.pid[quark]) for quark in quarks if self._distance(quark, eta, phi) < RADIUS]
            charm = any(quark >= _CHARM for quark in inside)
            if len(inside) == 2:
                return Truth(Match.TOP_BCQ if charm else Match.TOP_BQQ, top)
            if len(inside) == 1:
                return Truth(Match.TOP_BC if charm else Match.TOP_BQ, top)
        elif b_inside and leptons and self._distance(leptons[0], eta, phi) < RADIUS:
            return Truth(Match.TOP_BEN if abs(self.pid[leptons[0]]) == 11 else Match.TOP_BMN, top)
        return Truth(Match.NONE, -1)

    def _boson(self, boson: int, eta: float, phi: float) -> Match:
        """Match W or Z to two quarks."""
        quarks = self._quarks(self._daughters(boson))
        if len(quarks) < 2 or not self._all_inside(quarks, eta, phi):
            return Match.NONE
        flavors = {abs(self.pid[quark]) for quark in quarks}
        if abs(self.pid[boson]) == _W:
            return Match.W_CQ if max(flavors) >= _CHARM else Match.W_QQ
        return {frozenset({_BOTTOM}): Match.Z_BB, frozenset({_CHARM}): Match.Z_CC}.get(frozenset(flavors), Match.Z_QQ)

    def _higgs(self, higgs: int, eta: float, phi: float) -> Match:
        """Match a Higgs boson to two partons, four quarks, or two quarks and a lepton."""
        children = self._daughters(higgs)
        bosons = [self._last_copy(child) for child in children if abs(self.pid[child]) in (_W, _Z)]
        if bosons:
            decays = [child for boson in bosons for child in self._daughters(boson)]
            quarks = [one for one in self._quarks(decays) if self._distance(one, eta, phi) < RADIUS]
            leptons = [one for one in self._leptons(decays) if self._distance(one, eta, phi) < RADIUS]
            if len(quarks) >= 4:
                return Match.H_4Q
            return Match.H_2Q1L if (len(quarks), len(leptons)) == (2, 1) else Match.NONE
        partons = [child for child in children if abs(self.pid[child]) in (*range(1, 6), _GLUON)]
        if len(partons) < 2 or not self._all_inside(partons, eta, phi):
            return Match.NONE
        kinds = frozenset(int(abs(self.pid[parton])) for parton in partons)
        pairs = {frozenset({_BOTTOM}): Match.H_BB, frozenset({_CHARM}): Match.H_CC, frozenset({_GLUON}): Match.H_GG}
        return pairs.get(kinds, Match.H_QQ)

    def _daughters(self, index: int) -> list[int]:
        first, last = self.daughters_of[index].tolist()
        return [] if first < 0 else list(range(first, last + 1))

    def _last_copy(self, index: int) -> int:
        """Follow a particle through recoils and radiation to its decay."""
        while index in self.copies:
            index = self.copies[index]
        return index

    def _quarks(self, particles: list[int]) -> list[int]:
        return [index for index in particles if 1 <= abs(self.pid[index]) <= _BOTTOM]

    def _leptons(self, particles: list[int]) -> list[int]:
        """Return electrons and muons, after their radiation."""
        return [self._last_copy(index) for index in particles if abs(self.pid[index]) in _LEPTONS]

    def _all_inside(self, particles: list[int], eta: float, phi: float) -> bool:
        return all(self._distance(index, eta, phi) < RADIUS for index in particles)

    def _distance(self, index: int, eta: float, phi: float) -> float:
        return float(np.hypot(self.eta[index] - eta, wrapped(self.phi[index] - phi)))


def _copies(events: Events) -> dict[int, int]:
    """Return the copy of each heavy particle and lepton after a recoil or radiation.

    A copy has its original as a mother. Vincia's records do not always have it among the daughters of the original.
    """
    copied = np.flatnonzero(np.isin(np.abs(events.pid), (*_HEAVY, *_LEPTONS)))
    copies: dict[int, int] = {}
    for mother in events.mothers[copied].T:
        same = (events.pid[mother] == events.pid[copied]) & (mother < copied)
        copies.update(zip(mother[same].tolist(), copied[same].tolist()))
    return copies


def wrapped(angle: Array) -> Array:
    """Return angles in [-pi, pi).

    Example:
        >>> float(wrapped(np.array(2 * np.pi + 0.5)).round(6))
        0.5
    """
    result: Array = (angle + np.pi) % (2 * np.pi) - np.pi
    return result
