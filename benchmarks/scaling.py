"""Plan of large trainings from sizes that this machine can compute: traffic, checkpoints, reading, and the epoch plan.

    python benchmarks/scaling.py [--gpus 8 64 256 1024] [--batch 512] [--teraflops 120] [--gigabytes 25]

Counted here: weights of `mae` of each size, useful FLOP of a jet of the bundled sample, bytes of a jet in its file and
in memory. Measured here: the epoch plan of a billion jets in 10,000 files. Assumed: the useful rate of a GPU in bf16
(`--teraflops`) and the rate at which one GPU sends and receives (`--gigabytes`). Nothing was run on a GPU.
"""

from __future__ import annotations

import argparse
import os
import time
import tracemalloc

import torch
from throughput import useful_flops

from ssl_jets import methods
from ssl_jets.config import ModelSettings
from ssl_jets.config.model import SIZES
from ssl_jets.data.files import EntryRange, JetFile, open_files
from ssl_jets.data.loading.epoch_plan import EpochPlan
from ssl_jets.data.loading.packed_jets import to_bytes
from ssl_jets.data.loading.stream import ordered
from ssl_jets.data.readers import root
from ssl_jets.data.schemas.schema import known_schemas
from ssl_jets.data.sources import Source, sample_sources
from ssl_jets.jets import Jets, concatenate
from ssl_jets.nn.encoder import Encoder

JETS = 1_000_000_000
FILES = 10_000
CLUSTER = 10_000
BUFFER = 100_000
SAVING_GIGABYTES = 2.0
"""Assumed rate at which one process writes a checkpoint [GB/s]."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, nargs="+", default=[8, 64, 256, 1024])
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--teraflops", type=float, default=120.0)
    parser.add_argument("--gigabytes", type=float, default=25.0)
    args = parser.parse_args()
    files = open_files(sample_sources())
    parts = [EntryRange(index, 0, 100) for index in range(len(files))]
    jets = concatenate(list(ordered(files, parts)))
    stored = sum(file.bytes for file in files) / sum(file.entries for file in files)
    decoded = len(to_bytes(jets)) / len(jets)
    particles = len(jets.particles) / len(jets)
    print(f"A jet: {particles:.0f} particles, {stored:,.0f} bytes in its file, {decoded:,.0f} decoded.\n")
    sizes(jets, args)
    epoch_plan(args.gpus)


def sizes(jets: Jets, args: argparse.Namespace) -> None:
    """Print a row for each size and number of GPUs."""
    head = ["size", "weights", "GFLOP a jet", "checkpoint [GB]", "jets/s a GPU", "step [ms]", "GPUs"]
    head += ["ddp: GB a step", "share of the step", "fsdp: GB a step", "share", "hours an epoch", "read, all [GB/s]"]
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|")
    stored = 1e-9 * sum(os.path.getsize(source.path) for source in sample_sources()) / 10_000
    for size in SIZES:
        encoder = Encoder(ModelSettings.model_validate({"size": size}))
        cls = methods.find("mae")
        method = cls(cls.Config(), encoder)
        weights = sum(weight.numel() for weight in method.parameters())
        work = 3 * useful_flops(encoder, jets) / len(jets)  # forward, and backward twice as much
        checkpoint = 12e-9 * weights  # float32: weights and two moments
        rate = 1e12 * args.teraflops / work
        step = args.batch / rate
        for gpus in args.gpus:
            ring = 4e-9 * weights * (gpus - 1) / gpus  # one pass of float32 around a ring
            row = [size, f"{weights / 1e6:.1f} M", f"{work / 1e9:.2f}", f"{checkpoint:.2f}", f"{rate:,.0f}"]
            row += [f"{1e3 * step:.2f}", f"{gpus:,}"]
            for passes in (2, 3):  # gradients summed and spread; sharded: weights gathered twice, gradients summed
                row += [f"{passes * ring:.3f}", f"{passes * ring / args.gigabytes / step:.0%}"]
            row += [f"{JETS / (gpus * rate) / 3600:.2f}", f"{gpus * rate * stored:.1f}"]
            print(f"| {' | '.join(row)} |")
    print()


def epoch_plan(worlds: list[int]) -> None:
    """Measure the plan of one epoch of all jets, which every process makes for itself."""
    per_file = JETS // FILES
    boundaries = (*range(0, per_file, CLUSTER), per_file)
    schema = known_schemas()[0]
    files = [
        JetFile(Source(f"class{index % 10}_{index}.root"), schema, root, "tree", per_file, boundaries, 1, (), ())
        for index in range(FILES)
    ]
    parts = [EntryRange(index, 0, per_file) for index in range(FILES)]
    head = ["GPUs", "windows of each", "plan of an epoch [s]", "its memory [MB]", "ranges of a window"]
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|")
    for world in worlds:
        began = time.process_time()
        windows = EpochPlan(files, parts, buffer=BUFFER, seed=0, world=world).windows(0, 0)
        seconds = time.process_time() - began
        tracemalloc.start()
        EpochPlan(files, parts, buffer=BUFFER, seed=0, world=world).windows(0, 0)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        print(f"| {world:,} | {len(windows)} | {seconds:.1f} | {peak / 1e6:.0f} | {len(windows[0])} |")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
