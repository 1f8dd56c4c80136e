"""How z improves with unlabelled jets, size and steps, and how many labels so many unlabelled jets are worth.

    OMP_NUM_THREADS=1 python benchmarks/scaling_laws.py --pairs PAIRS --train TRAIN --work FOLDER
        --cases tiny:1:800 tiny:4:800 tiny:13:800 [--seeds 2]

PAIRS has the files PROCESS-ROUND-first.root and PROCESS-ROUND-second.root of `simulate --pairs`; a case is size, rounds
and steps of 256 pairs: `simclr` is trained on the pairs of the first rounds, a tenth of which is held out. z is read by
logistic regression with 1,000 and 10,000 labels of TRAIN, and tested on 10,000 held-out jets of it. The boosted trees
on observables are fitted on 300 to 80,000 labels of the same jets: the number of labels with which they would be as
good as z is interpolated in its logarithm. Rows are kept in --work and not made again; the table and the fits are of
all rows in it.

A fit is a line through the logarithms of the error rate and of the varied quantity, at the same other two quantities:
error = a * quantity ** -b, with the standard error of b over the rows.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from compare_methods import accuracy_of, cached, labels
from scipy.stats import linregress

import ssl_jets
from ssl_jets.arrays import Array
from ssl_jets.config import DataSettings
from ssl_jets.data.dataset import open_dataset
from ssl_jets.evaluation.probes.classes import Labelled, fitted_trees, linear_probe
from ssl_jets.evaluation.probes.observables import observable_inputs
from ssl_jets.evaluation.roles import draw
from ssl_jets.jets import Jets
from ssl_jets.model import embed_jets
from ssl_jets.model_file import load_model

BATCH = 256
FIT, TEST = 80_000, 10_000
LABELS = (1_000, 10_000)
TREE_LABELS = (300, 1_000, 3_000, 10_000, 30_000, 80_000)
VARIED = ("pairs", "parameters", "steps")


@dataclass(frozen=True)
class Case:
    """A training: size of the encoder, rounds of simulated pairs, steps."""

    size: str
    rounds: int
    steps: int

    @classmethod
    def of(cls, text: str) -> Case:
        """Read `size:rounds:steps`."""
        size, rounds, steps = text.split(":")
        return cls(size, int(rounds), int(steps))

    def name(self, seed: int) -> str:
        """Return the name of its files."""
        return f"{self.size}-{self.rounds}-{self.steps}-{seed}"


class Readers:
    """The jets that z and observables are read on."""

    def __init__(self, train: str) -> None:
        data = open_dataset(DataSettings(sources=(train,)))
        self.fit: Jets = draw(data.files, data.train, FIT, 0)
        self.test: Jets = draw(data.files, data.held_out, TEST, 0)

    @cached_property
    def order(self) -> Array:
        """The jets to fit on: each number of labels takes the first of them."""
        return np.random.default_rng(0).permutation(len(self.fit))

    def probes(self, model: Path) -> dict[str, float]:
        """Return the accuracy of z with each number of labels."""
        encoder = load_model(model).encoder
        rows = self.order[: max(LABELS)]
        fit = Labelled.of(embed_jets(encoder, self.fit.select(torch.as_tensor(rows))).numpy(), labels(self.fit)[rows])
        test = Labelled.of(embed_jets(encoder, self.test).numpy(), labels(self.test))
        return {
            str(count): accuracy_of(linear_probe(fit.some(np.arange(count)), test))["linear"][0] for count in LABELS
        }

    def trees(self) -> dict[str, float]:
        """Return the accuracy of trees on observables with each number of labels."""
        x_fit, x_test = observable_inputs(self.fit, self.test)
        y_fit, y_test, classes = labels(self.fit), labels(self.test), int(labels(self.test).max()) + 1
        found = {}
        for count in TREE_LABELS:
            rows = self.order[:count]
            reader = fitted_trees(Labelled.of(x_fit[rows], y_fit[rows]), classes, 0)
            found[str(count)] = float((reader(x_test).argmax(1) == y_test).mean())
        return found


def trained(case: Case, seed: int, pairs: Path, work: Path, readers: Readers) -> dict[str, Any]:
    """Train a case and return its row."""
    first, second = (
        [f"{pairs}/*-{number}-{side}.root" for number in range(case.rounds)] for side in ("first", "second")
    )
    settings = {
        "data.pairs": dict(zip(first, second, strict=True)),
        "train.lr": 1e-3,
        "train.validate_every": case.steps,
        "train.validation_jets": 2_000,
        "method.views.thin": 0.2,
        "method.observables_weight": 0,
    }
    begin, out = time.process_time(), work / case.name(seed)
    options: dict[str, Any] = {
        "size": case.size,
        "steps": case.steps,
        "batch_size": BATCH,
        "seed": seed,
        "settings": settings,
    }
    run = ssl_jets.pretrain("simclr", data=first, out=out, resume=True, **options)
    spent = time.process_time() - begin
    record = json.loads((run / "model" / "config.json").read_text())
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    held_out = next(line["loss"] for line in reversed(lines) if line["kind"] == "validation")
    sizes = {
        "pairs": record["training"]["jets_per_epoch"],
        "parameters": record["parameters"],
    }
    row = {"case": case.name(seed), "steps": case.steps, "cpu_seconds": spent, "held_out_loss": held_out}
    return row | sizes | {"accuracy": readers.probes(run)}


def worth(accuracy: float, trees: dict[str, float]) -> float:
    """Return the number of labels with which trees have this accuracy, interpolated; infinite beyond their best.

    >>> round(worth(0.55, {"1000": 0.5, "10000": 0.6}))
    3162
    """
    best = np.maximum.accumulate(list(trees.values()))
    if accuracy > best[-1]:
        return float("inf")
    return float(np.exp(np.interp(accuracy, best, np.log([int(count) for count in trees]))))


def fits(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a line for each quantity that was varied with the other two fixed."""
    for quantity in VARIED:
        others = [name for name in VARIED if name != quantity]
        for fixed in sorted({tuple(row[name] for name in others) for row in rows}):
            some = [row for row in rows if tuple(row[name] for name in others) == fixed]
            values = [row[quantity] for row in some]
            if len(set(values)) > 1:
                at = ", ".join(f"{name} {value:,}" for name, value in zip(others, fixed))
                for count in LABELS:
                    line = linregress(np.log(values), np.log([1 - row["accuracy"][str(count)] for row in some]))
                    error = "" if len(some) < 3 else f" +- {line.stderr:.3f}"
                    yield f"- {at}; {count:,} labels: error = c {quantity}^-b, b = {-line.slope:.3f}{error}"


