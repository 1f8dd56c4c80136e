"""Is a collapse noticed, and nothing else? Healthy trainings beside ones that are made to fail.

    python benchmarks/collapse.py --data TRAIN_FOLDER --work FOLDER [--cases mae "byol without predictor" ...]

Each case is a short pretraining with `train.on_collapse=warn`. What is finished in --work is not made again. Prints a
table: the looks that found a collapse, and what z was worth at the end beside random weights.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ssl_jets.methods import names
from ssl_jets.pretraining import pretrain, resolve_pretrain

Settings = dict[str, Any]

HEALTHY: dict[str, Settings] = {name: {} for name in names()}
FAILING: dict[str, Settings] = {
    "byol without predictor": {
        "method": {"targets": "plain", "predictor_layers": 0, "momentum": 0.9},
        "train": {"lr": 5e-3},
    },
    "jepa whose teacher stands still": {"method": {"momentum": 1.0, "final_momentum": 1.0}},
    "jepa without spread": {"method": {"spread_weight": 0.0}},
    "vicreg without variance": {"method": {"variance": 0.0, "covariance": 0.0}},
    "lejepa without sigreg": {"method": {"sigreg_weight": 0.0}},
}
CASES = HEALTHY | {case: settings for case, settings in FAILING.items() if case.split()[0] in names()}
COLUMNS = ("z_variation", "z_participation_ratio", "compared_variation", "z_alignment", "z_swap_rise", "probe_accuracy")


def run(case: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    """The looks of the training of a case, from early to late."""
    folder = args.work / case.replace(" ", "-")
    if not (folder / "model").is_dir():
        shared = {
            "data": {"sources": args.data},
            "model": {"size": args.size},
            "train": {
                "steps": args.steps,
                "batch_size": args.batch_size,
                "validation_jets": 1000,
                "validate_every": max(40, args.steps // 8),
            },
        }
        pretrain(resolve_pretrain(case.split()[0], shared, CASES[case]), folder, force=True)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] in ("check", "validation")]


def row(case: str, looks: list[dict[str, Any]]) -> str:
    """A line of the table."""
    told = [f"{look['step']}: {' and '.join(look['collapse'])}" for look in looks if look.get("collapse")]
    numbers = [f"{looks[-1][name]:.3g}" if looks[-1].get(name) is not None else "" for name in COLUMNS]
    return " | ".join([f"| {case}", "fails" if case in FAILING else "", ", ".join(told), *numbers]) + " |"


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=128)
    args = parser.parse_args()
    print(" | ".join(["| case", "made to fail", "looks that found a collapse", *COLUMNS]) + " |")
    print("|---" * (3 + len(COLUMNS)) + "|")
    for case in args.cases:
        print(row(case, run(case, args)), flush=True)


if __name__ == "__main__":
    main()
