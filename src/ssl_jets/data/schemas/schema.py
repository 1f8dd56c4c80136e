"""Schema of a file format: the settings of one YAML file in `formats/`, or of a user's own.

A schema maps branches to canonical particle columns with units, and defines the jet axis, labels and cuts. `detect.py`
finds the schema of a file, `check.py` the columns it has, and `data/decoder.py` compiles it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from ssl_jets.config import INPUT_GROUPS, Settings, read_config, resolve
from ssl_jets.data.collections.source import CollectionSource, check_collections
from ssl_jets.data.events.clustering import Clustering
from ssl_jets.data.events.collections import Events
from ssl_jets.data.schemas.formula import formula
from ssl_jets.data.schemas.particle_labels import ParticleLabel
from ssl_jets.data.schemas.value import COLUMN_UNITS, UNITS, FeatureSource, FormulaText, Value
from ssl_jets.errors import UsageError, nearest
from ssl_jets.jets import COLUMNS, KINDS, NEEDED
from ssl_jets.runtime.reading import load_yaml

_WITH_UNIT = {name: unit for name, unit in COLUMN_UNITS.items() if unit in ("GeV", "mm")}
"""Canonical units of the columns that need a `unit` in the schema."""


class ParticleColumn(Value):
    """Source of a canonical particle column: exactly one of `branch`, `formula` and `flags`."""

    flags: dict[str, str] | None = None
    """Kind of particle to the branch that is not zero for it; no flag set means the kind `other`."""
    absolute: bool = False
    """For deta and dphi: the value is eta or phi in the detector; the column is its distance from the jet axis."""
    required: bool = False
    """A file without these branches is not of this format."""

    @model_validator(mode="after")
    def _one_source(self) -> ParticleColumn:
        self._check_source(branch=self.branch, formula=self.formula, flags=self.flags)
        if unknown := set(self.flags or ()) - set(KINDS):
            raise ValueError(f"unknown kinds of particle {sorted(unknown)}; known are {', '.join(KINDS)}")
        return self

    @property
    def branches(self) -> tuple[str, ...]:
        """All branches the column is computed from."""
        return super().branches if self.flags is None else tuple(self.flags.values())


class Axis(Settings):
    """Axis of a jet in the detector: formulas over branches of jets; `sum(...)` adds over its particles."""

    eta: FormulaText
    """Pseudorapidity."""
    phi: FormulaText
    """Azimuth [rad]."""

    @property
    def branches(self) -> tuple[str, ...]:
        """All branches the axis is computed from."""
        return tuple(dict.fromkeys((*formula(self.eta).names, *formula(self.phi).names)))


class LabelIndex(Settings):
    """Label that is stored as one whole number, or as the name of the class."""

    branch: str
    """The branch that holds it."""
    names: tuple[str, ...] = Field(min_length=1)
    """Names of the classes 0, 1, 2, ...; if the branch holds strings, its allowed values."""


class Schema(Settings):
    """Schema of a format of jet files."""

    name: str
    """Short name, as in the name of its YAML file."""
    title: str
    """Name for people."""
    events: Events | None = None
    """Jets and their particles, if an entry is an event with several jets. The other keys then use its names."""
    cluster: Clustering | None = None
    """Clustering of jets, if an entry is an event without jets. The other keys then use its names."""
    particles: dict[str, ParticleColumn] = Field(min_length=1)
    """Canonical particle column to its source; a column that is not named here does not exist."""
    features: dict[str, FeatureSource] = Field(default_factory=dict)
    """Further features of particles by name; read if `model.inputs` names them."""
    context: dict[str, FeatureSource] = Field(default_factory=dict)
    """Numbers of jets that the encoder may read, by name; read if `model.inputs` names them."""
    particle_labels: dict[str, ParticleLabel] = Field(default_factory=dict)
    """Labels of particles by name; read if `method.particle_targets` names them."""
    collections: dict[str, CollectionSource] = Field(default_factory=dict)
    """Further collections of a jet, such as secondary vertices, by name; read if `model.inputs` names them."""
    requires: tuple[str, ...] = ()
    """Further branches without which a file is not of this format."""
    lacks: tuple[str, ...] = ()
    """Branches with which a file is not of this format."""
    axis: Axis | None = None
    """The axis, if a column is `absolute`."""
    particle_cut: FormulaText | None = None
    """Cut that selects particles among the places of a padded list."""
    jet_cut: FormulaText | None = None
    """Cut that selects jets; the others are counted as skipped."""
    jets: dict[str, Value] = Field(default_factory=dict)
    """Jet columns with a name in the schema, in addition to the branches of the file."""
    labels: dict[str, FormulaText] = Field(default_factory=dict)
    """Name of a class to the formula (or branch) that is 1 for its jets and 0 for all others."""
    label_index: LabelIndex | None = None
    """The label as one number or one string, instead of `labels`."""
    optional_labels: bool = True
    """A file that lacks all branches of labels is unlabelled. In a schema of yours with labels: false, an error."""
    optional_jets: bool = True
    """A file that lacks branches of `jets` lacks these columns. In a schema of yours with `jets`: false, an error."""

    @model_validator(mode="after")
    def _consistent(self) -> Schema:
        if unknown := set(self.particles) - set(COLUMNS):
            raise ValueError(f"unknown particle columns {sorted(unknown)}; known are {', '.join(COLUMNS)}")
        absolute = [name for name, column in self.particles.items() if column.absolute]
        if not {"deta", "dphi"} >= set(absolute):
            raise ValueError(f"only deta and dphi can be absolute, not {', '.join(absolute)}")
        if absolute and self.axis is None:
            hint = "from branches of the jet, or from sums over its particles, such as phi: phi(sum(px), sum(py))"
            raise ValueError(f"{' and '.join(absolute)} are absolute, so the axis of the jet is needed: axis, {hint}")
        if self.events is not None and self.cluster is not None:
            raise ValueError("jets are in the file or made of particles, one of: events, cluster")
        if self.labels and self.label_index is not None:
            raise ValueError("labels come from one of: labels, label_index")
        for name, column in self.particles.items():
            allowed = [unit for unit, (canonical, _) in UNITS.items() if canonical == _WITH_UNIT.get(name)]
            if allowed and column.unit not in allowed:
                raise ValueError(f"the unit of {name} is one of {', '.join(allowed)}, not {column.unit}")
        if lacking := [name for name in NEEDED if name not in self.particles]:
            raise ValueError(f"particles have {', '.join(NEEDED)}; missing: {', '.join(lacking)}")
        self._check_features()
        return self

    def _check_features(self) -> None:
        taken = {*COLUMNS, *INPUT_GROUPS}
        if double := [name for name in (*self.features, *self.context) if name in taken]:
            raise ValueError(f"a feature cannot have the name {double[0]}, which is taken")
        if double := [name for name in self.features if name in self.context]:
            raise ValueError(f"{double[0]} is a feature and context at once")
        if target := [name for name, source in self.context.items() if source.target]:
            raise ValueError(f"context is no target of decoders, which predict particles: {target[0]}")
        if wrong := [name for name in self.particle_labels if not name.isidentifier()]:
            raise ValueError(f"the name of a label of particles has letters, digits and _ only, not {wrong[0]!r}")
        taken = {*taken, *self.features, *self.context}
        layout = {"events": self.events is not None, "cluster": self.cluster is not None}
        check_collections(self.collections, taken, axis=self.axis is not None, **layout)

    @property
    def required(self) -> tuple[str, ...]:
        """Branches without which a file is not of this format."""
        columns = [column for column in self.particles.values() if column.required]
        branches = [branch for column in columns for branch in column.branches]
        if self.axis is not None and any(column.absolute for column in columns):
            branches += self.axis.branches
        if not self.optional_jets:
            branches += [branch for value in self.jets.values() for branch in value.branches]
        if not self.optional_labels:
            branches += self.label_branches
        return tuple(dict.fromkeys((*branches, *self.cut_branches, *self.requires)))

    @property
    def typical_branches(self) -> tuple[str, ...]:
        """Branches of a file that make a table look like this format."""
        if self.events is not None:
            return self.events.branches
        return self.particle_branches if self.cluster is None else self.cluster.branches

    @property
    def label_branches(self) -> tuple[str, ...]:
        """Branches of the labels."""
        if self.label_index is not None:
            return (self.label_index.branch,)
        return tuple(dict.fromkeys(name for text in self.labels.values() for name in formula(text).names))

    @property
    def cut_branches(self) -> tuple[str, ...]:
        """Branches of the cuts, which every read needs."""
        cuts = (formula(cut).names for cut in (self.particle_cut, self.jet_cut) if cut is not None)
        return tuple(dict.fromkeys(name for names in cuts for name in names))

    @property
    def particle_branches(self) -> tuple[str, ...]:
        """Branches of all particle columns."""
        return tuple(branch for column in self.particles.values() for branch in column.branches)

    @property
    def sha256(self) -> str:
        """Hash of all keys of the schema, the same in every process."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    def branches_for(self, columns: Iterable[str], jets: Iterable[str], labels: Iterable[str]) -> tuple[str, ...]:
        """Return all branches to read for particle columns, jet columns (also branches) and branches of labels."""
        branches = [branch for name in columns for branch in self.particles[name].branches]
        if self.axis is not None and any(self.particles[name].absolute for name in columns):
            branches += self.axis.branches
        for name in jets:
            branches += self.jets[name].branches if name in self.jets else (name,)
        return tuple(dict.fromkeys((*branches, *labels, *self.cut_branches)))

    def fits(self, branches: Collection[str]) -> bool:
        """Check whether a table with these branches is of this format."""
        return {*self.required} <= {*branches} and {*self.lacks}.isdisjoint(branches)


