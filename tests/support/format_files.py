"""Jets of the bundled sample in the layouts of other public formats, written by the tests themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import awkward as ak
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import uproot

PLACES = 150
"""Places of the padded tables: more than any of the jets has particles."""

_PDG = {"ChargedHadron": 211, "NeutralHadron": 130, "Photon": 22, "Electron": 11, "Muon": 13}
_MASSES = {"ChargedHadron": 0.13957, "NeutralHadron": 0.497611, "Electron": 0.000511, "Muon": 0.105658}


def sample_branches(path: str, entries: int) -> ak.Array:
    """The branches of the first jets of a file in the JetClass layout."""
    return uproot.open(path)["tree"].arrays(entry_stop=entries)


def write_jetclass2(jets: ak.Array, path: Path) -> Path:
    """JetClass-II: Parquet, kinds as bool, one label of 188."""
    names = [name for name in jets.fields if name.startswith(("part_", "jet_"))]
    columns = {name: jets[name] for name in names}
    for name in names:
        if name.startswith("part_is"):
            columns[name] = jets[name] != 0
    columns["part_charge"] = ak.values_astype(jets["part_charge"], np.int32)
    columns["jet_label"] = ak.Array(np.arange(len(jets), dtype=np.int32))
    table = pa.table({name: ak.to_arrow(values, extensionarray=False) for name, values in columns.items()})
    pq.write_table(table, path, row_group_size=25)
    return path


def write_top_landscape(jets: ak.Array, path: Path) -> Path:
    """The top tagging dataset as pandas writes it with `format="fixed"`."""
    momenta = np.stack([_padded(jets[f"part_{name}"]) for name in ("energy", "px", "py", "pz")], axis=2)
    columns = [f"{name}_{place}" for place in range(PLACES) for name in ("E", "PX", "PY", "PZ")]
    with h5py.File(path, "w") as file:
        group = file.create_group("table")
        group["block0_values"] = momenta.reshape(len(jets), -1)
        group["block0_items"] = np.array(columns, dtype="S")
        group["block1_values"] = np.stack([np.zeros(len(jets)), _is_top(jets)], axis=1).astype(np.int64)
        group["block1_items"] = np.array(["ttv", "is_signal_new"], dtype="S")
        group["axis1"] = np.arange(len(jets))
    return path


def write_aspen(jets: ak.Array, path: Path) -> Path:
    """Aspen Open Jets: every fourth particle twice as hard with a PUPPI weight of 0.5, and one of weight 0 a jet."""
    names = ("px", "py", "pz", "energy", "d0val", "d0err", "dzval", "dzerr", "charge")
    table = np.stack([_padded(jets[f"part_{name}"]) for name in names], axis=2)
    table[:, :, 4:8] /= 10  # cm
    table[:, :, 4] *= -1  # the sign of d0 of CMS is the opposite of JetClass
    weight = (table[:, :, 3] > 0).astype(np.float32)
    table[:, ::4, :4] *= 2
    weight[:, ::4] /= 2
    pileup = (np.arange(len(jets)), ak.to_numpy(ak.num(jets["part_px"])))
    table[pileup] = [5, 5, 5, 9, -1, -1, -1, -1, 1]
    with h5py.File(path, "w") as file:
        file["PFCands"] = np.concatenate([table, _pdg(jets)[:, :, None], weight[:, :, None]], axis=2)
        axis = [jets["jet_pt"], jets["jet_eta"], jets["jet_phi"], jets["jet_sdmass"]]
        file["jet_kinematics"] = np.stack([ak.to_numpy(values) for values in axis], axis=1)
        file["jet_tagging"] = np.zeros((len(jets), 13), dtype=np.float32)
        file["event_info"] = np.zeros((len(jets), 3), dtype=np.int64)
    return path


def write_jetnet(jets: ak.Array, path: Path) -> Path:
    """JetNet: deta as a plain difference, pt as a share of the jet's, and a mask."""
    pt = np.hypot(jets["part_px"], jets["part_py"])
    side = np.where(jets["jet_eta"] < 0, -1, 1)
    columns = [jets["part_deta"] * side, jets["part_dphi"], pt / jets["jet_pt"], ak.ones_like(pt)]
    of_jets = [jets["jet_pt"], jets["jet_eta"], jets["jet_sdmass"], jets["jet_nparticles"]]
    with h5py.File(path, "w") as file:
        table = np.stack([_padded(values) for values in columns], axis=2)
        file.create_dataset("particle_features", data=table, chunks=(20, PLACES, 4), compression="gzip")
        file["jet_features"] = np.stack([ak.to_numpy(values) for values in of_jets], axis=1)
    return path


