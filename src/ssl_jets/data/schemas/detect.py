"""Which format a file has, and which of its tables holds the jets."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ssl_jets.data.events.clustering import ClusteringTable
from ssl_jets.data.readers.base import Table
from ssl_jets.data.schemas.schema import Schema, known_schemas
from ssl_jets.data.schemas.unsupported import refuse_unsupported
from ssl_jets.errors import DataError, nearest

OWN_SCHEMA = "--schema FILE names the branches of a format of your own (docs/formats.md)"
"""What else can be done about a file that is of no known format."""


def detect(
    tables: Sequence[Table], where: object, noun: str, name: str | None, own: Schema | None = None
) -> tuple[int, Schema]:
    """Index of the table that holds jets, and its format: the known one of which it has all required branches, and of
    several the one that requires most.

    Args:
        tables: the tables of the file.
        where: the file, for messages.
        noun: what a table is called in it.
        name: the table that the user asks for, if any.
        own: the user's own format, which is then the only one.

    Raises:
        DataError: no table of that name, none of a known format (a branch is missing), or more than one.
    """
    if not tables:
        raise DataError(f"the file has no {noun}s", where=where)
    names = [table.name for table in tables]
    if name is not None and name not in names:
        raise DataError(f"there is no such {noun} in the file", where=where, found=name, allowed=nearest(name, names))
    asked = [index for index, other in enumerate(names) if name in (None, other)]
    schemas = known_schemas() if own is None else (own,)
    fits = [(index, schema) for index in asked for schema in schemas if schema.fits(_names(tables[index], schema))]
    if not fits:
        if own is None:
            refuse_unsupported([tables[index] for index in asked], where)
        raise _no_format([tables[index] for index in asked], schemas, where, noun)
    if len({index for index, _ in fits}) > 1:
        matching = list(dict.fromkeys(names[index] for index, _ in fits))
        raise DataError(
            f"several {noun}s of the file hold jets",
            where=where,
            found=", ".join(matching),
            hint=f"name one of them: {where}:{matching[0]}" if len(matching) > 1 else OWN_SCHEMA,
        )
    return max(fits, key=lambda fit: len(fit[1].required))


def _names(table: Table, schema: Schema) -> set[str]:
    """The names that formulas of a format can use: the branches, or for events those of their first jets."""
    there = set(table.branches)
    if schema.cluster is not None:
        return (
            set(ClusteringTable(table, schema.cluster).branches) if there.issuperset(schema.cluster.branches) else set()
        )
    if schema.events is None:
        return there
    layout = next(iter(schema.events.layouts(table).values()), None)
    return set() if layout is None else {*layout.particle, *layout.jet}


def _no_format(tables: Sequence[Table], schemas: Sequence[Schema], where: object, noun: str) -> DataError:
    """Tell which branch the most jet-like table lacks, or that no table looks like jets."""
    found = ", ".join(f"{_named(noun, table)}{len(table.branches)} branches" for table in tables)
    shared = [
        (len(set(schema.telling) & set(table.branches)) / len(schema.telling), table, schema)
        for table in tables
        for schema in schemas
    ]
    share, table, schema = max(shared, key=lambda entry: entry[0])
    if share < 0.25 and schemas == known_schemas():
        formats = [schema.title for schema in known_schemas()]
        what = "the file holds no jets of a known format"
        return DataError(what, where=where, found=found, allowed=formats, hint=OWN_SCHEMA)
    names = _names(table, schema)
    if names:
        missing = [branch for branch in schema.required if branch not in names]
    else:  # events that lack what their jets are made of
        missing = [branch for branch in schema.telling if branch not in table.branches]
    if not missing:
        there = ", ".join(branch for branch in schema.lacks if branch in table.branches)
        what = f"a {noun} looks like {schema.title} but for the branch {there}"
        return DataError(what, where=where, found=found, hint=OWN_SCHEMA)
    return missing_branches(missing, names or table.branches, table, schema, where, noun)


def missing_branches(
    missing: Sequence[str], names: Collection[str], table: Table, schema: Schema, where: object, noun: str
) -> DataError:
    """Return the error for branches that a file of a format should have.

    Args:
        missing: the branches.
        names: those that are there.
        table: the table that lacks them.
        schema: the format.
        where: the file, for messages.
        noun: kind of the table.
    """
    found = f"{len(names)} branches, those most like {missing[0]} are: {', '.join(nearest(missing[0], names)[:4])}"
    if table.ignored:
        ignored = nearest(missing[0], table.ignored)
        more = f" and {len(ignored) - 4} more" if len(ignored) > 4 else ""
        found += "; not used: " + ", ".join(f"{name} ({table.ignored[name]})" for name in ignored[:4]) + more
    return DataError(
        f"a {noun} looks like {schema.title} but lacks the branch {', '.join(missing)}",
        where=f"{where}, {noun} {table.name}" if table.name else where,
        found=found,
        hint=OWN_SCHEMA if schema in known_schemas() else None,
    )


def _named(noun: str, table: Table) -> str:
    return f"{noun} {table.name} with " if table.name else ""
