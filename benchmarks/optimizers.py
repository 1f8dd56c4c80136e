"""AdamW against Muon: held-out losses after equal steps, and the time of the update itself.

    OMP_NUM_THREADS=1 python benchmarks/optimizers.py --data TRAIN --work FOLDER [--methods supervised next_particle]
        [--steps 500] [--seeds 3]

Trains each method with both optimizers at equal steps, batches of 128 jets, encoder `small`, everything else as in the
recipe of the method, and prints loss, probe and accuracy of the head on 4,000 held-out jets with paired differences:
the same seed has the same weights and jets. Errors are those of the mean over seeds. The second table has CPU times of
one update of all weights of the encoder; `--methods` without a name prints it alone. Runs in the folder are used again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from compare_methods import cached

from ssl_jets.config import ModelSettings, TrainSettings
from ssl_jets.nn.encoder import Encoder
from ssl_jets.pretraining import pretrain, resolve_pretrain
from ssl_jets.training.optimizer import make_optimizer

OPTIMIZERS = ("adamw", "muon")
MEASURES = ("loss", "probe_accuracy", "accuracy")
UPDATES = 20


def main() -> None:
    """Train, and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--methods", nargs="*", default=["supervised", "next_particle"])
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    print("| method | step | measure | AdamW | Muon | Muon - AdamW |", "|---|---|---|---|---|---|", sep="\n")
    for method in args.methods:
        runs = {
            name: [validations(args.work, args.data, method, name, args.steps, seed) for seed in range(args.seeds)]
            for name in OPTIMIZERS
        }
        for line in compared(method, *runs.values()):
            print(line, flush=True)
    print("\n| update of `small` | products | ms |", "|---|---|---|", sep="\n")
    encoder = Encoder(ModelSettings(size="small"))
    for parameter in encoder.parameters():
        parameter.grad = torch.randn_like(parameter)
    for name, precision in (("adamw", "32-true"), ("muon", "32-true"), ("muon", "bf16-mixed")):
        settings = TrainSettings.model_validate({"optimizer": name, "precision": precision})
        kind = "bfloat16" if precision == "bf16-mixed" else "float32"
        print(f"| {name} | {kind} | {milliseconds(make_optimizer(encoder, settings)):.0f} |")
    if hasattr(torch.optim, "Muon"):
        matrices = [weight for weight in encoder.transformer.blocks.parameters() if weight.dim() == 2]
        of_pytorch = milliseconds(torch.optim.Muon(matrices))
        print(f"| `torch.optim.Muon`, these matrices alone | bfloat16 | {of_pytorch:.0f} |")


def validations(
    work: Path, data: list[str], method: str, optimizer: str, steps: int, seed: int
) -> dict[int, dict[str, float]]:
    """Return the measures of each validation of a training, by its step."""
    train = {"steps": steps, "batch_size": 128, "seed": seed, "optimizer": optimizer}
    looks = {"validate_every": max(1, steps // 5), "validation_jets": 4000}

    def measure() -> dict[str, dict[str, float]]:
        layers = {"data": {"sources": data}, "model": {"size": "small"}, "train": train | looks}
        out = pretrain(resolve_pretrain(method, layers), work / f"{method}-{optimizer}-{seed}", force=True)
        lines = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
        return {
            str(line["step"]): {name: line[name] for name in MEASURES if name in line}
            for line in lines
            if line["kind"] == "validation"
        }

    found = cached(work / f"{method}-{optimizer}-{seed}-{steps}.json", measure)
    return {int(step): values for step, values in found.items()}


def compared(
    method: str, adamw: list[dict[int, dict[str, float]]], muon: list[dict[int, dict[str, float]]]
) -> list[str]:
    """Return a row for each step and measure, with the mean over seeds and its paired difference."""
    rows = []
    for step, measures in adamw[0].items():
        for name in measures:
            one, other = ([run[step][name] for run in runs] for runs in (adamw, muon))
            differences = [new - old for new, old in zip(other, one)]
            error = statistics.stdev(differences) / len(differences) ** 0.5 if len(differences) > 1 else float("nan")
            means = f"{statistics.fmean(one):.4f} | {statistics.fmean(other):.4f}"
            rows.append(
                f"| {method} | {step} | {name} | {means} | {statistics.fmean(differences):+.4f} ± {error:.4f} |"
            )
    return rows


def milliseconds(optimizer: torch.optim.Optimizer) -> float:
    """Return the CPU time of an update after the first."""
    optimizer.step()
    began = time.process_time()
    for _ in range(UPDATES):
        optimizer.step()
    return (time.process_time() - began) / UPDATES * 1e3


if __name__ == "__main__":
    main()
