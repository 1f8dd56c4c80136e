"""Which format a file has, and which of its tables holds the jets."""

from __future__ import annotations

from collections.abc import Sequence

from ssl_jets.data.clusters import ClusterTable
from ssl_jets.data.readers import Table
from ssl_jets.data.refused import refuse
from ssl_jets.data.schema import Schema, known_schemas
from ssl_jets.errors import DataError, nearest


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
        refuse([tables[index] for index in asked], where)
        raise _no_format([tables[index] for index in asked], schemas, where, noun)
    if len({index for index, _ in fits}) > 1:
        matching = [names[index] for index in dict.fromkeys(index for index, _ in fits)]
        raise DataError(
            f"several {noun}s of the file hold jets",
            where=where,
            found=", ".join(matching),
            hint=f"name one of them: {where}:{matching[0]}",
        )
    return max(fits, key=lambda fit: len(fit[1].required))


def _names(table: Table, schema: Schema) -> set[str]:
    """The names that formulas of a format can use: the branches, or for events those of their first jets."""
    there = set(table.branches)
    if schema.cluster is not None:
        return set(ClusterTable(table, schema.cluster).branches) if there.issuperset(schema.cluster.branches) else set()
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
        return DataError("the file holds no jets of a known format", where=where, found=found, allowed=formats)
    plain = schema.events is None and schema.cluster is None
    wanted = schema.required if plain else schema.telling
    missing = [branch for branch in wanted if branch not in table.branches]
    if not missing:
        there = ", ".join(branch for branch in schema.lacks if branch in table.branches)
        return DataError(f"a {noun} looks like {schema.title} but for the branch {there}", where=where, found=found)
    return missing_branches(missing, table, schema, where, noun)


def missing_branches(missing: Sequence[str], table: Table, schema: Schema, where: object, noun: str) -> DataError:
    """The error for branches that a file of a format should have."""
    return DataError(
        f"a {noun} looks like {schema.title} but lacks the branch {', '.join(missing)}",
        where=f"{where}, {noun} {table.name}" if table.name else where,
        found=f"{len(table.branches)} branches, those most like {missing[0]} are: "
        + ", ".join(nearest(missing[0], table.branches)[:4]),
    )


def _named(noun: str, table: Table) -> str:
    return f"{noun} {table.name} with " if table.name else ""
