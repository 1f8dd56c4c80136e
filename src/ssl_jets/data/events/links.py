"""Links from jets to their particles within an event, from the five encodings that files use.

All functions work on a range of entries (events) at once: their jets lie end to end, and so do their particles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from pydantic import Field, model_validator

from ssl_jets.arrays import Array
from ssl_jets.config import Settings
from ssl_jets.data.rows import BadEntriesError, Entries

REFERENCE = 0xFFFFFF
"""Bits of a TRef, and of an object's fUniqueID, with the number of the object in its event; the other bits have the
number of the process that wrote it."""


_CRC64 = 0x95AC9329AC4BC9B5
"""Polynomial of `element_key`, lowest power in the highest bit."""


_KEY = (1 << 30) - 1
"""Bits of a key."""


class Link(Settings):
    """Branches that link jets to particles: exactly one of `index`, `table`, `ranges`, `references`, `elements`."""

    index: str | None = None
    """For each particle the branch with the number of its jet in the event, from 0; negative for none."""
    table: tuple[str, str] | None = None
    """Link table, one row per pair: the branches with the numbers of the jet and of the particle in the event."""
    ranges: tuple[str, str, str] | None = None
    """For each jet the branches with begin and end of its range in a list, and the branch with the list."""
    same: str | None = None
    """With `ranges`: the branch with the collection of each number; only that of the first one in the file is used."""
    references: tuple[str, str] | None = None
    """The branch with the references of each jet, and the name of the particle column that they refer to."""
    elements: str | None = None
    """The branch with the element links of each jet (ATLAS), to the collections in `containers`."""
    classes: dict[str, int] = Field(default_factory=dict)
    """With `elements`: name to number (CLID) of the classes that these collections may have."""

    @model_validator(mode="after")
    def _one_way(self) -> Link:
        ways = (self.index, self.table, self.ranges, self.references, self.elements)
        if sum(way is not None for way in ways) != 1:
            raise ValueError("particles are linked in exactly one way: index, table, ranges, references, elements")
        if (self.elements is None) != (not self.classes):
            raise ValueError("elements and classes go together")
        return self

    @property
    def branches(self) -> tuple[str, ...]:
        """Branches that are read."""
        if self.references is not None:
            return self.references[:1]
        if (one := self.elements or self.index) is not None:
            return (one,)
        return (*(self.table or ()), *(self.ranges or ()), *(() if self.same is None else (self.same,)))


@dataclass(frozen=True, eq=False)
class Links:
    """Particles of each jet.

    Attributes:
        offsets: int64 `[jet + 1]`; jet i owns `particle[offsets[i] : offsets[i + 1]]`.
        particle: int64 `[link]`, index among the particles of all entries; a particle may belong to several jets.
        lost: int64 `[jet]`, links of each jet to no particle of its event. They are not in `particle`.
    """

    offsets: Array
    particle: Array
    lost: Array


def by_table(
    jets: Array, particles: Array, rows: Array, jet: Array, particle: Array, *, entries: Entries, place: str
) -> Links:
    """Build links from a link table, one row per pair of jet and particle (CMS NanoAOD).

    A row with a negative jet belongs to no jet of the collection.

    Args:
        jets: int64 `[entry]`, jets of each entry.
        particles: int64 `[entry]`, particles of each entry.
        rows: int64 `[entry]`, rows of the table of each entry.
        jet: `[row]`, number of the jet in its entry.
        particle: `[row]`, number of the particle in its entry.
        entries: int64 `[entry]`, their numbers in the file.
        place: the file, for messages.

    Raises:
        BadEntriesError: a row of a jet that the event does not have: jets were removed, and the numbers of others
            shifted.
    """
    # Two events of 2 and 1 jets, 3 and 2 particles; rows (jet, particle) (0, 2), (1, 0) and, of the second, (0, 1).
    # Counted over both events they are (0, 2), (1, 0) and (2, 4) -> offsets 0, 1, 2, 3, particle 2, 0, 4.
    entry = np.repeat(np.arange(len(rows)), rows)
    jet = _whole(jet)
    if (beyond := np.flatnonzero(jet >= jets[entry])).size:
        row = beyond[0]
        raise BadEntriesError(
            "a particle is linked to a jet that the event does not have",
            entries[entry[beyond]],
            "bad_files",
            where=f"{place}, entry {entries[entry[row]]}",
            found=f"jet {jet[row]} of {jets[entry[row]]}",
            hint="write these numbers anew with the jets; after jets were removed, they refer to other jets",
        )
    inside = jet >= 0
    entry, jet = entry[inside], jet[inside] + _first(jets)[entry[inside]]
    return _group(jet, int(jets.sum()), *_indices(entry, particle[inside], particles))


def by_range(
    jets: Array,
    particles: Array,
    rows: Array,
    begin: Array,
    end: Array,
    particle: Array,
    *,
    entries: Entries,
    place: str,
) -> Links:
    """Build links from a range `begin` to `end` of a list of particles for each jet (EDM4hep).

    Args:
        jets: int64 `[entry]`, jets of each entry.
        particles: int64 `[entry]`, particles of each entry.
        rows: int64 `[entry]`, length of the list of each entry.
        begin: `[jet]`, first position of the jet in the list of its entry.
        end: `[jet]`, one beyond its last position.
        particle: `[row]`, number of the particle in its entry; negative for one of another collection.
        entries: int64 `[entry]`, their numbers in the file.
        place: the file, for messages.

    Raises:
        BadEntriesError: a range that goes beyond the list.
    """
    entry = np.repeat(np.arange(len(jets)), jets)
    begin, end = _whole(begin), _whole(end)
    if (wrong := np.flatnonzero((begin < 0) | (begin > end) | (end > rows[entry]))).size:
        first = wrong[0]
        raise BadEntriesError(
            "a jet's particles lie beyond the list of its event",
            entries[entry[wrong]],
            "bad_files",
            where=f"{place}, entry {entries[entry[first]]}",
            found=f"{begin[first]} to {end[first]} of {rows[entry[first]]}",
        )
    # Jets of 2 and 3 particles: jet 0, 0, 1, 1, 1 and within it 0, 1, 0, 1, 2.
    lengths = end - begin
    jet = np.repeat(np.arange(len(begin)), lengths)
    within = np.arange(len(jet)) - np.repeat(_first(lengths), lengths)
    row = within + (_first(rows)[entry] + begin)[jet]
    return _group(jet, len(begin), *_indices(entry[jet], particle[row], particles))


def by_reference(jets: Array, references: Array, reference: Array, entry: Array, identity: Array) -> Links:
    """Build links from references to objects of the same event (ROOT's TRefArray, as in Delphes).

    Args:
        jets: int64 `[entry]`, jets of each entry.
        references: int64 `[jet]`, references of each jet.
        reference: `[reference]`, the references of all jets.
        entry: int64 `[particle]`, entry of each particle, in any order.
        identity: `[particle]`, fUniqueID of each particle.
    """
    jet = np.repeat(np.arange(len(references)), references)
    # The entry is in the bits above the number, since objects of two events share numbers: entry 2, number 7 ->
    # 2 * 2^24 + 7.
    targets = np.repeat(np.arange(len(jets)), jets)[jet] << 24 | reference.astype(np.int64) & REFERENCE
    keys = entry << 24 | identity.astype(np.int64) & REFERENCE
    order = np.argsort(keys, kind="stable")
    if not len(order):
        return _group(jet, len(references), np.zeros_like(targets), np.zeros(len(targets), dtype=np.bool_))
    position = np.searchsorted(keys, targets, sorter=order)
    particle = order[np.minimum(position, len(order) - 1)]
    return _group(jet, len(references), particle, keys[particle] == targets)


def by_element(
    jets: Array, links: Array, key: Array, number: Array, collections: Sequence[tuple[Sequence[int], Array]]
) -> Links:
    """Build links from the key of a collection and a number in it (ATLAS's ElementLink).

    Args:
        jets: int64 `[entry]`, jets of each entry.
        links: int64 `[jet]`, links of each jet.
        key: `[link]`, key of the collection of the particle; 0 if the particle was removed.
        number: `[link]`, number of the particle in that collection of its entry.
        collections: keys of each collection, and int64 `[entry]` its particles. All particles of the first collection
            come first, then all of the next.
    """
    jet = np.repeat(np.arange(len(links)), links)
    entry = np.repeat(np.arange(len(jets)), jets)[jet]
    particle, exists = np.zeros(len(jet), dtype=np.int64), np.zeros(len(jet), dtype=np.bool_)
    before = 0
    for keys, particles in collections:
        own = np.flatnonzero(np.isin(key, keys))
        indices, exists[own] = _indices(entry[own], number[own], particles)
        particle[own] = before + indices
        before += int(particles.sum())
    return _group(jet, len(links), particle, exists)


@cache
def element_key(collection: str, class_number: int) -> int:
    """Return the key of a collection in ATLAS's ElementLinks (`m_persKey`).

    It is the lower 30 bits of the CRC-64 of the name, continued over the bytes of the number of its class, the lowest
    first (Athena's StringPool).
    """
    crc = (1 << 64) - 1
    for byte in (*collection.encode(), *class_number.to_bytes(4, "little").rstrip(b"\0")):
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (_CRC64 if crc & 1 else 0)
    return crc & _KEY


def _whole(number: Array) -> Array:
    """Return numbers of jets or particles as int64; a missing one (NaN) is -1, of none."""
    return np.nan_to_num(number, nan=-1).astype(np.int64)


def _first(counts: Array) -> Array:
    """Return the index of the first member of each group from the group sizes: 2, 3, 1 -> 0, 2, 5."""
    return np.cumsum(counts) - counts


def _indices(entry: Array, number: Array, counts: Array) -> tuple[Array, Array]:
    """Return numbers within entries as indices among the particles of all entries, and a mask of those that exist.

    Entries of 3 and 2 particles: number 1 of entry 1 -> index 4; number 2 of entry 1 does not exist.
    """
    number = _whole(number)
    return number + _first(counts)[entry], (number >= 0) & (number < counts[entry])


def _group(jet: Array, jets: int, particle: Array, exists: Array) -> Links:
    """Return links in the order of the jets, and within a jet in the order of the file."""
    lost = np.bincount(jet[~exists], minlength=jets)
    jet, particle = jet[exists], particle[exists]
    if (jet[1:] < jet[:-1]).any():
        order = np.argsort(jet, kind="stable")
        jet, particle = jet[order], particle[order]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(jet, minlength=jets))])
    return Links(offsets.astype(np.int64), particle, lost.astype(np.int64))
