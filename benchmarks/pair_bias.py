"""What the pair bias costs: CPU time of a training step and of embedding with it, over those without it.

    OMP_NUM_THREADS=1 python benchmarks/pair_bias.py --data TRAIN_FOLDER [--rounds 7]

Encoders of random weights in bf16 take turns on the same 512 held-out jets; the table has medians over the rounds, of
ratios within a round. A step is forward and backward of the encoder, without augmentation and optimizer.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch

from ssl_jets.config import DataSettings, ModelSettings
from ssl_jets.data.dataset import open_dataset
from ssl_jets.data.request import Request
from ssl_jets.evaluation.roles import draw
from ssl_jets.jets import Jets
from ssl_jets.nn.encoder import Encoder
from ssl_jets.runtime.allocator import keep_blocks, keep_few_kernels

JETS = 512
SIZES = ("tiny", "small", "base")


def embedding(encoder: Encoder, jets: Jets) -> None:
    """Compute z."""
    with torch.inference_mode():
        encoder(jets, z_only=True)


def step(encoder: Encoder, jets: Jets) -> None:
    """Compute the gradients of a loss of z."""
    encoder(jets, z_only=True).z.square().sum().backward()


def cpu_seconds(function: Callable[[Encoder, Jets], None], encoder: Encoder, jets: Jets) -> float:
    """Time one call in bf16."""
    began = time.process_time()
    with torch.autocast("cpu", torch.bfloat16):
        function(encoder, jets)
    return time.process_time() - began


def main() -> None:
    """Print a row for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_blocks()
    keep_few_kernels()
    data = open_dataset(DataSettings(sources=(args.data,)))
    jets = draw(data.files, data.held_out, JETS, 0, Request())
    print("| size | step, jets/s | with pair bias | time | embedding, jets/s | with pair bias | time |")
    print("|---|---|---|---|---|---|---|")
    for size in SIZES:
        encoders = [Encoder(ModelSettings.model_validate({"size": size, "pair_bias": on})) for on in (False, True)]
        for encoder in encoders:
            encoder.fit_statistics([jets])
        cells = []
        for function in (step, embedding):
            rounds = [[cpu_seconds(function, encoder, jets) for encoder in encoders] for _ in range(args.rounds + 1)]
            rates = [len(jets) / median(times) for times in zip(*rounds[1:], strict=True)]
            cells += [f"{rate:,.0f}" for rate in rates]
            cells.append(f"{median(biased / plain for plain, biased in rounds[1:]):.2f}")
        print(f"| `{size}` | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
