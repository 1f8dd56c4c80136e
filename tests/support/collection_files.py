"""The same jets with secondary vertices as a ROOT file of lists and as an HDF5 file of padded tables, and a schema."""

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
axis: {eta: jet_eta, phi: jet_phi}
collections:
  SV:
    cut: sv_valid > 0
    most: 3
    features:
      pt: {branch: sv_pt, unit: MeV, transform: log}
      deta: {branch: sv_eta, absolute: true}
      dphi: {branch: sv_phi, absolute: true, unit: rad}
      length: {branch: sv_length, unit: cm, transform: log1p, missing: -1}
      ntracks: {branch: sv_ntracks, categories: [2, 3]}
      share: {formula: sv_pt / (1000 * jet_pt)}
labels: {light: jet_label == 0, heavy: jet_label == 1}
"""
MOST_PARTICLES, MOST_VERTICES = 9, 5
LISTS = {"part": "part_pt", "sv": "sv_valid"}
"""Prefix of branches to the branch that is above zero at real places."""


def padded_branches(jets: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Branches `[jet, place]` and `[jet]`; a heavy jet has more vertices, farther away, and the same particles."""
    rng = np.random.default_rng(seed)
    shape, vertices = (jets, MOST_PARTICLES), (jets, MOST_VERTICES)
    there = np.arange(MOST_PARTICLES) < rng.integers(3, MOST_PARTICLES + 1, jets)[:, None]
    label = np.arange(jets) % 2
    valid = np.arange(MOST_VERTICES) < rng.poisson(0.7 + 1.2 * label)[:, None]
    jet_eta, jet_phi = rng.uniform(-2, 2, jets), rng.uniform(-3, 3, jets)
    length = rng.exponential(0.3 + 0.7 * label[:, None], vertices)
    values: dict[str, Any] = {
        "part_pt": rng.uniform(1, 40, shape) * there,
        "part_deta": rng.normal(0, 0.2, shape),
        "part_dphi": rng.normal(0, 0.2, shape),
        "part_charge": rng.integers(-1, 2, shape),
        "sv_valid": valid,
        "sv_pt": 1000 * rng.uniform(2, 30, vertices),
        "sv_eta": jet_eta[:, None] + rng.normal(0, 0.1, vertices),
        "sv_phi": jet_phi[:, None] + rng.normal(0, 0.1, vertices),
        "sv_length": np.where(rng.uniform(size=vertices) < 0.1, -1, length),
        "sv_ntracks": rng.choice([2, 3, 7], vertices),
        "jet_pt": rng.uniform(100, 300, jets),
        "jet_eta": jet_eta,
        "jet_phi": jet_phi,
        "jet_label": label,
    }
    whole = {"sv_valid": "i4", "sv_ntracks": "i4", "jet_label": "i4"}
    return {name: array.astype(whole.get(name, "f4")) for name, array in values.items()}


def write_collections(path: Path, jets: int = 40, seed: int = 0, drop: str = "", **changed: Any) -> Path:
    """Write a file of the format of the suffix, without branches that begin with `drop`, with `changed` ones."""
    branches = {name: changed.get(name, array) for name, array in padded_branches(jets, seed).items()}
    real = {prefix: branches[mark] > 0 for prefix, mark in LISTS.items()}
    kept = {name: array for name, array in branches.items() if not drop or not name.startswith(drop)}
    return write_padded(path, kept, real, counter=None)
