"""Small files of ATLAS jets with constituents, in the layout of a derivation, written by the tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np

from ssl_jets.data.events.links import element_key
from support.event_files import Event
from support.vector_root_file import write_vector_tree

FLOW_ELEMENTS = 1158384067
"""The number of the class xAOD::FlowElementContainer."""
SMALL, LARGE = "AntiKt4EMPFlowJetsAuxDyn", "AntiKt10UFOCSSKJetsAuxDyn"
CHARGED, NEUTRAL, UNIFIED = "CHSGChargedParticleFlowObjects", "CHSGNeutralParticleFlowObjects", "UFOCSSK"


def atlas_branches(events: list[Event], *, small: str = "Jet", large: str = "FatJet") -> dict[str, Any]:
    """Columns of a derivation: small jets link to charged and to neutral objects, large ones to unified ones."""
    rng = np.random.default_rng(0)
    branches: dict[str, Any] = {}
    charged = [event.particles["charge"] != 0 for event in events]
    for name, chosen in (
        (CHARGED, charged),
        (NEUTRAL, [~mask for mask in charged]),
        (UNIFIED, [np.ones_like(mask) for mask in charged]),
    ):
        for theirs, ours, unit in (("pt", "pt", 1e3), ("eta", "eta", 1), ("phi", "phi", 1), ("m", "mass", 1e3)):
            values = [event.particles[ours][mask] * np.float32(unit) for event, mask in zip(events, chosen)]
            branches[f"{name}AuxDyn.{theirs}"] = _lists(values)
    for name in (CHARGED, UNIFIED):
        masks = charged if name == CHARGED else [np.ones_like(mask) for mask in charged]
        branches[f"{name}AuxDyn.charge"] = _lists([event.particles["charge"][m] for event, m in zip(events, masks)])
    for name, ours in ((SMALL, small), (LARGE, large)):
        counts = [len(event.jets[ours]) for event in events]
        for value, numbers in (
            ("pt", rng.uniform(2e4, 1e6, sum(counts))),
            ("eta", rng.normal(0, 1, sum(counts))),
            ("phi", rng.uniform(-np.pi, np.pi, sum(counts))),
        ):
            branches[f"{name}.{value}"] = ak.unflatten(numbers.astype(np.float32), counts)
        flavour = rng.choice([0, 4, 5, 15], sum(counts)).astype(np.int32)
        branches[f"{name}.HadronConeExclTruthLabelID"] = ak.unflatten(flavour, counts)
        links = [[_links(jet, mask, unified=name == LARGE) for jet in e.jets[ours]] for e, mask in zip(events, charged)]
        parts = {part: ak.Array([[jet[part] for jet in jets] for jets in links]) for part in (0, 1)}
        fields = {"m_persKey": parts[0], "m_persIndex": parts[1]}
        branches[f"{name}.constituentLinks"] = ak.zip({k: ak.values_astype(v, np.uint32) for k, v in fields.items()})
    return branches


def write_atlas(path: Path, branches: dict[str, Any], cluster: int = 7) -> Path:
    """Write the tree of a derivation."""
    return write_vector_tree(path, branches, tree="CollectionTree", cluster=cluster)


def _links(jet: list[int], charged: Any, *, unified: bool) -> tuple[list[int], list[int]]:
    """Keys and numbers of the links of a jet to its particles."""
    if unified:
        return [element_key(UNIFIED, FLOW_ELEMENTS)] * len(jet), jet
    place = np.where(charged, np.cumsum(charged), np.cumsum(~charged)) - 1
    names = [CHARGED if charged[one] else NEUTRAL for one in jet]
    return [element_key(name, FLOW_ELEMENTS) for name in names], place[jet].tolist()


def _lists(values: list[Any]) -> ak.Array:
    return ak.unflatten(np.concatenate(values).astype(np.float32), [len(one) for one in values])
