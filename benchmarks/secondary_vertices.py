"""Accuracy with and without secondary vertices, on jets whose vertices alone depend on their class.

    PYTHONPATH=tests python benchmarks/secondary_vertices.py FOLDER

The jets of the tests (`tests/support/collection_files.py`): a heavy jet has more vertices, which lie farther away, and
the same particles. A toy.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import ssl_jets
from support.collection_files import SCHEMA, write_collections

TEST_JETS = 2000
LABELS = 500


def main() -> None:
    """Train with and without vertices, from random weights and from a pretrained encoder, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=150)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    schema = args.folder / "mine.yaml"
    schema.write_text(SCHEMA, encoding="utf-8")
    train = write_collections(args.folder / "train.root", 4000)
    files = {"with": write_collections(args.folder / "test.root", TEST_JETS, seed=1)}
    files["without"] = write_collections(args.folder / "poor.root", TEST_JETS, seed=1, drop="sv_")
    print("| inputs | training | file with vertices | file without them |\n|---|---|---|---|", flush=True)
    for inputs in (["columns"], ["columns", "collections"]):
        settings = {"model.size": "tiny", "model.inputs": inputs, "train.validate_every": args.steps}
        options = {"data": str(train), "schema": schema, "steps": args.steps, "batch_size": 64}
        name = "-".join(inputs)
        scratch = ssl_jets.pretrain("supervised", out=args.folder / f"scratch-{name}", settings=settings, **options)
        encoder = ssl_jets.pretrain("mae", out=args.folder / f"mae-{name}", settings=settings, **options)
        tuned = ssl_jets.finetune(encoder, labels=LABELS, out=args.folder / f"tuned-{name}", **options)
        runs = {"`supervised`, all labels": scratch, f"`mae`, `finetune` on {LABELS} labels": tuned}
        for training, run in runs.items():
            model = ssl_jets.load_model(run)
            row = [", ".join(f"`{one}`" for one in inputs), training]
            for file in files.values():
                jets = ssl_jets.read_jets(str(file), schema=schema)
                right = float((model.predict(jets).argmax(axis=1) == jets.labels.numpy()).mean())
                row.append(f"{right:.3f} ± {math.sqrt(right * (1 - right) / TEST_JETS):.3f}")
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
