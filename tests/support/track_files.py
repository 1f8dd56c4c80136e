"""HDF5 in the layout of ATLAS flavour tagging for salt, with track origins that the columns give away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

PLACES = 14
ORIGINS = ("pileup", "fake", "primary", "fromB", "fromBC", "fromC", "fromTau", "otherSecondary")
PILEUP, PRIMARY, FROM_B = 0, 2, 3


def track_arrays(jets: int, seed: int = 0, *, shuffled: bool = False) -> dict[str, Any]:
    """Arrays `[jet, place]` and `[jet]`: pile-up has a large z0, tracks of a b hadron a large d0.

    With `shuffled` the origins and vertices of all tracks are exchanged at random.
    """
    rng = np.random.default_rng(seed)
    shape = (jets, PLACES)
    valid = np.arange(PLACES) < rng.integers(4, PLACES + 1, jets)[:, None]
    flavour = rng.choice([0, 5], jets)
    from_b = (flavour[:, None] == 5) & (rng.uniform(size=shape) < 0.5)
    origin = np.where(from_b, FROM_B, np.where(rng.uniform(size=shape) < 0.3, PILEUP, PRIMARY))
    vertex = np.select([origin == PILEUP, origin == PRIMARY], [-2, 0], 1)
    d0 = rng.normal(0, 0.02, shape) + (origin == FROM_B) * rng.choice([-1, 1], shape) * rng.exponential(0.3, shape)
    z0 = rng.normal(0, 0.02, shape) + (origin == PILEUP) * rng.choice([-1, 1], shape) * rng.exponential(0.3, shape)
    if shuffled:
        order = rng.permutation(valid.sum())
        origin[valid], vertex[valid] = origin[valid][order], vertex[valid][order]
    momentum = rng.exponential(5e3, shape) + 500
    return {
        "valid": valid, "flavour": flavour, "origin": origin, "vertex": vertex, "d0": d0, "z0": z0,
        "pt": momentum, "charge": rng.choice([-1, 1], shape), "angles": rng.normal(0, 0.15, (2, *shape)),
        "jet_pt": rng.uniform(20e3, 250e3, jets), "jet_eta": rng.uniform(-2.5, 2.5, jets),
    }  # fmt: skip


def write_tracks(
    path: Path,
    jets: int = 200,
    seed: int = 0,
    *,
    shuffled: bool = False,
    names: tuple[str, str] | None = ("ftagTruthOriginLabel", "ftagTruthVertexIndex"),
    origin: Any = None,
) -> dict[str, Any]:
    """Write a file with the given names of the labels (None for none); return the arrays.

    `origin` replaces the origins `[jet, place]`.
    """
    arrays = track_arrays(jets, seed, shuffled=shuffled)
    if origin is not None:
        arrays["origin"] = origin
    valid = arrays["valid"]
    jet_type = [("pt_btagJes", "f4"), ("eta_btagJes", "f4"), ("HadronConeExclTruthLabelID", "i4")]
    columns = ("qOverP", "deta", "dphi", "d0", "z0SinTheta", "d0Uncertainty", "z0SinThetaUncertainty", "pt")
    labels = [(name, "i4") for name in names or ()]
    of_jets = np.zeros(jets, jet_type)
    tracks = np.zeros((jets, PLACES), [*((name, "f4") for name in columns), *labels, ("valid", "?")])
    of_jets["pt_btagJes"], of_jets["eta_btagJes"] = arrays["jet_pt"], arrays["jet_eta"]
    of_jets["HadronConeExclTruthLabelID"] = arrays["flavour"]
    tracks["deta"], tracks["dphi"] = arrays["angles"]
    tracks["qOverP"] = arrays["charge"] / (arrays["pt"] * np.cosh(arrays["jet_eta"][:, None] + tracks["deta"]))
    tracks["pt"], tracks["d0"], tracks["z0SinTheta"] = arrays["pt"], arrays["d0"], arrays["z0"]
    tracks["d0Uncertainty"] = tracks["z0SinThetaUncertainty"] = 0.02
    for (name, _), values in zip(labels, (arrays["origin"], arrays["vertex"])):
        tracks[name] = values
    tracks["valid"] = valid
    tracks[~valid] = np.zeros(1, tracks.dtype)
    with h5py.File(path, "w") as file:
        file.create_dataset("jets", data=of_jets, compression="gzip")
        file.create_dataset("tracks", data=tracks, compression="gzip")
    return arrays
