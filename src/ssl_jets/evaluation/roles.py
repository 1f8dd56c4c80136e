"""Roles of jets in an evaluation, and random subsets of them in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, pairwise
from operator import itemgetter
from typing import Any

import numpy as np
import torch

from ssl_jets.arrays import Array
from ssl_jets.config import DataSettings
from ssl_jets.data.files import EntryRange, JetFile, count, whole
from ssl_jets.data.loading.stream import ordered
from ssl_jets.data.request import Request
from ssl_jets.data.seen import Ranges, Seen
from ssl_jets.data.selection import count_selected, selected_entries
from ssl_jets.data.skipped import file_names, require_jets
from ssl_jets.data.split import split
from ssl_jets.data.subset import subsample
from ssl_jets.errors import DataError, some_of
from ssl_jets.evaluation.probes.classes import ITERATIONS, tree_iterations
from ssl_jets.jets import Jets, concatenate
from ssl_jets.nn.tasks import weights_of
from ssl_jets.runtime.console import MessageLog

FORCE = "--set evaluate.seen=true"
"""Setting that allows test jets that the model was trained on."""


SPARSITY = 10
"""Jets that are read for each jet that is drawn, at most, in stretches spread over all parts."""


@dataclass(frozen=True)
class Roles:
    """Use of each entry of the files.

    Attributes:
        fit: to fit a probe on.
        test: to test a probe on; no jet of it was seen in the training of the model.
        task: to test the model's own head on: `test`, and all jets of files that are new to the model.
        trained: for each file, True if the model was trained on it.
        new: for each file, True if it was neither trained on nor held out.
        leaked: jets of `task` that the model was trained on; none, unless that was asked for.
    """

    fit: list[EntryRange]
    test: list[EntryRange]
    task: list[EntryRange]
    trained: tuple[bool, ...]
    new: tuple[bool, ...]
    leaked: int = 0


def assign_roles(
    files: Sequence[JetFile], training: Mapping[str, Any], data: DataSettings, *, seen: bool = False
) -> Roles:
    """Assign jets held out of the training to tests; split files that are new to the model by `data`.

    A file that was held out whole counts as held out where files that were trained on are given too, to fit probes on;
    alone it is as good as new.

    Args:
        files: the files of the evaluation.
        training: the model's training facts, of which `files` and `held_out` are read (see `Seen`).
        data: the split of new files.
        seen: use all jets for the head, and jets of trained files like new ones for the probes.

    Raises:
        DataError: no jets are left to test on, or the model lacks a record of the held-out ones.
    """
    known = Seen.of(training)
    trained = tuple(known.trained(file.identity) for file in files)
    if seen:
        return _all_of(files, known, trained, data)
    if any(trained) and known.held_out is None:
        raise DataError(
            "the model was trained on these files and does not say which of their jets were held out",
            where=", ".join(file.name for file in files[:8]),
            hint=f"name other files: --data FILE; or {FORCE}",
        )
    held = [_held_out(known, file) if any(trained) else [] for file in files]
    new = tuple(not is_known and not ranges for is_known, ranges in zip(trained, held))
    fit: list[EntryRange] = []
    test: list[EntryRange] = []
    for index, file in enumerate(files):
        if not new[index]:
            test += [EntryRange(index, start, stop) for start, stop in held[index]]
            fit += _between(index, file.entries, held[index]) if trained[index] else []
    task = list(test)
    if any(new):
        chosen = [index for index, is_new in enumerate(new) if is_new]
        sides = split([files[index] for index in chosen], data.validation_fraction, data.split_seed)
        ours, held_of_new = ([EntryRange(chosen[part.file], part.start, part.stop) for part in side] for side in sides)
        fit, test = fit + ours, test + held_of_new
        task += [part for part in whole(files) if new[part.file]]
    if not test:
        raise DataError(
            "the model was trained on all jets of these files, so none are left to evaluate it on",
            where=", ".join(file.name for file in files[:8]),
            hint=f"name other files: --data FILE; or {FORCE}, and the report says that it has seen them",
        )
    return Roles(fit, test, task, trained, new)


def _all_of(files: Sequence[JetFile], known: Seen, trained: tuple[bool, ...], data: DataSettings) -> Roles:
    """Assign all jets as if they were new to the model, with the number of those that it was trained on."""
    fit, test = split(files, data.validation_fraction, data.split_seed)
    seen = [file for file, is_known in zip(files, trained) if is_known]
    apart = sum(stop - start for file in seen for start, stop in _held_out(known, file))
    leaked = sum(file.entries for file in seen) - apart
    return Roles(fit, test, whole(files), trained, tuple(not is_known for is_known in trained), leaked)


def _held_out(known: Seen, file: JetFile) -> Ranges:
    """Return the jets held out of a file: facts are entries of the tree; of events, any collection may be read now."""
    return [file.jets_of(start, stop) for start, stop in known.ranges(file.identity)]


def _between(file: int, entries: int, ranges: Sequence[tuple[int, int]]) -> list[EntryRange]:
    """Return the entries outside of `ranges`, without one on each side, which may be of the same event."""
    edges = [0, *(edge for start, stop in ranges for edge in (start - 1, stop + 1)), entries]
    return [EntryRange(file, start, stop) for start, stop in zip(edges[::2], edges[1::2]) if stop > start]


def draw(
    files: Sequence[JetFile],
    parts: Sequence[EntryRange],
    most: int,
    seed: int,
    request: Request = Request(),
    workers: int = 1,
    skipped: Counter[str] | None = None,
    counted: list[EntryRange] | None = None,
) -> Jets:
    """Draw at most `most` random jets of the parts into memory, in the order of the files.

    Every jet of the parts has the same chance, so classes keep their proportions. Where there are more than `SPARSITY`
    times as many jets, only stretches of each part are read and drawn from.

    Jets of weight 0 are left out, so that nothing is fitted or tested on them. Jets left out are added to `skipped`, by
    reason; except for entries in `counted`, which were counted by an earlier draw. The entries of this draw are added
    to it.

    Raises:
        DataError: there are no jets.
    """
    if request.where is not None:
        selected = sum(count_selected(files, parts, request, workers).values())
        parts = subsample(parts, SPARSITY * most * count(parts) // max(1, selected), seed)
    else:
        parts = subsample(parts, SPARSITY * most, seed)
    chosen = selected_entries(files, parts, request, workers)
    rows = np.flatnonzero(chosen)
    if len(rows) > most:
        chosen[rows[np.random.default_rng(seed).permutation(len(rows))[most:]]] = False
    wanted = [np.zeros(file.entries, dtype=bool) for file in files]
    row = 0
    for part in parts:
        wanted[part.file][part.start : part.stop] = chosen[row : row + part.entries]
        row += part.entries
    found = []
    earlier: dict[int, list[EntryRange]] = {}
    for part in counted or ():
        earlier.setdefault(part.file, []).append(part)
    pieces = [piece for part in parts for piece in _by_counted(part, earlier.get(part.file, ()))]
    if counted is not None:
        counted += parts
    left_out = {new: Counter[str]() for new in (True, False)}  # of entries that are new, and that were counted before
    runs = [([part for part, _ in run], left_out[new]) for new, run in groupby(pieces, key=itemgetter(1))]
    reading: Any = {"workers": workers, "may_be_empty": True}
    batches = (_weighing(ordered(files, run, request, skipped=left, **reading), left) for run, left in runs)
    for jets in chain.from_iterable(batches):
        assert jets.source is not None  # everything read from files has it
        source = jets.source.numpy()
        file = int(source[0, 0])
        keep = wanted[file][files[file].numbers(source)]
        if keep.any():
            found.append(jets.select(torch.from_numpy(np.flatnonzero(keep))))
    if skipped is not None:
        skipped += left_out[True]
    lost = left_out[True] + left_out[False]
    require_jets(len(found), f"of {count(parts):,} to evaluate on", where=file_names(files, parts), left_out=lost)
    return concatenate(found)


def _weighing(batches: Iterable[Jets], skipped: Counter[str]) -> Iterator[Jets]:
    """Yield the jets of weight above 0, and add the number of the others to `skipped`."""
    for jets in batches:
        kept = weights_of(jets).nonzero()[:, 0]
        if len(kept) < len(jets):
            skipped["weight 0"] += len(jets) - len(kept)
        if len(kept):
            yield jets if len(kept) == len(jets) else jets.select(kept)


def _by_counted(part: EntryRange, others: Sequence[EntryRange]) -> list[tuple[EntryRange, bool]]:
    """Cut `part` at the ends of earlier ones of its file, and mark the pieces that are in none of them."""
    inside = {edge for other in others for edge in (other.start, other.stop) if part.start < edge < part.stop}
    edges = [part.start, *sorted(inside), part.stop]
    return [
        (EntryRange(part.file, start, stop), not any(other.start <= start < other.stop for other in others))
        for start, stop in pairwise(edges)
    ]


MOST_NAMED = 20
"""Classes that a note names, at most."""


LEFT_OUT = "probes of the class and their baselines, metrics of a head, accuracy on changed jets"
"""Results that need labels of two classes."""


def only_class(y_fit: Array, y_test: Array, classes: tuple[str, ...]) -> str:
    """Return the message for jets to fit or to test on that are all of one class; "" if they are not."""
    for labels, purpose in ((y_fit, "fit"), (y_test, "test")):
        if len(present := np.unique(labels)) < 2:
            return f"the jets to {purpose} probes with are all of one class ({classes[int(present[0])]})"
    return ""


def repeated_jets(fit: Jets, test: Jets) -> str:
    """Return the message for test jets with exactly the particles of a jet to fit on; "" if there are none."""
    fitted = set(_hashes(fit))
    repeated = sum(number in fitted for number in _hashes(test))
    if not repeated:
        return ""
    return (
        f"WARNING: {repeated:,} of the {len(test):,} test jets have the particles of a jet that probes are fitted on: "
        "the files have jets twice, so probes, and a model trained on them, seem better than they are"
    )


def _hashes(jets: Jets) -> Iterator[int]:
    """Yield a hash of the particles of each jet."""
    particles = jets.particles.numpy()
    for start, stop in pairwise(jets.offsets.tolist()):
        yield hash(particles[start:stop].tobytes())


def log_absent_classes(y_fit: Array, y_test: Array, classes: tuple[str, ...], note: MessageLog) -> None:
    """Name the classes that cannot be measured, and how many classes limit the trees."""
    tested = {classes[label] for label in np.unique(y_test)}
    unfitted = tested - {classes[label] for label in np.unique(y_fit)}
    if untested := [name for name in classes if name not in tested]:
        note(
            f"{len(untested)} of the {len(classes)} classes have no test jets, so nothing is measured of them and they "
            f"are left out of all averages over classes: {some_of(untested, MOST_NAMED)}"
        )
    if (iterations := tree_iterations(len(tested))) < ITERATIONS:
        note(f"of {len(tested)} classes boosted trees take {iterations} iterations of larger steps, not {ITERATIONS}")
    if unfitted:
        note(
            f"{len(unfitted)} of the {len(tested)} classes with test jets have none to fit probes on, so no probe can "
            f"find them: {some_of(sorted(unfitted), MOST_NAMED)}"
        )
