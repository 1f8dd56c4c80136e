"""Jets of files read into memory, for a notebook or a script."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from ssl_jets.config import DataSettings
from ssl_jets.data.dataset import open_named
from ssl_jets.data.files import EntryRange, whole
from ssl_jets.data.inputs import all_inputs
from ssl_jets.data.loading.stream import ordered
from ssl_jets.data.profile import find_suspicions, looked_at, suspicions_in_memory
from ssl_jets.data.request import Request
from ssl_jets.data.skipped import require_jets, skipped_lines
from ssl_jets.jets import Jets, concatenate
from ssl_jets.records.particles import wrap_azimuth
from ssl_jets.runtime.console import Log, to_stderr


def read_jets(
    sources: Sequence[str],
    *,
    each: int | None = None,
    keep: Sequence[str] = (),
    data: DataSettings = DataSettings(),
    log: Log = to_stderr,
) -> Jets:
    """Read the jets of `sources` into memory, in input order; about 1.7 kB each.

    Arguments as in `ssl_jets.read_jets`; of `data`, settings for reading and `weights` are used.

    Raises:
        UsageError: a column that a file does not have.
        DataError: files that cannot be read, or without a usable jet.
    """
    skipped_files: dict[str, str] = {}
    skipped: Counter[str] = Counter()
    files = open_named(sources, data, skipped_files)
    # The selection may leave out jets in wrong units, so that they are looked at apart.
    for line in find_suspicions(files) if data.where is not None else ():
        log(line)
    to_look_at = {*looked_at(files)} if data.where is None else set()
    ranges = whole(files)
    if each is not None:
        ranges = [EntryRange(part.file, 0, min(part.entries, each)) for part in ranges]
    columns, context, collections = all_inputs(files)
    request = Request.of(data, tuple(keep), columns, context=context, collections=collections, weighted=True)
    batches = []
    for jets in ordered(files, ranges, replace(request, wrap=False), workers=data.workers, skipped=skipped):
        index = 0 if jets.source is None else int(jets.source[0, 0])
        for line in suspicions_in_memory(jets, f"{files[index].source}: ") if index in to_look_at else ():
            log(line)
        to_look_at.discard(index)
        wrap_azimuth(jets.column("dphi").numpy())
        batches.append(jets)
    for line in skipped_lines(skipped_files, skipped):
        log(line)
    require_jets(len(batches), "that can be used")  # `each` may be 0
    return concatenate(batches)
