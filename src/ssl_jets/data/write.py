"""Writer of `Jets` as a ROOT file in the JetClass layout, which is read back like any other file of jets."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import torch
import uproot

from ssl_jets.arrays import Array
from ssl_jets.data.schemas.schema import Schema, known_schemas
from ssl_jets.errors import DataError
from ssl_jets.jets import KINDS, Jets, concatenate
from ssl_jets.runtime import atomic

TREE = "tree"
COUNTER = "npart"
METADATA = "metadata"
SUFFIX = ".root"

_BLOCK = 2000
"""Jets of one basket, at least."""

Branches = dict[str, Any]


def write_jets(
    path: str | Path,
    batches: Iterable[Jets],
    *,
    labels: Sequence[str] = (),
    metadata: Mapping[str, Any] | None = None,
    force: bool = False,
) -> int:
    """Write jets as ROOT in the JetClass layout, in bounded memory; the file appears whole or not at all.

    The axis of a jet is `jet.jet_eta` and `jet.jet_phi`, or 0 if these are absent. Momenta are computed from it and
    from pt, deta and dphi; energies are written as they are (without such a column they are computed with the assumed
    masses). jet_pt, jet_energy, jet_mass and jet_nparticles are computed from the particles. A particle column that the
    jets lack is not written.

    Args:
        path: the file, which must end in `.root`.
        batches: the jets, all with the same columns.
        labels: names of the classes; then every jet must have a label, or `Jets.labels` be None. Without, no labels
            are written.
        metadata: kept in the file as JSON, in the string `metadata`.
        force: replace an existing file.

    Returns:
        Number of jets.

    Raises:
        UsageError: another suffix, or the file exists and `force` is not given.
        DataError: there are no jets, or one lacks a label.
        SslJetsError: the file cannot be written to the disk.
    """
    path = check_suffix(path)
    written = 0
    with (
        atomic.whole_file(path, force=force) as temporary,
        temporary.open("w+b") as raw,  # opened here: uproot takes `a::b.root` for an address
        uproot.recreate(raw, compression=uproot.ZSTD(1)) as file,
    ):
        tree = None
        for jets in _blocks(batches):
            branches = jetclass_branches(jets, labels)
            if tree is None:
                types = {name: _type(values) for name, values in branches.items()}
                tree = file.mktree(TREE, types, counter_name=lambda branch: COUNTER)
            tree.extend(branches)
            written += len(jets)
        if not written:
            raise DataError("there are no jets to write", where=path)
        if metadata is not None:
            file[METADATA] = json.dumps(metadata)
    return written


def check_suffix(path: str | Path) -> Path:
    """Check that the suffix of a path is the one of ROOT files, and return the path.

    Raises:
        UsageError: any suffix but `.root`.
    """
    return atomic.check_suffix(path, SUFFIX, "jets are written as ROOT, the format that every command reads")


def jetclass_branches(jets: Jets, labels: Sequence[str] = ()) -> Branches:
    """Return the branches of jets by name: jagged ones as awkward arrays, flat ones as numpy arrays."""
    schema = next(schema for schema in known_schemas() if schema.name == "jetclass")
    flat = _four_momenta(jets) | _columns(jets, schema)
    counts = jets.lengths.numpy()
    particles: Branches = {name: ak.unflatten(values, counts) for name, values in flat.items()}
    return particles | _labels(jets, labels, schema) | _jet_columns(jets, flat)


def axis(jets: Jets) -> tuple[torch.Tensor, torch.Tensor]:
    """Return pseudorapidity and azimuth of each jet's axis, float64 `[jet]`; 0 if the jets have no such columns."""
    zero = torch.zeros(len(jets), dtype=torch.float64)
    return jets.jet.get("jet_eta", zero).double(), jets.jet.get("jet_phi", zero).double()


