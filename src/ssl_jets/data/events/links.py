"""Which particles of an event belong to which jet, from the four ways in which files say so.

Everything here is about a range of entries (events) at once: their jets are laid end to end, and so are their
particles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from pydantic import Field, model_validator

from ssl_jets.arrays import Array
from ssl_jets.config import Settings
from ssl_jets.data.rows import BadEntriesError

Where = Callable[[int], tuple[int, str]]
"""The number in the file of an entry and its name in messages, by its number in the range."""


def _in_range(entry: int) -> tuple[int, str]:
    return entry, str(entry)


REFERENCE = 0xFFFFFF
"""The bits of a TRef, and of an object's fUniqueID, that number the object within its event; the others number the
process that wrote it."""


_CRC64 = 0x95AC9329AC4BC9B5
"""The polynomial of `element_key`, lowest power in the highest bit."""


_KEY = (1 << 30) - 1
"""The bits of a key."""


class Link(Settings):
    """How a file says which particles a jet has: exactly one of `table`, `ranges`, `references` and `elements`."""

    table: tuple[str, str] | None = None
    """A table beside the jets: the branches with the numbers of the jet and of the particle in the event."""
    ranges: tuple[str, str, str] | None = None
    """For each jet the branches with begin and end of its range in a list, and the branch with the list."""
    same: str | None = None
    """Beside `ranges`: the branch with the collection of each number of the list; the first one's is meant."""
    references: tuple[str, str] | None = None
    """The branch with the references of each jet, and the particles' name of what they refer to."""
    elements: str | None = None
    """The branch with the element links of each jet (ATLAS), to the collections that `containers` names."""
    classes: dict[str, int] = Field(default_factory=dict)
    """Beside `elements`: name to number (CLID) of the classes that these collections may have."""

    @model_validator(mode="after")
    def _one_way(self) -> Link:
        if sum(way is not None for way in (self.table, self.ranges, self.references, self.elements)) != 1:
            raise ValueError("particles are linked in exactly one way: table, ranges, references, elements")
        if (self.elements is None) != (not self.classes):
            raise ValueError("elements and classes go together")
        return self

    @property
    def branches(self) -> tuple[str, ...]:
        """The branches that are read."""
        if self.references is not None:
            return self.references[:1]
        if self.elements is not None:
            return (self.elements,)
        return (*(self.table or ()), *(self.ranges or ()), *(() if self.same is None else (self.same,)))


@dataclass(frozen=True, eq=False)
class Links:
    """The particles of each jet.

    Attributes:
        offsets: int64 `[jet + 1]`; jet i owns `particle[offsets[i] : offsets[i + 1]]`.
        particle: int64 `[link]`, place among the particles of all entries; a particle may belong to several jets.
        lost: int64 `[jet]`, links of each jet that lead to no particle of its event. They are not in `particle`.
    """

    offsets: Array
    particle: Array
    lost: Array


def by_table(
    jets: Array, particles: Array, rows: Array, jet: Array, particle: Array, where: Where = _in_range
) -> Links:
    """Links from a table beside the jets, each row of which joins a jet to a particle (CMS NanoAOD).

    A row whose jet is negative belongs to no jet of the collection.

    Args:
        jets: int64 `[entry]`, jets of each entry.
        particles: int64 `[entry]`, particles of each entry.
        rows: int64 `[entry]`, rows of the table of each entry.
        jet: `[row]`, number of the jet in its entry.
        particle: `[row]`, number of the particle in its entry.
        where: names an entry in a message.

    Raises:
        BadEntriesError: a row of a jet that the event does not have: jets were removed, and the numbers of others
            shifted.
    """
    entry = np.repeat(np.arange(len(rows)), rows)
    jet = jet.astype(np.int64)
    if (beyond := np.flatnonzero(jet >= jets[entry])).size:
        row = beyond[0]
        raise BadEntriesError(
            "the table of the jets' particles names a jet that the event does not have",
            _numbers(entry[beyond], where),
            "bad_files",
            where=where(entry[row])[1],
            found=f"jet {jet[row]} of {jets[entry[row]]}",
            hint="write the table anew with the jets; where jets were removed, its numbers mean other jets",
        )
    inside = jet >= 0
    entry, jet = entry[inside], jet[inside] + _first(jets)[entry[inside]]
    return _group(jet, int(jets.sum()), *_places(entry, particle[inside], particles))


