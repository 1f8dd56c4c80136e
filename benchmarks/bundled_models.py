"""What the z of a model is worth against observables, on several tasks with few and with many labels.

    OMP_NUM_THREADS=1 python benchmarks/bundled_models.py --models small-ssl RUN --train TRAIN --shifted SHIFTED
        --quark QUARK --gluon GLUON

TRAIN is a folder of labelled jets of the ten classes of JetClass, of which the held-out part is tested on (no model
may have been trained on it), SHIFTED one of labelled jets of another simulation; QUARK and GLUON are files of these
processes. Each task is read by logistic regression of z; its baselines are logistic regression and boosted trees on
observables of the particles (those of `evaluate`). The difference is taken to the better of the two, on the same test
jets, with its 95 % interval of the bootstrap over jets. The soft-drop mass is regressed by ridge regression of z, by
trees of observables, and compared by R^2.

With --finetune FOLDER each model is also finetuned there on 1 % of the labels (mode lora, 90 steps of 64 jets), with
three seeds that choose other labels.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from compare_methods import head_accuracy
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ssl_jets.arrays import Array
from ssl_jets.config import DataSettings
from ssl_jets.data.dataset import open_dataset
from ssl_jets.data.request import Request
from ssl_jets.embedding.encoding import embed_jets
from ssl_jets.evaluation.probes.classes import Labelled, fitted_trees, linear_reader
from ssl_jets.evaluation.probes.particles import observable_inputs
from ssl_jets.evaluation.roles import draw
from ssl_jets.finetuning import finetune, resolve_finetune
from ssl_jets.jets import COLUMNS, Jets, concatenate
from ssl_jets.model_file import load_model
from ssl_jets.sharing.location import locate

MASS = "jet_sdmass"
KINEMATICS = ("pt", "deta", "dphi", "energy")
RESAMPLES = 500
FEW = {"method": {"mode": "lora", "labels": 0.01}, "train": {"steps": 90, "batch_size": 64, "validation_jets": 500}}
"""Finetuning on 1 % of the labels: more steps of these learn the labels by heart."""


@dataclass(frozen=True)
class Task:
    """Jets to fit on and to test on, and what is read from them.

    Attributes:
        name: for the table.
        fit, test: the jets, with labels from 0.
        labels: number of jets to fit on.
    """

    name: str
    fit: Jets
    test: Jets
    labels: int

    def rows(self) -> Array:
        """Return the jets to fit on, the same for all readers."""
        return np.random.default_rng(0).permutation(len(self.fit))[: self.labels]


def classes_of(names: Sequence[str], of: Sequence[str], jets: Jets, columns: Sequence[str] = COLUMNS) -> Jets:
    """Select the jets of some classes, and the particle columns that the task offers."""
    assert jets.labels is not None
    wanted = torch.tensor([of.index(name) for name in names])
    rows = torch.isin(jets.labels, wanted).nonzero().squeeze(1)
    some = jets.select(rows).without([name for name in jets.columns if name not in columns])
    assert some.labels is not None
    return replace(some, labels=(some.labels[:, None] == wanted).int().argmax(1))


def quarks_and_gluons(quark: str, gluon: str) -> Task:
    """Read the task to tell jets of a quark from jets of a gluon; half of the jets are tested on."""
    sides: list[list[Jets]] = [[], []]
    for label, path in enumerate((quark, gluon)):
        data = open_dataset(DataSettings(sources=(path,), validation_fraction=0.5))
        for side, parts in zip(sides, (data.train, data.held_out), strict=True):
            jets = draw(data.files, parts, 10_000, 0, Request())
            side.append(replace(jets, labels=torch.full((len(jets),), label)))
    return Task("quark against gluon, 1,000 labels", *(concatenate(side) for side in sides), 1_000)


def tasks(train: str, shifted: str) -> list[Task]:
    """Read the jets of all other tasks."""
    data = open_dataset(DataSettings(sources=(train,)))
    request = Request((MASS,))
    fit, test = draw(data.files, data.train, 80_000, 0, request), draw(data.files, data.held_out, 10_000, 0, request)
    other = open_dataset(DataSettings(sources=(shifted,), validation_fraction=0.5))
    moved = [draw(other.files, parts, 5_000, 0, request) for parts in (other.train, other.held_out)]
    of = data.label_names
    found = [Task(f"ten classes, {labels:,} labels", fit, test, labels) for labels in (1_000, 10_000, 80_000)]
    pairs = {
        "W against Z": (("Wqq", "Zqq"), COLUMNS),
        "top against QCD, kinematics only": (("Tbqq", "QCD"), KINEMATICS),
    }
    for name, (names, columns) in pairs.items():
        sides = [classes_of(names, of, jets, columns) for jets in (fit, test)]
        found.append(Task(f"{name}, 1,000 labels", *sides, 1_000))
    found.append(Task("ten classes of the shifted simulation, 1,000 labels", *moved, 1_000))
    name = "ten classes of the shifted simulation, 10,000 labels of the nominal one"
    return [*found, Task(name, fit, moved[1], 10_000)]


def classified(task: Task, z: Callable[[Jets], Array]) -> list[str]:
    """Return a row of the table: accuracy from z, from observables, and the difference."""
    rows, x = task.rows(), observable_inputs(task.fit, task.test)
    fit, truth = np.asarray(task.fit.labels)[rows], np.asarray(task.test.labels)
    classes = int(truth.max()) + 1
    right = {}
    for name, (x_fit, x_test), reader in (
        ("z", (z(task.fit)[rows], z(task.test)), linear_reader),
        ("linear", (np.nan_to_num(x[0][rows]), np.nan_to_num(x[1])), linear_reader),
        ("trees", (x[0][rows], x[1]), lambda side, number: fitted_trees(side, number, 0)),
    ):
        right[name] = reader(Labelled.of(x_fit, fit), classes)(x_test).argmax(1) == truth
    best = max(("linear", "trees"), key=lambda name: right[name].mean())
    low, high = interval(lambda of: right["z"][of].mean() - right[best][of].mean(), len(truth))
    values = [f"{right[name].mean():.3f}" for name in ("z", "linear", "trees")]
    return [task.name, *values, f"{right['z'].mean() - right[best].mean():+.3f} ({low:+.3f} to {high:+.3f})"]


def regressed(task: Task, z: Callable[[Jets], Array]) -> list[str]:
    """Return the row of the soft-drop mass: R^2 from z, from observables, and the difference."""
    rows, x = task.rows(), observable_inputs(task.fit, task.test)
    fit, truth = (np.asarray(jets.jet[MASS]) for jets in (task.fit, task.test))
    linear = {"z": (z(task.fit), z(task.test)), "linear": tuple(np.nan_to_num(side) for side in x)}
    found = {}
    for name, (x_fit, x_test) in linear.items():
        found[name] = make_pipeline(StandardScaler(), Ridge(1.0)).fit(x_fit[rows], fit[rows]).predict(x_test)
    found["trees"] = HistGradientBoostingRegressor(random_state=0).fit(x[0][rows], fit[rows]).predict(x[1])
    score = {name: r2_score(truth, predicted) for name, predicted in found.items()}
    best = max(("linear", "trees"), key=lambda name: score[name])
    low, high = interval(
        lambda of: r2_score(truth[of], found["z"][of]) - r2_score(truth[of], found[best][of]), len(truth)
    )
    values = [f"{score[name]:.3f}" for name in ("z", "linear", "trees")]
    return [
        "soft-drop mass (R^2), 1,000 labels",
        *values,
        f"{score['z'] - score[best]:+.3f} ({low:+.3f} to {high:+.3f})",
    ]


def finetuned(model: str, train: str, test: Jets, work: Path) -> list[float]:
    """Return the accuracy of a model finetuned on 1 % of the labels, for each seed."""
    found = []
    for seed in range(3):
        layers = {"data": {"sources": [train]}, "method": {"subset_seed": seed}, "train": {"seed": seed}}
        out = work / f"{Path(model).name}-{seed}"
        found.append(head_accuracy(finetune(resolve_finetune(locate(model), FEW, layers), out, force=True), test))
    return found


def remembered(embed: Callable[[Jets], torch.Tensor]) -> Callable[[Jets], Array]:
    """Return a function that encodes each set of jets once."""
    made: dict[int, Array] = {}

    def z(jets: Jets) -> Array:
        if id(jets) not in made:
            made[id(jets)] = embed(jets).numpy()
        return made[id(jets)]

    return z


def interval(difference: Callable[[Array], float], jets: int) -> tuple[float, float]:
    """Return the 95 % interval of a difference over resampled test jets."""
    rng = np.random.default_rng(0)
    values = [difference(rng.integers(0, jets, jets)) for _ in range(RESAMPLES)]
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def main() -> None:
    """Write the table of each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", required=True)
    parser.add_argument("--train", required=True)
    parser.add_argument("--shifted", required=True)
    parser.add_argument("--quark", required=True)
    parser.add_argument("--gluon", required=True)
    parser.add_argument("--finetune", metavar="FOLDER", type=Path)
    args = parser.parse_args()
    every = [*tasks(args.train, args.shifted), quarks_and_gluons(args.quark, args.gluon)]
    for name in args.models:
        encoder = load_model(name).encoder
        z = remembered(partial(embed_jets, encoder))
        print(f"## {Path(name).name}\n")
        print("| task | z, linear | observables, linear | observables, trees | difference to the better (95 %) |")
        print("|---|---|---|---|---|")
        for row in [*(classified(task, z) for task in every), regressed(every[0], z)]:
            print("| " + " | ".join(row) + " |", flush=True)
        if args.finetune:
            found = finetuned(name, args.train, every[0].test, args.finetune)
            print("\nfinetuned on 1 % of the labels:", ", ".join(f"{accuracy:.3f}" for accuracy in found))


if __name__ == "__main__":
    main()
