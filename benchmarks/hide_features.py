"""Accuracy on files with and without the features of a model, trained with and without `train.hide_features`.

    PYTHONPATH=tests python benchmarks/hide_features.py FOLDER
    python benchmarks/hide_features.py FOLDER --reference JETCLASS_FOLDER [--steps 1200] [--seeds 3]

Without `--reference`: the jets of the tests (`tests/support/feature_files.py`), with pt half as large again in one
class, so that chi2 separates the classes better than pt does. A toy.

With it: `supervised` on simulated jets of all files of a folder in the JetClass layout. The last tenth of each file is
the test: as it is, without the track columns (d0, dz and their errors), and also without charge and kind.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
from jet_files import IDENTITY, TRACKS, copy_jets, mean_and_error

import ssl_jets

TOY_JETS = 2000
SHARES = (0.0, 0.3)
POORER: dict[str, tuple[str, ...]] = {"all columns": (), "no tracks": TRACKS, "no tracks, kind": (*TRACKS, *IDENTITY)}
"""Test files to the branches that they lack."""


def main() -> None:
    """Train with and without hidden features, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--reference", type=Path)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.reference:
        simulated(args.folder, args.reference, args.steps or 1200, args.seeds)
    else:
        toy(args.folder, args.steps or 300)


def simulated(folder: Path, reference: Path, steps: int, seeds: int) -> None:
    """Print the mean over seeds of the accuracy on each test file, and the paired differences of the trainings."""
    train, tests = split_files(folder, reference)
    jets = {name: ssl_jets.read_jets(str(path)) for name, path in tests.items()}
    right: dict[float, list[list[float]]] = {share: [] for share in SHARES}
    for seed in range(seeds):
        for share in SHARES:
            settings = {"train.hide_features": share, "train.validate_every": steps}
            run = ssl_jets.pretrain(
                "supervised",
                size="tiny",
                data=str(train),
                out=folder / f"hide-{share}-{seed}",
                steps=steps,
                batch_size=128,
                seed=seed,
                settings=settings,
            )
            model = ssl_jets.load_model(run)
            right[share].append([accuracy(model, one) for one in jets.values()])
            print(f"seed {seed}, hidden {share:g}: {right[share][-1]}", flush=True)
    print(f"| `train.hide_features` | {' | '.join(jets)} |\n|---{'|---' * len(jets)}|")
    for share, rows in right.items():
        print(f"| {share:g} | {' | '.join(mean_and_error(column) for column in np.transpose(rows))} |")
    differences = np.subtract(right[SHARES[1]], right[SHARES[0]])
    print(f"| difference | {' | '.join(mean_and_error(column) for column in differences.T)} |")


def split_files(folder: Path, reference: Path) -> tuple[Path, dict[str, Path]]:
    """Write the first nine tenths of each file to one folder, and the rest to a folder for each test."""
    train, tests = folder / "train", {name: folder / name.replace(", ", "-").replace(" ", "-") for name in POORER}
    for file in sorted(reference.glob("*.root")):
        if not (train / file.name).exists():
            for name, drop in POORER.items():
                copy_jets(file, tests[name] / file.name, lambda jets: slice(len(jets) * 9 // 10, None), drop)
            copy_jets(file, train / file.name, lambda jets: slice(0, len(jets) * 9 // 10))
    return train, tests


def accuracy(model: Any, jets: Any) -> float:
    """Return the share of jets whose class has the largest probability."""
    return float((model.predict(jets).argmax(axis=1) == jets.labels.numpy()).mean())


def toy(folder: Path, steps: int) -> None:
    """Print the table of the jets of the tests."""
    from support.feature_files import SCHEMA

    schema = folder / "mine.yaml"
    schema.write_text(SCHEMA, encoding="utf-8")
    train = write(folder / "train.root", 4000)
    full = write(folder / "full.root", TOY_JETS, seed=1)
    poor = write(folder / "poor.root", TOY_JETS, seed=1, drop=("part_chi2", "part_hits"))
    print("| `train.hide_features` | file with chi2, hits | file without them |\n|---|---|---|")
    for share in SHARES:
        settings = {"model.size": "tiny", "model.inputs": ["columns", "features"], "train.hide_features": share}
        options = {"data": str(train), "schema": schema, "steps": steps, "batch_size": 64, "settings": settings}
        model = ssl_jets.load_model(ssl_jets.pretrain("supervised", out=folder / f"hide-{share}", **options))
        row = [f"{share:g}"]
        for file in (full, poor):
            right = accuracy(model, ssl_jets.read_jets(str(file), schema=schema))
            row.append(f"{right:.3f} ± {math.sqrt(right * (1 - right) / TOY_JETS):.3f}")
        print(f"| {' | '.join(row)} |", flush=True)


def write(path: Path, jets: int, seed: int = 0, drop: tuple[str, ...] = ()) -> Path:
    """Write jets whose pt is half as large again in the second class."""
    from support.feature_files import padded_branches, write_features

    branches = padded_branches(jets, seed)
    pt = branches["part_pt"] * (1 + 0.5 * branches["jet_label"][:, None]).astype("f4")
    return write_features(path, jets, seed, drop, part_pt=pt)


if __name__ == "__main__":
    main()
