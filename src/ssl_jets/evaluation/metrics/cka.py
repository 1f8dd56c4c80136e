"""Similarity of the z of two models: linear centred kernel alignment.

    CKA(X, Y) = ||Y^T X||_F^2 / (||X^T X||_F ||Y^T Y||_F)      X, Y centred, `[jet, D]`

(Kornblith et al., arXiv:1905.00414). 1 where one is a rotation of the other times a number, 0 where no direction of the
one goes with any of the other. It is ruled by the directions in which z varies most.
"""

from __future__ import annotations

import numpy as np

from ssl_jets.arrays import Array
from ssl_jets.evaluation.metrics.bootstrap import Bootstrap, Estimate

RESAMPLES = 50


def cka(first: Array, second: Array, *, weights: Array | None = None, seed: int = 0) -> Estimate:
    """Return CKA of two z of the same jets, float `[jet, D]` each (D may differ), with its bootstrap interval.

    n jets give independent z a CKA of about D / n instead of 0, so the value is corrected for this bias.
    """
    first, second = (_scaled(z) for z in (first, second))
    rows = [
        _cka(first, second, row)
        for block in Bootstrap(len(first), RESAMPLES, seed, weights).blocks()
        for row in block.astype(np.float32)
    ]
    return Estimate.of_rows(np.array(rows), biased=True)


def _cka(first: Array, second: Array, weights: Array) -> float:
    root = np.sqrt(weights)[:, None]
    x, y = (root * (z - weights @ z / weights.sum()) for z in (first, second))
    own = float(np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))
    return float(np.linalg.norm(y.T @ x) ** 2 / own) if own > 0 else float("nan")


def _scaled(z: Array) -> Array:
    """Centre z and scale it to norm one, so that float32 suffices."""
    centred = z - z.mean(axis=0, dtype=np.float64)
    size = np.sqrt((centred**2).sum() / max(len(z), 1))
    scaled: Array = (centred / size if size > 0 else centred).astype(np.float32)
    return scaled
