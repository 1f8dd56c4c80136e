"""Encoded jets to the rows of a z file, with a row for every jet of the input."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from ssl_jets.arrays import Array
from ssl_jets.data.chunks import check_exact, read_jet_columns
from ssl_jets.data.files import EntryRange, JetFile
from ssl_jets.errors import DataError
from ssl_jets.jets import Jets
from ssl_jets.nn.encoder import Encoded
from ssl_jets.zfile import Column, Level

GAP_ROWS = 4096


class RowJoiner:
    """Makes the rows of a z file from batches of encoded jets.

    Jets that were left out because they could not be used are recognised as gaps in their numbers. At level "jet" such
    a jet becomes a row with z of NaN and the label -1, with its kept columns as they are in the file. Where the file
    cannot be read these are missing: NaN, -1, or false.

    Args:
        files: the files.
        parts: the entries that are embedded, at most one part of each file, in order.
        columns: the columns of the z file; those behind its own are kept jet columns.
        level: a row per jet or per particle.
        bad_files: what to do with kept columns that cannot be read.
    """

    def __init__(
        self,
        files: Sequence[JetFile],
        parts: Sequence[EntryRange],
        columns: Sequence[Column],
        level: Level,
        bad_files: Literal["error", "skip"] = "error",
    ) -> None:
        self._files, self._columns, self._level, self._bad_files = files, columns, level, bad_files
        self._left = deque(parts)
        self.entries = 0

    def add(self, jets: Jets, encoded: Encoded) -> Iterator[dict[str, Array]]:
        """The rows of a batch of jets of one file, and those of the entries left out before it and in it."""
        assert jets.source is not None
        source = jets.source.numpy()
        file = int(source[0, 0])
        numbers = self._files[file].numbers(source)
        first, last = int(numbers[0]), int(numbers[-1])
        yield from self._gaps(self._advance(file, first))
        rows = self._rows(jets, encoded)
        passed = list(self._advance(file, last + 1))
        missing = np.setdiff1d(np.arange(first, last + 1), numbers)
        if len(missing) and self._level == "jet":
            bad = self._bad_rows(file, missing)
            order = np.argsort(np.concatenate([numbers, missing]))
            rows = {name: np.concatenate([values, bad[name]])[order] for name, values in rows.items()}
        self.entries += sum(part.entries for part in passed)
        yield rows

    def finish(self) -> Iterator[dict[str, Array]]:
        """The rows of the entries left out behind the last jet."""
        yield from self._gaps(self._advance(None, 0))

    def _advance(self, file: int | None, entry: int) -> Iterator[EntryRange]:
        """Go forward to an entry of a file (or to the end); the entries passed over."""
        while self._left and self._left[0].file != file:
            yield self._left.popleft()
        if self._left:
            part = self._left.popleft()
            if part.start < entry:
                yield EntryRange(part.file, part.start, entry)
            if entry < part.stop:
                self._left.appendleft(EntryRange(part.file, entry, part.stop))

    def _gaps(self, parts: Iterator[EntryRange]) -> Iterator[dict[str, Array]]:
        for part in parts:
            self.entries += part.entries
            if self._level == "jet":
                for start in range(part.start, part.stop, GAP_ROWS):
                    yield self._bad_rows(part.file, np.arange(start, min(start + GAP_ROWS, part.stop)))

    def _bad_rows(self, file: int, numbers: Array) -> dict[str, Array]:
        entries, in_entry = self._files[file].keys(numbers)
        own = {"z": np.nan, "source_file": file, "source_entry": entries, "source_jet": in_entry, "label": -1}
        kept = [column.name for column in self._columns if column.name not in own]
        copied: dict[str, Array] = {}
        if kept:
            start, stop = int(numbers[0]), int(numbers[-1]) + 1
            copied = self._copied(file, kept, start, stop)
            copied = {name: values[numbers - start] for name, values in copied.items()}
        rows = {column.name: column.empty(len(numbers)) for column in self._columns}
        for name, values in rows.items():
            values[...] = copied[name] if name in copied else own[name]
        return rows

    def _copied(self, file: int, names: Sequence[str], start: int, stop: int) -> dict[str, Array]:
        """Kept columns of a range of jets."""
        try:
            return read_jet_columns(self._files[file], names, start, stop)
        except DataError:
            if self._bad_files == "error":
                raise
        columns = [column for column in self._columns if column.name in names]
        return {column.name: column.missing(stop - start) for column in columns}

    def _rows(self, jets: Jets, encoded: Encoded) -> dict[str, Array]:
        assert jets.source is not None
        source = jets.source.numpy()
        rows = {"source_file": source[:, 0], "source_entry": source[:, 1], "source_jet": source[:, 2]}
        if jets.labels is not None:
            rows["label"] = jets.labels.numpy()
        rows |= {name: values.numpy() for name, values in jets.jet.items()}
        if self._level == "jet":
            rows["z"] = encoded.z.numpy()
        else:
            owner = jets.jet_of_particle.numpy()
            rows = {name: values[owner] for name, values in rows.items()}
            rows["token"] = encoded.tokens.numpy()
            rows["particle"] = np.arange(len(owner)) - jets.offsets.numpy()[owner]
        return {column.name: rows[column.name] for column in self._columns}


def kept_columns(files: Sequence[JetFile], names: Sequence[str]) -> tuple[Column, ...]:
    """Return kept jet columns with the type that all files share.

    Raises:
        DataError: whole numbers beyond 2^53 that would be written as floating point.
    """
    for file in files:
        for name in names:
            if name in file.types.rounded:
                check_exact(file, name)
    return tuple(Column(name, files[0].types.of[name].str) for name in names)
