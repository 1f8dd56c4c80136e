"""Every way of learning z on equal terms: same encoder, data, batch and wall time; same probes.

    python benchmarks/compare_methods.py --data TRAIN_FOLDER --work FOLDER [--minutes 10] [--methods mae simclr ...]

The rate of each method is measured in a short run, which gives the steps that fill the minutes, so that the learning
rate ends its cosine in time. What is finished in --work is not made again: the script can be stopped and started, and
several can share the folder with different --methods. Writes compare_methods.md and compare_methods.png to --out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from ssl_jets.evaluate import evaluate_model
from ssl_jets.evaluate.settings import EvaluateSettings, MeasureSettings
from ssl_jets.finetune import finetune, resolve_finetune
from ssl_jets.methods import find, names
from ssl_jets.pretrain import pretrain, resolve_pretrain

RATE_STEPS = 30
FINETUNE_STEPS = 150
RANDOM, TREES, SCRATCH = "random weights", "boosted trees", "from scratch"


def _settings(seed: int, fit_jets: int = 20_000) -> EvaluateSettings:
    """The class alone: no physics quantities, no changed jets."""
    return EvaluateSettings(evaluate=MeasureSettings(seed=seed, fit_jets=fit_jets, physics_jets=0, robust_jets=0))


def cached(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `make` returned the first time."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(make()))
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def layers(args: argparse.Namespace, steps: int, seed: int, **train: Any) -> dict[str, Any]:
    """The settings all methods share; the rest is their recipe."""
    settings = {"steps": steps, "batch_size": args.batch_size, "seed": seed, "validation_jets": 1000} | train
    return {"data": {"sources": args.data}, "model": {"size": args.size}, "train": settings}


def parts(args: argparse.Namespace, name: str, seed: int) -> dict[str, Any]:
    """Settings that name the runs a method starts from, which are made first where they are not there."""
    for part in find(name).parts:
        probes(args, part, seed)
    return {"method": {part: str(args.work / f"{part}-{seed}") for part in find(name).parts}}


def rate(args: argparse.Namespace, name: str) -> float:
    """Training rate in jets/s, without the start."""

    def measure() -> dict[str, Any]:
        folder = args.work / f"{name}-rate"
        short = layers(args, RATE_STEPS, 0, validate_every=10**6, log_every=RATE_STEPS // 3)
        pretrain(resolve_pretrain(name, short, parts(args, name, 0)), folder, force=True)
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        return {"jets_per_second": [line["jets_per_second"] for line in lines if line["kind"] == "train"][-1]}

    return float(cached(args.work / f"{name}-rate.json", measure)["jets_per_second"])


def probes(args: argparse.Namespace, name: str, seed: int) -> dict[str, Any]:
    """What `evaluate` finds in z after the given minutes."""

    def measure() -> dict[str, Any]:
        folder = args.work / f"{name}-{seed}"
        steps = max(1, int(60 * args.minutes * rate(args, name) / args.batch_size))
        settings = layers(args, steps, seed, validate_every=max(1, steps // 4))
        pretrain(resolve_pretrain(name, settings, parts(args, name, seed)), folder, force=True)
        found = evaluate_model(folder, args.data, folder / "evaluation", settings=_settings(seed), force=True)
        rows = {
            f"{probe.reader} of {probe.of}": [
                probe.accuracy.value,
                probe.accuracy.low,
                probe.accuracy.high,
                probe.auc.value,
            ]
            for probe in found.probes
        }
        facts = json.loads((folder / "model" / "config.json").read_text())["training"]
        return {"steps": steps, "seconds": facts["seconds"], "rankme": found.spread["z"].rankme, "probes": rows}

    return cached(args.work / f"{name}-{seed}.json", measure)


def few_labels(args: argparse.Namespace, name: str, seed: int, mode: str) -> float:
    """Accuracy on held-out jets of the whole network finetuned on 1 % of the labels."""

    def measure() -> dict[str, Any]:
        model, folder = args.work / f"{name}-{seed}", args.work / f"{name}-{seed}-{mode}"
        settings = layers(args, FINETUNE_STEPS, seed, validate_every=10**6)
        del settings["model"]
        finetune(resolve_finetune(model, settings | {"method": {"mode": mode, "labels": 0.01}}), folder, force=True)
        found = evaluate_model(folder, args.data, folder / "evaluation", settings=_settings(seed, 500), force=True)
        assert found.task is not None
        return {"accuracy": found.task.accuracy.value}

    return float(cached(args.work / f"{name}-{seed}-{mode}.json", measure)["accuracy"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--methods", nargs="+", default=names())
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--size", default="small")
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    rows: list[tuple[str, list[float], float, float | None, str]] = []
    for name in args.methods:
        for seed in range(args.seeds):
            found = probes(args, name, seed)
            tuned = few_labels(args, name, seed, "full")
            linear, knn = found["probes"]["linear of z"], found["probes"]["kNN of z"]
            rest = f"{found['rankme']:.1f} | {rate(args, name):.0f} | {found['steps']} | {found['seconds'] / 60:.1f}"
            rows.append((name, linear, knn[0], tuned, rest))
            print(line(rows[-1]), flush=True)
    first = probes(args, args.methods[0], 0)["probes"]
    scratch = few_labels(args, args.methods[0], 0, "scratch")
    knn_of_random = first["kNN of z of random weights"][0]
    rows.append((RANDOM, first["linear of z of random weights"], knn_of_random, scratch, "| | | "))
    rows.append((TREES, first["boosted trees of jet columns"], float("nan"), None, "| | | "))
    head = (
        "| method | linear probe (68 %) | macro AUC | kNN | 1 % labels, finetuned | RankMe | jets/s | steps | minutes |"
    )
    table = "\n".join([head, "|" + "---|" * 9, *map(line, rows)])
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "compare_methods.md").write_text(table + "\n")
    draw(args, rows)


def line(row: tuple[str, list[float], float, float | None, str]) -> str:
    """One row of the table."""
    name, (value, low, high, auc), knn, tuned, rest = row
    tuned_text = "" if tuned is None else f"{tuned:.3f}"
    knn_text = "" if knn != knn else f"{knn:.3f}"
    return f"| {name} | {value:.3f} ({low:.3f} to {high:.3f}) | {auc:.3f} | {knn_text} | {tuned_text} | {rest} |"


def draw(args: argparse.Namespace, rows: list[tuple[str, list[float], float, float | None, str]]) -> None:
    """Linear probe of every method, the best above, beside the baselines."""
    ordered = sorted(rows, key=lambda row: row[1][0])
    figure, axes = plt.subplots(figsize=(6, 0.32 * len(rows) + 1.2), layout="constrained")
    for place, (name, (value, low, high, _), *_) in enumerate(ordered):
        colour = "0.55" if name in (RANDOM, TREES) else "C0"
        axes.errorbar(value, place, xerr=[[value - low], [high - value]], fmt="o", color=colour, capsize=2)
    axes.set_yticks(range(len(ordered)), [row[0] for row in ordered])
    axes.set_xlabel("linear probe of z: accuracy on held-out jets, ten classes")
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(args.out / "compare_methods.png", dpi=150)


if __name__ == "__main__":
    main()
