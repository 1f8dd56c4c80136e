"""Pairs of files that hold the same jets of the same events, seen twice: by two showers, or two detectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ssl_jets.config import DataSettings
from ssl_jets.data.chunks import read_jet_columns
from ssl_jets.data.files import JetFile, open_files
from ssl_jets.data.request import Request
from ssl_jets.data.seen import shared
from ssl_jets.data.shared import shared_columns
from ssl_jets.data.sources import Source, resolve_sources
from ssl_jets.errors import DataError, UsageError

SETTING = "data.pairs"
EVENT_ID = "event_id"
"""Jet column with the number of the event, which `simulate --pairs` writes to both files."""
_BLOCK = 100_000
"""Rows whose events are compared at once."""


def with_pairs(files: Sequence[JetFile], settings: DataSettings, left_out: Mapping[str, str]) -> list[JetFile]:
    """Return the files, those named in `data.pairs` with the file of their second view.

    Args:
        files: the opened files.
        settings: `pairs`, `format`, `jets` and `external` are used.
        left_out: files that could not be opened and are skipped; so are their partners.

    Raises:
        UsageError: a pair of a file that is not among `files`, or with one of them; names of pairs that stand for
            different numbers of files; files of events.
        DataError: a partner that cannot be opened, or two files that do not hold the same jets.
    """
    if not settings.pairs:
        return list(files)
    numbers = {file.source.key: number for number, file in enumerate(files)}
    partners: dict[int, Source] = {}
    for first, second in _named_pairs(settings.pairs):
        number = numbers.get(first.key)
        if number is not None:
            partners[number] = second
        elif str(first) not in left_out:
            hint = "the first file of each pair is one of --data, --val or data.unlabelled"
            raise UsageError("the first file of a pair is not among the files", where=SETTING, found=first, hint=hint)
    if not partners:
        return list(files)
    seconds = open_files(list(partners.values()), None, settings.format, settings.jets, None, settings.external)
    if twice := shared(files, seconds):
        what = "the second file of a pair is a file to train or validate on, or a copy of one"
        raise UsageError(what, where=SETTING, found=twice[0].source, hint="name it in data.pairs only")
    paired = list(files)
    for number, partner in zip(partners, seconds, strict=True):
        check_pair(files[number], partner, Request.of(settings))
        paired[number] = replace(files[number], second=partner)
    return paired


def refuse_pairs(settings: DataSettings) -> None:
    """Check that no pairs are named, for trainings that read one view of each jet.

    Raises:
        UsageError: there are pairs.
    """
    if settings.pairs:
        hint = "ssl-jets pretrain with a method that compares two views reads pairs"
        raise UsageError("this training reads one view of each jet", where=SETTING, found=settings.pairs, hint=hint)


def check_pair(first: JetFile, second: JetFile, request: Request) -> None:
    """Check that row i of both files is the same jet: equal length, equal `event_id` where they have it.

    Rows that the request skips in either file are not compared.

    Raises:
        UsageError: files of events: their jets have no rows.
        DataError: the files differ.
    """
    where = f"{first.source} and {second.source}"
    if first.events is not None or second.events is not None:
        raise UsageError("pairs are read from files with one jet in each entry", where=f"{SETTING}, {where}")
    shared_columns([first, second])
    if found := _difference(first, second, request):
        hint = "row i of both files is the same jet of the same event, as ssl-jets simulate --pairs writes them"
        raise DataError("the files of a pair do not hold the same jets", where=where, found=found, hint=hint)


def _difference(first: JetFile, second: JetFile, request: Request) -> str:
    """Describe the first difference of two files of a pair; "" without one."""
    if first.entries != second.entries:
        return f"{first.entries:,} and {second.entries:,} jets"
    having = [file for file in (first, second) if EVENT_ID in file.jet_columns]
    if len(having) < 2:
        return f"{EVENT_ID} in {having[0].source} only" if having else ""
    for start in range(0, first.entries, _BLOCK):
        stop = min(start + _BLOCK, first.entries)
        read = [read_jet_columns(file, [EVENT_ID], start, stop, request) for file in having]
        rows, *at = np.intersect1d(read[0][0], read[1][0], assume_unique=True, return_indices=True)
        one, other = (columns[EVENT_ID][index] for (_, columns), index in zip(read, at))
        if (wrong := np.flatnonzero(one != other)).size:
            return f"{EVENT_ID} {one[wrong[0]]:.0f} and {other[wrong[0]]:.0f} in row {rows[wrong[0]]}"
    return ""


def _named_pairs(pairs: Mapping[str, str]) -> list[tuple[Source, Source]]:
    """Return the pairs of files that names stand for.

    Raises:
        UsageError: two names stand for different numbers of files, or a file is in two pairs.
    """
    named: list[tuple[Source, Source]] = []
    for names in pairs.items():
        one, other = (resolve_sources([name]) for name in names)
        if len(one) != len(other):
            found = f"{len(one)} and {len(other)} files: {names[0]}, {names[1]}"
            raise UsageError("the two names stand for different numbers of files", where=SETTING, found=found)
        named += zip(one, other, strict=True)
    seen = set[tuple[str, str | None]]()
    for source in (source for pair in named for source in pair):
        if source.key in seen:
            raise UsageError("a file is named twice in pairs", where=SETTING, found=source)
        seen.add(source.key)
    return named
