"""Jets that fit in memory, as an endless shuffled stream: for few labels, where reading files again would be waste."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from ssl_jets.jets import Jets


class MemoryStream:
    """Endless batches of `jets`, shuffled anew in each epoch; the interface of `TrainStream`.

    Every rank holds all jets and takes every `world`-th of the common order, so an epoch has each jet once (and up to
    `world - 1` jets twice, where their number does not divide).

    Args:
        jets: the jets, about 2 kB each.
        batch_size: jets of a batch; a batch may straddle epochs.
        seed: seed of the order.
        rank: number of this process.
        world: number of processes.
    """

    def __init__(self, jets: Jets, *, batch_size: int, seed: int, rank: int = 0, world: int = 1) -> None:
        self.jets, self.batch_size, self.seed, self.rank, self.world = jets, batch_size, seed, rank, world
        self.jets_per_epoch = len(jets)
        self.wait_seconds = 0.0
        self.skipped: Counter[str] = Counter()
        self._taken = 0
        self._before = 0  # jets that another number of ranks took, all together

    def __next__(self) -> Jets:
        """The next batch."""
        return self.take(self.batch_size)

    def take(self, jets: int) -> Jets:
        """The next jets, of exactly this number."""
        places = self._taken + np.arange(jets)
        self._taken += jets
        epochs, rows = np.divmod(self._before + places * self.world + self.rank, len(self.jets))
        index = np.empty_like(rows)
        for epoch in np.unique(epochs):
            order = np.random.default_rng([self.seed, int(epoch)]).permutation(len(self.jets))
            index[epochs == epoch] = order[rows[epochs == epoch]]
        return self.jets.select(torch.from_numpy(index))

    def state_dict(self) -> dict[str, int]:
        """Where the stream stands."""
        return {"taken": self._taken, "before": self._before}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go to where `state` was taken."""
        self._taken, self._before = state["taken"], state["before"]

    def resume(self, states: Sequence[Mapping[str, int]]) -> None:
        """Go on from the states of all ranks of a run, of which there may have been another number."""
        self.load_state_dict(states[0])
        if len(states) != self.world:
            self._before += self._taken * len(states)
            self._taken = 0

    def close(self) -> None:
        """Nothing is open; for the interface of `TrainStream`."""
