"""PDG numbers of particles to kind, charge and mass: what a detector or a generator calls the constituents of a jet."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ssl_jets.arrays import Array
from ssl_jets.jets import KINDS


class _Particle(NamedTuple):
    kind: str
    charge: int
    mass: float


_CHARGED, _NEUTRAL = "charged hadron", "neutral hadron"


_KNOWN = {
    11: _Particle("electron", -1, 0.000511),
    13: _Particle("muon", -1, 0.105658),
    22: _Particle("photon", 0, 0.0),
    111: _Particle(_NEUTRAL, 0, 0.134977),
    130: _Particle(_NEUTRAL, 0, 0.497611),
    211: _Particle(_CHARGED, 1, 0.139570),
    310: _Particle(_NEUTRAL, 0, 0.497611),
    321: _Particle(_CHARGED, 1, 0.493677),
    2112: _Particle(_NEUTRAL, 0, 0.939565),
    2212: _Particle(_CHARGED, 1, 0.938272),
    3112: _Particle(_CHARGED, -1, 1.197449),
    3122: _Particle(_NEUTRAL, 0, 1.115683),
    3212: _Particle(_NEUTRAL, 0, 1.192642),
    3222: _Particle(_CHARGED, 1, 1.18937),
    3312: _Particle(_CHARGED, -1, 1.32171),
    3322: _Particle(_NEUTRAL, 0, 1.31486),
    3334: _Particle(_CHARGED, -1, 1.67245),
    # CMS particle flow in the forward calorimeter, where quarks cannot be meant.
    1: _Particle(_NEUTRAL, 0, 0.0),
    2: _Particle("photon", 0, 0.0),
}
"""Number of the particle (not the antiparticle) to what it is: all that live long enough to reach a detector. Masses in
GeV (Review of Particle Physics)."""


_NUMBERS = np.array(sorted(_KNOWN))


_OTHER = _Particle("other", 0, 0.0)


_FOUND = [*(_KNOWN[number] for number in _NUMBERS.tolist()), _OTHER]


_KIND = np.array([KINDS.index(particle.kind) for particle in _FOUND], dtype=np.float32)


_CHARGE = np.array([particle.charge for particle in _FOUND], dtype=np.float32)


_MASS = np.array([particle.mass for particle in _FOUND], dtype=np.float32)


def kind(number: Array) -> Array:
    """Index into `KINDS`, float32; "other" for a number that is not in the table, such as 0 or a neutrino."""
    found: Array = _KIND[_places(number)]
    return found


def charge(number: Array) -> Array:
    """Charge in e, float32; antiparticles have the opposite one, and numbers that are not in the table 0."""
    found: Array = _CHARGE[_places(number)] * np.sign(number).astype(np.float32)
    return found


def mass(number: Array) -> Array:
    """Mass in GeV, float32; 0 for a number that is not in the table."""
    found: Array = _MASS[_places(number)]
    return found


def _places(number: Array) -> Array:
    """Place in the tables; the last one for what is not in them."""
    size = np.abs(np.asarray(number).astype(np.int64))
    place = np.searchsorted(_NUMBERS, size)
    found: Array = np.where(_NUMBERS[place % len(_NUMBERS)] == size, place % len(_NUMBERS), len(_NUMBERS))
    return found
