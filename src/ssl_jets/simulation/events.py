"""Generated events: all particles of several events, end to end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import awkward as ak
import numpy as np

from ssl_jets.arrays import Array


@dataclass(frozen=True)
class Events:
    """Event records of a generator, packed: particles of all events end to end.

    Attributes:
        offsets: first particle of each event, and the end, int64 `[event + 1]`.
        pid: PDG numbers, int `[particle]`.
        final: particles that nothing follows, bool `[particle]`.
        mothers: indices of the two mothers, int64 `[particle, 2]`; the system, at the beginning of the event, for none.
        daughters: indices of the first and last daughter, int64 `[particle, 2]`; -1 without daughters.
        momentum: px, py, pz, energy [GeV], float64 `[particle, 4]`.
        vertex: point of production x, y, z [mm], float64 `[particle, 3]`.
    """

    offsets: Array
    pid: Array
    final: Array
    mothers: Array
    daughters: Array
    momentum: Array
    vertex: Array

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def event(self) -> Array:
        """The event of each particle, int64 `[particle]`."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))


def from_pythia(records: Any) -> Events:
    """Return the events of `Pythia.nextBatch`, without those that failed, which are None."""
    particles = ak.drop_none(records, axis=0).prt
    counts = ak.to_numpy(ak.num(particles))
    offsets = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    flat = ak.flatten(particles)
    first = np.repeat(offsets[:-1], counts)
    begin, end = (ak.to_numpy(flat[name]).astype(np.int64) for name in ("daughter1", "daughter2"))
    end = np.maximum(begin, end)
    mothers = [ak.to_numpy(flat[name]).astype(np.int64) + first for name in ("mother1", "mother2")]
    vertex = ak.fill_none(flat.vProd, {"px": 0.0, "py": 0.0, "pz": 0.0, "e": 0.0})
    return Events(
        offsets=offsets,
        pid=ak.to_numpy(flat.id).astype(np.int64),
        final=ak.to_numpy(flat.status) > 0,
        mothers=np.stack(mothers, axis=1),
        daughters=np.stack([np.where(begin > 0, begin + first, -1), np.where(begin > 0, end + first, -1)], axis=1),
        momentum=np.stack([ak.to_numpy(flat.p[name]) for name in ("px", "py", "pz", "e")], axis=1),
        vertex=np.stack([ak.to_numpy(vertex[name]) for name in ("px", "py", "pz")], axis=1),
    )
