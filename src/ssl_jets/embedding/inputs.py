"""Input files of a job, or of one of its parts: opened, checked, and numbered in the whole list of inputs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ssl_jets.arrays import Array
from ssl_jets.config import DataSettings
from ssl_jets.data.dataset import named_sources, open_sources
from ssl_jets.data.files import EntryRange, JetFile, whole
from ssl_jets.data.profile import find_suspicions
from ssl_jets.data.seen import Seen, copies_of
from ssl_jets.data.skipped import skipped_files
from ssl_jets.data.sources import Source
from ssl_jets.data.split import share
from ssl_jets.errors import UsageError
from ssl_jets.runtime.console import Log
from ssl_jets.zfile import Column, PartMetadata, ZMetadata


@dataclass(frozen=True)
class PartOf:
    """Part `number` (from 1) of `of` parts of a job.

    Example:
        >>> PartOf.parse("3/10")
        PartOf(number=3, of=10)
    """

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> PartOf:
        """Read `I/N`.

        Raises:
            UsageError: it is not I/N with I from 1 to N.
        """
        found = re.fullmatch(r"(\d+)/(\d+)", text.strip())
        part = cls(int(found[1]), int(found[2])) if found else cls(0, 0)
        if not 1 <= part.number <= part.of:
            hint = "--part 1/10 to --part 10/10; SLURM: --array=1-10 and --part $SLURM_ARRAY_TASK_ID/10"
            raise UsageError("a part is I/N, with I from 1 to N", where="--part", found=text, hint=hint)
        return part


@dataclass(frozen=True)
class Inputs:
    """Opened input files of a job or of one of its parts.

    Attributes:
        sources: all inputs of the job, with other parts.
        files: the opened files.
        numbers: number in `sources` of each of `files`, int32; of a job with one output the number in `files`.
        ranges: entries to encode, with indices into `files`.
        part: the part; None for a whole job.
        first: number in `sources` of the first input of the part.
        stop: one beyond the last.
        left_out: files that could not be opened, with the reason.
        trained: entries that the models were trained on, as (number of the file, start, stop).
        sha256: of the names of `sources`.
    """

    sources: tuple[Source, ...] = field(repr=False)
    files: tuple[JetFile, ...]
    numbers: Array
    ranges: tuple[EntryRange, ...]
    part: PartOf | None = None
    first: int = 0
    stop: int = 0
    left_out: dict[str, str] = field(default_factory=dict)
    trained: tuple[tuple[int, int, int], ...] = ()
    sha256: str = ""

    def each(self) -> Iterator[Inputs]:
        """Yield the part of the job that each input is, in order."""
        positions = {int(number): position for position, number in enumerate(self.numbers)}
        trained: dict[int, list[tuple[int, int, int]]] = {}
        for entries in self.trained:
            trained.setdefault(entries[0], []).append(entries)
        for index in range(self.first, self.stop):
            name = str(self.sources[index])
            files = (self.files[positions[index]],) if index in positions else ()
            yield replace(
                self,
                files=files,
                numbers=np.full(len(files), index, np.int32),
                ranges=tuple(whole(files)),
                part=PartOf(index + 1, len(self.sources)),
                first=index,
                stop=index + 1,
                left_out={name: self.left_out[name]} if name in self.left_out else {},
                trained=tuple(trained.get(index, ())),
            )

    def describe(self, metadata: ZMetadata, columns: Sequence[Column]) -> ZMetadata:
        """Return the metadata of an output with its input files."""
        opened = {file.source: file for file in self.files}
        listed = tuple(opened) if self.part is None else self.sources[self.first : self.stop]
        files = [opened.get(source) for source in listed]
        return replace(
            metadata,
            files=tuple(map(str, listed)),
            collections=tuple("" if file is None else file.collection for file in files),
            digests=tuple("" if file is None else file.digest for file in files),
            schemas=tuple("" if file is None else file.schema.sha256 for file in files),
            trained=self.trained,
            files_left_out=self.left_out,
            part=None if self.part is None else self._place(self.part, columns),
        )

    def _place(self, part: PartOf, columns: Sequence[Column]) -> PartMetadata:
        return PartMetadata(
            number=part.number,
            of=part.of,
            first_file=self.first,
            inputs=len(self.sources),
            inputs_sha256=self.sha256,
            ranges=tuple((int(self.numbers[one.file]), one.start, one.stop) for one in self.ranges),
            columns=tuple((column.name, column.dtype, column.width) for column in columns),
        )


def trained_entries(files: Sequence[JetFile], seen: Seen) -> tuple[tuple[int, int, int], ...]:
    """Return the entries that a model was trained on, as (index of the file, start, stop): all but the held-out ones.

    Of a file of 100 entries with 20 to 30 held out these are (0, 0, 20) and (0, 30, 100).
    """
    trained = []
    for index, file in enumerate(files):
        if seen.trained(file.identity):
            held_out = seen.ranges(file.identity)
            last = file.tree_entries(0, file.entries)[1]
            edges = [0, *(edge for block in held_out for edge in block), last]  # [0, 20, 30, 100]
            trained += [(index, start, stop) for start, stop in zip(edges[::2], edges[1::2]) if start < stop]
    return tuple(trained)


def open_inputs(
    names: Sequence[str],
    data: DataSettings,
    part: PartOf | None,
    seen: Seen,
    *,
    per_file: bool,
    batch: int,
    log: Log,
) -> Inputs:
    """Open the files of a job or of one of its parts, and log what is remarkable about them.

    Parts are runs of whole files, and only these files are opened; with fewer files than parts, runs of
    entries cut at multiples of `batch` in a file, so that the batches equal the batches of one run. A part may have no
    jets, or no file that can be opened: the other parts of its job have them. With `per_file` each input is a part.

    Raises:
        SslJetsError: no files, or a file that cannot be opened.
    """
    sources = named_sources(names)
    first, stop = 0, len(sources)
    if part is not None and part.of <= len(sources):
        first, stop = (len(sources) * number // part.of for number in (part.number - 1, part.number))
    left_out: dict[str, str] = {}
    files = open_sources(sources[first:stop], data, left_out, may_be_empty=part is not None)
    for line in (*skipped_files(left_out), *copies_of(files), *find_suspicions(files), *seen.notes(files)):
        log(line)
    numbers = np.arange(len(files), dtype=np.int32)
    if part is not None or per_file:
        positions = {source: number for number, source in enumerate(sources)}
        numbers = np.array([positions[file.source] for file in files], np.int32)
    ranges = whole(files)
    if part is not None and part.of > len(sources):
        ranges = share(ranges, part.number - 1, part.of, batch)
    names_in_order = "\n".join(map(str, sources)).encode(errors="surrogateescape")
    return Inputs(
        sources=tuple(sources),
        files=tuple(files),
        numbers=numbers,
        ranges=tuple(ranges),
        part=part,
        first=first,
        stop=stop,
        left_out=left_out,
        trained=tuple((int(numbers[file]), start, stop) for file, start, stop in trained_entries(files, seen)),
        sha256=hashlib.sha256(names_in_order).hexdigest(),
    )
