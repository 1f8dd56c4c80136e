"""Further collections that a file has, checked when it is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ssl_jets.data.collections.decoding import CollectionDecoder
from ssl_jets.data.collections.source import CollectionSource
from ssl_jets.data.events.collections import EventTable
from ssl_jets.data.events.gather import JetsOfEvents, Read, with_same_collection
from ssl_jets.data.readers.base import Table
from ssl_jets.data.request import CollectionRequest
from ssl_jets.data.rows import empty_rows
from ssl_jets.data.schemas.check import present_sources
from ssl_jets.data.schemas.schema import Schema, known_schemas
from ssl_jets.errors import UsageError


@dataclass(frozen=True)
class FileCollection:
    """Further collection of the jets of a file.

    Attributes:
        features: numbers of its elements that the file has, by the names of the schema.
        events: links from the jets of events to the elements; None if an entry is a jet.
    """

    features: tuple[str, ...]
    events: JetsOfEvents | None = field(default=None, repr=False)


def find_collections(
    schema: Schema, table: Table, events: JetsOfEvents | None, read: Read, where: str
) -> Mapping[str, FileCollection]:
    """Find the collections of a schema that a table of jets has, by name.

    Raises:
        DataError: a branch that a schema of the user names holds something else than a list of numbers for each jet.
        UsageError: a formula has numbers of particles instead of elements, or of another collection.
    """
    found = {}
    for name, source in schema.collections.items():
        if source.events is None:
            elements, links = table, events
        else:
            assert isinstance(table, EventTable)
            linked = _linked(schema, source, table, read)
            if linked is None:
                continue
            assert events is not None
            elements, links = linked, JetsOfEvents(linked.layout, events.first)
        features = _present(source, elements, where, known=schema in known_schemas())
        if features:
            found[name] = FileCollection(features, links)
            _check_formulas(schema, name, features, elements)
    return found


def _linked(schema: Schema, source: CollectionSource, table: EventTable, read: Read) -> EventTable | None:
    """Return the table of the elements under the names of the schema; None if the file lacks them or their link."""
    assert schema.events is not None
    assert source.events is not None
    own = {
        "particles": source.events.elements,
        "containers": source.events.containers,
        "link": source.events.link,
    }
    layout = schema.events.model_copy(update=own).layouts(table.table).get(table.layout.collection)
    if layout is None:
        return None
    return EventTable(table.table, replace(with_same_collection(layout, read, table.entries), passes_negative=True))


def _present(source: CollectionSource, table: Table, where: str, *, known: bool) -> tuple[str, ...]:
    """Return the features that the table has the branches of; none if it lacks a branch of the cut."""
    if not set(table.branches).issuperset(source.branches(())):
        return ()
    return present_sources(source.features, 1, table, where, known=known)


def _check_formulas(schema: Schema, name: str, features: tuple[str, ...], table: Table) -> None:
    """Decode no elements at all, so that a formula that cannot be evaluated is an error before any work."""
    decoder = CollectionDecoder(schema, CollectionRequest(name, features, 1), features)
    lists = [branch for branch in decoder.branches if table.depth(branch) == 1]
    rows = empty_rows(lists, [branch for branch in decoder.branches if branch not in lists])
    jets = empty_rows([], decoder.jet_branches)
    try:
        decoder.decode(replace(jets, collections={name: rows}))
    except UsageError as error:
        raise UsageError(error.what, where=f"collections.{name}", found=error.where, hint=error.hint) from None