def write_energyflow(jets: ak.Array, path: Path) -> Path:
    """Quark and gluon jets: rapidity and azimuth in the detector (0 to 2 pi), and PDG numbers, whose masses count."""
    px, py, pz = (_padded(jets[f"part_{name}"]).astype(np.float64) for name in ("px", "py", "pz"))
    number = _pdg(jets)
    mass = sum(np.where(abs(number) == _PDG[kind], mass, 0) for kind, mass in _MASSES.items())
    real = number != 0
    y = np.where(real, np.arcsinh(pz / np.sqrt(np.where(real, px**2 + py**2 + mass**2, 1))), 0)
    phi = np.where(real, np.arctan2(py, px) % (2 * np.pi), 0)
    np.savez_compressed(path, X=np.stack([np.hypot(px, py), y, phi, number], axis=2), y=_is_top(jets))
    return path


def write_omnilearned(jets: ak.Array, path: Path) -> Path:
    """OmniLearned: logarithms, and a label called pid."""
    pt = np.hypot(jets["part_px"], jets["part_py"])
    columns = [jets["part_deta"], jets["part_dphi"], np.log(pt), np.log(jets["part_energy"])]
    with h5py.File(path, "w") as file:
        file["data"] = np.stack([_padded(values) for values in columns], axis=2)
        file["pid"] = _is_top(jets).astype(np.int64)
        file["global"] = np.zeros((len(jets), 5), dtype=np.float32)
    return path


def write_atlas_top(jets: ak.Array, path: Path) -> Path:
    """ATLAS top tagging: absolute angles, energies in MeV, and weights of the training."""
    px, py, pz = (_padded(jets[f"part_{name}"]).astype(np.float64) for name in ("px", "py", "pz"))
    pt = np.hypot(px, py)
    columns = {"fjet_clus_pt": 1000 * pt, "fjet_clus_eta": np.arcsinh(pz / np.where(pt > 0, pt, 1)),
               "fjet_clus_phi": np.arctan2(py, px), "fjet_clus_E": 1000 * _padded(jets["part_energy"])}  # fmt: skip
    columns |= {f"fjet_{name}": ak.to_numpy(jets[f"jet_{name}"]) for name in ("eta", "phi")}
    columns |= {"fjet_pt": 1000 * ak.to_numpy(jets["jet_pt"]), "fjet_m": 1000 * ak.to_numpy(jets["jet_sdmass"])}
    columns["fjet_C2"] = columns["training_weights"] = np.linspace(0.5, 1.5, len(jets))
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            file.create_dataset(name, data=values.astype(np.float32), compression="gzip")
        file["labels"] = _is_top(jets).astype(np.float32)
    return path


def write_weaver_top(jets: ak.Array, path: Path) -> Path:
    """The converted top tagging dataset of Particle Transformer: momenta and one label."""
    parts = ("px", "py", "pz", "energy", "deta", "dphi")
    return _write_weaver(jets, path, [f"part_{name}" for name in parts], _is_top(jets))


def write_weaver_qg(jets: ak.Array, path: Path) -> Path:
    """The converted quark-gluon dataset of Particle Transformer: kinds and charges as well, and a label of floats."""
    parts = ("px", "py", "pz", "energy", "deta", "dphi", "charge", *(f"is{kind}" for kind in _PDG))
    return _write_weaver(jets, path, [f"part_{name}" for name in parts], _is_top(jets).astype(np.float64))


def _write_weaver(jets: ak.Array, path: Path, lists: list[str], label: np.ndarray) -> Path:
    flat = [f"jet_{name}" for name in ("pt", "eta", "phi", "energy", "nparticles")]
    columns = {name: ak.to_arrow(jets[name], extensionarray=False) for name in (*lists, *flat)}
    pq.write_table(pa.table({"label": label, **columns}), path)
    return path


WRITERS: dict[str, tuple[str, Callable[[ak.Array, Path], Path]]] = {
    "jetclass2": ("jets.parquet", write_jetclass2),
    "top_landscape": ("jets.h5", write_top_landscape),
    "aspen": ("jets.h5", write_aspen),
    "jetnet": ("t.hdf5", write_jetnet),
    "energyflow": ("jets.npz", write_energyflow),
    "omnilearned": ("jets.h5", write_omnilearned),
    "atlas_top": ("train_nominal_000.h5", write_atlas_top),
    "weaver_top": ("top_train.parquet", write_weaver_top),
    "weaver_qg": ("train_file_0.parquet", write_weaver_qg),
}
"""Format to the name of a file and what writes it."""


def _padded(values: ak.Array) -> np.ndarray:
    return ak.to_numpy(ak.fill_none(ak.pad_none(values, PLACES, clip=True), 0)).astype(np.float32)


def _is_top(jets: ak.Array) -> np.ndarray:
    return ak.to_numpy(jets["label_Tbqq"] != 0).astype(np.int64)


def _pdg(jets: ak.Array) -> np.ndarray:
    """PDG numbers of the kinds, with the sign of the charge; 0 beyond the particles."""
    number = sum(value * (jets[f"part_is{kind}"] != 0) for kind, value in _PDG.items())
    is_lepton = (number == 11) | (number == 13)
    return _padded(number * ak.where(jets["part_charge"] * ak.where(is_lepton, -1, 1) < 0, -1, 1))
