"""Ranges of entries of a file, read as `Jets` or as columns of jets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch

from ssl_jets.arrays import Array
from ssl_jets.data.decoder import Decoder
from ssl_jets.data.events.gather import event_rows
from ssl_jets.data.files import JetFile
from ssl_jets.data.identity import digest_of, version_of
from ssl_jets.data.request import DEFAULT, Request
from ssl_jets.data.rows import NO_ENTRIES, BadEntriesError, Entries, Rows, chosen, empty_rows, one_jet_an_entry
from ssl_jets.data.schemas.check import wrong_type
from ssl_jets.errors import DataError, UsageError, nearest
from ssl_jets.jets import COLUMNS, Jets

T = TypeVar("T")

_STEP = 100_000
"""Rows of a column that are checked at once."""


def check_request(files: Sequence[JetFile], request: Request) -> None:
    """Check that all files have the requested columns, and that jet columns hold one number per jet.

    Raises:
        UsageError: a file lacks a column, or a jet column has another type; the message has the column, the file, and
            the nearest columns or the type.
    """
    # A feature that a file lacks is missing for its particles; `inputs.py` checks that some file has it.
    columns = tuple(name for name in request.columns or () if name in COLUMNS)
    for file in files:
        for names, available in ((request.all_jet_columns, file.jet_columns), (columns, file.columns)):
            for name in names:
                if name not in available:
                    check_type(file, name)
                    raise UsageError(
                        "there is no such column in the file",
                        where=file.source,
                        found=name,
                        allowed=nearest(name, available),
                    )


def check_type(file: JetFile, name: str) -> None:
    """Check that a branch of the file, if it has one of this name, holds one number per jet.

    Raises:
        UsageError: it holds something else; the message has its type, or why an array is no branch.
    """
    with file.reader.open_tables(file.source.path, external=True) as tables:
        for table in (table for table in tables if table.name == file.tree):
            if name in table.ignored:
                found = f"{name}: {table.ignored[name]}"
                raise UsageError("this array of the file is no column of its jets", where=file.place, found=found)
            if name in table.branches and table.depth(name) != 0:
                raise wrong_type(name, {0}, table, file.place, error=UsageError)


def read_chunk(
    file: JetFile, index: int, start: int, stop: int, request: Request, without: Entries = NO_ENTRIES
) -> tuple[Jets, Counter[str]]:
    """Read entries `start` to `stop` as jets in the order of the file, and count the skipped jets by reason.

    A jet of a pair is skipped if either view is bad; the second view is read only for jets with a good first view.

    Args:
        file: the file.
        index: its number in a list of files, for `Jets.source`.
        start: first entry; of files of events, first jet.
        stop: one beyond the last.
        request: the columns to read, and the treatment of bad jets.
        without: entries of the tree to pass over.

    Raises:
        DataError: a bad jet (unless they are skipped), a negative weight, branches of differing lengths, a file that
            cannot be read. The message has the file, the branch and the entry.
    """
    decoder = file.decoder(request)
    jets, skipped = decoder.decode(_read(file, decoder, start, stop, without), index)
    if file.second is None:
        return jets, skipped
    assert jets.source is not None  # everything decoded has it
    entries = jets.source[:, 1].numpy()
    decoder = file.second.decoder(request.second_view)
    rows = _read(file.second, decoder, start, stop, without)
    second, bad = decoder.decode(rows.select(np.isin(rows.entry, entries)), index)
    assert second.source is not None
    good = np.isin(entries, second.source[:, 1].numpy())
    jets = jets if good.all() else jets.select(torch.from_numpy(np.flatnonzero(good)))
    lost = Counter({f"{reason}, in the second view": number for reason, number in bad.items()})
    return replace(jets, second=second.second_view()), skipped + lost


def _read(file: JetFile, decoder: Decoder, start: int, stop: int, without: Array) -> Rows:
    """Read the rows that a decoder needs, and the elements of its collections."""
    rows = read_rows(file, decoder.branches, start, stop, without)
    elements = {
        name: read_rows(file, one.branches, start, stop, without, collection=name)
        for name, one in decoder.collections.items()
        if one.branches
    }
    return replace(rows, collections=elements) if elements else rows


def read_jet_columns(
    file: JetFile, names: Sequence[str], start: int, stop: int, request: Request = DEFAULT
) -> tuple[Array, dict[str, Array]]:
    """Read jet columns of every jet, however bad, of the entries that the request does not skip.

    Returns:
        Numbers of the jets in the file, `[jet]`, and the columns, `[jet]` each.

    Raises:
        DataError: the file cannot be read, and the request does not skip it.
    """
    decoder = file.decoder(Request(tuple(names), columns=(), labels=False))
    rows = read_good_rows(file, decoder.branches, start, stop, request)
    return file.numbers(rows.source()), decoder.jet_columns(rows)


def read_rows(
    file: JetFile,
    branches: Sequence[str],
    start: int,
    stop: int,
    without: Entries = NO_ENTRIES,
    *,
    collection: str | None = None,
) -> Rows:
    """Read branches of entries, jet by jet, as they are in the file: here the entries become jets.

    With `collection` the branches are of the elements of this further collection, in the place of particles.

    Raises:
        DataError: branches of differing lengths, a file that cannot be read, or was changed since it was opened.
    """

    def read(names: Sequence[str], first: int, last: int) -> dict[str, Any]:
        arrays = file.reader.read(file.source.path, file.tree, names, first, last)
        _check_unchanged(file)
        return arrays

    events = file.events if collection is None else file.collections[collection].events
    if events is None:
        return one_jet_an_entry(*chosen(read(branches, start, stop), start, stop, without), file.place)
    return event_rows(read, events, branches, start, stop, file.place, without)


class ChangedFileError(DataError):
    """A file that holds other jets than when it was opened."""

    skipped_by = None


def _check_unchanged(file: JetFile) -> None:
    """Check that a file has the contents that its jets were counted, split and named by; its time alone may change.

    Raises:
        ChangedFileError: it was replaced, or written to.
    """
    path = file.source.path
    if not file.versions or (now := version_of(path)) in file.versions:
        return
    with file.reader.open_tables(path, external=True) as tables:
        if not any(table.name == file.tree and digest_of(path, table) == file.digest for table in tables):
            raise ChangedFileError(
                "the file was changed while it was read",
                where=file.source,
                found="other contents than at its opening",
                hint="begin again, with the file as it is now",
            )
    file.versions.append(now)


def read_good_rows(file: JetFile, branches: Sequence[str], start: int, stop: int, request: Request) -> Rows:
    """Read branches as `read_rows`, without what the request skips: entries that are no jets, or all of a corrupt file.

    Raises:
        DataError: the file cannot be read, or has entries that are no jets, and the request does not skip them.
    """
    try:
        return without_bad_entries(lambda bad: read_rows(file, branches, start, stop, bad), request)
    except DataError as error:
        if not request.skips(error):
            error.suggest_skipping()
            raise
        return empty_rows((), branches)


def without_bad_entries(
    read: Callable[[Entries], T], request: Request, found: Callable[[BadEntriesError], None] | None = None
) -> T:
    """Return what is read without the entries that are no jets, if the request skips them.

    Args:
        read: function that reads all but some entries.
        request: the treatment of bad jets and files.
        found: receives the error of each reading; a later one may find more entries.

    Raises:
        DataError: the file cannot be read, or has entries that the request does not skip.
    """
    bad = NO_ENTRIES
    while True:
        try:
            return read(bad)
        except BadEntriesError as error:
            if not request.skips(error):
                raise
            bad = np.union1d(bad, error.entries)
            if found is not None:
                found(error)


def check_exact(file: JetFile, name: str, request: Request) -> None:
    """Check that the whole numbers of a column converted to float64 are exact, without those that the request skips.

    Raises:
        DataError: one is beyond 2^53; the file cannot be read, and the request does not skip it.
    """
    for start in range(0, file.entries, _STEP):
        numbers, columns = read_jet_columns(file, [name], start, min(start + _STEP, file.entries), request)
        values = columns[name]
        if (wrong := np.flatnonzero(np.abs(values) >= 2**53)).size:
            raise DataError(
                "whole numbers of a column are too large for floating point, which other files or missing values need",
                where=f"{file.source}, column {name}",
                found=f"{values[wrong[0]]:.0f} in about row {numbers[wrong[0]]}",
                allowed=["numbers below 2^53"],
            )
