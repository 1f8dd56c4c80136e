"""How a public format names its columns, and which format a file has.

A format is one YAML file in `schemas/`: it says from which branches each canonical particle column comes and in which
unit, which branches hold the labels, and which reader opens it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Protocol

import yaml
from pydantic import Field, model_validator

from ssl_jets.config import Settings, read_config, resolve
from ssl_jets.errors import DataError, nearest
from ssl_jets.jets import COLUMNS, KINDS

_FACTORS = {"GeV": 1.0, "MeV": 1e-3, "mm": 1.0, "cm": 10.0, "m": 1000.0, "rad": 1.0, "e": 1.0, "1": 1.0}
"""Unit of a file to the canonical unit of the same dimension (GeV, mm)."""


class Column(Settings):
    """Where one canonical particle column comes from: exactly one of `branch`, `norm` and `flags`."""

    branch: str | None = None
    """The values themselves."""
    norm: tuple[str, ...] | None = None
    """Components of a vector; the column is its length."""
    flags: dict[str, str] | None = None
    """Kind of particle to the branch that is not zero for it; no flag set means the kind `other`."""
    unit: Literal["GeV", "MeV", "mm", "cm", "m", "rad", "e", "1"] = "1"
    """Unit in the file; values are converted to GeV and mm."""
    required: bool = False
    """Whether a file without these branches is not of this format."""

    @model_validator(mode="after")
    def _one_origin(self) -> Column:
        if sum(origin is not None for origin in (self.branch, self.norm, self.flags)) != 1:
            raise ValueError("a column comes from exactly one of: branch, norm, flags")
        if unknown := set(self.flags or ()) - set(KINDS):
            raise ValueError(f"unknown kinds of particle {sorted(unknown)}; known are {', '.join(KINDS)}")
        return self

    @property
    def branches(self) -> tuple[str, ...]:
        """All branches the column is computed from."""
        if self.branch is not None:
            return (self.branch,)
        return self.norm if self.norm is not None else tuple((self.flags or {}).values())

    @property
    def factor(self) -> float:
        """What a value is multiplied with to become GeV or mm."""
        return _FACTORS[self.unit]


class Schema(Settings):
    """A format of jet files."""

    name: str
    """Short name, as in the name of its YAML file."""
    title: str
    """Name for people."""
    reader: Literal["root"]
    """The module that opens such files."""
    particles: dict[str, Column] = Field(min_length=1)
    """Canonical particle column to where it comes from; a column that is not named here does not exist."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Name of a class to the branch that is 1 for its jets and 0 for all others."""

    @model_validator(mode="after")
    def _known_columns(self) -> Schema:
        if unknown := set(self.particles) - set(COLUMNS):
            raise ValueError(f"unknown particle columns {sorted(unknown)}; known are {', '.join(COLUMNS)}")
        return self

    @property
    def required(self) -> tuple[str, ...]:
        """Branches without which a file is not of this format."""
        return tuple(branch for column in self.particles.values() if column.required for branch in column.branches)

    @property
    def particle_branches(self) -> tuple[str, ...]:
        """Branches of all particle columns."""
        return tuple(branch for column in self.particles.values() for branch in column.branches)


class Table(Protocol):
    """A tree of an open file, as a reader shows it."""

    @property
    def name(self) -> str: ...
    @property
    def branches(self) -> tuple[str, ...]: ...


@cache
def known_schemas() -> tuple[Schema, ...]:
    """The formats that come with the package."""
    folder = resources.files("ssl_jets.data") / "schemas"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".yaml")), key=lambda file: file.name)
    return tuple(_parse(yaml.safe_load(file.read_text(encoding="utf-8"))) for file in files)


def load_schema(path: Path) -> Schema:
    """A user's own format, from a YAML file written like those in `schemas/`.

    Raises:
        UsageError: the file cannot be read, or names an unknown key, column, unit or kind.
    """
    return _parse(read_config(path))


def detect(tables: Sequence[Table], where: object, tree: str | None) -> tuple[int, Schema]:
    """Index of the table that holds jets, and its format; `tree` is the one the user asks for, if any.

    Raises:
        DataError: no tree of that name, none of a known format (a branch is missing), or more than one.
    """
    if not tables:
        raise DataError("the file has no trees", where=where)
    names = [table.name for table in tables]
    if tree is not None and tree not in names:
        raise DataError("there is no such tree in the file", where=where, found=tree, allowed=nearest(tree, names))
    asked = [index for index, name in enumerate(names) if tree in (None, name)]
    fits = [
        (index, schema)
        for index in asked
        for schema in known_schemas()
        if set(schema.required) <= set(tables[index].branches)
    ]
    if not fits:
        raise _no_format([tables[index] for index in asked], where)
    if len({index for index, _ in fits}) > 1:
        matching = [names[index] for index, _ in fits]
        raise DataError(
            "several trees of the file hold jets",
            where=where,
            found=", ".join(matching),
            hint=f"name one of them: {where}:{matching[0]}",
        )
    return fits[0]


def _parse(tree: dict[str, Any]) -> Schema:
    return resolve(Schema, tree)


def _no_format(tables: Sequence[Table], where: object) -> DataError:
    """Tell which branch the most jet-like tree lacks, or that no tree looks like jets."""
    found = ", ".join(f"tree {table.name} with {len(table.branches)} branches" for table in tables)
    shared = [
        (len(set(schema.particle_branches) & set(table.branches)) / len(schema.particle_branches), table, schema)
        for table in tables
        for schema in known_schemas()
    ]
    share, table, schema = max(shared, key=lambda entry: entry[0])
    if share < 0.25:
        formats = [schema.title for schema in known_schemas()]
        return DataError("the file holds no jets of a known format", where=where, found=found, allowed=formats)
    missing = [branch for branch in schema.required if branch not in table.branches]
    return missing_branches(missing, table, schema, where)


def missing_branches(missing: Sequence[str], table: Table, schema: Schema, where: object) -> DataError:
    """The error for branches that a file of a format should have."""
    return DataError(
        f"a tree looks like {schema.title} but lacks the branch {', '.join(missing)}",
        where=f"{where}, tree {table.name}",
        found=f"{len(table.branches)} branches, those most like {missing[0]} are: "
        + ", ".join(nearest(missing[0], table.branches)[:4]),
    )
