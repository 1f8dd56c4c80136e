"""Small files of events with several jets, in the layouts of CMS NanoAOD and EDM4hep, written by the tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot

from support.root_types import branch_types

PDG = np.array([211, -211, 11, -13, 22, 130, 1, 2])
CHARGE = np.array([1, -1, -1, 1, 0, 0, 0, 0])
Values = dict[str, Any]


@dataclass
class Event:
    """An event: particles as numbers by name, and for each jet of each collection the numbers of its particles."""

    particles: Values
    jets: dict[str, list[list[int]]] = field(default_factory=dict)


def random_events(number: int, seed: int = 0, collections: tuple[str, ...] = ("FatJet", "Jet")) -> list[Event]:
    """Events of 0 to 4 jets of 1 to 8 particles each, some of them in two jets, others in none."""
    rng = np.random.default_rng(seed)
    events = []
    for _ in range(number):
        size = int(rng.integers(8, 20))
        kind = rng.integers(0, len(PDG), size)
        tracked = (CHARGE[kind] != 0) & (rng.random(size) < 0.6)
        track = {name: np.where(tracked, rng.normal(0, 1, size), -1) for name in ("d0", "dz")}
        errors = {name: np.where(tracked, rng.uniform(0.1, 1, size), -1) for name in ("d0Err", "dzErr")}
        particles: Values = {
            "pt": rng.uniform(1, 100, size),
            "eta": rng.normal(0, 1, size),
            "phi": rng.uniform(-np.pi, np.pi, size),
            "mass": rng.uniform(0, 1, size),
            "puppiWeight": rng.uniform(0.2, 1, size),
            "pdgId": PDG[kind].astype(np.int32),
            "charge": CHARGE[kind].astype(np.int32),
        }
        particles = {
            name: np.float32(values) if values.dtype == np.float64 else values for name, values in particles.items()
        }
        particles |= {name: np.float32(values) for name, values in (track | errors).items()}
        jets = {
            name: [rng.permutation(size)[: rng.integers(1, 9)].tolist() for _ in range(rng.integers(0, 5))]
            for name in collections
        }
        events.append(Event(particles, jets))
    return events


def nano_branches(events: list[Event], candidates: str = "PFCands", index: str = "pFCandsIdx", seed: int = 0) -> Values:
    """Branches of CMS NanoAOD with candidates; the rows of the link tables are mixed."""
    rng = np.random.default_rng(seed)
    branches: Values = {"run": np.full(len(events), 1), "event": np.arange(len(events), dtype=np.int64) + 1000}
    for name in events[0].particles:
        branches[f"{candidates}_{name}"] = ak.Array([event.particles[name] for event in events])
    for jets in events[0].jets:
        tables = [[(n, one) for n, jet in enumerate(event.jets[jets]) for one in jet] for event in events]
        tables = [[table[place] for place in rng.permutation(len(table))] for table in tables]
        rows = ak.values_astype(ak.Array([[row[0] for row in table] for table in tables]), np.int32)
        branches[f"{jets}{candidates}_jetIdx"] = rows
        numbers = ak.values_astype(ak.Array([[row[1] for row in table] for table in tables]), np.int32)
        branches[f"{jets}{candidates}_{index}"] = numbers
        counts = [len(event.jets[jets]) for event in events]
        for name, values in jet_values(sum(counts), rng).items():
            branches[f"{jets}_{name}"] = ak.unflatten(values, counts)
    return branches


def jet_values(jets: int, rng: np.random.Generator) -> Values:
    """Numbers of jets by name."""
    return {
        "pt": rng.uniform(100, 1000, jets).astype(np.float32),
        "eta": rng.normal(0, 1, jets).astype(np.float32),
        "phi": rng.uniform(-np.pi, np.pi, jets).astype(np.float32),
        "hadronFlavour": rng.choice([0, 4, 5], jets).astype(np.int32),
    }


def write_events(
    path: Path,
    branches: Values,
    *,
    tree: str = "Events",
    cluster: int = 7,
    ntuple: bool = False,
    edit: Callable[[Values], None] | None = None,
) -> Path:
    """Write a TTree or an RNTuple of lists and numbers; `edit` changes the dict of branches in place."""
    if edit is not None:
        edit(branches)
    types = branch_types(branches)
    with uproot.recreate(path) as file:
        if ntuple:
            out = file.mkrntuple(tree, types)
        else:
            out = file.mktree(tree, types, counter_name=_counter, field_name=lambda outer, inner: inner)
        entries = len(next(iter(branches.values())))
        for start in range(0, entries, cluster):
            out.extend({name: values[start : start + cluster] for name, values in branches.items()})
    return path


def _counter(branch: str) -> str:
    """CMS names the counter of PFCands_pt nPFCands."""
    return "n" + branch.rpartition("_")[0]


def expected_particles(event: Event, jet: list[int], axis: Mapping[str, float], *, weighted: bool) -> Values:
    """Canonical columns of a jet of `event`, particle by particle: the reference."""
    found: dict[str, list[float]] = {}
    for one in sorted(jet, key=lambda one: one):
        p = {name: values[one].item() for name, values in event.particles.items()}
        weight = p["puppiWeight"] if weighted else 1.0
        turn = (p["phi"] - axis["phi"] + np.pi) % (2 * np.pi) - np.pi
        kinds = {211: 0, 11: 3, 13: 4, 22: 2, 130: 1, 1: 1, 2: 2}
        track = p["d0Err"] > 0
        values = {
            "pt": p["pt"] * weight,
            "deta": (p["eta"] - axis["eta"]) * (-1 if axis["eta"] < 0 else 1),
            "dphi": turn,
            "energy": weight * np.sqrt((p["pt"] * np.cosh(p["eta"])) ** 2 + p["mass"] ** 2),
            "charge": p["charge"],
            "kind": kinds[abs(p["pdgId"])],
            "d0": -10 * p["d0"] if track else 0.0,  # the sign of CMS is the opposite of JetClass
            "d0err": 10 * p["d0Err"] if track else 0.0,
            "dz": 10 * p["dz"] if track else 0.0,
            "dzerr": 10 * p["dzErr"] if track else 0.0,
        }
        for name, value in values.items():
            found.setdefault(name, []).append(value)
    return {name: np.array(values) for name, values in found.items()}
