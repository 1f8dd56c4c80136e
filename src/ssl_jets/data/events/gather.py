"""Events to jets: gather the particles of each jet from the particles of its event."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import awkward as ak
import numpy as np

from ssl_jets.arrays import Array
from ssl_jets.data.events.clustering import Clustering, clustered
from ssl_jets.data.events.collections import CollectionLayout
from ssl_jets.data.events.links import Link, Links, by_element, by_range, by_reference, by_table
from ssl_jets.data.events.nested import Nested, nested_rows
from ssl_jets.data.readers.base import Table
from ssl_jets.data.rows import NO_ENTRIES, BadEntriesError, Entries, Raw, Rows, chosen, flatten, plain_numbers

Read = Callable[[Sequence[str], int, int], Raw]
"""Function that reads branches of a range of entries."""


PIECE = 1000
"""Events that are in memory with all their particles, at most: thousands each, most of them in no jet."""


@dataclass(frozen=True, eq=False)
class JetsOfEvents:
    """All jets of a file of events, numbered event after event.

    Attributes:
        layout: collection of jets and branches of their particles, or the clustering.
        first: `[entry + 1]`, number of the first jet of each event, and of all jets; int32 if it holds them, or int64.
    """

    layout: CollectionLayout | Clustering | Nested
    first: Array

    @classmethod
    def count(cls, layout: CollectionLayout | Nested, jets: Array) -> JetsOfEvents:
        """Build the numbering from the jets of each event, `[entry]`: 2, 0, 3 -> first 0, 2, 2, 5."""
        return cls(layout, _smallest(np.concatenate([[0], np.cumsum(jets, dtype=np.int64)])))

    @classmethod
    def of_clustering(cls, cluster: Clustering, events: int) -> JetsOfEvents:
        """Build the numbering of clustered jets, as many in each event."""
        return cls(cluster, _smallest(np.arange(events + 1) * cluster.jets))

    def entries(self, start: int, stop: int) -> tuple[int, int]:
        """Return the range of events that have the jets `start` to `stop`."""
        # Events of 2, 0 and 3 jets (first 0, 2, 2, 5): jets 1 to 3 are in the events 0 to 3, jets 2 to 5 in 2 to 3.
        begin = int(np.searchsorted(self.first, start, "right")) - 1
        return begin, max(int(np.searchsorted(self.first, stop, "left")), begin)

    def jets(self, start: int, stop: int) -> tuple[int, int]:
        """Return the range of jets of the events `start` to `stop`."""
        return int(self.first[start]), int(self.first[stop])


def _smallest(first: Array) -> Array:
    """Return rising integers as int32 if it holds them: files of many events are open together."""
    return first.astype(np.int32) if first[-1] <= np.iinfo(np.int32).max else first


def with_same_collection(layout: CollectionLayout, read: Read, entries: int) -> CollectionLayout:
    """Return a layout with the number of the collection of particles, which is one for all entries of a file."""
    branch = layout.link.same
    for start in range(0, 0 if branch is None else entries, PIECE):
        _, numbers = flatten(read([str(branch)], start, min(start + PIECE, entries))[str(branch)])
        if len(numbers):
            return replace(layout, same=int(numbers[0]))
    return layout


def with_columns_of_jets(layout: CollectionLayout, table: Table, read: Read) -> CollectionLayout:
    """Return a layout whose jet columns are the lists with one value per jet, as in the first events."""
    first = next(iter(layout.jet.values()))
    lists = [name for name in table.branches if name.startswith(layout.prefix) and table.depth(name) == 1]
    raw = read(list(dict.fromkeys([first, *lists])), 0, min(PIECE, table.entries))
    jets = flatten(raw[first])[0]
    others = frozenset(name for name in lists if not np.array_equal(flatten(raw[name])[0], jets))
    return replace(layout, other_lists=others - {*layout.jet.values()})


def event_rows(
    read: Read,
    events: JetsOfEvents,
    names: Sequence[str],
    start: int,
    stop: int,
    place: str,
    without: Entries = NO_ENTRIES,
) -> Rows:
    """Read the jets `start` to `stop` of all jets of a file, with the columns of the given names.

    Raises:
        BadEntriesError: branches of differing lengths, links to jets or particles that the event does not have.
        DataError: a file that cannot be read.
    """
    layout, (begin, end) = events.layout, events.entries(start, stop)
    if isinstance(layout, Nested):
        branches = [*names]
    else:
        branches = layout.in_file(names) if isinstance(layout, Clustering) else _branches(layout, names)
    pieces = []
    for low in range(begin, max(end, begin + 1), PIECE):
        high = min(low + PIECE, end)
        raw, entry = chosen(read(branches, low, high), low, high, without)
        counts = (events.first[entry + 1] - events.first[entry]).astype(np.int64)
        if isinstance(layout, Clustering):
            piece = clustered(raw, layout, names, entry, place)
        elif isinstance(layout, Nested):
            piece = nested_rows(raw, names, counts, entry, place)
        else:
            piece = _Events(raw, layout, counts, entry, place).rows(names)
        number = np.repeat(events.first[entry], counts) + piece.number
        pieces.append(piece.select((number >= start) & (number < stop)))
    return join(pieces)


def join(pieces: Sequence[Rows]) -> Rows:
    """Return the jets of all pieces, one after the other."""
    if len(pieces) == 1:
        return pieces[0]
    lengths = np.concatenate([piece.lengths for piece in pieces])
    lost = [piece.lost for piece in pieces if piece.lost is not None]
    return Rows(
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        particle={name: np.concatenate([piece.particle[name] for piece in pieces]) for name in pieces[0].particle},
        jet={name: np.concatenate([piece.jet[name] for piece in pieces]) for name in pieces[0].jet},
        entry=np.concatenate([piece.entry for piece in pieces]),
        number=np.concatenate([piece.number for piece in pieces]),
        place=pieces[0].place,
        lost=np.concatenate(lost) if lost else None,
    )


def _branches(layout: CollectionLayout, names: Sequence[str]) -> list[str]:
    """Return all branches to read for the given names, each once."""
    needed = list(layout.link.branches)
    if layout.link.references is not None:
        names = [*names, layout.link.references[1]]
    particles = [next(iter(layout.particle))]  # at least one, to count them
    for name in names:
        if name in layout.particle:
            particles.append(name)
        else:
            jet = layout.jet_branch(name)
            needed.append(name if jet is None else jet[0])
    needed += [origin for name in particles for origin in layout.particle[name] if isinstance(origin, str)]
    return list(dict.fromkeys(needed))


class _Events:
    """Branches of a range of events, as in the file."""

    def __init__(self, raw: Raw, layout: CollectionLayout, jets: Array, entry: Entries, place: str) -> None:
        self._raw = raw
        self._layout = layout
        self._entry = entry
        self._place = place
        self._jets = jets
        """Jets of each event."""
        self._particles = [self._lengths(block) for block in range(len(next(iter(layout.particle.values()))))]
        """Particles of each event in each collection of particles."""

    def rows(self, names: Sequence[str]) -> Rows:
        """Return the jets of the events with the columns of the given names."""
        links = self._links()
        entry = np.repeat(np.arange(len(self._jets)), self._jets)
        before = np.cumsum(self._jets) - self._jets
        jet = {name: self._jet(name)[...] for name in names if name not in self._layout.particle}
        return Rows(
            offsets=links.offsets,
            particle={name: self._particle(name)[links.particle] for name in names if name in self._layout.particle},
            jet=jet,
            entry=self._entry[entry],
            number=np.arange(len(entry)) - before[entry],
            place=self._place,
            lost=links.lost,
        )

    def _links(self) -> Links:
        link = self._layout.link
        if link.references is not None:
            return self._by_reference(*link.references)
        if link.elements is not None:
            return self._by_element(link.elements)
        if link.index is not None or link.table is not None:
            rows, (jet, particle) = self._rows_of_table(link)
            if self._layout.passes_negative:
                jet = np.where(particle < 0, -1, jet)
            return by_table(self._jets, self._particles[0], rows, jet, particle, entries=self._entry, place=self._place)
        assert link.ranges is not None
        _, (begin, end) = self._lists(link.ranges[:2], self._jets)
        listed = (link.ranges[2],) if link.same is None else (link.ranges[2], link.same)
        rows, (particle, *collection) = self._lists(listed)
        if collection:
            particle = np.where(collection[0] == self._layout.same, particle, -1)
        return by_range(
            self._jets, self._particles[0], rows, begin, end, particle, entries=self._entry, place=self._place
        )

    def _rows_of_table(self, link: Link) -> tuple[Array, tuple[Array, Array]]:
        """Return the rows of the link table of each event, and the numbers of jet and particle of each row."""
        if link.index is None:
            rows, (jet, particle) = self._lists(link.table or ())
            return rows, (jet, particle)
        particles, (jet,) = self._lists([link.index], self._particles[0])
        # Events of 3 and 2 particles: particle 0, 1, 2, 0, 1.
        return particles, (jet, np.arange(len(jet)) - np.repeat(np.cumsum(particles) - particles, particles))

    def _by_reference(self, branch: str, identity: str) -> Links:
        jets = self._raw[branch]
        lengths = ak.num(jets, axis=1)
        self._check(np.asarray(lengths), self._jets, branch)
        references = ak.flatten(jets.refs, axis=1)
        count, reference = flatten(references)
        entries = np.arange(len(self._jets))
        entry = np.concatenate([np.repeat(entries, counts) for counts in self._particles])
        return by_reference(self._jets, np.diff(count), reference, entry, self._particle(identity))

    def _by_element(self, branch: str) -> Links:
        jets = self._raw[branch]
        self._check(np.asarray(ak.num(jets, axis=1)), self._jets, branch)
        links = ak.flatten(jets, axis=1)
        (offsets, key), (_, number) = flatten(links.m_persKey), flatten(links.m_persIndex)
        return by_element(self._jets, np.diff(offsets), key, number, list(zip(self._layout.keys, self._particles)))

    def _lists(self, branches: Sequence[str], lengths: Array | None = None) -> tuple[Array, list[Array]]:
        """Return the list lengths of each event, the same in all branches, and the contents of each branch."""
        contents = []
        for branch in branches:
            offsets, values = flatten(self._raw[branch])
            if lengths is None:
                lengths = np.diff(offsets)
            self._check(np.diff(offsets), lengths, branch)
            contents.append(values)
        assert lengths is not None
        return lengths, contents

    def _lengths(self, block: int) -> Array:
        """Return the number of particles of each event in a collection of particles."""
        for origins in self._layout.particle.values():
            if isinstance(origin := origins[block], str) and origin in self._raw:
                return np.diff(flatten(self._raw[origin])[0])
        raise AssertionError("a collection of particles has at least one branch")

    def _particle(self, name: str) -> Array:
        """Return a column of all particles of all events, one collection after the other."""
        blocks = []
        for origin, lengths in zip(self._layout.particle[name], self._particles):
            if isinstance(origin, str):
                blocks.append(self._lists([origin], lengths)[1][0])
            else:
                blocks.append(np.full(int(lengths.sum()), origin, dtype=np.float32))
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)

    def _jet(self, name: str) -> Array:
        """Return a column of all jets of all events; a number of an event is repeated for each of its jets."""
        location = self._layout.jet_branch(name)
        if location is None:
            return np.repeat(plain_numbers(self._raw[name]), self._jets)
        branch, position = location
        if position is None:
            return self._lists([branch], self._jets)[1][0]
        values = self._raw[branch]  # [event, jet, position]
        return plain_numbers(ak.flatten(values[..., position], axis=1))

    def _check(self, lengths: Array, expected: Array, branch: str) -> None:
        wrong = np.flatnonzero(lengths != expected)
        if len(wrong):
            raise BadEntriesError(
                f"the branch {branch} does not have as many values as others of the event",
                self._entry[wrong],
                "bad_files",
                where=f"{self._place}, entry {self._entry[wrong[0]]}",
                found=f"{lengths[wrong[0]]} and {expected[wrong[0]]}; {len(wrong)} of the {len(lengths)} entries read",
            )
