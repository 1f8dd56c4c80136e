"""Streams of batches of jets in memory, for the loop."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import torch

from ssl_jets.jets import Jets


class InOrder:
    """Batches of jets in the order they have."""

    def __init__(self, jets: Jets, batch_size: int) -> None:
        self.jets, self.batch_size, self.taken = jets, batch_size, 0
        self.jets_per_epoch, self.wait_seconds, self.skipped = len(jets), 0.0, Counter[str]()

    def __next__(self) -> Jets:
        index = (torch.arange(self.batch_size) + self.taken) % len(self.jets)
        self.taken += self.batch_size
        return self.jets.select(index)

    def state_dict(self) -> dict[str, int]:
        return {"taken": self.taken}

    def resume(self, states: Sequence[Mapping[str, int]]) -> None:
        self.taken = states[0]["taken"]


class BadAt(InOrder):
    """Batches of which some, by number from 1, have a jet that a reader would never let through."""

    def __init__(self, jets: Jets, batch_size: int, *bad: int) -> None:
        super().__init__(jets, batch_size)
        self.bad = bad

    def __next__(self) -> Jets:
        jets = super().__next__()
        if self.taken // self.batch_size in self.bad:
            jets.particles[0, jets.columns.index("pt")] = math.nan
        return jets
