"""The same jets with features and context as a ROOT file and as an HDF5 file, and a schema for both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from support.padded_files import write_padded

SCHEMA = """
particles:
  pt: {branch: part_pt, unit: GeV}
  deta: {branch: part_deta}
  dphi: {branch: part_dphi, unit: rad}
  charge: {branch: part_charge, unit: e, required: false}
particle_cut: part_pt > 0
features:
  chi2: {branch: part_chi2, transform: log, target: true}
  hits: {branch: part_hits, categories: [0, 1, 4], target: true}
  depth: {branch: part_depth, unit: cm, missing: -1}
  ratio: {formula: part_pt / sum(part_pt)}
context:
  jet_pt: {branch: jet_pt, unit: MeV, transform: log}
  origin: {branch: jet_origin, categories: [2, 7]}
labels: {light: jet_label == 0, heavy: jet_label == 1}
"""
MOST = 9


def padded_branches(jets: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Branches `[jet, place]`, padded with a pt of zero, and branches `[jet]`."""
    rng = np.random.default_rng(seed)
    shape = (jets, MOST)
    there = np.arange(MOST) < rng.integers(3, MOST + 1, jets)[:, None]
    label = np.arange(jets) % 2
    values: dict[str, Any] = {
        "part_pt": rng.uniform(1, 40, shape) * there,
        "part_deta": rng.normal(0, 0.2, shape),
        "part_dphi": rng.normal(0, 0.2, shape),
        "part_charge": rng.integers(-1, 2, shape),
        "part_chi2": rng.exponential(1 + 3 * label[:, None], shape),
        "part_hits": rng.choice([0, 1, 4, 9], shape),
        "part_depth": np.where(rng.uniform(size=shape) < 0.3, -1, rng.uniform(0, 5, shape)),
        "jet_pt": 1000 * rng.uniform(100, 300, jets),
        "jet_origin": rng.choice([2, 7], jets),
        "jet_label": label,
    }
    whole = {"part_charge": "f4", "part_hits": "i4", "jet_origin": "i4", "jet_label": "i4"}
    return {name: array.astype(whole.get(name, "f4")) for name, array in values.items()}


def write_features(path: Path, jets: int = 40, seed: int = 0, drop: tuple[str, ...] = (), **changed: Any) -> Path:
    """Write a file of the format of the suffix, without the branches of `drop`, with those of `changed` instead."""
    branches = {name: changed.get(name, array) for name, array in padded_branches(jets, seed).items()}
    kept = {name: array for name, array in branches.items() if name not in drop}
    return write_padded(path, kept, {"part": branches["part_pt"] > 0})
