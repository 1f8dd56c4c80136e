"""Sculpting of jet pt with and without `data.flatten`, on classes that are simulated with different spectra.

    python benchmarks/flatten.py REFERENCE_FOLDER FOLDER [--steps 500] [--seeds 3]

The reference has files in the JetClass layout, whose classes have one spectrum. Of the first six tenths of QCD and Hbb,
the script keeps jets so that QCD falls more steeply in jet_pt, and Hbb less, and trains `supervised` on them, without
and with `data.flatten`, to a uniform spectrum and to the one of QCD. The other jets are the test, all of them: AUC and
mistag rate in bins of jet_pt, at one threshold for all bins, which 70 % of all Hbb jets pass.
Scores in the folder are used again.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jet_files import copy_jets, draws, with_error
from sklearn.metrics import roc_auc_score

import ssl_jets

FILES = {"QCD": "ZJetsToNuNu", "Hbb": "HToBB"}
"""Beginning of the name of the reference file of each class, background first."""
KEPT = {"QCD": lambda pt: np.exp((500 - pt) / 150), "Hbb": lambda pt: np.minimum(1, np.exp((pt - 800) / 150))}
"""Share of training jets that are kept, by jet_pt [GeV]."""
EDGES = (500, 560, 630, 720, 1000)
"""Bins of jet_pt [GeV]."""
TRAINED = 0.6
EFFICIENCY = 0.7
RESAMPLES = 100
INPUTS = ["pt", "deta", "dphi", "energy"]
"""Without tracks, so that enough QCD jets pass to count them in bins."""
BINS = {"by": ["jet_pt"], "bins": [list(EDGES)]}
WAYS = {"as simulated": None, "flattened to uniform": BINS, "flattened to QCD": BINS | {"to": "QCD"}}
"""Values of `data.flatten`."""


def main() -> None:
    """Write the files, train, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    train, test = files_of(args.reference, args.folder)
    jets = ssl_jets.read_jets(test, keep=["jet_pt"], settings={"data.labels": [*FILES]})
    pt, signal = jets.jet["jet_pt"].numpy(), jets.labels.numpy() == 1
    rows: dict[str, list[Any]] = {way: [] for way in WAYS}
    samples = draws(len(pt), RESAMPLES)
    for seed in range(args.seeds):
        for way in WAYS:
            score = signal_score(args.folder, train, jets, way, seed=seed, steps=args.steps)
            rows[way].append([measures(score[one], signal[one], pt[one]) for one in samples])
    report(rows, signal, pt)


def signal_score(folder: Path, train: list[str], jets: Any, way: str, *, seed: int, steps: int) -> Any:
    """Return the probability of Hbb of the test jets, `[jet]`."""
    run = folder / f"{way.replace(' ', '-')}-{seed}"
    saved = run.with_suffix(".npy")
    if not saved.exists():
        settings = {"model.inputs": INPUTS, "train.validate_every": steps, "data.labels": [*FILES]}
        if WAYS[way]:
            settings["data.flatten"] = WAYS[way]
        options = {"data": train, "steps": steps, "batch_size": 128, "seed": seed, "settings": settings}
        model = ssl_jets.load_model(ssl_jets.pretrain("supervised", size="tiny", out=run, force=True, **options))
        np.save(saved, model.predict(jets)[:, 1])
    return np.load(saved)


def files_of(reference: Path, folder: Path) -> tuple[list[str], list[str]]:
    """Write the files to train on and to test on."""
    paths: tuple[list[str], list[str]] = ([], [])
    for name, begin in FILES.items():
        source, kept = next(reference.glob(f"{begin}_*.root")), KEPT[name]

        def some(jets: Any, kept: Any = kept) -> Any:
            pt = np.asarray(jets.jet_pt)[: int(TRAINED * len(jets))]
            return np.flatnonzero(np.random.default_rng(0).random(len(pt)) < kept(pt))

        paths[0].append(str(copy_jets(source, folder / f"train-{name}.root", some)))
        rest = copy_jets(source, folder / f"test-{name}.root", lambda jets: slice(int(TRAINED * len(jets)), None))
        paths[1].append(str(rest))
    return paths


def measures(score: Any, signal: Any, pt: Any) -> Any:
    """Return AUC, efficiency and mistag rate in each bin and, last, of all jets: `[3, bin + 1]`."""
    cut = np.quantile(score[signal], 1 - EFFICIENCY)
    table = []
    for low, high in [*pairwise(EDGES), (EDGES[0], EDGES[-1])]:
        inside = (pt >= low) & (pt < high)
        passed = score[inside] > cut
        of_signal = signal[inside]
        area = roc_auc_score(of_signal, score[inside])
        table.append([area, passed[of_signal].mean(), passed[~of_signal].mean()])
    return np.transpose(table)


def report(rows: dict[str, list[Any]], signal: Any, pt: Any) -> None:
    """Print the number of test jets, and means over seeds of `rows[way][seed][draw]` with errors and the sculpting."""
    bins = [f"{low} to {high}" for low, high in pairwise(EDGES)]
    head = " | ".join([*bins, "all"])
    counts = [np.histogram(pt[mask], EDGES)[0] for mask in (~signal, signal)]
    print(f"| jet_pt [GeV] | {head} | last bin / first |\n|---{'|---' * (len(bins) + 2)}|")
    for name, count in zip(FILES, counts):
        print(f"| test jets {name} | {' | '.join(map(str, count))} | {count.sum()} | |")
    # [draw, seed, measure, bin + 1]
    values = {way: np.swapaxes(np.array(seeds), 0, 1) for way, seeds in rows.items()}
    for number, title in enumerate(("AUC", "efficiency Hbb", "mistag rate QCD")):
        for way, table in values.items():
            cells = [with_error(table[:, :, number, index], 3) for index in range(len(bins) + 1)]
            sculpting = with_error(table[:, :, number, -2] / table[:, :, number, 0], 2) if number else ""
            print(f"| {title}, {way} | {' | '.join(cells)} | {sculpting} |")
    first, *others = values
    for way in others:
        difference = (values[way] - values[first])[:, :, 0]
        cells = [with_error(difference[:, :, index], 3) for index in range(len(bins) + 1)]
        print(f"| AUC, {way} - {first} | {' | '.join(cells)} | |")


if __name__ == "__main__":
    main()
