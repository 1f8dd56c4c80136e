"""Schema from the data configuration of weaver (weaver-core, arXiv:2202.03772).

Kinematics are the input of four momenta (`*_vectors`: px, py, pz, E) and the input of coordinates (`*_points`: deta,
dphi). Charge, flags of the kind and impact parameters are found by JetClass's endings of names. Further variables
become features, which the encoder standardizes itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ssl_jets.data.schemas.formula import formula
from ssl_jets.data.schemas.starting.numpy_formula import translated
from ssl_jets.data.schemas.starting.point import StartingPoint
from ssl_jets.data.schemas.value import COLUMN_UNITS
from ssl_jets.errors import UsageError
from ssl_jets.jets import COLUMNS, KINDS

_ENDINGS = {"charge": "charge", "d0": "d0val", "d0err": "d0err", "dz": "dzval", "dzerr": "dzerr"}
"""Canonical column to the ending of its branch in JetClass."""
_FLAGS = {kind: "is" + "".join(word.capitalize() for word in kind.split()) for kind in KINDS[:5]}
_LABEL = "label_"


def weaver_schema(tree: Mapping[str, Any], path: str) -> StartingPoint:
    """Return the schema of a configuration.

    Raises:
        UsageError: it has no input of four momenta, or none of coordinates.
    """
    started = StartingPoint("weaver")
    variables = {str(name): str(text) for name, text in (tree.get("new_variables") or {}).items()}
    inputs = {str(name): _names(one) for name, one in tree["inputs"].items()}
    vectors = next((one for name, one in inputs.items() if "vector" in name and len(one) == 4), None)
    points = next((one for name, one in inputs.items() if "point" in name and len(one) == 2), None)
    if vectors is None or points is None:
        found = ", ".join(f"{name} of {len(one)} variables" for name, one in inputs.items())
        allowed = ["*_vectors of px, py, pz, energy", "*_points of deta, dphi"]
        raise UsageError("the kinematics of particles are not there", where=path, found=found, allowed=allowed)
    px, py, _, energy = (translated(name, variables) for name in vectors)
    particles: dict[str, dict[str, Any]] = {"pt": {"formula": f"hypot({px}, {py})"}}
    for name, text in zip(("deta", "dphi", "energy"), (*(translated(one, variables) for one in points), energy)):
        particles[name] = _source(text)
    names = [name for one in inputs.values() for name in one]
    used = _branches(names, variables)
    for column, ending in _ENDINGS.items():
        if branch := next((name for name in used if name.endswith(f"_{ending}")), None):
            particles[column] = {"branch": branch}
    flags = {kind: next((name for name in used if name.endswith(end)), None) for kind, end in _FLAGS.items()}
    if all(flags.values()):
        particles["kind"] = {"flags": flags}
    for column, source in particles.items():
        source |= {"unit": COLUMN_UNITS[column]} if column in COLUMN_UNITS else {}
    started.schema = {"particles": {name: particles[name] for name in COLUMNS if name in particles}}
    started.assumed.append("momenta are in GeV, impact parameters in mm; the file has no units")
    if "d0" in particles:
        started.assumed.append("d0 has the sign of JetClass, which is the opposite of CMS and ATLAS")
    _add_features(started, [name for name in names if name not in (*vectors, *points)], variables)
    _add_labels(started, tree.get("labels") or {}, variables)
    if selection := tree.get("selection"):
        _add(started, "jet_cut", "selection", str(selection), variables)
    for key, reason in {
        "weights": "--set data.flatten.by=... weighs the spectra of classes",
        "observers": "--keep writes jet columns beside z",
        "monitor_variables": "not needed",
        "test_time_selection": "--where selects jets",
    }.items():
        if tree.get(key):
            started.left_out.append(f"{key}: {reason}")
    return started


def _names(group: Mapping[str, Any]) -> list[str]:
    """Return the names of the variables of an input, without their standardization."""
    return [str(one[0] if isinstance(one, list) else one) for one in group.get("vars") or ()]


def _source(text: str) -> dict[str, Any]:
    """Return a branch, or a formula of something else than a name."""
    return {"branch": text} if text.isidentifier() else {"formula": text}


def _branches(names: list[str], variables: Mapping[str, str]) -> list[str]:
    """Return the branches behind variables, in order; none behind a formula that cannot be translated."""
    found: dict[str, None] = {}
    for name in names:
        try:
            found |= dict.fromkeys(formula(translated(name, variables)).names)
        except ValueError:
            continue
    return list(found)


def _add_features(started: StartingPoint, names: list[str], variables: Mapping[str, str]) -> None:
    """Add variables that are no functions of canonical columns as features."""
    particles = started.schema["particles"]
    flags = set((particles.get("kind") or {}).get("flags", {}).values())
    canonical = {name for one in particles.values() if "flags" not in one for name in formula(_of(one)).names} | flags
    features, covered = {}, []
    for name in dict.fromkeys(names):
        try:
            text = translated(name, variables)
        except ValueError as error:
            if "ones_like" not in str(error):  # a mask of padding, which packed jets do not have
                started.left_out.append(f"{name}: {error}")
            continue
        if set(formula(text).names) <= canonical:
            covered.append(name)
        else:
            features[name] = _source(text)
    if covered:
        started.assumed.append(f"functions of canonical columns, which the encoder computes: {', '.join(covered)}")
    if features:
        started.schema["features"] = features
        started.assumed.append("features are standardized by the encoder, not by the numbers of the file")


def _of(source: Mapping[str, Any]) -> str:
    return str(source.get("branch") or source["formula"])


def _add_labels(started: StartingPoint, labels: Mapping[str, Any], variables: Mapping[str, str]) -> None:
    value = labels.get("value")
    if labels.get("type") == "simple" and isinstance(value, list):
        found = {str(name).removeprefix(_LABEL): str(name) for name in value}
    elif isinstance(value, dict) and len(value) > 1:
        found = {str(name): str(text) for name, text in value.items()}
    else:
        found = {}
        if value:
            started.left_out.append(f"labels: {value}; classes are formulas: labels: {{NAME: FORMULA}}")
    classes: dict[str, str] = {}
    for name, text in found.items():
        try:
            classes[name] = translated(text, variables)
        except ValueError as error:
            started.left_out.append(f"label {name}: {error}")
    if classes:
        started.schema["labels"] = classes


def _add(started: StartingPoint, key: str, name: str, text: str, variables: Mapping[str, str]) -> None:
    try:
        started.schema[key] = translated(text, variables)
    except ValueError as error:
        started.left_out.append(f"{name}: {error}")
