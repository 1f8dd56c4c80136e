"""Tracks of charged particles in a solenoid: helices, efficiency, resolution of momenta and impact parameters.

Efficiencies and resolutions of momenta are taken from the Delphes card of JetClass (github.com/jet-universe/
jetclass_generation), after arXiv:1405.6569 and arXiv:1502.02701. Its table of impact parameter resolutions is replaced
by a smooth function, a constant and a term c pt^-p in quadrature.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ssl_jets.arrays import Array
from ssl_jets.simulation.truth import wrapped

FIELD = 3.8
"""Magnetic field along z [T]."""
RADIUS_OF_1_GEV = 1000 / (0.299792458 * FIELD)
"""Radius of the circle of a track with pt = 1 GeV [mm]: 878."""
TRACKER_RADIUS, TRACKER_LENGTH = 1290.0, 3000.0
"""Radius and half length of the volume with the field, in front of the calorimeters [mm]."""
TRACK_ETA = 2.5
MIN_TRACK_PT = 0.1

_ETA_OF_EFFICIENCY = np.array([1.5])
_EFFICIENCY = {  # by species, [eta bin, pt bin] with bins 0.1 < pt <= 1, 1 < pt <= 100, pt > 100 GeV
    "hadron": np.array([[0.70, 0.95, 0.95], [0.60, 0.85, 0.85]]),
    "electron": np.array([[0.73, 0.95, 0.99], [0.50, 0.83, 0.90]]),
    "muon": np.array([[0.75, 0.99, 0.99], [0.70, 0.98, 0.98]]),
}
_ETA_OF_RESOLUTION = np.array([0.5, 1.5])
_RESOLUTION = {  # sigma(pt) / pt = sqrt(a^2 + (b pt)^2), rows (a, b) by eta bin
    "hadron": np.array([[0.06, 1.3e-3], [0.10, 1.7e-3], [0.25, 3.1e-3]]),
    "electron": np.array([[0.03, 1.3e-3], [0.05, 1.7e-3], [0.15, 3.1e-3]]),
    "muon": np.array([[0.01, 1.0e-4], [0.015, 1.5e-4], [0.025, 3.5e-4]]),
}
_ETA_OF_IMPACT = np.array([0.9, 1.4])
_D0_ERROR = np.array([[0.0107, 0.0793, 0.736], [0.0097, 0.0972, 0.773], [0.0140, 0.1570, 0.868]])
"""d0err = sqrt(a^2 + (c pt^-p)^2) [mm], rows (a, c, p) by eta bin."""
_DZ_ERROR = np.array([[0.0306, 0.1052, 0.698], [0.0343, 0.1883, 0.754], [0.0790, 0.6331, 0.850]])


@dataclass(frozen=True)
class Helices:
    """Circles of charged particles in the transverse plane.

    Args:
        momentum: px, py, pz [GeV], `[particle, 3]`.
        vertex: point of production [mm], `[particle, 3]`.
        charge: [e], `[particle]`.
    """

    momentum: Array
    vertex: Array
    charge: Array

    @property
    def radius(self) -> Array:
        return RADIUS_OF_1_GEV * np.hypot(self.momentum[:, 0], self.momentum[:, 1])

    @property
    def phi(self) -> Array:
        return np.arctan2(self.momentum[:, 1], self.momentum[:, 0])

    @property
    def slope(self) -> Array:
        """Longitudinal over transverse momentum."""
        return self.momentum[:, 2] / np.hypot(self.momentum[:, 0], self.momentum[:, 1])

    @property
    def center(self) -> tuple[Array, Array]:
        """Center of the circle; positive particles turn clockwise, seen from +z."""
        turn = self.charge * self.radius
        return self.vertex[:, 0] + turn * np.sin(self.phi), self.vertex[:, 1] - turn * np.cos(self.phi)

    def impact(self) -> tuple[Array, Array]:
        """Return d0 and dz [mm] at the closest approach to the beam; d0 = (x py - y px) / pt there."""
        x, y = self.center
        distance = np.hypot(x, y)
        d0 = self.charge * (distance - self.radius)
        phi = np.arctan2(self.charge * x, -self.charge * y)  # direction at the closest approach
        arc = self.radius * wrapped(self.charge * (phi - self.phi))  # from there to the vertex
        return d0, self.vertex[:, 2] - arc * self.slope

    def at_calorimeter(self) -> tuple[Array, Array]:
        """Return eta and phi of the point at which each particle leaves the field."""
        x, y = self.center
        radius, distance = self.radius, np.hypot(x, y)
        # r^2 = D^2 + R^2 + 2 R D sin(u + t) after the turn t, with D the distance of the center.
        sine = (TRACKER_RADIUS**2 - distance**2 - radius**2) / (2 * radius * distance)
        start = self.charge * (np.arctan2(y, x) - self.phi)
        barrel = (np.arcsin(np.clip(sine, -1, 1)) - start) % (2 * np.pi)
        barrel = np.where(sine < 1, barrel, np.inf)
        with np.errstate(divide="ignore", invalid="ignore"):
            away = np.sign(self.slope) * TRACKER_LENGTH - self.vertex[:, 2]
            endcap = np.where(self.slope == 0, np.inf, away / (self.slope * radius))
        turn = np.minimum(np.minimum(barrel, endcap), 1e6)
        phi = self.phi - self.charge * turn
        at_x, at_y = x - self.charge * radius * np.sin(phi), y + self.charge * radius * np.cos(phi)
        at_z = self.vertex[:, 2] + self.slope * radius * turn
        return np.arcsinh(at_z / np.hypot(at_x, at_y)), np.arctan2(at_y, at_x)


def straight_to_calorimeter(momentum: Array, vertex: Array) -> tuple[Array, Array]:
    """Return eta and phi of the point at which each neutral particle leaves the tracker."""
    px, py, pz = momentum.T
    pt, (x, y, z) = np.hypot(px, py), vertex.T
    along = (x * px + y * py) / pt
    length = np.sqrt(np.maximum(along**2 + TRACKER_RADIUS**2 - x**2 - y**2, 0)) - along
    with np.errstate(divide="ignore", invalid="ignore"):
        endcap = (np.sign(pz) * TRACKER_LENGTH - z) * pt / pz
    length = np.minimum(length, np.where(pz == 0, np.inf, endcap))
    at_x, at_y, at_z = x + length * px / pt, y + length * py / pt, z + length * pz / pt
    return np.arcsinh(at_z / np.maximum(np.hypot(at_x, at_y), 1e-9)), np.arctan2(at_y, at_x)


def efficiency(species: str, pt: Array, eta: Array) -> Array:
    """Return the probability that a track is found, `[particle]`; 0 outside |eta| < 2.5 and below 0.1 GeV."""
    bins = _EFFICIENCY[species][np.digitize(np.abs(eta), _ETA_OF_EFFICIENCY), np.digitize(pt, [1.0, 100.0])]
    found: Array = np.where((np.abs(eta) <= TRACK_ETA) & (pt > MIN_TRACK_PT), bins, 0.0)
    return found


def resolution(species: str, pt: Array, eta: Array) -> Array:
    """Return sigma(pt) / pt of tracks, `[particle]`."""
    constant, slope = _RESOLUTION[species][np.digitize(np.abs(eta), _ETA_OF_RESOLUTION)].T
    sigma: Array = np.hypot(constant, slope * pt)
    return sigma


def impact_errors(pt: Array, eta: Array) -> tuple[Array, Array]:
    """Return d0err and dzerr [mm], `[particle]`."""
    bins = np.digitize(np.abs(eta), _ETA_OF_IMPACT)
    (a, c, p), (b, d, q) = _D0_ERROR[bins].T, _DZ_ERROR[bins].T
    return np.hypot(a, c * pt**-p), np.hypot(b, d * pt**-q)
