"""How a format names its columns: the settings of one YAML file in `schemas/`, or of a user's own.

A format says from which branches each canonical particle column comes and in which unit, where the axis of a jet lies,
what a label is, and which entries and particles count. Which of them a file has is found in `detect.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from ssl_jets.config import Settings, read_config, resolve
from ssl_jets.data.events.clustering import Clustering
from ssl_jets.data.events.collections import Events
from ssl_jets.data.schemas.formula import formula
from ssl_jets.errors import UsageError, nearest
from ssl_jets.jets import COLUMNS, KINDS, NEEDED
from ssl_jets.runtime.reading import load_yaml

_UNITS = {
    "GeV": ("GeV", 1.0),
    "MeV": ("GeV", 1e-3),
    "mm": ("mm", 1.0),
    "cm": ("mm", 10.0),
    "m": ("mm", 1000.0),
    "rad": ("rad", 1.0),
    "e": ("e", 1.0),
    "1": ("1", 1.0),
}
"""Unit of a file to the canonical unit of the same dimension, and what a value is multiplied with."""

_CANONICAL = {"pt": "GeV", "energy": "GeV", "d0": "mm", "d0err": "mm", "dz": "mm", "dzerr": "mm"}
"""Canonical units of the columns whose unit in a file must be said."""

Unit = Literal["GeV", "MeV", "mm", "cm", "m", "rad", "e", "1"]


def _parsed(text: str) -> str:
    formula(text)
    return text


FormulaText = Annotated[str, AfterValidator(_parsed)]
"""A formula over branches, see `formula.py`."""


class Value(Settings):
    """Where a number comes from: exactly one of `branch` and `formula`."""

    branch: str | None = None
    """The branch that holds it."""
    formula: FormulaText | None = None
    """What it is computed from, such as `hypot(px, py)`."""
    unit: Unit = "1"
    """Unit in the file; values are converted to GeV and mm."""

    @model_validator(mode="after")
    def _one_origin(self) -> Value:
        self._check_origin(branch=self.branch, formula=self.formula)
        return self

    @staticmethod
    def _check_origin(**origins: object) -> None:
        if sum(origin is not None for origin in origins.values()) != 1:
            raise ValueError(f"it comes from exactly one of: {', '.join(origins)}")

    @property
    def branches(self) -> tuple[str, ...]:
        """All branches it is computed from."""
        if self.branch is not None:
            return (self.branch,)
        return formula(self.formula).names if self.formula is not None else ()

    @property
    def factor(self) -> float:
        """What a value is multiplied with to become GeV or mm."""
        return _UNITS[self.unit][1]


class ParticleColumn(Value):
    """Where one canonical particle column comes from: exactly one of `branch`, `formula` and `flags`."""

    flags: dict[str, str] | None = None
    """Kind of particle to the branch that is not zero for it; no flag set means the kind `other`."""
    absolute: bool = False
    """For deta and dphi: the value is eta or phi in the detector; the column is its distance from the jet axis."""
    required: bool = False
    """Whether a file without these branches is not of this format."""

    @model_validator(mode="after")
    def _one_origin(self) -> ParticleColumn:
        self._check_origin(branch=self.branch, formula=self.formula, flags=self.flags)
        if unknown := set(self.flags or ()) - set(KINDS):
            raise ValueError(f"unknown kinds of particle {sorted(unknown)}; known are {', '.join(KINDS)}")
        return self

    @property
    def branches(self) -> tuple[str, ...]:
        """All branches the column is computed from."""
        return super().branches if self.flags is None else tuple(self.flags.values())


class Axis(Settings):
    """The axis of a jet in the detector, by formulas over branches of jets; `sum(...)` adds over its particles."""

    eta: FormulaText
    """Pseudorapidity."""
    phi: FormulaText
    """Azimuth [rad]."""

    @property
    def branches(self) -> tuple[str, ...]:
        """All branches the axis is computed from."""
        return tuple(dict.fromkeys((*formula(self.eta).names, *formula(self.phi).names)))


class LabelIndex(Settings):
    """A label that is stored as one whole number, or as the name of the class."""

    branch: str
    """The branch that holds it."""
    names: tuple[str, ...] = Field(min_length=1)
    """Names of the classes 0, 1, 2, ...; where the branch holds strings, those that it may hold."""


class Schema(Settings):
    """A format of jet files."""

    name: str
    """Short name, as in the name of its YAML file."""
    title: str
    """Name for people."""
    events: Events | None = None
    """Where an entry is an event with several jets: what they are and which particles are theirs. The other keys then
    use its names for branches."""
    cluster: Clustering | None = None
    """Where an entry is an event without jets: how to make them. The other keys then use its names for branches."""
    particles: dict[str, ParticleColumn] = Field(min_length=1)
    """Canonical particle column to where it comes from; a column that is not named here does not exist."""
    requires: tuple[str, ...] = ()
    """Further branches without which a file is not of this format."""
    lacks: tuple[str, ...] = ()
    """Branches with which a file is not of this format."""
    axis: Axis | None = None
    """The axis, where a column is `absolute`."""
    particle_cut: FormulaText | None = None
    """Which places of a list are particles: how a table is unpadded."""
    jet_cut: FormulaText | None = None
    """Which jets to use; those left out are counted."""
    jets: dict[str, Value] = Field(default_factory=dict)
    """Jet columns that the format names, beside those the file has under their own names."""
    labels: dict[str, FormulaText] = Field(default_factory=dict)
    """Name of a class to the formula (or branch) that is 1 for its jets and 0 for all others."""
    label_index: LabelIndex | None = None
    """The label where it is one number or one string, instead of `labels`."""
    optional_labels: bool = True
    """Whether a file may lack all branches of labels, and is then unlabelled. In a schema of yours: false."""
    optional_jets: bool = True
    """Whether a file may lack branches of `jets`, which it then has not. In a schema of yours: false."""

    @model_validator(mode="after")
    def _consistent(self) -> Schema:
        if unknown := set(self.particles) - set(COLUMNS):
            raise ValueError(f"unknown particle columns {sorted(unknown)}; known are {', '.join(COLUMNS)}")
        absolute = [name for name, column in self.particles.items() if column.absolute]
        if not {"deta", "dphi"} >= set(absolute):
            raise ValueError(f"only deta and dphi can be absolute, not {', '.join(absolute)}")
        if absolute and self.axis is None:
            raise ValueError(f"{' and '.join(absolute)} are absolute, so the axis of the jet is needed: axis")
        if self.events is not None and self.cluster is not None:
            raise ValueError("jets are in the file or made of particles, one of: events, cluster")
        if self.labels and self.label_index is not None:
            raise ValueError("labels come from one of: labels, label_index")
        for name, column in self.particles.items():
            allowed = [unit for unit, (canonical, _) in _UNITS.items() if canonical == _CANONICAL.get(name)]
            if allowed and column.unit not in allowed:
                raise ValueError(f"the unit of {name} is one of {', '.join(allowed)}, not {column.unit}")
        if lacking := [name for name in NEEDED if name not in self.particles]:
            raise ValueError(f"particles have {', '.join(NEEDED)}; not said: {', '.join(lacking)}")
        return self

    @property
    def required(self) -> tuple[str, ...]:
        """Branches without which a file is not of this format."""
        columns = [column for column in self.particles.values() if column.required]
        needed = [branch for column in columns for branch in column.branches]
        if self.axis is not None and any(column.absolute for column in columns):
            needed += self.axis.branches
        if not self.optional_jets:
            needed += [branch for value in self.jets.values() for branch in value.branches]
        if not self.optional_labels:
            needed += self.label_branches
        return tuple(dict.fromkeys((*needed, *self.cut_branches, *self.requires)))

    @property
    def telling(self) -> tuple[str, ...]:
        """Branches of a file by which a table is known to be like this format."""
        if self.events is not None:
            return self.events.branches
        return self.particle_branches if self.cluster is None else self.cluster.branches

    @property
    def label_branches(self) -> tuple[str, ...]:
        """Branches of the label that the format declares."""
        if self.label_index is not None:
            return (self.label_index.branch,)
        return tuple(dict.fromkeys(name for text in self.labels.values() for name in formula(text).names))

    @property
    def cut_branches(self) -> tuple[str, ...]:
        """Branches that every read needs, whatever columns are asked for: those of the cuts."""
        cuts = (formula(cut).names for cut in (self.particle_cut, self.jet_cut) if cut is not None)
        return tuple(dict.fromkeys(name for names in cuts for name in names))

    @property
    def particle_branches(self) -> tuple[str, ...]:
        """Branches of all particle columns."""
        return tuple(branch for column in self.particles.values() for branch in column.branches)

    def needed(self, columns: Iterable[str], jets: Iterable[str], labels: Iterable[str]) -> tuple[str, ...]:
        """All branches to read, each once: for particle columns, for jet columns (a branch is one by itself), for
        labels, and for the cuts."""
        branches = [branch for name in columns for branch in self.particles[name].branches]
        if self.axis is not None and any(self.particles[name].absolute for name in columns):
            branches += self.axis.branches
        for name in jets:
            branches += self.jets[name].branches if name in self.jets else (name,)
        return tuple(dict.fromkeys((*branches, *labels, *self.cut_branches)))

    def fits(self, branches: Collection[str]) -> bool:
        """Whether a table of these branches is of this format."""
        return {*self.required} <= {*branches} and {*self.lacks}.isdisjoint(branches)


@cache
def known_schemas() -> tuple[Schema, ...]:
    """The formats that come with the package."""
    return tuple(_parse(tree, Path(f"{name}.yaml")) for name, tree in _known_trees().items())


def load_schema(path: str | Path) -> Schema:
    """A user's own format, from a YAML file written like those in `schemas/`; or the known one of this name.

    With `extends: NAME` it has everything of that known format that it does not say itself. What it says itself must be
    in the file: there a column is `required` unless it says otherwise.

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
    own = {"name": path.stem, "title": path.name, "optional_labels": False, "optional_jets": False}
    tree = {**own, **read_config(path)}
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
    """The keys of a schema with those of the known format that it extends."""
    base, tree = tree.get("extends"), {key: value for key, value in tree.items() if key != "extends"}
    if not base:
        return tree
    if base not in _known_trees():
        allowed = nearest(base, _known_trees())
        raise UsageError("there is no such format to extend", where=path, found=base, allowed=allowed)
    known = _extended(_known_trees()[base], path)
    if {"labels", "label_index"} & {*tree}:  # one's own way to have labels replaces the other
        known = {key: value for key, value in known.items() if key not in ("labels", "label_index")}
    cluster = {"cluster": {**known["cluster"], **tree["cluster"]}} if "cluster" in known and "cluster" in tree else {}
    return {**known, **tree, **cluster}
