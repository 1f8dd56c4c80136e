"""Boosted trees on observables with few labels: accuracy and log loss by the size of the trees.

    OMP_NUM_THREADS=1 python benchmarks/tree_size.py --train TRAIN --shifted SHIFTED --quark QUARK --gluon GLUON
        [--draws 3]

Jets and tasks of `bundled_models.py` with 1,000 labels. Each draw takes other labelled jets. Beside the sizes is the
reader of `evaluate`, which chooses among them for two classes. Means over draws; seconds are CPU time of a fit.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from bundled_models import Task, quarks_and_gluons, tasks
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import log_loss

from ssl_jets.arrays import Array
from ssl_jets.evaluation.probes.classes import ITERATIONS, TREE_SIZES, Labelled, fitted_trees
from ssl_jets.evaluation.probes.observables import observable_inputs

LABELS = 1_000
Fit = Callable[[Labelled, int, int], Callable[[Array], Array]]
"""Function of jets to fit on, number of classes and seed that returns a reader."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--train", "--shifted", "--quark", "--gluon"):
        parser.add_argument(name, required=True)
    parser.add_argument("--draws", type=int, default=3)
    args = parser.parse_args()
    every = [*tasks(args.train, args.shifted), quarks_and_gluons(args.quark, args.gluon)]
    fits = {f"{size.get('max_leaf_nodes', 31)} leaves": partial(of_size, size) for size in TREE_SIZES}
    readers: dict[str, Fit] = {**fits, "`evaluate`": fitted_trees}
    print(f"| task | measure | {' | '.join(readers)} |", "|---" * (2 + len(readers)) + "|", sep="\n")
    for task in (task for task in every if task.labels == LABELS):
        x = observable_inputs(task.fit, task.test)
        found = np.array([[measured(task, x, fit, draw) for fit in readers.values()] for draw in range(args.draws)])
        for measure, values in zip(("accuracy", "log loss", "seconds"), found.mean(axis=0).T):
            digits = 1 if measure == "seconds" else 3
            numbers = " | ".join(f"{value:.{digits}f}" for value in values)
            print(f"| {task.name} | {measure} | {numbers} |", flush=True)


def of_size(size: dict[str, float], fit: Labelled, classes: int, seed: int) -> Callable[[Array], Array]:
    """Fit trees of one of `TREE_SIZES`."""
    trees = HistGradientBoostingClassifier(max_iter=ITERATIONS, early_stopping=False, random_state=seed, **size)
    trees.fit(fit.x, fit.y)
    assert len(trees.classes_) == classes
    return lambda x: trees.predict_proba(x)


def measured(task: Task, x: tuple[Array, Array], fit: Fit, draw: int) -> tuple[float, float, float]:
    """Return accuracy and log loss on the test jets, and CPU seconds of the fit, from observables of both sides."""
    rows, (x_fit, x_test) = task.rows(draw), x
    labels, truth = np.asarray(task.fit.labels)[rows], np.asarray(task.test.labels)
    began = time.process_time()
    reader = fit(Labelled.of(x_fit[rows], labels), int(truth.max()) + 1, draw)
    seconds = time.process_time() - began
    probabilities = reader(x_test)
    return float((probabilities.argmax(1) == truth).mean()), float(log_loss(truth, probabilities)), seconds


if __name__ == "__main__":
    main()