def by_range(
    jets: Array, particles: Array, rows: Array, begin: Array, end: Array, particle: Array, where: Where = _in_range
) -> Links:
    """Links from a range `begin` to `end` of a list of particles for each jet (EDM4hep).

    Args:
        jets: int64 `[entry]`, jets of each entry.
        particles: int64 `[entry]`, particles of each entry.
        rows: int64 `[entry]`, length of the list of each entry.
        begin: `[jet]`, where the range of a jet begins in the list of its entry.
        end: `[jet]`, where it ends.
        particle: `[row]`, number of the particle in its entry; negative for one of another collection.
        where: names an entry in a message.

    Raises:
        BadEntriesError: a range that goes beyond the list.
    """
    entry = np.repeat(np.arange(len(jets)), jets)
    begin, end = begin.astype(np.int64), end.astype(np.int64)
    if (wrong := np.flatnonzero((begin < 0) | (begin > end) | (end > rows[entry]))).size:
        one = wrong[0]
        raise BadEntriesError(
            "a jet's particles lie beyond the list of its event",
            _numbers(entry[wrong], where),
            "bad_files",
            where=where(entry[one])[1],
            found=f"{begin[one]} to {end[one]} of {rows[entry[one]]}",
        )
    lengths = end - begin
    jet = np.repeat(np.arange(len(begin)), lengths)
    within = np.arange(len(jet)) - np.repeat(_first(lengths), lengths)
    row = within + (_first(rows)[entry] + begin)[jet]
    return _group(jet, len(begin), *_places(entry[jet], particle[row], particles))


def by_reference(jets: Array, references: Array, reference: Array, entry: Array, identity: Array) -> Links:
    """Links by references to objects of the same event (ROOT's TRefArray, as in Delphes).

    Args:
        jets: int64 `[entry]`, jets of each entry.
        references: int64 `[jet]`, references of each jet.
        reference: `[reference]`, the references of all jets.
        entry: int64 `[particle]`, entry of each particle, in any order.
        identity: `[particle]`, fUniqueID of each particle.
    """
    jet = np.repeat(np.arange(len(references)), references)
    # The entry above the number: objects of two events share numbers.
    wanted = np.repeat(np.arange(len(jets)), jets)[jet] << 24 | reference.astype(np.int64) & REFERENCE
    keys = entry << 24 | identity.astype(np.int64) & REFERENCE
    order = np.argsort(keys, kind="stable")
    if not len(order):
        return _group(jet, len(references), np.zeros_like(wanted), np.zeros(len(wanted), dtype=np.bool_))
    place = np.searchsorted(keys, wanted, sorter=order)
    found = order[np.minimum(place, len(order) - 1)]
    return _group(jet, len(references), found, keys[found] == wanted)


def by_element(
    jets: Array, links: Array, key: Array, number: Array, collections: Sequence[tuple[Sequence[int], Array]]
) -> Links:
    """Links by the key of a collection and a number in it (ATLAS's ElementLink).

    Args:
        jets: int64 `[entry]`, jets of each entry.
        links: int64 `[jet]`, links of each jet.
        key: `[link]`, the collection that a link leads to; 0 where its particle was removed.
        number: `[link]`, number of the particle in that collection of its entry.
        collections: keys of each collection, and int64 `[entry]` its particles. The particles of all entries are those
            of the first collection, then those of the next.
    """
    jet = np.repeat(np.arange(len(links)), links)
    entry = np.repeat(np.arange(len(jets)), jets)[jet]
    particle, known = np.zeros(len(jet), dtype=np.int64), np.zeros(len(jet), dtype=np.bool_)
    before = 0
    for keys, particles in collections:
        mine = np.flatnonzero(np.isin(key, keys))
        places, known[mine] = _places(entry[mine], number[mine], particles)
        particle[mine] = before + places
        before += int(particles.sum())
    return _group(jet, len(links), particle, known)


@cache
def element_key(collection: str, class_number: int) -> int:
    """The key of a collection in ATLAS's ElementLinks (`m_persKey`).

    It is the lower 30 bits of the CRC-64 of the name, continued over the bytes of the number of its class, the lowest
    first (Athena's StringPool).
    """
    crc = (1 << 64) - 1
    for byte in (*collection.encode(), *class_number.to_bytes(4, "little").rstrip(b"\0")):
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (_CRC64 if crc & 1 else 0)
    return crc & _KEY


def _numbers(entries: Array, where: Where) -> Array:
    return np.array([where(entry)[0] for entry in np.unique(entries)])


def _first(counts: Array) -> Array:
    """Place of the first of each group, from the sizes of the groups."""
    return np.cumsum(counts) - counts


def _places(entry: Array, number: Array, counts: Array) -> tuple[Array, Array]:
    """Numbers within entries as places among the particles of all, and which of them exist."""
    number = number.astype(np.int64)
    return number + _first(counts)[entry], (number >= 0) & (number < counts[entry])


def _group(jet: Array, jets: int, particle: Array, known: Array) -> Links:
    """Links in the order of the jets, within a jet in the order of the file."""
    lost = np.bincount(jet[~known], minlength=jets)
    jet, particle = jet[known], particle[known]
    if (jet[1:] < jet[:-1]).any():
        order = np.argsort(jet, kind="stable")
        jet, particle = jet[order], particle[order]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(jet, minlength=jets))])
    return Links(offsets.astype(np.int64), particle, lost.astype(np.int64))
