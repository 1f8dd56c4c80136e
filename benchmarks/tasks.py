"""Several tasks at once, and few labels with many unlabelled jets: two tables.

    python benchmarks/tasks.py --data TRAIN_FOLDER --work FOLDER [--size small --steps 1000 --seeds 3]

Table `tasks`: the class label and jet columns learned by one encoder with learned uncertainty weights and with equal
weights, against each task alone, with the same steps. Table `semi`: `semi_supervised` on a share of the labels and all
jets without, against `supervised` on the same labelled jets, and against `mae` finetuned on them; all see the same
number of labelled jets per step. All are tested on the same held-out jets. A finished run is not made again, so the
script can be stopped and started. Writes tasks.md to --out.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssl_jets.config import DataSettings
from ssl_jets.data.dataset import open_dataset
from ssl_jets.data.request import Request
from ssl_jets.data.subset import subsample
from ssl_jets.evaluation.metrics.classification import classification_metrics
from ssl_jets.finetuning import finetune, resolve_finetune
from ssl_jets.jets import Jets
from ssl_jets.model import embed_jets
from ssl_jets.model_file import load_model
from ssl_jets.nn.regression import columns_of
from ssl_jets.pretraining import pretrain, resolve_pretrain
from ssl_jets.training.run_setup import read_in_memory

TARGETS = ("jet_sdmass", "jet_nparticles", "jet_tau2/jet_tau1")
UNITS = {"jet_sdmass": "GeV", "jet_nparticles": "particles", "jet_tau2/jet_tau1": "1"}
RATIO = 3


def tested(folder: Path, test: Jets, make: Callable[[], object]) -> dict[str, Any]:
    """Metrics of the model in `folder` on the test jets; `make` makes it where it is not there yet."""
    done = folder / "test.json"
    if not done.is_file():
        make()
        model = load_model(folder)
        z = embed_jets(model.encoder, test)
        found: dict[str, Any] = {}
        with torch.inference_mode():
            if model.head is not None:
                assert test.labels is not None
                probabilities = model.head(z).softmax(1).numpy()
                metrics = classification_metrics(probabilities, test.labels.numpy(), model.labels, resamples=10)
                found |= {"accuracy": metrics.accuracy.value, "auc": metrics.auc.value}
            if model.regressor is not None:
                truth, raw = model.regressor.targets(test), model.regressor.targets.raw(test)
                predicted, physical = model.regressor(z), model.regressor.physical(z)
                for index, name in enumerate(model.regressor.names):
                    known = truth[:, index].isfinite()
                    error = (predicted - truth)[known, index].square().mean() / truth[known, index].var()
                    found[f"unexplained {name}"] = float(error)
                    found[f"mae {name}"] = float((physical - raw)[known, index].abs().mean())
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        last = [line for line in lines if line["kind"] == "train"][-1]
        found["sigmas"] = {key.removeprefix("sigma_"): value for key, value in last.items() if key.startswith("sigma_")}
        found["seconds"] = last["seconds"]
        done.write_text(json.dumps(found))
    measured: dict[str, Any] = json.loads(done.read_text())
    return measured


def layers(args: argparse.Namespace, seed: int, batch_size: int) -> dict[str, Any]:
    """Settings that all runs share."""
    train = {"steps": args.steps, "batch_size": batch_size, "seed": seed, "lr": args.lr}
    quiet = {"validate_every": 10**6, "validation_jets": 1000}
    return {"data": {"sources": args.data}, "model": {"size": args.size}, "train": train | quiet}


def trained(
    args: argparse.Namespace, test: Jets, name: str, batch_size: int, seed: int, title: str, *more: dict[str, Any]
) -> dict[str, Any]:
    """Metrics of a pretraining run, in a folder named after its title."""
    folder = args.work / f"{re.sub('[^a-z0-9_]+', '-', title.lower()).strip('-')}-{seed}"
    settings = resolve_pretrain(name, layers(args, seed, batch_size), *more)
    return tested(folder, test, lambda: pretrain(settings, folder, force=True))


def several_tasks(args: argparse.Namespace, test: Jets) -> list[str]:
    """Rows of the first table."""
    every = ["label", *TARGETS]
    variants = {name: ([name], "equal") for name in every}
    variants |= {"all, equal weights": (every, "equal"), "all, learned weights": (every, "sigma")}
    rows = ["| learned | accuracy | macro AUC | " + " | ".join(f"1 - R² of {name}" for name in TARGETS) + " |"]
    rows += ["|" + "---|" * 6]
    for title, (targets, weights) in variants.items():
        method = {"method": {"targets": targets, "weights": weights}}
        found = [trained(args, test, "supervised", args.batch_size, seed, title, method) for seed in range(args.seeds)]
        rows.append(row(title, found, ["accuracy", "auc", *(f"unexplained {name}" for name in TARGETS)]))
        sizes = [f"{name} {mean(found, f'mae {name}')} {UNITS[name]}" for name in targets if name in UNITS]
        sigmas = [f"{name} {np.mean([f['sigmas'][name] for f in found]):.2f}" for name in found[0]["sigmas"]]
        print(rows[-1], "; ".join(["mean absolute error:", *sizes, "sigma:", *sigmas]), flush=True)
    return rows


def few_labels(args: argparse.Namespace, test: Jets) -> list[str]:
    """Rows of the second table."""
    few = args.batch_size // 4

    def supervised(seed: int) -> dict[str, Any]:
        data = {"data": {"labelled": args.labels, "labelled_seed": seed}}
        return trained(args, test, "supervised", few, seed, "few labels supervised", data)

    def semi(seed: int, weights: str) -> dict[str, Any]:
        data = {"data": {"labelled": args.labels, "labelled_seed": seed, "unlabelled_ratio": RATIO}}
        title, method = f"few labels semi {weights}", {"method": {"weights": weights}}
        return trained(args, test, "semi_supervised", (1 + RATIO) * few, seed, title, data, method)

    def finetuned(seed: int) -> dict[str, Any]:
        before, folder = args.work / f"few-labels-mae-{seed}", args.work / f"few-labels-mae-finetuned-{seed}"

        def make() -> None:
            pretrain(resolve_pretrain("mae", layers(args, seed, (1 + RATIO) * few)), before, force=True)
            tuning = layers(args, seed, few)
            del tuning["model"]
            method = {"method": {"mode": "full", "labels": args.labels, "subset_seed": seed}}
            finetune(resolve_finetune(before, tuning, method), folder, force=True)

        return tested(folder, test, make)

    variants: dict[str, Callable[[int], dict[str, Any]]] = {
        "`supervised`": supervised,
        "`semi_supervised`, learned weights": lambda seed: semi(seed, "sigma"),
        "`semi_supervised`, equal weights": lambda seed: semi(seed, "equal"),
        "`mae`, then finetuned (twice the steps)": finetuned,
    }
    rows = [f"| {args.labels:.1%} of the labels | accuracy | macro AUC | seconds |", "|" + "---|" * 4]
    for title, make_one in variants.items():
        found = [make_one(seed) for seed in range(args.seeds)]
        rows.append(row(title, found, ["accuracy", "auc", "seconds"]))
        print(rows[-1], found[0]["sigmas"], flush=True)
    return rows


def mean(found: list[dict[str, Any]], key: str) -> str:
    """Mean over the seeds, with its standard deviation where there are several; empty where nothing was measured."""
    values = [metrics[key] for metrics in found if key in metrics]
    if not values:
        return ""
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


def row(title: str, found: list[dict[str, Any]], keys: list[str]) -> str:
    """One row of a table."""
    return f"| {title} | " + " | ".join(mean(found, key) for key in keys) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--tables", nargs="+", choices=["tasks", "semi"], default=["tasks", "semi"])
    parser.add_argument("--size", default="small")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--labels", type=float, default=0.01)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--test-jets", type=int, default=10_000)
    args = parser.parse_args()
    data = open_dataset(DataSettings(sources=tuple(args.data)))
    request = Request(jet_columns=columns_of(TARGETS))
    test = read_in_memory(data.files, subsample(data.held_out, args.test_jets, 0), request)
    assert test is not None
    tables = {"tasks": several_tasks, "semi": few_labels}
    found = ["\n".join(tables[name](args, test)) for name in args.tables]
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "tasks.md").write_text("\n\n".join(found) + "\n")


if __name__ == "__main__":
    main()
