"""Endless shuffled stream of jets in memory, for few labels: no file is read again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

from ssl_jets.jets import Jets


class MemoryStream:
    """Endless batches of `jets`, shuffled anew in each epoch, with the interface of `TrainStream`.

    Every rank holds all jets and takes every `world`-th of the common order, so an epoch has each jet once (and up to
    `world - 1` jets twice, if their number does not divide by `world`).
    """

    def __init__(self, jets: Jets, *, batch_size: int, seed: int, rank: int = 0, world: int = 1) -> None:
        self.jets = jets
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world = world
        self.jets_per_epoch = len(jets)
        self.wait_seconds = 0.0
        self.skipped: Counter[str] = Counter()
        self._order = lru_cache(maxsize=2)(self._order_of)  # a batch has jets of two epochs at most, mostly
        self._taken = 0
        self._before = 0  # jets that all ranks together took before a resume with another number of ranks

    def __next__(self) -> Jets:
        """Return the next batch."""
        return self.take(self.batch_size)

    def take(self, jets: int) -> Jets:
        """Return exactly this number of jets, the next ones of the stream."""
        # 5 jets, rank 1 of 2, 2 jets taken: its next numbers are 5, 7 and 9, rows 0, 2 and 4 of epoch 1.
        numbers = self._taken + np.arange(jets)
        self._taken += jets
        epochs, rows = np.divmod(self._before + numbers * self.world + self.rank, len(self.jets))
        index = np.empty_like(rows)
        for epoch in np.unique(epochs):
            index[epochs == epoch] = self._order(int(epoch))[rows[epochs == epoch]]
        return self.jets.select(torch.from_numpy(index))

    def _order_of(self, epoch: int) -> npt.NDArray[np.int64]:
        """Return the order of the jets in an epoch, the same on all ranks."""
        return np.random.default_rng([self.seed, epoch]).permutation(len(self.jets))

    def state_dict(self) -> dict[str, int]:
        """Return the sampler state."""
        return {"taken": self._taken, "before": self._before}

    def resume(self, states: Sequence[Mapping[str, int]]) -> None:
        """Resume from the states of all ranks of a run, which may have had another number of ranks."""
        self._taken, self._before = states[0]["taken"], states[0]["before"]
        if len(states) != self.world:
            self._before += self._taken * len(states)
            self._taken = 0

    def close(self) -> None:
        """Do nothing: no file is open. Part of the interface of `TrainStream`."""
