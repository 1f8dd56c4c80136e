"""A smaller sample of the same mixture, for looks that do not need every jet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ssl_jets.data.files import Part, count

_SHORTEST = 50
"""A stretch is not shorter than this, since each costs an opening of its file."""


def thin(parts: Sequence[Part], jets: int, seed: int) -> list[Part]:
    """`jets` entries of `parts`, one stretch of each, seeded.

    Each part gives in proportion to its size; where there are more parts than stretches, a random choice of them gives.
    The stretches come in the order of `parts`, and two seeds agree on nothing but the mixture.
    """
    total = count(parts)
    if jets >= total:
        return list(parts)
    rng = np.random.default_rng(seed)
    # Cumulative rounding: the stretches add up to `jets` to the last one.
    edges = np.rint(np.cumsum([0, *(part.entries for part in parts)]) * (jets / total)).astype(int)
    shares = np.diff(edges)
    if jets < _SHORTEST * len(parts):
        entries = np.array([part.entries for part in parts])
        order = rng.choice(len(parts), size=int(np.count_nonzero(entries)), replace=False, p=entries / total)
        given = np.minimum(-(-jets // max(1, jets // _SHORTEST)), entries[order])
        # As many parts as it takes, the last of which gives what is missing.
        given = np.diff(np.minimum(np.cumsum(given), jets), prepend=0)
        if given.sum() == jets:
            shares = np.zeros(len(parts), dtype=int)
            shares[order] = given
    thinned = []
    for part, share in zip(parts, shares.tolist()):
        if share:
            start = part.start + int(rng.integers(part.entries - share + 1))
            thinned.append(Part(part.file, start, start + share))
    return thinned
