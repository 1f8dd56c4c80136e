"""Rows of a z or scores file from encoded jets, with a row for every jet of the input."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np

from ssl_jets.arrays import Array
from ssl_jets.data.chunks import check_exact, check_request, read_jet_columns
from ssl_jets.data.files import EntryRange, JetFile
from ssl_jets.data.request import Request
from ssl_jets.data.selection import SelectedNumbers
from ssl_jets.embedding.outputs import Output
from ssl_jets.errors import UsageError
from ssl_jets.jets import Jets
from ssl_jets.nn.encoder import Encoded
from ssl_jets.zfile import Column, key_columns
from ssl_jets.zfile.columns import VECTORS

GAP_ROWS = 4096


class RowJoiner:
    """Joins batches of encoded jets with the skipped jets between them to the rows of a file.

    A skipped jet is a gap in the numbers of the encoded ones: after the jets 0, 1, 3 the jet 2 is missing. At level
    "jet" it becomes a row with computed columns of NaN and the label -1, with its kept columns as they are in the file;
    unreadable ones are NaN, -1, or false. A jet that the selection `where` leaves out has no row.

    Args:
        files: the files.
        numbers: number of each file in the column `source_file`.
        parts: ranges of entries to encode, at most one of each file, in order.
        columns: the columns of the file.
        output: computation of its columns.
        request: the selection of jets, and the policy for kept columns that cannot be read.

    Attributes:
        entries: entries joined so far.
    """

    def __init__(
        self,
        files: Sequence[JetFile],
        numbers: Array,
        parts: Sequence[EntryRange],
        columns: Sequence[Column],
        output: Output,
        *,
        request: Request,
    ) -> None:
        self._files, self._numbers, self._columns = files, numbers, columns
        self._output, self._level, self._request = output, output.level, request
        self._computed = {column.name for column in output.columns}
        self._selected = SelectedNumbers(files, request)
        self._left = deque(parts)
        self.entries = 0

    def add(self, jets: Jets, encoded: Encoded) -> Iterator[dict[str, Array]]:
        """Yield the rows of a batch of jets of one file, and of the entries skipped before it and in it."""
        assert jets.source is not None
        source = jets.source.numpy()
        file = int(source[0, 0])
        numbers = self._files[file].numbers(source)
        first, last = int(numbers[0]), int(numbers[-1])
        yield from self._gaps(self._advance(file, first))
        rows = self._rows(jets, encoded)
        passed = list(self._advance(file, last + 1))
        missing = np.setdiff1d(np.arange(first, last + 1), numbers) if self._level == "jet" else numbers[:0]
        missing = self._selected.among(file, missing)
        if len(missing):
            bad = self._bad_rows(file, missing)
            order = np.argsort(np.concatenate([numbers, missing]))
            rows = {name: np.concatenate([values, bad[name]])[order] for name, values in rows.items()}
        self.entries += sum(part.entries for part in passed)
        yield rows

    def finish(self) -> Iterator[dict[str, Array]]:
        """Yield the rows of the entries skipped after the last jet."""
        yield from self._gaps(self._advance(None, 0))

    def _advance(self, file: int | None, entry: int) -> Iterator[EntryRange]:
        """Go forward to an entry of a file (or to the end), and yield the ranges of entries passed over."""
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
                    numbers = np.arange(start, min(start + GAP_ROWS, part.stop))
                    if len(numbers := self._selected.among(part.file, numbers)):
                        yield self._bad_rows(part.file, numbers)

    def _bad_rows(self, file: int, numbers: Array) -> dict[str, Array]:
        entries, in_entry = self._files[file].keys(numbers)
        key = {"source_file": self._numbers[file], "source_entry": entries, "source_jet": in_entry}
        values_of_bad = {**dict.fromkeys(self._computed, np.nan), **key, "label": -1}
        kept = [column.name for column in self._columns if column.name not in values_of_bad]
        copied: dict[str, Array] = {}
        if kept:
            start, stop = int(numbers[0]), int(numbers[-1]) + 1
            copied = self._copied(file, kept, start, stop)
            copied = {name: values[numbers - start] for name, values in copied.items()}
        rows = {column.name: column.empty(len(numbers)) for column in self._columns}
        for name, values in rows.items():
            values[...] = copied[name] if name in copied else values_of_bad[name]
        return rows

    def _copied(self, file: int, names: Sequence[str], start: int, stop: int) -> dict[str, Array]:
        """Read the kept columns of a range of jets; those of entries or files that are skipped are missing."""
        copied = {column.name: column.missing(stop - start) for column in self._columns if column.name in names}
        numbers, columns = read_jet_columns(self._files[file], names, start, stop, self._request)
        for name, values in columns.items():
            copied[name][numbers - start] = values
        return copied

    def _rows(self, jets: Jets, encoded: Encoded) -> dict[str, Array]:
        assert jets.source is not None
        source = jets.source.numpy()
        key = {
            "source_file": self._numbers[source[:, 0]],
            "source_entry": source[:, 1],
            "source_jet": source[:, 2],
        }
        rows: dict[str, Array] = {name: values.numpy() for name, values in jets.jet.items()}
        rows |= key
        if jets.labels is not None:
            rows["label"] = jets.labels.numpy()
        if self._level == "particle":
            owner = jets.jet_of_particle.numpy()  # [particle]
            rows = {name: values[owner] for name, values in rows.items()}
            rows["particle"] = np.arange(len(owner)) - jets.offsets.numpy()[owner]
        rows |= self._output.compute(jets, encoded)
        return {column.name: rows[column.name] for column in self._columns}


def check_kept(files: Sequence[JetFile], request: Request, kept: Sequence[str], output: Output) -> None:
    """Check that the kept jet columns exist, are no label columns, and do not have the name of another column.

    Raises:
        UsageError: they do not.
    """
    written = {*VECTORS.values(), *(column.name for column in key_columns("particle", labelled=True))}
    written |= {column.name for column in output.columns}
    for name in kept:
        if any(name in file.classes.branches for file in files):
            hint = "the label is always written, as the column `label`; the metadata has the names of its values"
            raise UsageError("a label column is not kept by itself", where="--keep", found=name, hint=hint)
        if name in written:
            hint = f"`jets: {{input_{name}: {{branch: {name}}}}}` in a schema gives it another name"
            raise UsageError("the output has a column of that name of its own", where="--keep", found=name, hint=hint)
    check_request(files, request)


def kept_columns(files: Sequence[JetFile], names: Sequence[str], request: Request) -> tuple[Column, ...]:
    """Return kept jet columns with the type that all files share; without files bool, which any other type holds.

    The request decides on entries that cannot be read.

    Raises:
        DataError: whole numbers beyond 2^53 that would be written as floating point.
    """
    for file in files:
        for name in names:
            if name in file.types.rounded:
                check_exact(file, name, request)
    return tuple(Column(name, files[0].types.of[name].str if files else "?") for name in names)
