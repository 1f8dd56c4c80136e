"""How much track features and secondary vertices help a tagger, on simulated jets of H to bb, H to cc and QCD.

    python benchmarks/gain.py FOLDER [--jets 5000] [--test 3000] [--steps 800] [--seeds 3]

Makes the jets with `simulate --vertices` (seeds 11 and 12 of training and test), trains `supervised` with each set of
inputs from random weights, and prints accuracy, AUC and mistag rate on the test jets, and differences of trainings with
the same seed. Errors are those of the mean over seeds, and of the test jets (bootstrap, the same jets in both terms of
a difference), in quadrature. Files and scores in the folder are used again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from jet_files import draws, with_error
from sklearn.metrics import roc_auc_score

import ssl_jets

CLASSES = {"hbb": "Hbb", "hcc": "Hcc", "qcd": "QCD"}
LABELS = {"data.labels": [*CLASSES.values()]}
KINEMATICS = ["pt", "deta", "dphi", "energy"]
TRACKS = ["charge", "kind", "d0", "d0err", "dz", "dzerr"]
INPUTS = {
    "kinematics": KINEMATICS,
    "and tracks": [*KINEMATICS, *TRACKS],
    "and vertices": [*KINEMATICS, "SV"],
    "and both": [*KINEMATICS, *TRACKS, "SV"],
}
DIFFERENCES = (
    ("and tracks", "kinematics"),
    ("and vertices", "kinematics"),
    ("and both", "and tracks"),
    ("and both", "and vertices"),
)
EFFICIENCY = 0.7
"""Share of Hbb jets that pass where the mistag rate is counted."""
RESAMPLES = 200


def main() -> None:
    """Simulate, train, and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--jets", type=int, default=5000)
    parser.add_argument("--test", type=int, default=3000)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    train = simulated(args.folder, "train", args.jets, seed=11)
    test = ssl_jets.read_jets(simulated(args.folder, "test", args.test, seed=12), settings=LABELS)
    labels = test.labels.numpy()
    scores: dict[str, list[Any]] = {name: [] for name in INPUTS}
    for seed in range(args.seeds):
        for name in INPUTS:
            scores[name].append(class_scores(args.folder, train, test, name, seed=seed, steps=args.steps))
    report(scores, labels)


def simulated(folder: Path, name: str, jets: int, seed: int) -> list[str]:
    """Return files of jets of each class, with vertices; those that exist are not made again."""
    paths = {process: folder / f"{name}-{process}.root" for process in CLASSES}
    for process, path in paths.items():
        if not path.exists():
            ssl_jets.simulate(process, jets=jets, out=path, seed=seed, vertices=True)
    return [str(path) for path in paths.values()]


def class_scores(folder: Path, train: list[str], test: Any, name: str, *, seed: int, steps: int) -> Any:
    """Return the probabilities of the test jets, `[jet, class]` in the order of `CLASSES`."""
    run = folder / f"{name.replace(' ', '-')}-{seed}"
    saved = run.with_suffix(".npy")
    if not saved.exists():
        settings = {"model.inputs": INPUTS[name], "train.validate_every": steps} | LABELS
        options = {"data": train, "steps": steps, "batch_size": 128, "seed": seed, "settings": settings}
        model = ssl_jets.load_model(ssl_jets.pretrain("supervised", size="tiny", out=run, force=True, **options))
        order = [model.labels.index(label) for label in CLASSES.values()]
        np.save(saved, model.predict(test)[:, order])
    return np.load(saved)


def report(scores: dict[str, list[Any]], labels: Any) -> None:
    """Print the values of each set of inputs, and the differences."""
    names = {"accuracy": accuracy, "AUC Hbb, QCD": auc(2), "AUC Hbb, Hcc": auc(1)}
    names |= {"QCD mistag": mistag(2), "Hcc mistag": mistag(1)}
    samples = draws(len(labels), RESAMPLES)
    # [draw, seed] for each set of inputs and measure; draw 0 has every jet once.
    values = {
        (inputs, measure): np.array([[function(one[draw], labels[draw]) for one in seeds] for draw in samples])
        for inputs, seeds in scores.items()
        for measure, function in names.items()
    }
    print(f"| inputs | {' | '.join(names)} |\n|---{'|---' * len(names)}|")
    for inputs in scores:
        print(f"| {inputs} | {' | '.join(with_error(values[inputs, name]) for name in names)} |")
    print(f"\n| difference | {' | '.join(names)} |\n|---{'|---' * len(names)}|")
    for one, other in DIFFERENCES:
        cells = (with_error(values[one, name] - values[other, name]) for name in names)
        print(f"| {one} - {other} | {' | '.join(cells)} |")


def accuracy(scores: Any, labels: Any) -> float:
    """Return the share of jets whose class has the largest probability."""
    return float((scores.argmax(axis=1) == labels).mean())


def auc(background: int) -> Any:
    """Return the AUC of Hbb against a class, as a function of scores and labels."""

    def measure(scores: Any, labels: Any) -> float:
        rows = np.isin(labels, (0, background))
        return float(roc_auc_score(labels[rows] == 0, ratio(scores, background)[rows]))

    return measure


def mistag(background: int) -> Any:
    """Return the share of a class that passes with 70 % of Hbb, as a function of scores and labels."""

    def measure(scores: Any, labels: Any) -> float:
        value = ratio(scores, background)
        cut = np.quantile(value[labels == 0], 1 - EFFICIENCY)
        return float((value[labels == background] > cut).mean())

    return measure


def ratio(scores: Any, background: int) -> Any:
    """Return p_Hbb / (p_Hbb + p_background)."""
    return scores[:, 0] / (scores[:, 0] + scores[:, background])


if __name__ == "__main__":
    main()
