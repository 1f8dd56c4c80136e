"""Detection of the schema of a file, and of the table that holds its jets."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ssl_jets.data.events.clustering import ClusteringTable
from ssl_jets.data.events.collections import EventTable
from ssl_jets.data.readers.base import Table
from ssl_jets.data.schemas.schema import Schema, known_schemas
from ssl_jets.data.schemas.unsupported import refuse_unsupported
from ssl_jets.errors import DataError, nearest, some_of

OWN_SCHEMA = "--schema FILE names the branches of a format of your own (docs/formats.md)"
"""Hint for a file of no known format."""

ROOT = "/"
"""Name of the table without a name, such as the root group of an HDF5 file."""

_MOST_NAMES = 6
"""Branches of a table that a message names."""


def detect(
    tables: Sequence[Table], where: object, noun: str, name: str | None, own: Schema | None = None
) -> tuple[int, Schema]:
    """Return the index of the table that holds jets, and its schema.

    A table fits a schema if it has all required branches. Of several schemas the one with most required branches is
    taken.

    Args:
        tables: the tables of the file.
        where: the file, for messages.
        noun: word for a table of such files, for messages.
        name: table named by the user, if any.
        own: schema of the user, which is then the only candidate.

    Raises:
        DataError: no table of that name, none of a known format (a branch is missing), or more than one.
    """
    if not tables:
        raise DataError(f"the file has no {noun}s", where=where)
    names = [table.name or ROOT for table in tables]
    name = None if name is None else name.strip("/") or ROOT  # HDF5: /a/b is a/b
    if name is not None and name not in names:
        raise DataError(f"there is no such {noun} in the file", where=where, found=name, allowed=nearest(name, names))
    candidates = [index for index, other in enumerate(names) if name in (None, other)]
    schemas = known_schemas() if own is None else (own,)
    fits = [
        (index, schema)
        for index in candidates
        for schema in schemas
        if schema.fits(_available_names(tables[index], schema))
    ]
    if not fits:
        if own is None:
            refuse_unsupported([tables[index] for index in candidates], where)
        raise _no_format([tables[index] for index in candidates], schemas, where, noun)
    if len({index for index, _ in fits}) > 1:
        matching = list(dict.fromkeys(names[index] for index, _ in fits))
        raise DataError(
            f"several {noun}s of the file hold jets",
            where=where,
            found=", ".join(matching),
            hint=f"name one of them: {where}:{matching[0]}" if len(matching) > 1 else OWN_SCHEMA,
        )
    return max(fits, key=lambda fit: len(fit[1].required))


def _available_names(table: Table, schema: Schema) -> set[str]:
    """Return the names that formulas of a schema can use: branches, or in events names of jets and particles."""
    branches = set(table.branches)
    if schema.cluster is not None:
        is_complete = branches.issuperset(schema.cluster.branches)
        return set(ClusteringTable(table, schema.cluster).branches) if is_complete else set()
    if schema.events is None:
        return branches
    layout = next(iter(schema.events.layouts(table).values()), None)
    return set() if layout is None else set(EventTable(table, layout).branches)


def _no_format(tables: Sequence[Table], schemas: Sequence[Schema], where: object, noun: str) -> DataError:
    """Return the error with the branch that the most jet-like table lacks, or for a file where no table has jets."""
    found = "; ".join(f"{_named(noun, table)}{_branches(table)}" for table in tables)
    shared = [
        (len(set(schema.typical_branches) & set(table.branches)) / len(schema.typical_branches), table, schema)
        for table in tables
        for schema in schemas
    ]
    share, table, schema = max(shared, key=lambda entry: entry[0])
    if share < 0.25 and schemas == known_schemas():
        formats = [schema.title for schema in known_schemas()]
        return DataError(
            "the file holds no jets of a known format", where=where, found=found, allowed=formats, hint=OWN_SCHEMA
        )
    names = _available_names(table, schema)
    if names:
        missing = [branch for branch in schema.required if branch not in names]
        if schema.events is not None and (in_file := schema.events.in_file(missing, table)):
            missing, names = [*in_file.values()], set(table.branches)
    else:  # events that lack the branches of their jets
        missing = [branch for branch in schema.typical_branches if branch not in table.branches]
    if not missing:
        excluded = ", ".join(branch for branch in schema.lacks if branch in table.branches)
        what = f"a {noun} looks like {schema.title} but for the branch {excluded}"
        return DataError(what, where=where, found=found, hint=OWN_SCHEMA)
    return missing_branches(missing, names or table.branches, table, schema, where, noun)


def missing_branches(
    missing: Sequence[str], names: Collection[str], table: Table, schema: Schema, where: object, noun: str
) -> DataError:
    """Return the error for missing branches that a schema requires."""
    found = f"{len(names)} branches, the most like {missing[0]} are: {', '.join(nearest(missing[0], names)[:4])}"
    if table.ignored:
        ignored = [f"{name} ({table.ignored[name]})" for name in nearest(missing[0], table.ignored)]
        found += f"; not used: {some_of(ignored, 4)}"
    return DataError(
        f"a {noun} looks like {schema.title} but lacks the branch {', '.join(missing)}",
        where=f"{where}, {noun} {table.name}" if table.name else where,
        found=found,
        hint=OWN_SCHEMA if schema in known_schemas() else None,
    )


def _branches(table: Table) -> str:
    """Return the number of the branches of a table, and the names of the first."""
    count = len(table.branches)
    return f"{count} branches: {some_of(table.branches, _MOST_NAMES)}" if count else "no branches"


def _named(noun: str, table: Table) -> str:
    return f"{noun} {table.name} with " if table.name else ""
