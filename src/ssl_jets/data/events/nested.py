"""Events whose jets are lists of lists: of an entry each jet is a list of particles (`vector<vector<float>>`).

No key of a schema declares it: where a particle column is a list of lists, lists are numbers of jets, and numbers are
those of the event, which count for all its jets.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import awkward as ak
import numpy as np
import numpy.typing as npt

from ssl_jets.arrays import Array
from ssl_jets.data.readers.base import Number, Table
from ssl_jets.data.rows import BadEntriesError, Entries, Raw, Rows, one_jet_an_entry
from ssl_jets.errors import UsageError

_LOOK = 1000
"""Entries that show which lists have as many numbers as the entry has jets."""


@dataclass(frozen=True)
class Nested:
    """The only collection of jets of such a file."""

    collection: str = "lists of lists"

    @property
    def others(self) -> tuple[str, ...]:
        """There are no other collections to choose from."""
        return (self.collection,)

    def refuse_choice(self, asked: str | None, where: object) -> None:
        """Refuse a collection of jets that is asked for.

        Raises:
            UsageError: one is.
        """
        if asked is not None:
            raise UsageError(
                "the jets of the file are lists of lists, so there are no others to choose from",
                where=f"data.jets, {where}",
                found=asked,
                allowed=[self.collection],
            )


class NestedTable:
    """A table of events, as if it were one of jets: each branch has a level of lists less.

    Args:
        table: the table.
        particles: branches of particles, some of them lists of lists.
        jets: branches that the format takes for numbers of jets.
        read: reads branches of a range of entries.
    """

    def __init__(
        self,
        table: Table,
        particles: Collection[str],
        jets: Collection[str],
        read: Callable[[Sequence[str], int, int], Raw],
    ) -> None:
        self.table, self.name, self.entries = table, table.name, table.entries
        self.branches, self.ignored = table.branches, table.ignored
        lists = [name for name in table.branches if table.depth(name) == 1]
        nested = next(name for name in particles if table.depth(name) == 2)
        # Lists take less time to count than lists of lists.
        self._counted = next((name for name in lists if name in jets), nested)
        look = read([*lists, self._counted], 0, min(_LOOK, table.entries))
        self._jets = [name for name in lists if np.array_equal(_counts(look[name]), _counts(look[self._counted]))]

    def flat(self) -> tuple[str, ...]:
        """Branches with one number for each jet; those of the event count for all its jets."""
        return (*self._jets, *self.table.flat())

    def not_lists(self, names: Sequence[str]) -> list[str]:
        """Those of the branches `names` that do not hold a list of numbers per jet."""
        return [name for name in names if self.depth(name) != 1]

    def depth(self, name: str) -> int:
        """Levels of lists around the numbers of a jet; -1 where it holds no numbers."""
        depth = self.table.depth(name)
        return depth - 1 if depth > 0 else depth

    def is_text(self, name: str) -> bool:
        """Whether the event has a string by this name."""
        return self.table.is_text(name)

    def typename(self, name: str) -> str:
        """The type of a branch."""
        return self.table.typename(name)

    def number(self, name: str) -> Number:
        """The type of the numbers of a branch."""
        return self.table.number(name)

    def clusters(self, names: Sequence[str]) -> tuple[int, ...]:
        """Entries at which a read of the branches may begin without decoding anything twice."""
        return self.table.clusters(names)

    def lengths(self, name: str) -> npt.NDArray[np.int64]:
        """How many numbers or lists a branch has in each entry."""
        return self.table.lengths(name)

    def jets_of_events(self) -> npt.NDArray[np.int64]:
        """Jets of each entry."""
        return self.table.lengths(self._counted)


def nested_rows(raw: Raw, names: Sequence[str], counts: Array, entry: Entries, place: str) -> Rows:
    """The jets of entries with the branches of the given names.

    Args:
        raw: branches of the entries.
        names: branches to take.
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
            jets[name] = np.repeat(np.asarray(ak.to_numpy(values)), counts)
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
    number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return replace(one_jet_an_entry(jets, np.repeat(entry, counts), place), number=number)


def _counts(values: ak.Array) -> Array:
    return np.asarray(ak.fill_none(ak.num(values, axis=1), 0))
