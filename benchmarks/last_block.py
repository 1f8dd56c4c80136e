"""z alone against z with all tokens: the same encoder and batches, in turns, CPU time of one thread.

    OMP_NUM_THREADS=1 python benchmarks/last_block.py [--sizes tiny small] [--rounds 9] [--jets 256]

Prints a Markdown table of median CPU milliseconds and of the median ratio, for a forward pass and for a step (forward
and backward of a function of z), in the precision of the processor.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import torch

from ssl_jets.api import read_jets
from ssl_jets.config import ModelSettings
from ssl_jets.jets import Jets
from ssl_jets.nn.encoder import Encoder
from ssl_jets.runtime.allocator import tune_memory
from ssl_jets.runtime.precision import autocast, native_precision


def seconds(encoder: Encoder, jets: Jets, *, step: bool, z_only: bool) -> float:
    """Return the CPU seconds of a forward pass or a step."""
    encoder.zero_grad()
    began = time.process_time()
    with torch.set_grad_enabled(step):
        with autocast("cpu", native_precision("cpu")):
            z = encoder(jets, z_only=z_only).z
        if step:
            z.square().mean().backward()
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["tiny", "small"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--jets", type=int, default=256)
    args = parser.parse_args()
    tune_memory()
    torch.set_num_threads(1)
    jets = read_jets()
    batches = [jets.select(rows) for rows in torch.randperm(len(jets)).split(args.jets)[: args.rounds + 1]]
    print("| size | registers | pass | all tokens [ms] | z alone [ms] | ratio |\n|---|---|---|---|---|---|")
    for size in args.sizes:
        for registers in (8, 0):
            encoder = Encoder(ModelSettings.model_validate({"size": size, "registers": registers}))
            for step in (False, True):
                warm, *rest = batches
                for z_only in (False, True):
                    seconds(encoder, warm, step=step, z_only=z_only)
                times = [
                    [seconds(encoder, batch, step=step, z_only=alone) for alone in (False, True)] for batch in rest
                ]
                full, alone = (f"{1000 * median(column):.0f}" for column in zip(*times))
                ratio = median(full / alone for full, alone in times)
                name = "step" if step else "forward"
                print(f"| {size} | {registers} | {name} | {full} | {alone} | {ratio:.2f}x |", flush=True)


if __name__ == "__main__":
    main()
