"""Accuracy against the number of labels: finetuned from a pretrained model, against the same network from scratch.

    python benchmarks/label_curve.py --model RUN --data TRAIN_FOLDER --work FOLDER [--seeds 3]

Every point is a run of `finetune` with the same steps for all modes; a finished run is not made again, so the script
can be stopped and started. All are tested on the same held-out jets of TRAIN_FOLDER. Writes label_curve.md and
label_curve.png to --out.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from ssl_jets.config import DataSettings
from ssl_jets.data.dataset import open_dataset
from ssl_jets.data.stream import Request
from ssl_jets.data.thin import thin
from ssl_jets.embed import embed_jets
from ssl_jets.evaluate import classify_metrics
from ssl_jets.finetune import finetune, resolve_finetune
from ssl_jets.jets import Jets
from ssl_jets.model_file import load_model
from ssl_jets.pretrain import read_all

STEPS = {0.005: 100, 0.01: 100, 0.1: 150, 1.0: 300}
"""Optimizer steps of 128 jets at each share of the labels, for every mode alike."""


def point(args: argparse.Namespace, test: Jets, mode: str, share: float, seed: int) -> dict[str, float]:
    """Accuracy and macro AUC of one finetuning."""
    folder = args.work / f"{mode}-{share:g}-{seed}"
    done = folder / "test.json"
    if not done.is_file():
        layers = {
            "data": {"sources": args.data},
            "method": {"mode": mode, "labels": share, "subset_seed": seed},
            "train": {
                "steps": STEPS[share],
                "batch_size": 128,
                "seed": seed,
                "validation_jets": 1000,
                "validate_every": 10**6,
            },
        }
        finetune(resolve_finetune(args.model, layers), folder, force=True)
        model = load_model(folder)
        assert model.head is not None
        assert test.labels is not None
        with torch.inference_mode():
            probabilities = model.head(embed_jets(model.encoder, test)).softmax(1).numpy()
        metrics = classify_metrics(probabilities, test.labels.numpy(), model.labels, resamples=10)
        accuracy, auc = float(metrics.accuracy.value), float(metrics.auc.value)
        seconds = json.loads((folder / "model" / "config.json").read_text())["training"]["seconds"]
        done.write_text(json.dumps({"accuracy": accuracy, "auc": auc, "seconds": seconds}))
    return json.loads(done.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--modes", nargs="+", default=["full", "scratch", "probe"])
    parser.add_argument("--shares", nargs="+", type=float, default=list(STEPS))
    parser.add_argument("--test-jets", type=int, default=10_000)
    args = parser.parse_args()
    data = open_dataset(DataSettings(sources=tuple(args.data)))
    test = read_all(data.files, thin(data.held_out, args.test_jets, 0), Request())
    assert test is not None
    rows, curves = [], {}
    for share in args.shares:
        for mode in args.modes:
            points = [point(args, test, mode, share, seed) for seed in range(args.seeds)]
            values = {name: np.array([p[name] for p in points]) for name in points[0]}
            curves[mode, share] = values["accuracy"]
            spread = {name: v.std(ddof=1) if len(v) > 1 else 0.0 for name, v in values.items()}
            rows.append(
                f"| {share:.1%} | {mode} | {values['accuracy'].mean():.4f} ± {spread['accuracy']:.4f} "
                f"| {values['auc'].mean():.4f} ± {spread['auc']:.4f} | {values['seconds'].mean():.0f} |"
            )
            print(rows[-1], flush=True)
    table = "| labels | mode | accuracy | macro AUC | seconds |\n|---|---|---|---|---|\n" + "\n".join(rows)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "label_curve.md").write_text(table + "\n")
    draw(args, curves)


def draw(args: argparse.Namespace, curves: dict[tuple[str, float], np.ndarray]) -> None:
    """Mean and spread over seeds of each mode."""
    names = {"full": "finetuned from MAE", "scratch": "from scratch", "probe": "probe of z (MAE)"}
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for mode in args.modes:
        mean = np.array([curves[mode, share].mean() for share in args.shares])
        std = np.array([curves[mode, share].std() for share in args.shares])
        axes.plot([100 * share for share in args.shares], mean, marker="o", label=names[mode])
        axes.fill_between([100 * share for share in args.shares], mean - std, mean + std, alpha=0.2)
    axes.set(xscale="log", xlabel="labels used [%]", ylabel="accuracy on held-out jets")
    axes.legend(frameon=False)
    figure.savefig(args.out / "label_curve.png", dpi=150)


if __name__ == "__main__":
    main()
