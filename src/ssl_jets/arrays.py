"""Array type of annotations, and random rows of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
"""Array of numbers of any dtype."""


def some_rows(rows: Array | int, most: int, seed: int) -> Array:
    """Return at most `most` of the rows, or of the first `rows` rows, drawn at random, in order.

    Example:
        >>> some_rows(5, 10, seed=0).tolist()
        [0, 1, 2, 3, 4]
    """
    chosen: Array = np.sort(np.random.default_rng(seed).permutation(rows)[:most])
    return chosen
