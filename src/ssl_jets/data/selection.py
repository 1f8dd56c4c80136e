"""Selection of jets by a formula of jet columns (`data.where`, `--where`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np

from ssl_jets.arrays import Array
from ssl_jets.data.chunks import check_type, read_good_rows
from ssl_jets.data.files import EntryRange, JetFile, count
from ssl_jets.data.request import Request
from ssl_jets.data.rows import empty_rows
from ssl_jets.data.schemas.formula import Formula
from ssl_jets.data.schemas.where import SETTING, parse_selection
from ssl_jets.errors import UsageError, nearest

_BLOCK = 10_000
"""Jets for which the selection is evaluated at once."""


def check_selection(files: Sequence[JetFile], where: str | None) -> None:
    """Check that a selection is a condition on columns that every file has, with one number per jet.

    Raises:
        UsageError: the text is not a formula, a file lacks a column of it or has something else than one number per
            jet in it, or it is not true or false for each jet.
    """
    if where is None:
        return
    parsed = parse_selection(where)
    for file in files:
        _check_columns(file, parsed)
        decoder = file.decoder(_request(where))
        try:
            selected = decoder.selected(empty_rows((), decoder.branches))
        except UsageError as error:
            raise UsageError(error.what, where=SETTING, found=where, hint=error.hint) from None
        if selected.dtype != np.bool_:
            hint = "--where 'jet_pt > 300 && abs(jet_eta) < 2'"
            raise UsageError("a selection is true or false for each jet", where=SETTING, found=where, hint=hint)


def _check_columns(file: JetFile, parsed: Formula) -> None:
    """Check that a file has the columns of a selection: jet columns, or branches of its labels."""
    for name in parsed.names:
        if name in file.jet_columns:
            continue
        check_type(file, name)  # labels may be strings
        if name not in file.classes.branches:
            raise UsageError(
                "there is no such column to select by",
                where=f"{SETTING}, {file.source}",
                found=name,
                allowed=nearest(name, (*file.jet_columns, *file.classes.branches)),
            )


def _request(where: str | None) -> Request:
    return Request(columns=(), labels=False, where=where)


def read_selected(file: JetFile, request: Request, start: int, stop: int) -> Array:
    """Read which of the jets `start` to `stop` of a file are selected, bool `[jet]`; none of those that are skipped.

    Raises:
        DataError: the file cannot be read, or has entries that are no jets, and the request does not skip them.
    """
    decoder = file.decoder(_request(request.where))
    rows = read_good_rows(file, decoder.branches, start, stop, request)
    selected = np.zeros(stop - start, np.bool_)
    selected[file.numbers(rows.source()) - start] = decoder.selected(rows)
    return selected


def count_selected(
    files: Sequence[JetFile], ranges: Sequence[EntryRange], request: Request, workers: int = 1
) -> Mapping[EntryRange, int]:
    """Count the selected jets of each entry range, bad ones among them; only the columns of the formula are read.

    Raises:
        DataError: as `read_selected`.
    """
    counts = dict.fromkeys(ranges, 0)
    for part, mask in _masks(files, ranges, request, workers):
        counts[part] += int(np.count_nonzero(mask))
    return counts


def selected_entries(
    files: Sequence[JetFile], ranges: Sequence[EntryRange], request: Request, workers: int = 1
) -> Array:
    """Return which entries of the ranges, one range after another, are selected, bool `[entry]`.

    Raises:
        DataError: as `read_selected`.
    """
    if request.where is None:
        return np.ones(count(ranges), dtype=np.bool_)
    return np.concatenate([mask for _, mask in _masks(files, ranges, request, workers)])


def _masks(
    files: Sequence[JetFile], ranges: Sequence[EntryRange], request: Request, workers: int
) -> Iterator[tuple[EntryRange, Array]]:
    """Yield the selection of each block of the ranges, in order, with its range."""

    def read(block: EntryRange) -> Array:
        return read_selected(files[block.file], request, block.start, block.stop)

    blocks = [(part, block) for part in ranges for block in _in_blocks(part)]
    with ThreadPoolExecutor(workers, thread_name_prefix="ssl-jets-select") as pool:
        yield from zip([part for part, _ in blocks], pool.map(read, [block for _, block in blocks]))


def _in_blocks(part: EntryRange) -> list[EntryRange]:
    """Cut an entry range into blocks: 0 to 25,000 -> 0 to 10,000, 10,000 to 20,000, 20,000 to 25,000."""
    starts = range(part.start, part.stop, _BLOCK)
    return [EntryRange(part.file, start, min(start + _BLOCK, part.stop)) for start in starts]


class SelectedNumbers:
    """Filter of jet numbers by a selection, which reads its columns block by block and keeps the last block.

    Args:
        files: the files.
        request: the formula (None selects all jets), and the policy for bad jets and files.
    """

    def __init__(self, files: Sequence[JetFile], request: Request) -> None:
        self._files, self._request = files, request
        self._mask = lru_cache(maxsize=1)(self._read_mask)

    def among(self, file: int, numbers: Array) -> Array:
        """Return the selected ones of rising jet numbers of a file.

        Raises:
            DataError: as `read_selected`.
        """
        if self._request.where is None or not len(numbers):
            return numbers
        blocks = np.split(numbers, np.flatnonzero(np.diff(numbers // _BLOCK)) + 1)
        masks = [self._mask(file, int(block[0]) // _BLOCK)[block % _BLOCK] for block in blocks]
        selected: Array = numbers[np.concatenate(masks)]
        return selected

    def _read_mask(self, file: int, block: int) -> Array:
        """Read which jets of a block are selected, bool `[jet]`."""
        start = block * _BLOCK
        stop = min(start + _BLOCK, self._files[file].entries)
        return read_selected(self._files[file], self._request, start, stop)