def momenta(jets: Jets) -> torch.Tensor:
    """Return px, py, pz [GeV] from pt, deta, dphi and the axis, float64 `[particle, 3]`.

    deta has the sign of the axis: a jet at eta -1 and a particle with deta 0.1 -> eta -1.1.
    """
    axis_eta, axis_phi = axis(jets)
    jet = jets.jet_of_particle
    sign = torch.where(axis_eta < 0, -1.0, 1.0)
    pt = jets.column("pt").double()
    eta = axis_eta[jet] + sign[jet] * jets.column("deta").double()  # [jet] -> [particle]
    phi = axis_phi[jet] + jets.column("dphi").double()
    return torch.stack([pt * phi.cos(), pt * phi.sin(), pt * eta.sinh()], dim=1)


def energies(jets: Jets) -> torch.Tensor:
    """Return sqrt(p^2 + m^2) [GeV] with the momenta above and the assumed mass of each kind, float64 `[particle]`."""
    return (momenta(jets).square().sum(1) + jets.masses().double().square()).sqrt()


def _four_momenta(jets: Jets) -> Branches:
    px, py, pz = momenta(jets).T
    energy = jets.column("energy") if "energy" in jets.columns else energies(jets)
    named = {"part_px": px, "part_py": py, "part_pz": pz, "part_energy": energy}
    return {name: values.float().numpy() for name, values in named.items()}


def _columns(jets: Jets, schema: Schema) -> Branches:
    """Return the other particle branches: values as they are, kinds as flags."""
    branches: Branches = {}
    for name in jets.columns:
        column, values = schema.particles[name], jets.column(name).numpy()
        if column.flags is not None:
            branches |= {branch: np.int32(values == KINDS.index(kind)) for kind, branch in column.flags.items()}
        elif column.branch is not None and name != "energy":
            branches[column.branch] = values / np.float32(column.factor)
    return branches


def _labels(jets: Jets, names: Sequence[str], schema: Schema) -> Branches:
    """Return one branch per class, 1 for its jets; all branches of JetClass if the names are among its classes."""
    if not names or jets.labels is None:
        return {}
    if bool((jets.labels < 0).any()):
        raise DataError("a jet without a label cannot be written together with labelled ones", allowed=names)
    classes = schema.labels if set(names) <= set(schema.labels) else {name: f"label_{name}" for name in names}
    own = np.array(list(names))[jets.labels.numpy()]
    return {branch: np.int32(own == name) for name, branch in classes.items()}


def _jet_columns(jets: Jets, flat: Branches) -> Branches:
    """Return the sums over the particles, the axis, and every other jet column."""
    jet_of = jets.jet_of_particle.numpy()

    def total(name: str) -> Array:
        return np.bincount(jet_of, flat[name].astype(np.float64), len(jets))  # [particle] -> [jet]

    px = total("part_px")
    py = total("part_py")
    pz = total("part_pz")
    energy = total("part_energy")
    eta, phi = axis(jets)
    computed = {
        "jet_pt": np.hypot(px, py),
        "jet_eta": eta.numpy(),
        "jet_phi": phi.numpy(),
        "jet_energy": energy,
        "jet_mass": np.sqrt(np.maximum(energy**2 - px**2 - py**2 - pz**2, 0)),
        "jet_nparticles": jets.lengths.numpy(),
    }
    others = {
        name: (values.float() if values.dtype == torch.float16 else values).numpy()  # ROOT has no half precision
        for name, values in jets.jet.items()
        if name not in computed
    }
    return {name: values.astype(np.float32) for name, values in computed.items()} | others


def _type(values: Any) -> Any:
    """Return the type of a branch in the notation of uproot."""
    return f"var * {ak.to_numpy(ak.flatten(values)).dtype}" if isinstance(values, ak.Array) else values.dtype


def _blocks(batches: Iterable[Jets]) -> Iterator[Jets]:
    """Yield the same jets in batches of at least `_BLOCK`, except for the last."""
    held: list[Jets] = []
    for jets in batches:
        held.append(jets)
        if sum(map(len, held)) >= _BLOCK:
            yield concatenate(held)
            held = []
    if sum(map(len, held)):
        yield concatenate(held)
