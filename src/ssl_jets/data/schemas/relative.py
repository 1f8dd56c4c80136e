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
    """Compile deta or dphi from the pseudorapidity or the azimuth of particles, or of elements.

    deta has the sign of the jet's pseudorapidity; dphi is in [-pi, pi].
    """
    of_jets = formula(axis.eta if name == "deta" else axis.phi).of_jets

    def column(rows: Rows, jets: Rows) -> Array:
        center = of_jets(jets)
        distance: Array = values(rows) - rows.spread(center)
        if name == "dphi":
            return distance - 2 * np.pi * np.round(distance / (2 * np.pi))
        return distance * rows.spread(np.where(center < 0, -1.0, 1.0))

    return column
