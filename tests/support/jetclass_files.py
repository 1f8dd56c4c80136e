"""Small ROOT files in the JetClass layout, written by the tests themselves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot

from ssl_jets.data.files import JetFile, open_files
from ssl_jets.data.sources import Source
from support.root_types import branch_types

KIND_FLAGS = ("part_isChargedHadron", "part_isNeutralHadron", "part_isPhoton", "part_isElectron", "part_isMuon")
CLASSES = ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl")
_LABEL_TYPES = dict.fromkeys(CLASSES, np.int32) | {"QCD": np.float32} | dict.fromkeys(CLASSES[1:6], np.bool_)


def jetclass_branches(entries: int, *, label: str | None = "QCD", seed: int = 0) -> dict[str, Any]:
    """Random values for the branches of a JetClass file: 1 to 12 particles a jet, sorted by falling pt."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 13, entries)
    particles = int(counts.sum())

    def lists(values: np.ndarray) -> ak.Array:
        return ak.Array(ak.contents.ListOffsetArray(offsets, ak.contents.NumpyArray(values)))

    offsets = ak.index.Index64(np.append(0, counts.cumsum()))
    pt = ak.to_numpy(ak.flatten(ak.sort(lists(rng.exponential(20, particles) + 0.5), ascending=False)))
    phi, eta = rng.uniform(-np.pi, np.pi, particles), rng.normal(0, 1, particles)
    kinds = rng.integers(0, 6, particles)
    charge = np.where(np.isin(kinds, (0, 3, 4)), rng.choice((-1, 1), particles), 0)
    branches: dict[str, Any] = {
        "part_px": lists((pt * np.cos(phi)).astype(np.float32)),
        "part_py": lists((pt * np.sin(phi)).astype(np.float32)),
        "part_pz": lists((pt * np.sinh(eta)).astype(np.float32)),
        "part_energy": lists((pt * np.cosh(eta)).astype(np.float32)),
        "part_deta": lists(rng.normal(0, 0.3, particles).astype(np.float32)),
        "part_dphi": lists(rng.normal(0, 0.3, particles).astype(np.float32)),
        "part_charge": lists(charge.astype(np.float32)),
    }
    for name in ("part_d0val", "part_d0err", "part_dzval", "part_dzerr"):
        values = (rng.normal(0, 1, particles) * (charge != 0)).astype(np.float32)
        branches[name] = lists(np.abs(values) if name.endswith("err") else values)
    for index, name in enumerate(KIND_FLAGS):
        branches[name] = lists((kinds == index).astype(np.int32))
    if label is not None:
        for name in CLASSES:
            branches[f"label_{name}"] = np.full(entries, name == label, dtype=_LABEL_TYPES[name])
    branches["jet_pt"] = rng.uniform(500, 1000, entries).astype(np.float32)
    branches["jet_sdmass"] = rng.uniform(0, 200, entries).astype(np.float32)
    branches["aux_genpart_pid"] = np.full(entries, 25, dtype=np.float32)
    return branches


def write_class_files(folder: Path, entries: int, *, cluster: int = 20) -> list[JetFile]:
    """Write and open three files of `entries` jets, each of one class."""
    paths = [
        write_tree(
            folder / f"{label}.root", {"tree": jetclass_branches(entries, label=label, seed=seed)}, cluster=cluster
        )
        for seed, label in enumerate(("QCD", "Hbb", "Tbl"))
    ]
    return open_files([Source(str(path)) for path in paths])


def write_tree(
    path: Path,
    trees: Mapping[str, Mapping[str, Any]],
    *,
    cluster: int = 20,
    counter: str | None = "npart",
) -> Path:
    """Write trees of jagged and flat branches, `cluster` entries a basket; `counter` None gives each list its own."""
    with uproot.recreate(path, compression=uproot.ZSTD(1)) as file:
        for name, branches in trees.items():
            tree = file.mktree(name, branch_types(branches), counter_name=lambda key: counter or f"n_{key}")
            entries = len(next(iter(branches.values())))
            for start in range(0, entries, cluster):
                tree.extend({key: values[start : start + cluster] for key, values in branches.items()})
    return path
