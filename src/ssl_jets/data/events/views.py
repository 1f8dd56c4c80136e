"""Table of any layout seen as a table of jets, under the names in the formulas of a schema."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ssl_jets.data.events.clustering import Clustering, ClusteringTable, require_fastjet
from ssl_jets.data.events.collections import EventTable
from ssl_jets.data.events.gather import JetsOfEvents, with_columns_of_jets, with_same_collection
from ssl_jets.data.events.nested import Nested, NestedTable
from ssl_jets.data.readers.base import Table
from ssl_jets.data.rows import Raw
from ssl_jets.data.schemas.schema import Schema, known_schemas
from ssl_jets.errors import UsageError


def as_jets(
    table: Table,
    schema: Schema,
    collection: str | None,
    read: Callable[[Sequence[str], int, int], Raw],
    where: object,
) -> tuple[Table, JetsOfEvents | None]:
    """Return a table of jets, and if an entry is an event, its jets; None if an entry is a jet.

    Args:
        table: the table of the file.
        schema: its schema.
        collection: the collection of jets to read; None for the first one.
        read: function that reads branches of a range of entries.
        where: the file, for messages.

    Raises:
        UsageError: a collection that the file does not have, or jets to cluster without FastJet.
        DataError: the file cannot be read.
    """
    if schema.events is not None:
        layout = with_same_collection(schema.events.choose(table, collection, where), read, table.entries)
        if schema not in known_schemas():  # their prefixes are of jets alone
            layout = with_columns_of_jets(layout, table, read)
        events = EventTable(table, layout)
        return events, JetsOfEvents.count(events.layout, events.jets_of_events())
    if schema.cluster is not None:
        require_fastjet(where)
        hint = "a schema with `extends: lhco` and `cluster: {radius: 0.4}` changes the clustering"
        _refuse_choice(collection, schema.cluster, where, "made by clustering, so there are none", hint)
        return ClusteringTable(table, schema.cluster), JetsOfEvents.of_clustering(schema.cluster, table.entries)
    available = set(table.branches)
    particles = [name for name in schema.particle_branches if name in available]
    if any(table.depth(name) == 2 for name in particles):
        _refuse_choice(collection, Nested(), where, "lists of lists, so there are no others")
        axis = schema.axis.branches if schema.axis is not None else ()
        jets = {*axis, *schema.label_branches, *(name for value in schema.jets.values() for name in value.branches)}
        nested = NestedTable(table, particles, jets, read)
        return nested, JetsOfEvents.count(Nested(), nested.jets_of_events())
    return table, None


def _refuse_choice(
    collection: str | None, layout: Clustering | Nested, where: object, reason: str, hint: str | None = None
) -> None:
    """Check that no collection is asked for, in a file that has only one."""
    if collection is not None:
        raise UsageError(
            f"the jets of the file are {reason} to choose from",
            where=f"data.jets, {where}",
            found=collection,
            allowed=[layout.collection],
            hint=hint,
        )
