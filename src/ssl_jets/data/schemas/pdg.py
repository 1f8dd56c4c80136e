"""PDG numbers of particles, as detectors and generators write them, to kind, charge and mass."""

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
    # CMS particle flow in the forward calorimeter; a reconstructed particle is never a quark.
    1: _Particle(_NEUTRAL, 0, 0.0),
    2: _Particle("photon", 0, 0.0),
}
"""Number of the particle (not the antiparticle) to its kind, charge and mass [GeV] (Review of Particle Physics): all
particles that live long enough to reach a detector."""

_NUMBERS = np.array(sorted(_KNOWN))
_OTHER = _Particle("other", 0, 0.0)

# Tables in the order of `_NUMBERS`, with "other" behind the last, and then NaN for a missing number.
_ROWS = [*(_KNOWN[number] for number in _NUMBERS.tolist()), _OTHER]
_KIND = np.array([*(KINDS.index(particle.kind) for particle in _ROWS), np.nan], dtype=np.float32)
_CHARGE = np.array([*(particle.charge for particle in _ROWS), np.nan], dtype=np.float32)
_MASS = np.array([*(particle.mass for particle in _ROWS), np.nan], dtype=np.float32)


def kind(number: Array) -> Array:
    """Return the index into `KINDS`, float32: "other" for a number that is not in the table, such as 0 or a neutrino.

    A missing number (NaN) has no kind, charge and mass: NaN.

    Example:
        >>> [KINDS[int(index)] for index in kind(np.array([-211, 22, 12]))]
        ['charged hadron', 'photon', 'other']
    """
    kinds: Array = _KIND[_table_rows(number)]
    return kinds


def charge(number: Array) -> Array:
    """Return the charge [e], float32: opposite for antiparticles, 0 for a number that is not in the table."""
    charges: Array = _CHARGE[_table_rows(number)] * np.sign(number).astype(np.float32)
    return charges


def mass(number: Array) -> Array:
    """Return the mass [GeV], float32: 0 for a number that is not in the table."""
    masses: Array = _MASS[_table_rows(number)]
    return masses


def _table_rows(number: Array) -> Array:
    """Return the rows of the tables for PDG numbers: the last but one for a number that is not in them."""
    size = np.abs(number)
    row = np.searchsorted(_NUMBERS, size) % len(_NUMBERS)
    rows: Array = np.where(_NUMBERS[row] == size, row, len(_NUMBERS)) + np.isnan(size)
    return rows
