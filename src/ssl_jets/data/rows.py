"""Branches of a range of entries, jet by jet: particles end to end, and numbers of each jet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import awkward as ak
import numpy as np
import numpy.typing as npt
from awkward.contents import NumpyArray

from ssl_jets.arrays import Array
from ssl_jets.errors import DataError

Entries = npt.NDArray[np.int64]
"""Numbers of entries of a tree, each once, in rising order."""

Raw = Mapping[str, Any]
"""Branch to its entries: an awkward array of lists or of numbers, or a numpy array `[entry]` or `[entry, place]`."""

NO_ENTRIES: Entries = np.empty(0, dtype=np.int64)


class BadEntriesError(DataError):
    """Entries that are no jets, in a file that has others.

    Args:
        what: the error in one sentence.
        entries: their numbers in the file.
        skipped_by: key of `data.*` that decides between an error and skipping.
        more: as for `DataError`.
    """

    def __init__(self, what: str, entries: Array, skipped_by: Literal["bad_jets", "bad_files"], **more: Any) -> None:
        super().__init__(what, **more)
        self.entries: Entries = np.unique(entries)
        self.skipped_by = skipped_by


@dataclass(frozen=True, eq=False)
class Rows:
    """Branches of jets as in the file, before the decoder turns them into canonical columns and units.

    Attributes:
        offsets: int64 `[jet + 1]`; jet i owns the particles `offsets[i]` to `offsets[i + 1]`.
        particle: branches of particles, each `[particle]`.
        jet: branches of jets, each `[jet]`.
        entry: int64 `[jet]`, entry of the file.
        number: int64 `[jet]`, number of the jet in its entry; 0 if an entry is a jet.
        place: the file, for messages.
        lost: int64 `[jet]`, particles of each jet that the file does not store; None if it stores all.
        collections: elements of further collections of the same jets by name, in the place of particles.
    """

    offsets: Array
    particle: Mapping[str, Array]
    jet: Mapping[str, Array]
    entry: Array
    number: Array
    place: str = field(default="", repr=False)
    lost: Array | None = None
    collections: Mapping[str, Rows] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.entry)

    @property
    def lengths(self) -> Array:
        """Particles of each jet."""
        return np.diff(self.offsets)

    def source(self, file: int = 0) -> Array:
        """Return the key of each jet as in `Jets.source`: int64 `[jet, (file, entry, number in the entry)]`."""
        return np.stack([np.full_like(self.entry, file), self.entry, self.number], axis=1)

    def find(self, name: str) -> tuple[Array, bool]:
        """Return the numbers of a branch, and True if they are `[particle]`, False if `[jet]`."""
        return (self.particle[name], True) if name in self.particle else (self.jet[name], False)

    def spread(self, jet: Array) -> Array:
        """Repeat numbers `[jet]` for each of their particles, `[particle]`."""
        return np.repeat(jet, self.lengths)

    def total(self, particle: Array) -> Array:
        """Sum numbers `[particle]` over each jet, float64 `[jet]`."""
        jet_of = np.repeat(np.arange(len(self)), self.lengths)
        return np.bincount(jet_of, particle, len(self)).astype(np.float64)  # without particles it counts: int64

    def keep(self, mask: Array) -> Rows:
        """Return the same jets with the particles of the mask `[particle]`; a jet may become empty.

        Example: offsets [0, 2, 3] and the mask [True, False, False] give offsets [0, 1, 1].
        """
        if mask.all():
            return self
        kept_before = np.concatenate([[0], np.cumsum(mask, dtype=np.int64)])
        particle = {name: values[mask] for name, values in self.particle.items()}
        return replace(self, offsets=kept_before[self.offsets], particle=particle)

    def select(self, mask: Array) -> Rows:
        """Return the jets of the mask `[jet]`."""
        if mask.all():
            return self
        offsets = np.concatenate([[0], np.cumsum(self.lengths[mask], dtype=np.int64)])
        of_particles = self.spread(mask)
        return replace(
            self,
            offsets=offsets,
            particle={name: values[of_particles] for name, values in self.particle.items()},
            jet={name: values[mask] for name, values in self.jet.items()},
            entry=self.entry[mask],
            number=self.number[mask],
            lost=None if self.lost is None else self.lost[mask],
            collections={name: rows.select(mask) for name, rows in self.collections.items()},
        )

    def where(self, jet: int) -> str:
        """Name a jet by file, entry and number, for messages."""
        number = f", jet {self.number[jet]}" if self.number.any() else ""
        return f"{self.place}, entry {self.entry[jet]}{number}"

    def some(self, wrong: Array) -> str:
        """Count the wrong jets among those just read, for messages."""
        return _some(wrong, self.entry)


def _some(wrong: Array, jets: Array) -> str:
    return f"{len(wrong)} of the {len(jets)} jets read here"


def chosen(raw: Raw, start: int, stop: int, without: Entries) -> tuple[Raw, Entries]:
    """Return the branches of the entries `start` to `stop` except `without`, and the numbers of these entries."""
    entry = np.arange(start, stop, dtype=np.int64)
    if not np.any((without >= start) & (without < stop)):
        return raw, entry
    keep = ~np.isin(entry, without)
    return {name: values[keep] for name, values in raw.items()}, entry[keep]


def one_jet_an_entry(raw: Raw, entry: Entries, place: str) -> Rows:
    """Return entries as jets, one jet an entry: lists are branches of particles, numbers are branches of jets.

    A missing list (null) has missing numbers, as many as the others of its entry have; without any, there are none.

    Raises:
        BadEntriesError: branches of particles that differ in length.
    """
    jet = {name: plain_numbers(values) for name, values in raw.items() if values.ndim == 1}
    lists = _filled({name: values for name, values in raw.items() if values.ndim > 1})
    offsets, first = np.zeros(len(entry) + 1, dtype=np.int64), ""
    for name, (own_offsets, _) in lists.items():
        if not first:
            offsets, first = own_offsets, name
        elif not np.array_equal(offsets, own_offsets):
            lengths, expected = np.diff(own_offsets), np.diff(offsets)
            wrong = np.flatnonzero(lengths != expected)
            raise BadEntriesError(
                f"the branches {first} and {name} hold different numbers of particles",
                entry[wrong],
                "bad_files",
                where=f"{place}, entry {entry[wrong[0]]}",
                found=f"{expected[wrong[0]]} and {lengths[wrong[0]]}; {_some(wrong, entry)}",
            )
    particle = {name: contents for name, (_, contents) in lists.items()}
    return Rows(offsets, particle, jet, entry, np.zeros_like(entry), place)


def _filled(raw: Raw) -> dict[str, tuple[Array, Array]]:
    """Return offsets and contents of lists, with NaN in missing ones (null) for each number of the others.

    Lists [[1, 2], [3]] and [null, [4]] give the contents 1, 2, 3 and NaN, NaN, 4.
    """
    lists = {name: flatten(values) for name, values in raw.items()}
    optional = [name for name, values in raw.items() if not isinstance(values, np.ndarray) and values.layout.is_option]
    for name in optional:
        missing = ak.to_numpy(ak.is_none(raw[name]))
        if missing.any():
            offsets, contents = lists[name]
            longest = np.max([np.diff(edges) for edges, _ in lists.values()], axis=0)
            lengths = np.where(missing, longest, np.diff(offsets))
            values = np.full(lengths.sum(), np.nan, contents.dtype if contents.dtype.kind == "f" else np.float64)
            values[np.repeat(~missing, lengths)] = contents
            lists[name] = (np.concatenate([[0], np.cumsum(lengths)]), values)
    return lists


def plain_numbers(values: Any) -> Array:
    """Return a flat branch as a numpy array in the byte order of this machine; missing numbers (None) are NaN."""
    plain: Any = values if isinstance(values, np.ndarray) else ak.to_numpy(values)
    if isinstance(plain, np.ma.MaskedArray):
        plain = np.ma.filled(plain if plain.dtype.kind == "f" else plain.astype(np.float64), np.nan)
    array: Array = np.asarray(plain)
    # HDF5 and npz files may have the other byte order, which torch refuses.
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def texts(values: Iterable[object]) -> list[str]:
    """Decode strings, which HDF5 and npz files may hold as bytes."""
    return [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in values]


def empty_rows(particle: Sequence[str], jet: Sequence[str]) -> Rows:
    """Return no jets, with the given branches of particles and of jets."""
    values = np.empty(0, dtype=np.float32)
    numbers = np.zeros(0, dtype=np.int64)
    offsets = np.zeros(1, dtype=np.int64)
    return Rows(offsets, dict.fromkeys(particle, values), dict.fromkeys(jet, values), numbers, numbers)


def flatten(values: Any) -> tuple[Array, Array]:
    """Return the offsets of lists, int64 `[entry + 1]`, and their contents end to end.

    Example: [[1, 2], [], [3]] gives [0, 2, 2, 3] and [1, 2, 3].
    """
    if isinstance(values, np.ndarray):
        return np.arange(len(values) + 1, dtype=np.int64) * values.shape[1], plain_numbers(values.reshape(-1))
    layout = ak.to_layout(values)
    if layout.is_option:
        layout = ak.to_layout(ak.fill_none(values, [], axis=0))
    if layout.is_numpy:  # an array of fixed length
        layout = layout.to_RegularArray()
    layout = layout.to_ListOffsetArray64(True)
    offsets, content = np.asarray(layout.offsets.data), layout.content
    # The numbers themselves: the way over an `ak.Array` takes longer than decoding the jets of a small file.
    values = content.data if isinstance(content, NumpyArray) else ak.Array(content)
    return offsets, plain_numbers(values)[: offsets[-1]]
