"""Schema from a training configuration of salt: further columns of tracks and jets of the ATLAS formats.

The format itself is known (`ftag`); the configuration adds features of tracks and context of jets. Names of classes are
in a file of their own (`class_dict`), so the labels stay those of the format.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ssl_jets.data.schemas.formula import formula
from ssl_jets.data.schemas.schema import load_schema
from ssl_jets.data.schemas.starting.point import StartingPoint
from ssl_jets.errors import UsageError

_CONTEXT = {"pt_btagJes": "jet_pt", "pt": "jet_pt", "eta_btagJes": "jet_eta", "eta": "jet_eta"}


def salt_schema(tree: Mapping[str, Any], variables: Mapping[str, Any], path: str) -> StartingPoint:
    """Return the schema of a configuration with the variables `jets` and `tracks`.

    Raises:
        UsageError: it has no variables of tracks.
    """
    jets, tracks = ([str(name) for name in variables.get(key) or ()] for key in ("jets", "tracks"))
    if not tracks:
        found = ", ".join(map(str, variables))
        raise UsageError("the variables of tracks are not there", where=path, found=found, allowed=["tracks"])
    started = StartingPoint("salt")
    axis = "ftag_eta" if "eta" in jets and "eta_btagJes" not in jets else "ftag"
    base = "ftag_pt" if "pt" in tracks and axis == "ftag" else axis
    known = load_schema(base)
    branches = {name for one in known.particles.values() for name in formula(_of(one)).names}
    features = {name: {"branch": f"tracks.{name}"} for name in tracks if f"tracks.{name}" not in branches}
    context: dict[str, dict[str, Any]] = {}
    for name in jets:
        source: dict[str, Any] = {"branch": f"jets.{name}"}
        if name.startswith("eta"):  # the sign is that of deta, as in the formats
            source = {"formula": f"abs(jets.{name})"}
        elif name.startswith(("pt", "mass", "energy")):
            source |= {"unit": "MeV", "transform": "log"}
        context[_CONTEXT.get(name, name)] = source
    started.schema = {"extends": base}
    started.schema |= {"features": features} if features else {}
    started.schema |= {"context": context} if context else {}
    started.assumed.append(f"files have the columns of the format {base}: momenta in MeV, lengths in mm, `valid`")
    started.assumed.append("features are standardized by the encoder, not by norm_dict; whole numbers stay numbers")
    for name in variables:
        if name not in ("jets", "tracks"):
            started.left_out.append(f"{name}: another collection than jets and tracks")
    for label in _labels(tree):
        started.left_out.append(f"label {label}: its class names are in class_dict; labels stay those of {base}")
    return started


def _labels(tree: Any) -> list[str]:
    """Return the labels of all tasks, found under the key `label` at any depth."""
    found: list[str] = []
    if isinstance(tree, Mapping):
        found += [str(tree["label"])] if isinstance(tree.get("label"), str) else []
        found += [label for value in tree.values() for label in _labels(value)]
    elif isinstance(tree, list):
        found += [label for value in tree for label in _labels(value)]
    return list(dict.fromkeys(found))


def _of(source: Any) -> str:
    return str(source.branch if source.branch is not None else source.formula)
