"""Padded branches as an HDF5 file of padded tables, or as a ROOT file of lists."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import awkward as ak
import h5py
import numpy as np

from support.jetclass_files import write_tree


def write_padded(
    path: Path, branches: Mapping[str, np.ndarray], real: Mapping[str, np.ndarray], counter: str | None = "npart"
) -> Path:
    """Write a file of the format of the suffix; `real` marks the places of branches by their prefix `[jet, place]`."""
    if path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            for name, array in branches.items():
                file[name] = array
        return path
    lists = {}
    for name, array in branches.items():
        there = real.get(name.partition("_")[0])
        lists[name] = array if there is None else ak.unflatten(array[there], there.sum(1))
    return write_tree(path, {"tree": lists}, counter=counter)
