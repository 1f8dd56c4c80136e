"""Score jets of a JetClass ROOT file with an exported model: onnxruntime, uproot and numpy, no PyTorch, no ssl-jets.

    pip install onnxruntime uproot
    python score_onnx.py tagger.onnx jets.root scores.csv [--jets N] [--particles jets.csv]

`scores.csv` has a row for each jet: z_0, z_1, ... and the probability p_CLASS of each class and the regressed columns
that the model has. `--particles` also writes the jets as a CSV file, which the C++ example reads.
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np
import onnxruntime
import uproot

KINDS = ("isChargedHadron", "isNeutralHadron", "isPhoton", "isElectron", "isMuon")
BRANCHES = {
    "deta": "part_deta", "dphi": "part_dphi", "energy": "part_energy", "charge": "part_charge",
    "d0": "part_d0val", "d0err": "part_d0err", "dz": "part_dzval", "dzerr": "part_dzerr",
}  # fmt: skip
BATCH = 256


def particles_of(tree, start, stop, columns):
    """Return the particles of each jet, float32 [particle, column]; NaN for a column that the file lacks."""
    kinds = [f"part_{kind}" for kind in KINDS]
    wanted = {"part_px", "part_py", *kinds, *BRANCHES.values()}
    branches = tree.arrays(sorted(wanted & set(tree.keys())), entry_start=start, entry_stop=stop, library="np")
    jets = []
    for entry in range(stop - start):
        of_jet = {name: values[entry] for name, values in branches.items()}
        pt = np.hypot(of_jet["part_px"], of_jet["part_py"])
        values = {name: of_jet[branch] for name, branch in BRANCHES.items() if branch in of_jet}
        values["pt"] = pt
        if set(kinds) <= set(of_jet):
            flags = np.stack([of_jet[kind] for kind in kinds], axis=1)
            values["kind"] = np.where(flags.any(axis=1), flags.argmax(axis=1), len(KINDS))  # the last is "other"
        lacks = np.full(len(pt), np.nan)
        jets.append(np.stack([values.get(name, lacks) for name in columns], axis=1).astype(np.float32))
    return jets


def pad(jets):
    """Return the inputs of the model: [jet, particle, column], and the mask [jet, particle]."""
    longest = max(len(jet) for jet in jets)
    table = np.zeros((len(jets), longest, jets[0].shape[1]), np.float32)
    mask = np.zeros((len(jets), longest), np.float32)
    for number, jet in enumerate(jets):
        table[number, : len(jet)] = jet
        mask[number, : len(jet)] = 1
    return table, mask


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("file")
    parser.add_argument("out")
    parser.add_argument("--tree", default="tree")
    parser.add_argument("--jets", type=int)
    parser.add_argument("--particles")
    args = parser.parse_args()

    for name in (args.model, args.file):
        if not Path(name).is_file():
            parser.error(f"there is no file {name}")
    session = onnxruntime.InferenceSession(args.model)
    facts = session.get_modelmeta().custom_metadata_map
    columns = facts["columns"].split(",")
    titles = {"probabilities": [f"p_{name}" for name in json.loads(facts["classes"])],
              "regressed": json.loads(facts["regressed"]),
              "z": [f"z_{number}" for number in range(int(facts["z_dim"]))]}  # fmt: skip
    outputs = [name for name in ("z", "probabilities", "regressed") if name in json.loads(facts["outputs"])]

    file = uproot.open(args.file)
    if args.tree not in file:
        parser.error(f"{args.file} has no tree {args.tree}, only {', '.join(file.keys(cycle=False))} (--tree)")
    tree = file[args.tree]
    last = tree.num_entries if args.jets is None else min(args.jets, tree.num_entries)
    rows, particles = [], []
    for start in range(0, last, BATCH):
        jets = particles_of(tree, start, min(start + BATCH, last), columns)
        table, mask = pad(jets)
        results = session.run(outputs, {"particles": table, "mask": mask})
        rows.extend(np.concatenate(results, axis=1))
        particles.extend([start + number, *row] for number, jet in enumerate(jets) for row in jet)
    with open(args.out, "w", newline="") as file:
        csv.writer(file).writerows([[title for name in outputs for title in titles[name]], *rows])
    if args.particles:
        with open(args.particles, "w", newline="") as file:
            csv.writer(file).writerows([["jet", *columns], *particles])


if __name__ == "__main__":
    main()
