"""Small files in the layout of the LHC Olympics: what pandas writes of a table of 2101 columns without names."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

PLACES = 700
Particles = npt.NDArray[np.float64]


def random_event(rng: np.random.Generator, jets: int, soft: int = 12) -> Particles:
    """Particles `[particle, (pt, eta, phi)]`, hardest first: `jets` bundles of 300 GeV and more, and soft ones."""
    bundles = [np.column_stack([rng.exponential(1, soft), rng.normal(0, 2, soft), rng.uniform(-np.pi, np.pi, soft)])]
    for number in range(jets):
        centre = np.array([rng.normal(0, 1), 2 * np.pi * number / jets + rng.normal(0, 0.1)])
        particles = int(rng.integers(3, 9))
        away = rng.normal(0, 0.2, (particles, 2)) + centre
        away[:, 1] = (away[:, 1] + np.pi) % (2 * np.pi) - np.pi
        bundles.append(np.column_stack([100 + rng.exponential(80, particles), away]))
    event = np.concatenate(bundles)
    return event[np.argsort(-event[:, 0])]


def write_lhco(path: Path, events: list[Particles], signal: npt.NDArray[np.float64] | None) -> Path:
    """The R&D layout, `format="fixed"`; without `signal` that of a black box, which lacks the last column."""
    table = np.zeros((len(events), 3 * PLACES + (signal is not None)))
    for row, event in zip(table, events):
        row[: event.size] = event.reshape(-1)
    if signal is not None:
        table[:, -1] = signal
    with h5py.File(path, "w") as file:
        group = file.create_group("df")
        group["axis0"] = group["block0_items"] = np.arange(table.shape[1])
        group["axis1"] = np.arange(len(events))
        group["block0_values"] = table
    return path
