"""Events with nested lists: each jet of an entry is a list of particles (`vector<vector<float>>`).

No key of a schema declares them: if a particle column is a list of lists, a list has one value per jet, and a single
number belongs to the event and is repeated for all its jets.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import awkward as ak
import numpy as np
import numpy.typing as npt

from ssl_jets.arrays import Array
from ssl_jets.data.readers.base import Number, Table
from ssl_jets.data.rows import BadEntriesError, Entries, Raw, Rows, one_jet_an_entry, plain_numbers

_LOOK = 1000
"""Entries from which the lists with one value per jet are found."""


@dataclass(frozen=True)
class Nested:
    """The only collection of jets of such a file."""

    collection: str = "lists of lists"
    others: tuple[str, ...] = ()


class NestedTable:
    """Table of events seen as a table of jets: each branch has one level of lists less.

    Args:
        table: the table.
        particles: branches of particles, some of them lists of lists.
        jets: branches with one value per jet in the schema.
        read: function that reads branches of a range of entries.
    """

    def __init__(
        self,
        table: Table,
        particles: Collection[str],
        jets: Collection[str],
        read: Callable[[Sequence[str], int, int], Raw],
    ) -> None:
        self.table = table
        self.name = table.name
        self.entries = table.entries
        self.branches, self.ignored = table.branches, table.ignored
        lists = [name for name in table.branches if table.depth(name) == 1]
        nested = next(name for name in particles if table.depth(name) == 2)
        # Lists take less time to count than lists of lists.
        self._counted = next((name for name in lists if name in jets), nested)
        look = read([*lists, self._counted], 0, min(_LOOK, table.entries))
        self._jets = [name for name in lists if np.array_equal(_counts(look[name]), _counts(look[self._counted]))]

    def flat(self) -> tuple[str, ...]:
        """Return branches with one number per jet; numbers of the event are repeated for all its jets."""
        return (*self._jets, *self.table.flat())

    def depth(self, name: str) -> int:
        depth = self.table.depth(name)
        return depth - 1 if depth > 0 else depth

    def is_text(self, name: str) -> bool:
        return self.table.is_text(name)

    def typename(self, name: str) -> str:
        return self.table.typename(name)

    def number(self, name: str) -> Number:
        return self.table.number(name)

    def boundaries(self, names: Sequence[str]) -> tuple[int, ...]:
        return self.table.boundaries(names)

    def lengths(self, name: str) -> npt.NDArray[np.int64]:
        return self.table.lengths(name)

    def jets_of_events(self) -> npt.NDArray[np.int64]:
        """Return the number of jets of each entry, `[entry]`."""
        return self.table.lengths(self._counted)


def nested_rows(raw: Raw, names: Sequence[str], counts: Array, entry: Entries, place: str) -> Rows:
    """Return the jets of entries with the given branches.

    Args:
        raw: branches of the entries.
        names: branches of the result.
        counts: jets of each entry.
        entry: numbers of the entries.
        place: the file, for messages.

    Raises:
        BadEntriesError: a branch with another number of jets, or branches of particles that differ in length.
    """
    jets = {}
    for name in names:
        values = raw[name]
        if values.ndim == 1:
            jets[name] = np.repeat(plain_numbers(values), counts)
            continue
        wrong = np.flatnonzero(_counts(values) != counts)
        if len(wrong):
            raise BadEntriesError(
                f"the branch {name} does not have as many values as the entry has jets",
                entry[wrong],
                "bad_files",
                where=f"{place}, entry {entry[wrong[0]]}",
                found=f"{_counts(values)[wrong[0]]} and {counts[wrong[0]]}; {len(wrong)} of the entries read",
            )
        jets[name] = ak.flatten(values, axis=1)  # [entry, jet, particle] -> [jet, particle]
    # Entries of 2 and 3 jets: numbers 0, 1, 0, 1, 2.
    number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return replace(one_jet_an_entry(jets, np.repeat(entry, counts), place), number=number)


def _counts(values: ak.Array) -> Array:
    return np.asarray(ak.fill_none(ak.num(values, axis=1), 0))
