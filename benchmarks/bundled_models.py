"""What the z of a model is worth against observables, on several tasks with few and with many labels.

    OMP_NUM_THREADS=1 python benchmarks/bundled_models.py --models small-ssl RUN --train TRAIN --shifted SHIFTED
        [--quark QUARK --gluon GLUON]

TRAIN is a folder of labelled jets of the ten classes of JetClass, of which the held-out part is tested on (no model
may have been trained on it), SHIFTED one of labelled jets of another simulation; QUARK and GLUON are files of these
processes, and may be left out. Each task is read by logistic regression of z; its baselines are logistic regression and
boosted trees on observables of the particles (those of `evaluate`), and smaller trees. The difference is taken to the
best of the three, on the same test jets, with its 95 % interval of the bootstrap over jets. The soft-drop mass is
regressed by ridge regression and trees, and compared by R^2.

With --finetune FOLDER each model is finetuned there instead (mode lora, 90 steps of 64 jets): on 1 % of the labels of
the ten classes, and on 1,000 labels of each task. Three seeds choose other labels; each pairs the model with the
best reading of observables on the same labels. The difference has the error of its mean over the seeds, and the 95 %
interval of the bootstrap over test jets.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from compare_methods import head_accuracy
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from ssl_jets.arrays import Array
from ssl_jets.config import DataSettings
from ssl_jets.data.dataset import open_dataset
from ssl_jets.data.request import Request
from ssl_jets.data.write import write_jets
from ssl_jets.evaluation.metrics.bootstrap import PERCENTILES
from ssl_jets.evaluation.probes.classes import Labelled, fitted_trees, linear_reader
from ssl_jets.evaluation.probes.observables import observable_inputs
from ssl_jets.evaluation.probes.physics import ALPHAS
from ssl_jets.evaluation.roles import draw
from ssl_jets.finetuning import finetune, resolve_finetune
from ssl_jets.jets import COLUMNS, Jets, concatenate
from ssl_jets.model import embed_jets
from ssl_jets.model_file import load_model
from ssl_jets.nn.tasks import LABEL
from ssl_jets.sharing.location import locate

MASS = "jet_sdmass"
KINEMATICS = ("pt", "deta", "dphi", "energy")
RESAMPLES = 500
FEW = {"method": {"mode": "lora"}, "train": {"steps": 90, "batch_size": 64, "validation_jets": 500}}
"""Finetuning on few labels: more steps of these learn the labels by heart."""
SMALL: dict[str, Any] = {
    "max_iter": 150,
    "learning_rate": 0.05,
    "max_leaf_nodes": 8,
    "l2_regularization": 5.0,
    "max_features": 0.3,
}
"""Boosted trees for few labels of two classes, where those of `evaluate` learn the jets by heart."""
BASELINES = ("linear", "trees", "small trees")
"""Readers of observables."""
SHARE = 0.01
NAMES = ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl")
"""Classes in the files that the jets of a task are written to."""
SEEDS = range(3)


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

    def rows(self, seed: int = 0) -> Array:
        """Return the jets to fit on, the same for all readers."""
        return np.random.default_rng(seed).permutation(len(self.fit))[: self.labels]


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


def small_trees(fit: Labelled, classes: int) -> Callable[[Array], Array]:
    """Fit boosted trees of few leaves: from observables `[jet, column]` to probabilities `[jet, class]`."""
    trees = HistGradientBoostingClassifier(early_stopping=False, random_state=0, **SMALL).fit(fit.x, fit.y)
    assert len(trees.classes_) == classes
    return lambda x: trees.predict_proba(x)


Right = dict[str, Array]
"""Which test jets each reader classifies correctly, bool `[jet]`, or what it regresses of them."""


def correct(task: Task, seed: int = 0, z: Callable[[Jets], Array] | None = None) -> Right:
    """Return which test jets are classified correctly from observables, by each of `BASELINES`, and from z."""
    rows, x = task.rows(seed), observable_inputs(task.fit, task.test)
    fit, truth = np.asarray(task.fit.labels)[rows], np.asarray(task.test.labels)
    readers = [
        ("linear", (np.nan_to_num(x[0][rows]), np.nan_to_num(x[1])), linear_reader),
        ("trees", (x[0][rows], x[1]), lambda side, number: fitted_trees(side, number, 0)),
        ("small trees", (x[0][rows], x[1]), small_trees),
    ]
    if z is not None:
        readers.append(("z", (z(task.fit)[rows], z(task.test)), linear_reader))
    classes = int(truth.max()) + 1
    return {
        name: reader(Labelled.of(x_fit, fit), classes)(x_test).argmax(1) == truth
        for name, (x_fit, x_test), reader in readers
    }


def classified(task: Task, z: Callable[[Jets], Array]) -> list[str]:
    """Return a row of the table: accuracy from z, from observables, and the difference."""
    right = correct(task, z=z)
    best = max(BASELINES, key=lambda name: right[name].mean())
    low, high = interval(lambda of: right["z"][of].mean() - right[best][of].mean(), len(task.test))
    values = [f"{right[name].mean():.3f}" for name in ("z", *BASELINES)]
    return [task.name, *values, f"{right['z'].mean() - right[best].mean():+.3f} ({low:+.3f} to {high:+.3f})"]


def ridge() -> Pipeline:
    """Return the linear regression of the soft-drop mass."""
    return make_pipeline(StandardScaler(), RidgeCV(ALPHAS))


def masses(task: Task, seed: int = 0, z: Callable[[Jets], Array] | None = None) -> Right:
    """Return the soft-drop mass of the test jets, regressed from observables, by each of `BASELINES`, and from z."""
    rows, x = task.rows(seed), observable_inputs(task.fit, task.test)
    fit = np.asarray(task.fit.jet[MASS])[rows]
    linear = {"linear": tuple(np.nan_to_num(side) for side in x)}
    if z is not None:
        linear["z"] = z(task.fit), z(task.test)
    found = {}
    for name, (x_fit, x_test) in linear.items():
        found[name] = ridge().fit(x_fit[rows], fit).predict(x_test)
    for name, settings in (("trees", {}), ("small trees", SMALL)):
        trees = HistGradientBoostingRegressor(random_state=0, **settings)
        found[name] = trees.fit(x[0][rows], fit).predict(x[1])
    return found


def regressed(task: Task, z: Callable[[Jets], Array]) -> list[str]:
    """Return the row of the soft-drop mass: R^2 from z, from observables, and the difference."""
    found, truth = masses(task, z=z), np.asarray(task.test.jet[MASS])
    score = {name: r2_score(truth, predicted) for name, predicted in found.items()}
    best = max(BASELINES, key=lambda name: score[name])
    low, high = interval(
        lambda of: r2_score(truth[of], found["z"][of]) - r2_score(truth[of], found[best][of]), len(truth)
    )
    values = [f"{score[name]:.3f}" for name in ("z", *BASELINES)]
    return [
        "soft-drop mass (R^2), 1,000 labels",
        *values,
        f"{score['z'] - score[best]:+.3f} ({low:+.3f} to {high:+.3f})",
    ]


def finetuned(model: str, train: str, test: Jets, work: Path) -> list[float]:
    """Return the accuracy of a model finetuned on 1 % of the labels, for each seed."""
    found = []
    for seed in SEEDS:
        method = {"labels": SHARE, "subset_seed": seed}
        layers = {"data": {"sources": [train]}, "method": method, "train": {"seed": seed}}
        out = work / f"{Path(model).name}-{seed}"
        found.append(head_accuracy(finetune(resolve_finetune(locate(model), FEW, layers), out, force=True), test))
    return found


def finetuned_on(model: str, task: Task, seed: int, work: Path, target: str = LABEL) -> Array:
    """Finetune a model on the labels of a task; return which test jets it classifies correctly, or their masses."""
    assert task.fit.labels is not None
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(task.fit)))
    names = NAMES[: int(task.fit.labels.max()) + 1]
    paths = work / "fit.root", work / "held_out.root"
    for path, rows in zip(paths, (order[: task.labels], order[task.labels :][:500]), strict=True):
        write_jets(path, [task.fit.select(rows.sort().values)], labels=names, force=True)
    branches = [f"label_{name}" for name in names]
    data = {"sources": [str(paths[0])], "validation": [str(paths[1])], "labels": branches}
    layers = {"data": data, "method": {"targets": [target]}, "train": {"seed": seed}}
    out = finetune(resolve_finetune(locate(model), FEW, layers), work / f"{Path(model).name}-task", force=True)
    tuned = load_model(out)
    z = tuned.embed(task.test)
    if target == MASS:
        return tuned.regressed(z)[:, 0]
    right: Array = tuned.probabilities(z).argmax(1) == np.asarray(task.test.labels)
    return right


def finetuned_row(model: str, task: Task, work: Path, target: str = LABEL) -> list[str]:
    """Return a row of the second table: the best reading of observables, the finetuned model, the difference."""
    truth = np.asarray(task.test.jet[MASS]) if target == MASS else None

    def score(found: Array, of: Array | slice = slice(None)) -> float:
        return float(found[of].mean() if truth is None else r2_score(truth[of], found[of]))

    pairs = []
    for seed in SEEDS:
        read = (masses if target == MASS else correct)(task, seed)
        pairs.append((max(read.values(), key=score), finetuned_on(model, task, seed, work, target)))

    def gains(of: Array | slice = slice(None)) -> list[float]:
        return [score(tuned, of) - score(observables, of) for observables, tuned in pairs]

    error = np.std(gains(), ddof=1) / np.sqrt(len(pairs))
    low, high = interval(lambda of: float(np.mean(gains(of))), len(task.test))
    values = [f"{np.mean([score(one) for one in side]):.3f}" for side in zip(*pairs, strict=True)]
    name = task.name if truth is None else "soft-drop mass (R^2), 1,000 labels"
    return [name, *values, f"{np.mean(gains()):+.3f} +- {error:.3f} ({low:+.3f} to {high:+.3f})"]


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
    low, high = np.percentile(values, [2.5, 97.5], method=PERCENTILES)
    return float(low), float(high)


def reading(text: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options of the jets."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True)
    parser.add_argument("--shifted", required=True)
    parser.add_argument("--quark")
    parser.add_argument("--gluon")
    return parser


def tasks_of(args: argparse.Namespace) -> list[Task]:
    """Read the jets of all tasks that the options of `reading` name."""
    every = tasks(args.train, args.shifted)
    if args.quark and args.gluon:
        every.append(quarks_and_gluons(args.quark, args.gluon))
    return every


def main() -> None:
    """Write the table of each model."""
    parser = reading(__doc__)
    parser.add_argument("--models", nargs="+", required=True)
    parser.add_argument("--finetune", metavar="FOLDER", type=Path)
    args = parser.parse_args()
    every = tasks_of(args)
    for name in args.models:
        print(f"## {Path(name).name}\n")
        if args.finetune is None:
            print_probes(name, every)
        else:
            print_finetuned(name, every, args.train, args.finetune)


def print_probes(model: str, every: Sequence[Task]) -> None:
    """Print the table of readings of z."""
    encoder = load_model(model).encoder
    z = remembered(partial(embed_jets, encoder))
    print("| task | z, linear | observables, linear | trees | small trees | difference to the best (95 %) |")
    print("|---|---|---|---|---|---|")
    for row in [*(classified(task, z) for task in every), regressed(every[0], z)]:
        print("| " + " | ".join(row) + " |", flush=True)


def print_finetuned(model: str, every: Sequence[Task], train: str, work: Path) -> None:
    """Print the accuracy with 1 % of the labels, and the table of tasks with 1,000 labels."""
    found = finetuned(model, train, every[0].test, work)
    print("finetuned on 1 % of the labels:", ", ".join(f"{accuracy:.3f}" for accuracy in found))
    print("\n| task | observables, the best | finetuned | difference |\n|---|---|---|---|")
    few = [(task, LABEL) for task in every if task.labels == 1_000]
    for task, target in [*few, (every[0], MASS)]:
        print("| " + " | ".join(finetuned_row(model, task, work, target)) + " |", flush=True)


if __name__ == "__main__":
    main()
