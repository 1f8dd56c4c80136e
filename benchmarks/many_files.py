"""CPU seconds of a pretraining to its first step, for many small files: mostly the opening of files.

    python benchmarks/many_files.py [--files 2000] [--jets 50] [--rounds 3] [--before CHECKOUT/src]

The files are jets of the bundled sample, in the layout of JetClass. `--before` is the source folder of another version,
measured in turns with this one. Counted is the CPU time (user and system) of the whole process, its imports included.
"""

from __future__ import annotations

import argparse
import os
import resource
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--jets", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--before", type=Path, metavar="FOLDER")
    args = parser.parse_args()
    versions = {"now": HERE} | ({"before": args.before.resolve()} if args.before else {})
    seconds: dict[str, list[float]] = {name: [] for name in versions}
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder) / "jets", args.files, args.jets)
        for number in range(args.rounds):
            for name, source in versions.items():
                seconds[name].append(first_step(Path(folder), f"{name}-{number}", source))
    print(
        f"{args.files:,} files of {args.jets} jets\n\n"
        "| version | CPU s to the first step (median) | all rounds |\n|---|---|---|"
    )
    for name, values in seconds.items():
        print(f"| {name} | {statistics.median(values):.1f} | {', '.join(f'{value:.1f}' for value in values)} |")


def write_files(folder: Path, files: int, jets: int) -> None:
    """Write files of random jets of the sample."""
    sample = open_files(sample_sources())
    pool = concatenate(list(ordered(sample, whole(sample), Request(sample[0].jet_columns))))
    generator = torch.Generator().manual_seed(0)
    folder.mkdir()
    for number in range(files):
        chosen = torch.randint(len(pool), (jets,), generator=generator)
        write_jets(folder / f"jets_{number:05d}.root", [pool.select(chosen)], labels=sample[0].label_names)


def first_step(folder: Path, run: str, source: Path) -> float:
    """Train for one step in a process of its own and return its CPU seconds."""
    command = [sys.executable, "-m", "ssl_jets", "pretrain", "--method", "mae", "--size", "tiny", "--steps", "1"]
    command += ["--data", str(folder / "jets"), "--out", str(folder / run)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"PYTHONPATH": str(source)})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