@cache
def known_schemas() -> tuple[Schema, ...]:
    """Return the schemas of the package."""
    return tuple(_parse(tree, Path(f"{name}.yaml")) for name, tree in _known_trees().items())


def load_schema(path: str | Path) -> Schema:
    """Load the known schema of this name, or a user's own from a YAML file like those in `formats/`.

    `extends: NAME` copies all keys of that known schema that the file does not have. Particle columns of the file are
    `required: true` by default.

    Raises:
        UsageError: the file cannot be read, or names an unknown key, column, unit or kind, or a formula is wrong.
    """
    known = {schema.name: schema for schema in known_schemas()}
    if str(path) in known:
        return known[str(path)]
    path = Path(path)
    if not path.suffix and not path.exists():
        raise UsageError(
            "there is no such format",
            where="data.format",
            found=path,
            allowed=nearest(str(path), known),
            hint="--schema takes one of these names, or a YAML file",
        )
    tree = read_config(path)
    own: dict[str, Any] = {"name": path.stem, "title": path.name}
    for option, keys in (("optional_labels", {"labels", "label_index"}), ("optional_jets", {"jets"})):
        if keys & {*tree} or not tree.get("extends"):  # those of a known format stay optional
            own[option] = False
    tree = {**own, **tree}
    if isinstance(tree.get("particles"), dict):
        tree["particles"] = {
            name: {"required": True, **column} if isinstance(column, dict) else column
            for name, column in tree["particles"].items()
        }
    return _parse(tree, path)


