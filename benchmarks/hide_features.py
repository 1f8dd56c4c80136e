"""Accuracy on files with and without the features of a model, trained with and without `train.hide_features`.

    PYTHONPATH=tests python benchmarks/hide_features.py FOLDER

The jets of the tests (`tests/support/feature_files.py`), with pt half as large again in one class: chi2
separates the classes better than pt does. A toy.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import ssl_jets
from support.feature_files import SCHEMA, padded_branches, write_features

TEST_JETS = 2000


def write(path: Path, jets: int, seed: int = 0, drop: tuple[str, ...] = ()) -> Path:
    """Write jets whose pt is half as large again in the second class."""
    branches = padded_branches(jets, seed)
    pt = branches["part_pt"] * (1 + 0.5 * branches["jet_label"][:, None]).astype("f4")
    return write_features(path, jets, seed, drop, part_pt=pt)


def main() -> None:
    """Train twice, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    schema = args.folder / "mine.yaml"
    schema.write_text(SCHEMA, encoding="utf-8")
    train = write(args.folder / "train.root", 4000)
    full = write(args.folder / "full.root", TEST_JETS, seed=1)
    poor = write(args.folder / "poor.root", TEST_JETS, seed=1, drop=("part_chi2", "part_hits"))
    print("| `train.hide_features` | file with chi2, hits | file without them |\n|---|---|---|")
    for share in (0.0, 0.3):
        settings = {"model.size": "tiny", "model.inputs": ["columns", "features"], "train.hide_features": share}
        options = {"data": str(train), "schema": schema, "steps": args.steps, "batch_size": 64, "settings": settings}
        model = ssl_jets.load_model(ssl_jets.pretrain("supervised", out=args.folder / f"hide-{share}", **options))
        row = [f"{share:g}"]
        for file in (full, poor):
            jets = ssl_jets.read_jets(str(file), schema=schema)
            right = float((model.predict(jets).argmax(axis=1) == jets.labels.numpy()).mean())
            row.append(f"{right:.3f} ± {math.sqrt(right * (1 - right) / TEST_JETS):.3f}")
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
