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
from bundled_models import MASS, quarks_and_gluons, ridge, tasks
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
CLASS_TOKEN, MEAN = "class token", "mean of the particles"
Readings = dict[str, Array]
"""z of some jets by the name of the reading, `[jet, D]` each."""


def reader_of(encoder: Encoder) -> Callable[[Jets], Readings]:
    """Return the function that reads z of jets; the class token of an earlier block goes through the final norm."""
    encoders = {CLASS_TOKEN: encoder}
    blocks = len(encoder.transformer.blocks)
    for number in range(1, blocks):
        encoders[f"class token after {number} of {blocks} blocks"] = shorter = deepcopy(encoder)
        shorter.transformer.blocks = nn.ModuleList(list(encoder.transformer.blocks)[:number])
    encoders[MEAN] = pooled = deepcopy(encoder)
    pooled.set_pool("mean")

    def read(jets: Jets) -> Readings:
        found = {name: embed_jets(changed, jets).numpy() for name, changed in encoders.items()}
        for other in (MEAN, f"class token after {blocks // 2} of {blocks} blocks"):
            found[f"{CLASS_TOKEN} and {other}"] = np.concatenate([found[CLASS_TOKEN], found[other]], axis=1)
        return found

    return read


def score(fit: Jets, z: Array, test: Jets, of_test: Array, target: str) -> float:
    """Return the score of a reading with some labels: accuracy, or R^2 of the soft-drop mass."""
    if target == MASS:
        predicted = ridge().fit(z, np.asarray(fit.jet[MASS])).predict(of_test)
        return float(r2_score(np.asarray(test.jet[MASS]), predicted))
    truth = np.asarray(test.labels)
    probabilities = linear_reader(Labelled.of(z, np.asarray(fit.labels)), int(truth.max()) + 1)(of_test)
    return float((probabilities.argmax(1) == truth).mean())


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
    read = reader_of(encoder)
    tests: dict[int, Readings] = {}
    for number, (task, target, name) in enumerate(rows):
        if id(task.test) not in tests:
            tests[id(task.test)] = read(task.test)
        of_test = tests[id(task.test)]
        if not number:
            print("| task |", " | ".join(of_test), "|\n|---|" + "---|" * len(of_test), flush=True)
        scores: dict[str, list[float]] = {label: [] for label in of_test}
        for seed in SEEDS:
            fit = task.fit.select(torch.from_numpy(task.rows(seed)))
            for label, z in read(fit).items():
                scores[label].append(score(fit, z, task.test, of_test[label], target))
        base = scores[CLASS_TOKEN]
        cells = [f"{statistics.mean(base):.3f}"]
        for values in list(scores.values())[1:]:
            gains = [value - before for value, before in zip(values, base, strict=True)]
            error = statistics.stdev(gains) / len(gains) ** 0.5
            cells.append(f"{statistics.mean(values):.3f} ({statistics.mean(gains):+.3f} +- {error:.3f})")
        print(f"| {name} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
