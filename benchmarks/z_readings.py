"""Whether another reading of a trained encoder is worth more than its class token: pooled tokens, earlier blocks.

    OMP_NUM_THREADS=1 python benchmarks/z_readings.py --model small-ssl --train TRAIN --shifted SHIFTED
        --quark QUARK --gluon GLUON

The jets and tasks are those of bundled_models.py with up to 10,000 labels. Every reading is read by logistic regression
(ridge regression for the soft-drop mass, R^2) on the same labels and test jets, three draws of the labels. A row has
the mean over the draws, and in brackets the mean paired difference to the class token and its error.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from copy import deepcopy

import numpy as np
import torch
from bundled_models import MASS, Task, quarks_and_gluons, ridge, tasks
from sklearn.metrics import r2_score
from torch import nn

from ssl_jets.arrays import Array
from ssl_jets.evaluation.probes.classes import Labelled, linear_reader
from ssl_jets.jets import Jets
from ssl_jets.model import embed_jets
from ssl_jets.model_file import load_model
from ssl_jets.nn.encoder import Encoder

MOST_LABELS = 10_000
SEEDS = range(3)
Reading = Callable[[Jets], Array]


def readings_of(encoder: Encoder) -> dict[str, Reading]:
    """Return readings of an encoder by name; the class token of an earlier block goes through the final norm."""

    def read(changed: Encoder) -> Reading:
        return lambda jets: embed_jets(changed, jets).numpy()

    encoders = {"class token": encoder}
    blocks = len(encoder.transformer.blocks)
    for number in range(1, blocks):
        encoders[f"class token after {number} of {blocks} blocks"] = shorter = deepcopy(encoder)
        shorter.transformer.blocks = nn.ModuleList(list(encoder.transformer.blocks)[:number])
    encoders["mean of the particles"] = pooled = deepcopy(encoder)
    pooled.set_pool("mean")
    found = {name: read(changed) for name, changed in encoders.items()}
    for other in ("mean of the particles", f"class token after {blocks // 2} of {blocks} blocks"):
        found[f"class token and {other}"] = joined(found["class token"], found[other])
    return found


def joined(one: Reading, other: Reading) -> Reading:
    """Return the concatenation of two readings."""
    return lambda jets: np.concatenate([one(jets), other(jets)], axis=1)


def scores(task: Task, reading: Reading, of_test: Array, target: str) -> list[float]:
    """Return the score of a reading with each draw of the labels: accuracy, or R^2 of the soft-drop mass."""
    found = []
    for seed in SEEDS:
        fit = task.fit.select(torch.from_numpy(task.rows(seed)))
        z = reading(fit)
        if target == MASS:
            predicted = ridge().fit(z, np.asarray(fit.jet[MASS])).predict(of_test)
            found.append(r2_score(np.asarray(task.test.jet[MASS]), predicted))
        else:
            labels, truth = np.asarray(fit.labels), np.asarray(task.test.labels)
            probabilities = linear_reader(Labelled.of(z, labels), int(truth.max()) + 1)(of_test)
            found.append(float((probabilities.argmax(1) == truth).mean()))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="small-ssl")
    for name in ("train", "shifted", "quark", "gluon"):
        parser.add_argument(f"--{name}", required=True)
    args = parser.parse_args()
    encoder = load_model(args.model).encoder
    assert isinstance(encoder, Encoder)
    every = [*tasks(args.train, args.shifted), quarks_and_gluons(args.quark, args.gluon)]
    rows = [(task, "class", task.name) for task in every if task.labels <= MOST_LABELS]
    rows.append((every[0], MASS, "soft-drop mass (R^2), 1,000 labels"))
    readings = readings_of(encoder)
    print("| task |", " | ".join(readings), "|\n|---|" + "---|" * len(readings), flush=True)
    tests: dict[tuple[int, str], Array] = {}
    for task, target, name in rows:
        found = {}
        for label, reading in readings.items():
            key = (id(task.test), label)
            if key not in tests:
                tests[key] = reading(task.test)
            found[label] = scores(task, reading, tests[key], target)
        base = found["class token"]
        cells = [f"{statistics.mean(base):.3f}"]
        for values in list(found.values())[1:]:
            gains = [value - before for value, before in zip(values, base, strict=True)]
            error = statistics.stdev(gains) / len(gains) ** 0.5
            cells.append(f"{statistics.mean(values):.3f} ({statistics.mean(gains):+.3f} +- {error:.3f})")
        print(f"| {name} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