@cache
def _known_trees() -> dict[str, dict[str, Any]]:
    folder = resources.files("ssl_jets.data.schemas") / "formats"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".yaml")), key=lambda file: file.name)
    return {file.name.removesuffix(".yaml"): load_yaml(file.read_text(encoding="utf-8")) for file in files}


def _parse(tree: dict[str, Any], path: Path) -> Schema:
    return resolve(Schema, _extended(tree, path), file=path)


def _extended(tree: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the keys of a schema, completed by the known schema that it extends."""
    base, tree = tree.get("extends"), {key: value for key, value in tree.items() if key != "extends"}
    if not base:
        return tree
    if base not in _known_trees():
        allowed = nearest(base, _known_trees())
        raise UsageError("there is no such format to extend", where=path, found=base, allowed=allowed)
    known = _extended(_known_trees()[base], path)
    if {"labels", "label_index"} & {*tree}:  # labels of either kind replace the known ones
        known = {key: value for key, value in known.items() if key not in ("labels", "label_index")}
    cluster = {"cluster": {**known["cluster"], **tree["cluster"]}} if "cluster" in known and "cluster" in tree else {}
    merged = ("features", "context", "particle_labels", "collections")
    added: dict[str, Any] = {key: {**known.get(key, {}), **tree[key]} for key in merged if key in tree}
    return {**known, **tree, **cluster, **added}
