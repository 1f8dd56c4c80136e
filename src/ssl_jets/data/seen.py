"""Jets that a training has seen, recognised in files of any name and folder; copies among files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

from ssl_jets.data.files import EntryRange, JetFile
from ssl_jets.data.identity import FileId
from ssl_jets.errors import DataError, some_of

Ranges = list[tuple[int, int]]
"""Entries `start` to `stop` of the tree; of events, all of their jets."""

_MOST_NAMED = 3
"""Files that a message names, at most."""


@dataclass(frozen=True)
class Seen:
    """Record of the files that a training read, stored with its model.

    A file is recognised by the digest of its contents, under any name.

    Attributes:
        files: files trained on.
        held_out: entries that were not trained on, of these files and of files held out whole; None if the record has
            none.
    """

    files: tuple[FileId, ...]
    held_out: tuple[tuple[FileId, int, int], ...] | None

    @classmethod
    def of(cls, training: Mapping[str, Any]) -> Seen:
        """Read training facts: `files` are rows of `FileId`, `held_out` the same with start and stop.

        Raises:
            DataError: the rows have no digests, as in models of early versions.
        """
        rows = training.get("held_out")
        if any(len(row) != len(FileId._fields) for row in training.get("files", [])):
            what = "the record of the training files is of a version before 0.1.0, without digests of their contents"
            raise DataError(what, hint="train the model again")
        files = tuple(FileId(*row) for row in training.get("files", []))
        return cls(files, None if rows is None else tuple((FileId(*file), start, stop) for *file, start, stop in rows))

    @classmethod
    def of_parts(cls, files: Sequence[JetFile], train: Sequence[EntryRange], held_out: Sequence[EntryRange]) -> Seen:
        """Build the record of a training on entries of files."""
        trained = [file.identity for index in sorted({part.file for part in train}) for file in files[index].views]
        kept = [
            (file.identity, *files[part.file].tree_entries(part.start, part.stop))
            for part in held_out
            for file in files[part.file].views
        ]
        return cls(tuple(trained), tuple(kept))

    def facts(self) -> dict[str, Any]:
        """Return the rows that `of` reads."""
        facts: dict[str, Any] = {"files": [list(file) for file in self.files]}
        if self.held_out is not None:
            facts["held_out"] = [[*file, start, stop] for file, start, stop in self.held_out]
        return facts

    def trained(self, file: FileId) -> bool:
        """Check whether jets of a file were trained on."""
        return file.digest in self._trained

    def ranges(self, file: FileId) -> Ranges:
        """Return the entries that were held out of a file, each once and in order; none if the record has none."""
        return sorted(self._held_out.get(file.digest, ()))

    def joined(self, other: Seen) -> Seen:
        """Return the record of two trainings together: a jet that either has seen is seen.

        Held out are the entries that neither was trained on: of a file that both trained on, the entries that both
        held out; of a file that one trained on, the entries that it held out.
        """
        files = tuple(sorted({*self.files, *other.files}))
        if any(one.files and one.held_out is None for one in (self, other)):
            return Seen(files, None)
        recorded = {*files, *(file for one in (self, other) for file, *_ in one.held_out or ())}
        rows = {(file, start, stop) for file in recorded for start, stop in self._in_neither(other, file)}
        return Seen(files, tuple(sorted(rows)))

    def notes(self, files: Sequence[JetFile]) -> list[str]:
        """Name the files with the name of a training file and other contents, in one line; none without any."""
        names = {file.name for file in self.files}
        changed = [file for file in files if file.name in names and not self.trained(file.identity)]
        changed = [file for file in changed if not self.ranges(file.identity)]
        if not changed:
            return []
        named = some_of([str(file.source) for file in changed], _MOST_NAMED)
        what = "new to the model, as their contents are not those of the training file of the same name"
        return [f"{what}: {named}"]

    def _in_neither(self, other: Seen, file: FileId) -> Ranges:
        """Return the entries of a file that neither training was trained on.

        Example: both trained on it, held out were (0, 50) and (40, 90): (40, 50).
        """
        trained = [one for one in (self, other) if one.trained(file)]
        if len(trained) < 2:
            return [row for one in trained or (self, other) for row in one.ranges(file)]
        common = ((max(a, c), min(b, d)) for a, b in self.ranges(file) for c, d in other.ranges(file))
        return [(start, stop) for start, stop in common if start < stop]

    @cached_property
    def _trained(self) -> set[str]:
        """Digests of the files trained on."""
        return {file.digest for file in self.files}

    @cached_property
    def _held_out(self) -> dict[str, set[tuple[int, int]]]:
        """Held-out entries by the digest of the file."""
        ranges: dict[str, set[tuple[int, int]]] = {}
        for file, start, stop in self.held_out or ():
            ranges.setdefault(file.digest, set()).add((start, stop))
        return ranges


def joint_training(facts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Join the facts of several trainings into one record: a jet that any of them has seen is seen."""
    return reduce(Seen.joined, (Seen.of(one) for one in facts)).facts() if len(facts) > 1 else dict(facts[0])


def after(before: Mapping[str, Any], training: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of a training that went on from another one, with the jets that either has seen."""
    facts = {name: value for name, value in training.items() if name != "held_out"}
    return facts | joint_training([training, before])


def stages(training: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the facts of each training of a model, in the order of time; `training` are the facts of the last one.

    Example:
        >>> [one["steps"] for one in stages({"steps": 3, "pretrained": {"steps": 2, "pretrained": {"steps": 1}}})]
        [1, 2, 3]
    """
    before = training.get("pretrained")
    return [*(stages(before) if before is not None else ()), training]


def shared(files: Sequence[JetFile], others: Sequence[JetFile]) -> list[JetFile]:
    """Return the files of `others` with the same contents as one of `files`."""
    digests = {file.digest for file in files if file.entries}
    return [file for file in others if file.entries and file.digest in digests]


def copies(files: Sequence[JetFile]) -> dict[int, int]:
    """Return the index of each file that is a copy of an earlier file, with the index of the earlier one."""
    first: dict[str, int] = {}
    for index, file in enumerate(files):
        if file.entries:
            first.setdefault(file.digest, index)
    return {i: first[file.digest] for i, file in enumerate(files) if first.get(file.digest, i) != i and file.entries}


def copies_of(files: Sequence[JetFile]) -> list[str]:
    """Name files that are copies of others, in one line; none without copies."""
    pairs = [f"{files[copy].source} of {files[first].source}" for copy, first in copies(files).items()]
    if not pairs:
        return []
    number = "1 file is a copy of another" if len(pairs) == 1 else f"{len(pairs)} files are copies of others"
    return [f"WARNING: {number}, so the same jets are there more than once: {some_of(pairs, _MOST_NAMED)}"]


def check_same(each: Sequence[Sequence[tuple[FileId, int]]]) -> None:
    """Check that all processes of a launch opened the same files.

    Raises:
        DataError: one of them could not open some, or opened others.
    """
    for theirs in each:
        if theirs != each[0]:
            numbers = ", ".join(str(len(one)) for one in each)
            other = [file.name for (file, _), (mine, _) in zip(theirs, each[0]) if file != mine]
            found = f"{numbers} files" + (f"; {other[0]} has other contents, or another name" if other else "")
            raise DataError("the processes of this launch do not see the same files", found=found)


def fingerprint(files: Sequence[JetFile]) -> list[tuple[FileId, int]]:
    """Return identity and number of jets of each file, to compare between processes."""
    return [(view.identity, view.entries) for file in files for view in file.views]
