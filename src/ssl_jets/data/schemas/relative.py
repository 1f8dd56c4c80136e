"""Directions in the detector as distances from the axis of the jet, of its particles and of elements of collections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from ssl_jets.arrays import Array
from ssl_jets.data.rows import Rows
from ssl_jets.data.schemas.feature_columns import Column
from ssl_jets.data.schemas.formula import formula
from ssl_jets.data.schemas.schema import Axis

RelativeColumn = Callable[[Rows, Rows], Array]
"""Computation of a column from the branches of particles, or elements, and from those of the jets."""


def relative(name: Literal["deta", "dphi"], values: Column, axis: Axis) -> RelativeColumn:
    """Compile deta or dphi from the pseudorapidity or the azimuth of particles, or of elements."""
    return _deta(values, axis) if name == "deta" else _dphi(values, axis)


def _deta(eta: Column, axis: Axis) -> RelativeColumn:
    """Compile the distance in pseudorapidity from the jet axis, multiplied by the sign of the jet's pseudorapidity."""
    axis_eta = formula(axis.eta)

    def deta(rows: Rows, jets: Rows) -> Array:
        of_jet = axis_eta.of_jets(jets)
        side = np.where(of_jet < 0, -1.0, 1.0)
        distance: Array = (eta(rows) - rows.spread(of_jet)) * rows.spread(side)
        return distance

    return deta


def _dphi(phi: Column, axis: Axis) -> RelativeColumn:
    """Compile the distance in azimuth from the jet axis, in [-pi, pi]."""
    axis_phi = formula(axis.phi)

    def dphi(rows: Rows, jets: Rows) -> Array:
        turn = phi(rows) - rows.spread(axis_phi.of_jets(jets))
        wrapped: Array = turn - 2 * np.pi * np.round(turn / (2 * np.pi))
        return wrapped

    return dphi
