"""Accuracy and time of the modes of finetuning on the same few labels: one table.

    python benchmarks/finetune_modes.py --model RUN --data FOLDER --work FOLDER [--labels 0.01 0.1 --steps 300]

Every mode starts from the same pretrained model, sees the same labelled jets in batches of the same size for the same
number of optimizer steps (but `probe`), and is tested on the same held-out jets. `scratch` is the baseline. --lr is the
setting `train.lr`, of which modes where few weights learn take a multiple. Seconds are CPU time of the whole run,
reading included. A finished run is not made again, so the script can be stopped and started: it goes seed by seed, and
writes finetune_modes.md to --out after each, with mean and standard deviation over those that are done.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssl_jets.config import DataSettings, parse_set
from ssl_jets.data.dataset import open_dataset
from ssl_jets.data.request import Request
from ssl_jets.data.subset import subsample
from ssl_jets.evaluation.metrics.classification import classification_metrics
from ssl_jets.finetuning import finetune, resolve_finetune
from ssl_jets.jets import Jets
from ssl_jets.model import embed_jets
from ssl_jets.model_file import load_model
from ssl_jets.training.run_setup import read_in_memory

MODES = ("probe", "head", "last-blocks", "lora", "full", "scratch")
VARIANTS = {
    "probe": ["method.mode=probe", "train.steps=300"],  # steps on cached z take milliseconds
    "head": ["method.mode=head"],
    "last-blocks": ["method.mode=last-blocks"],
    "lora": ["method.mode=lora"],
    "lora, DoRA": ["method.mode=lora", "method.lora.dora=true"],
    "full": ["method.mode=full"],
    "full, layer decay 0.75": ["method.mode=full", "method.layer_decay=0.75"],
    "last-blocks, probe first": ["method.mode=last-blocks", "method.probe_first=true"],
    "lora, probe first": ["method.mode=lora", "method.probe_first=true"],
    "full, probe first": ["method.mode=full", "method.probe_first=true"],
    "full, mean of the tokens": ["method.mode=full", "method.pool=mean"],
    "full, attention over the tokens": ["method.mode=full", "method.pool=attention"],
    "scratch": ["method.mode=scratch"],
}


def run(args: argparse.Namespace, test: Jets, title: str, labels: float, seed: int) -> dict[str, float]:
    """Accuracy, AUC and CPU seconds of one run."""
    # Another folder for other settings: their runs are others.
    made = json.dumps([load_model(args.model).sha256, args.data, args.steps, args.batch_size, args.lr, len(test)])
    mark = hashlib.sha256(made.encode()).hexdigest()[:8]
    folder = args.work / f"{title.replace(',', '').replace(' ', '-')}-{labels:g}-{seed}-{mark}"
    done = folder / "test.json"
    if not done.is_file():
        layer: dict[str, Any] = {
            "data": {"sources": args.data},
            "method": {"labels": labels, "subset_seed": seed},
            "train": {"steps": args.steps, "batch_size": args.batch_size, "seed": seed, "lr": args.lr},
        }
        quiet = parse_set(["train.validate_every=1000000", "train.validation_jets=200"])
        settings = resolve_finetune(args.model, layer, quiet, parse_set(VARIANTS[title]))
        began = time.process_time()
        finetune(settings, folder, force=True)
        seconds = time.process_time() - began
        model = load_model(folder)
        z = embed_jets(model.encoder, test)
        assert model.head is not None
        assert test.labels is not None
        with torch.inference_mode():
            probabilities = model.head(z).softmax(1).numpy()
        metrics = classification_metrics(probabilities, test.labels.numpy(), model.labels, resamples=10)
        found = {"accuracy": metrics.accuracy.value, "auc": metrics.auc.value, "seconds": seconds}
        done.write_text(json.dumps(found))
    measured: dict[str, float] = json.loads(done.read_text())
    return measured


def cell(found: list[dict[str, float]], key: str, digits: int = 3) -> str:
    """Mean over the seeds, with its standard deviation where there are several."""
    values = [metrics[key] for metrics in found]
    spread = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{spread}"


def table(args: argparse.Namespace, test: Jets, seeds: int) -> list[str]:
    """The page: what was done, and a row for each variant."""
    model = load_model(args.model)
    heads = [f"{share:.0%}: {name}" for share in args.labels for name in ("accuracy", "macro AUC", "CPU s")]
    steps = f"{args.steps} steps of {args.batch_size} jets at a rate of {args.lr:g}"
    rows = [
        f"{model.method} {model.sha256[:12]}; {steps}; {len(test):,} test jets; seeds: {seeds}.",
        "",
        f"| mode | {' | '.join(heads)} |",
        "|" + "---|" * (1 + len(heads)),
    ]
    for title in args.variants:
        cells = []
        for labels in args.labels:
            found = [run(args, test, title, labels, seed) for seed in range(seeds)]
            cells += [cell(found, "accuracy"), cell(found, "auc"), cell(found, "seconds", 0)]
        rows.append(f"| {title} | {' | '.join(cells)} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(MODES))
    parser.add_argument("--labels", nargs="+", type=float, default=[0.01, 0.1])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--test-jets", type=int, default=10_000)
    args = parser.parse_args()
    data = open_dataset(DataSettings(sources=tuple(args.data)))
    test = read_in_memory(data.files, subsample(data.held_out, args.test_jets, 0), Request())
    assert test is not None
    args.out.mkdir(parents=True, exist_ok=True)
    for seed in range(args.seeds):
        for labels in args.labels:
            for title in args.variants:
                found = run(args, test, title, labels, seed)
                print(f"seed {seed}, {labels:g} of the labels, {title}: {found['accuracy']:.3f}", file=sys.stderr)
        (args.out / "finetune_modes.md").write_text("\n".join(table(args, test, seed + 1)) + "\n")
    print((args.out / "finetune_modes.md").read_text())


if __name__ == "__main__":
    main()