def table(rows: list[dict[str, Any]], trees: dict[str, float]) -> Iterator[str]:
    """Yield the lines of the table, a line for all seeds of a case."""
    yield (
        "| case | parameters | pairs | steps | CPU min | held-out loss | "
        + " | ".join(f"z, {count:,} labels | labels of trees" for count in LABELS)
        + " |"
    )
    yield "|---" * (6 + 2 * len(LABELS)) + "|"
    for name in sorted({row["case"].rpartition("-")[0] for row in rows}):
        some = [row for row in rows if row["case"].rpartition("-")[0] == name]
        cells = [name, f"{some[0]['parameters']:,}", f"{some[0]['pairs']:,}", f"{some[0]['steps']:,}"]
        cells += [f"{statistics.fmean(row['cpu_seconds'] for row in some) / 60:.1f}"]
        cells += [f"{statistics.fmean(row['held_out_loss'] for row in some):.3f}"]
        for count in LABELS:
            found = [row["accuracy"][str(count)] for row in some]
            labels_of_trees = worth(statistics.fmean(found), trees)
            equal = f"{labels_of_trees:,.0f}" if np.isfinite(labels_of_trees) else f"more than {TREE_LABELS[-1]:,}"
            cells += [" ".join(f"{one:.3f}" for one in found), equal]
        yield f"| {' | '.join(cells)} |"


def main() -> None:
    """Train the cases, and print the table and the fits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--train", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--cases", nargs="*", type=Case.of, default=[])
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    readers = Readers(args.train)
    trees = cached(args.work / "rows" / "trees.json", readers.trees)
    for seed in range(args.seeds):
        for case in args.cases:
            path = args.work / "rows" / f"{case.name(seed)}.json"
            print(cached(path, partial(trained, case, seed, args.pairs, args.work, readers)), flush=True)
    files = sorted(file for file in (args.work / "rows").glob("*.json") if file.stem != "trees")
    rows = [json.loads(file.read_text()) for file in files]
    print("\n".join([*table(rows, trees), "", "trees on observables:", json.dumps(trees), "", *fits(rows)]))


if __name__ == "__main__":
    main()
