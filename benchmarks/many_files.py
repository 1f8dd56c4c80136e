"""CPU seconds of a training before its first step, for many small files: mostly the opening of files.

    python benchmarks/many_files.py [--files 2000] [--jets 50] [--rounds 3] [--before CHECKOUT/src] [--folder FOLDER]

The files are jets of the bundled sample, in the layout of JetClass; `--folder` takes files that exist. `--before` is
the source folder of another version, measured in turns with this one. Counted are the CPU seconds (user and system) of
a process of its own after its imports: all files opened, 10,000 jets read for the statistics, and the first window.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from ssl_jets.data.files import open_files, whole
from ssl_jets.data.loading.stream import ordered
from ssl_jets.data.request import Request
from ssl_jets.data.sources import sample_sources
from ssl_jets.data.write import write_jets
from ssl_jets.jets import concatenate

HERE = Path(__file__).parents[1] / "src"
PROGRAM = """
import json, sys, time
from ssl_jets.data.files import open_files, whole
from ssl_jets.data.loading.stream import TrainStream, ordered
from ssl_jets.data.sources import resolve_sources
from ssl_jets.data.subset import subsample
open_files(resolve_sources(sys.argv[1:])[:1])
times = [time.process_time()]
files = open_files(resolve_sources(sys.argv[1:]))
times.append(time.process_time())
for _ in ordered(files, subsample(whole(files), 10_000, seed=0)): pass
times.append(time.process_time())
with TrainStream(files, whole(files), batch_size=256, buffer=100_000, seed=0) as stream: next(stream)
times.append(time.process_time())
print(json.dumps([b - a for a, b in zip(times, times[1:])]))
"""
STEPS = ("open", "statistics", "first window")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--jets", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--before", type=Path, metavar="FOLDER")
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    versions = {"now": HERE} | ({"before": args.before.resolve()} if args.before else {})
    rounds: dict[str, list[list[float]]] = {name: [] for name in versions}
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary) / "jets"
        if args.folder is None:
            write_files(folder, args.files, args.jets)
        for _ in range(args.rounds):
            for name, source in versions.items():
                rounds[name].append(before_first_step(folder, source))
        files = len(list(folder.iterdir()))
    print(f"{files:,} files, medians of {args.rounds}; CPU seconds\n")
    print(f"| version | {' | '.join(STEPS)} | all | a file [ms] |")
    print("|---" * (len(STEPS) + 3) + "|")
    for name, seconds in rounds.items():
        medians = [statistics.median(values) for values in zip(*seconds)]
        total = statistics.median(map(sum, seconds))
        print(f"| {name} | {' | '.join(f'{value:.2f}' for value in (*medians, total))} | {1e3 * total / files:.1f} |")


def write_files(folder: Path, files: int, jets: int) -> None:
    """Write files of random jets of the sample."""
    sample = open_files(sample_sources())
    pool = concatenate(list(ordered(sample, whole(sample), Request(sample[0].jet_columns))))
    generator = torch.Generator().manual_seed(0)
    folder.mkdir()
    for number in range(files):
        chosen = torch.randint(len(pool), (jets,), generator=generator)
        write_jets(folder / f"jets_{number:05d}.root", [pool.select(chosen)], labels=sample[0].label_names)


def before_first_step(folder: Path, source: Path) -> list[float]:
    """Return the CPU seconds of each of `STEPS` in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(source)}
    command = [sys.executable, "-c", PROGRAM, str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    seconds: list[float] = json.loads(done.stdout.splitlines()[-1])
    return seconds


if __name__ == "__main__":
    main()
