"""Calorimeters with towers, and particle flow: neutral particles are energies in excess of the tracks.

The cells, resolutions and thresholds are taken from the Delphes card of JetClass, and the particle flow is the one of
Delphes (arXiv:1307.6346): a tower whose energy exceeds its tracks significantly gives a neutral particle; in any other
tower the tracks are scaled to the energy of the tower. Delphes would average the energies of tower and tracks, but the
card sets the resolution of tracks to 0, which Delphes takes for unknown: only the tower counts. So a track whose tower
is below threshold is lost, and soft tracks are rare in JetClass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ssl_jets.arrays import Array

_ECAL_CELL = 0.0174
_HCAL_ETA = np.array(
    [*(np.arange(20) * 0.087), 1.74, 1.83, 1.93, 2.043, 2.172, 2.322, 2.5, 2.65, 2.868, 2.95]  # 0 to 1.653, then wider
)
_HCAL_FINE = 19
"""Rings of the barrel, with cells of 5 degrees; the others have 10 degrees."""
MAX_ETA = 2.95
"""Particles beyond are not seen; jets reach to |eta| = 2.8."""
_NO_ENERGY = 1e-9


@dataclass(frozen=True)
class Cells:
    """Edges of cells, `[particle]`, and their numbers, which are unique within an event."""

    number: Array
    eta: tuple[Array, Array]
    phi: tuple[Array, Array]

    def __getitem__(self, rows: Array) -> Cells:
        return Cells(self.number[rows], _rows(self.eta, rows), _rows(self.phi, rows))


@dataclass(frozen=True)
class Calorimeter:
    """One calorimeter.

    Attributes:
        cells: function of eta and phi to cells.
        sigma: function of eta and energy to the resolution [GeV].
        min_energy: least energy of a tower and of a neutral particle [GeV].
        min_significance: the same in units of the resolution.
    """

    cells: Callable[[Array, Array], Cells]
    sigma: Callable[[Array, Array], Array]
    min_energy: float
    min_significance: float


@dataclass(frozen=True)
class Deposits:
    """Energies [GeV] at the face of a calorimeter, with event and direction, `[deposit]`."""

    event: Array
    energy: Array
    eta: Array
    phi: Array

    def __getitem__(self, rows: Array) -> Deposits:
        return Deposits(self.event[rows], self.energy[rows], self.eta[rows], self.phi[rows])


def ecal_cells(eta: Array, phi: Array) -> Cells:
    """Return the cells of the electromagnetic calorimeter: 0.0174 in eta, 1 degree in phi."""
    ring = np.floor(eta / _ECAL_CELL).astype(np.int64)
    width = np.pi / 180
    sector = np.floor(phi / width).astype(np.int64) % 360
    number = (ring + 512) * 360 + sector
    return Cells(number, (ring * _ECAL_CELL, (ring + 1) * _ECAL_CELL), (sector * width, (sector + 1) * width))


def hcal_cells(eta: Array, phi: Array) -> Cells:
    """Return the cells of the hadronic calorimeter: 0.087 in eta and 5 degrees in phi in the barrel."""
    ring = np.clip(np.searchsorted(_HCAL_ETA, np.abs(eta), side="right") - 1, 0, len(_HCAL_ETA) - 2)
    width = np.where(ring < _HCAL_FINE, np.pi / 36, np.pi / 18)
    sector = np.floor((phi % (2 * np.pi)) / width).astype(np.int64)
    side = eta >= 0
    low, high = _HCAL_ETA[ring], _HCAL_ETA[ring + 1]
    edges = np.where(side, low, -high), np.where(side, high, -low)
    return Cells((2 * ring + side) * 128 + sector, edges, (sector * width, (sector + 1) * width))


def ecal_sigma(eta: Array, energy: Array) -> Array:
    """Return the resolution of the electromagnetic calorimeter [GeV] (arXiv:1306.2016, 1502.02701)."""
    size = np.abs(eta)
    shape = np.where(size <= 1.5, 1 + 0.64 * eta**2, 2.16 + 5.6 * (size - 2) ** 2)
    inner = shape * np.sqrt((0.008 * energy) ** 2 + 0.11**2 * energy + 0.4**2)
    sigma: Array = np.where(size <= 2.5, inner, np.sqrt((0.107 * energy) ** 2 + 2.08**2 * energy))
    return sigma


def hcal_sigma(eta: Array, energy: Array) -> Array:
    """Return the resolution of the hadronic calorimeter [GeV]."""
    sigma: Array = np.sqrt((0.05 * energy) ** 2 + 1.5**2 * energy) + 0 * eta
    return sigma


ECAL = Calorimeter(ecal_cells, ecal_sigma, 0.5, 2.0)
HCAL = Calorimeter(hcal_cells, hcal_sigma, 1.0, 1.0)


def particle_flow(
    calorimeter: Calorimeter,
    deposits: Deposits,
    tracks: Deposits,
    rng: np.random.Generator,
    *,
    scale: float = 1.0,
    smear: float = 1.0,
) -> tuple[Deposits, Array]:
    """Measure towers, and return the neutral particles and the factor of each track's momentum.

    Args:
        calorimeter: cells and resolutions.
        deposits: all particles that leave energy here, `[deposit]`.
        tracks: the tracks among them, with measured energies, `[track]`.
        rng: random numbers.
        scale: factor of all measured energies.
        smear: factor of the resolution.
    """
    cells = calorimeter.cells(np.concatenate([deposits.eta, tracks.eta]), np.concatenate([deposits.phi, tracks.phi]))
    event = np.concatenate([deposits.event, tracks.event])
    _, first, tower = np.unique(event * 2**20 + cells.number, return_index=True, return_inverse=True)
    hit, of_track = tower[: len(deposits.event)], tower[len(deposits.event) :]
    cells, event, size = cells[first], event[first], len(first)
    center = (cells.eta[0] + cells.eta[1]) / 2
    true = np.bincount(hit, deposits.energy, size)
    energy = scale * log_normal(true, smear * calorimeter.sigma(center, true), rng)
    sigma = calorimeter.sigma(center, energy)
    energy = np.where(_passes(calorimeter, energy, sigma), energy, 0.0)
    charged = np.bincount(of_track, tracks.energy, size)
    excess = np.maximum(energy - charged, 0.0)
    neutral = _passes(calorimeter, excess, sigma)
    eta, phi = (low + (high - low) * rng.random(size) for low, high in (cells.eta, cells.phi))
    factor = np.where(neutral, 1.0, energy / np.maximum(charged, _NO_ENERGY))
    return Deposits(event[neutral], excess[neutral], eta[neutral], phi[neutral]), factor[of_track]


def _passes(calorimeter: Calorimeter, energy: Array, sigma: Array) -> Array:
    passes: Array = (energy > calorimeter.min_energy) & (energy > calorimeter.min_significance * sigma)
    return passes


def log_normal(mean: Array, sigma: Array, rng: np.random.Generator) -> Array:
    """Return numbers of a log-normal distribution with this mean and standard deviation; 0 for a mean of 0."""
    noise = rng.standard_normal(len(mean))
    with np.errstate(divide="ignore", invalid="ignore"):
        width = np.sqrt(np.log1p((sigma / mean) ** 2))
        values: Array = np.where(mean > 0, np.exp(np.log(mean) - width**2 / 2 + width * noise), 0.0)
    return values


def _rows(pair: tuple[Array, Array], rows: Array) -> tuple[Array, Array]:
    return pair[0][rows], pair[1][rows]
