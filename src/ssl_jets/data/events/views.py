"""A table of any layout as one of jets, under the names that the formulas of a format use."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ssl_jets.data.events.clustering import ClusteringTable, require_fastjet
from ssl_jets.data.events.collections import EventTable
from ssl_jets.data.events.gather import JetsOfEvents
from ssl_jets.data.events.nested import Nested, NestedTable
from ssl_jets.data.readers.base import Table
from ssl_jets.data.rows import Raw
from ssl_jets.data.schemas.schema import Schema


def as_jets(
    table: Table,
    form: Schema,
    asked: str | None,
    read: Callable[[Sequence[str], int, int], Raw],
    where: object,
) -> tuple[Table, JetsOfEvents | None]:
    """Return a table of jets, and where an entry is an event, its jets; None where an entry is a jet.

    Args:
        table: the table of the file.
        form: its format.
        asked: the collection of jets to read.
        read: reads branches of a range of entries.
        where: the file, for messages.

    Raises:
        UsageError: a collection that the file does not have, or jets to cluster without FastJet.
        DataError: the file cannot be read.
    """
    if form.events is not None:
        events = EventTable(table, form.events.choose(table, asked, where))
        return events, JetsOfEvents.count(events.layout, events.jets_of_events())
    if form.cluster is not None:
        require_fastjet(where)
        form.cluster.refuse_choice(asked, where)
        return ClusteringTable(table, form.cluster), JetsOfEvents.made(form.cluster, table.entries)
    there = set(table.branches)
    particles = [name for name in form.particle_branches if name in there]
    if any(table.depth(name) == 2 for name in particles):
        Nested().refuse_choice(asked, where)
        axis = form.axis.branches if form.axis is not None else ()
        jets = {*axis, *form.label_branches, *(name for value in form.jets.values() for name in value.branches)}
        nested = NestedTable(table, particles, jets, read)
        return nested, JetsOfEvents.count(Nested(), nested.jets_of_events())
    return table, None
