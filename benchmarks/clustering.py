"""How fast jets of LHC Olympics events are made: events per CPU second, clustering and all other reading.

    python benchmarks/clustering.py [--events 2000] [--particles 280] [--rounds 3]

The events are made up: the number of particles is that of the R&D data set on average, their momenta are not.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=2000)
    parser.add_argument("--particles", type=int, default=280)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "events.h5", args.events, args.particles)
        rates = [rate(path) for _ in range(args.rounds)]
    print(f"{statistics.median(rates):,.0f} events per CPU second ({min(rates):,.0f} to {max(rates):,.0f})")


def write(path: Path, events: int, particles: int) -> Path:
    """A file in the layout of the R&D data set: two hard jets over a soft floor in each event."""
    rng = np.random.default_rng(0)
    table = np.zeros((events, 2101))
    pt = rng.exponential(3, (events, particles)) + 0.1
    eta, phi = rng.normal(0, 1.5, pt.shape), rng.uniform(-np.pi, np.pi, pt.shape)
    for jet in range(2):
        inside = slice(40 * jet, 40 * jet + 40)
        pt[:, inside] *= 10
        eta[:, inside] = rng.normal(0, 0.2, (events, 40)) + rng.normal(0, 1, (events, 1))
        phi[:, inside] = rng.normal(0, 0.2, (events, 40)) + np.pi * (jet - 0.5)
    for number, values in enumerate((pt, eta, phi)):
        table[:, number : 3 * particles : 3] = values
    with h5py.File(path, "w") as file:
        group = file.create_group("df")
        group["axis0"] = group["block0_items"] = np.arange(2101)
        group["axis1"], group["block0_values"] = np.arange(events), table
    return path


def rate(path: Path) -> float:
    from ssl_jets.data.files import open_files, whole
    from ssl_jets.data.loading.stream import ordered
    from ssl_jets.data.sources import Source

    files = open_files([Source(str(path))])
    began = time.process_time()
    jets = sum(len(batch) for batch in ordered(files, whole(files)))
    events = files[0].entries // 2
    assert jets == 2 * events
    return events / (time.process_time() - began)


if __name__ == "__main__":
    sys.exit(main())
