"""Files of jets, checked: what each holds."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from ssl_jets.arrays import Array
from ssl_jets.data.events.gather import JetsOfEvents
from ssl_jets.data.events.views import as_jets
from ssl_jets.data.identity import FileId, digest_of
from ssl_jets.data.readers.base import Reader, Table, check_entries
from ssl_jets.data.readers.registry import reader_of
from ssl_jets.data.readers.remote import size
from ssl_jets.data.schemas import check
from ssl_jets.data.schemas.detect import detect
from ssl_jets.data.schemas.schema import Schema, load_schema
from ssl_jets.data.sources import Source
from ssl_jets.data.types import JetTypes, common_types, own_types
from ssl_jets.errors import DataError, UsageError, nearest
from ssl_jets.runtime.console import Bar
from ssl_jets.runtime.launcher import rank


@dataclass(frozen=True)
class JetFile:
    """A file whose format is known and whose branches were checked.

    Attributes:
        source: as the user named it.
        schema: its format.
        reader: the module that reads it.
        tree: the tree, or other table, that holds the jets; "" where a file has only one, without a name.
        entries: entries of the tree; for events their jets, so that all counting is in jets.
        clusters: entries at which a read may begin without decoding anything twice, from 0 to `entries`.
        bytes: size of the file.
        columns: canonical particle columns it has, in the order of `COLUMNS`.
        jet_columns: jet columns it has: those that the format names, then its flat branches.
        types: the types of jet columns, the same for all files that are opened together.
        label_names: names of the classes; empty for a file without labels.
        label_formulas: for each class the formula (mostly a branch) that is 1 for its jets; none for a label index.
        label_branches: the branches the label is read from.
        events: where an entry is an event, its jets; None where it is a jet.
        digest: of the contents, the same for every copy; "" where it is not known.
    """

    source: Source
    schema: Schema = field(repr=False, hash=False)
    reader: Reader = field(repr=False, hash=False, compare=False)
    tree: str
    entries: int
    clusters: tuple[int, ...] = field(repr=False)
    bytes: int
    columns: tuple[str, ...]
    jet_columns: tuple[str, ...] = field(repr=False)
    types: JetTypes = field(default=JetTypes({}), repr=False, hash=False, compare=False)
    label_names: tuple[str, ...] = ()
    label_formulas: tuple[str, ...] = field(default=(), repr=False)
    label_branches: tuple[str, ...] = field(default=(), repr=False)
    events: JetsOfEvents | None = field(default=None, repr=False, hash=False, compare=False)
    digest: str = field(default="", repr=False)

    @property
    def place(self) -> str:
        """File and tree, for messages."""
        return f"{self.source}, {self.reader.NOUN} {self.tree}" if self.tree else str(self.source)

    def numbers(self, source: Array) -> Array:
        """Number of each jet among all jets of the file, from its row (file, entry, number in the entry)."""
        return source[:, 1] if self.events is None else self.events.first[source[:, 1]] + source[:, 2]

    def keys(self, numbers: Array) -> tuple[Array, Array]:
        """Entry, and number in the entry, of jets by their number among all jets of the file."""
        if self.events is None:
            return numbers, np.zeros_like(numbers)
        entry = np.searchsorted(self.events.first, numbers, "right") - 1
        return entry, numbers - self.events.first[entry]

    def tree_entries(self, start: int, stop: int) -> tuple[int, int]:
        """The entries of the tree that have the jets `start` to `stop`."""
        return (start, stop) if self.events is None else self.events.entries(start, stop)

    def jets_of(self, start: int, stop: int) -> tuple[int, int]:
        """The jets of the entries `start` to `stop` of the tree."""
        return (start, stop) if self.events is None else self.events.jets(start, stop)

    @property
    def collection(self) -> str:
        """Name of the collection of jets that is read, where an entry is an event; otherwise ""."""
        return "" if self.events is None else self.events.layout.collection

    @property
    def name(self) -> str:
        """Name of the file without its folder."""
        return os.path.basename(self.source.path)

    @property
    def identity(self) -> FileId:
        """The file as a model remembers it."""
        return FileId(self.name, self.bytes, self.digest)

    @property
    def group(self) -> str:
        """Name without the number of the file: files of one group hold the same kind of jets."""
        stem = os.path.splitext(self.name)[0]
        return re.sub(r"[\d_-]+$", "", stem) or stem


@dataclass(frozen=True, order=True)
class EntryRange:
    """Entries `start` to `stop` of file number `file` of a list."""

    file: int
    start: int
    stop: int

    @property
    def entries(self) -> int:
        """How many entries."""
        return self.stop - self.start


def open_files(
    sources: Sequence[Source],
    labels: tuple[str, ...] | None = None,
    form: str | None = None,
    jets: str | None = None,
    left_out: dict[str, str] | None = None,
    external: bool = False,
) -> list[JetFile]:
    """Detect the format of each file, and check its branches.

    Args:
        sources: the files.
        labels: label branches (or names of the format's classes) that make up the classes, in this order; by default
            all that the format declares.
        form: name of the format of all files, or YAML file of a user's own; by default it is found from their branches.
        jets: the collection of jets to read, in files whose entries are events; by default the format's first.
        left_out: where it is given, files that cannot be opened are left out and added here, with the reason.
        external: whether to open other files that a file leads to (HDF5).

    Raises:
        DataError: a file (with `left_out`: all files) that cannot be read or is of no known format, or no jets at all.
        UsageError: `labels` or `jets` that no file has.
    """
    if not sources:
        raise UsageError("no input files are named")
    own = None if form is None else load_schema(form)
    opened = []
    with (
        ThreadPoolExecutor(min(8, len(sources)), thread_name_prefix="ssl-jets-open") as pool,
        Bar("open", len(sources), "files", shown=rank() == 0) as bar,
    ):
        for found in pool.map(lambda source: _open_or_say(source, labels, own, jets, external), sources):
            opened.append(found)
            bar.to(len(opened))
    files = [file for file in opened if isinstance(file, JetFile)]
    errors = {str(source): error for source, error in zip(sources, opened) if isinstance(error, DataError)}
    if errors:
        first = next(iter(errors.values()))
        if not files:
            raise first
        if left_out is None:
            raise or_skip(first)
        left_out |= {name: error.what for name, error in errors.items()}
    if not any(file.entries for file in files):
        raise DataError("the input files hold no jets", where=", ".join(str(file.source) for file in files[:8]))
    if jets is not None and all(file.events is None for file in files):
        raise UsageError(
            "only files of events have several collections of jets to choose from",
            where="data.jets",
            found=f"{jets}; {files[0].source} holds one jet in each entry",
        )
    if labels and not any(file.label_names for file in files):
        raise UsageError(
            "no file has the labels that were asked for",
            where="data.labels",
            found=", ".join(labels),
            allowed=nearest(labels[0], [*files[0].jet_columns, *files[0].schema.labels]),
        )
    return with_common_types(files)


def with_common_types(files: Sequence[JetFile]) -> list[JetFile]:
    """Return the same files, which give each jet column in one type (`types.py`)."""
    types = common_types([file.types for file in files])
    return [file if own is file.types else replace(file, types=own) for file, own in zip(files, types)]


def or_skip(error: DataError, setting: str = "bad_files") -> DataError:
    """The same error, which also says how to go on without what cannot be read."""
    skip = f"--set data.{setting}=skip leaves out what cannot be read and counts it"
    hint = f"{error.hint}, or {skip}" if error.hint else skip
    return DataError(error.what, where=error.where, found=error.found, allowed=error.allowed, hint=hint)


def whole(files: Sequence[JetFile]) -> list[EntryRange]:
    """All entries of all files."""
    return [EntryRange(index, 0, file.entries) for index, file in enumerate(files) if file.entries]


def count(parts: Sequence[EntryRange]) -> int:
    """Entries of all parts together."""
    return sum(part.entries for part in parts)


def shared_columns(files: Sequence[JetFile]) -> tuple[str, ...]:
    """The particle columns of the files, which must be the same in all of them.

    Raises:
        DataError: two files differ.
    """
    for file in files[1:]:
        if file.columns != files[0].columns:
            raise DataError(
                "the files have different particle columns",
                where=f"{files[0].source} and {file.source}",
                found=f"{', '.join(sorted({*file.columns} ^ {*files[0].columns}))} only in one of them",
            )
    return files[0].columns


def shared_labels(files: Sequence[JetFile]) -> tuple[str, ...]:
    """The names of the classes, the same in all files that have labels; empty where none has.

    Raises:
        DataError: two files differ.
    """
    labelled = [file for file in files if file.label_names]
    for file in labelled[1:]:
        if file.label_names != labelled[0].label_names:
            raise DataError(
                "the files have different classes",
                where=f"{labelled[0].source} and {file.source}",
                found=f"{', '.join(labelled[0].label_names)} and {', '.join(file.label_names)}",
            )
    return labelled[0].label_names if labelled else ()


def _open_or_say(
    source: Source, labels: tuple[str, ...] | None, form: Schema | None, jets: str | None, external: bool
) -> JetFile | DataError:
    """The file, or what is wrong with it."""
    try:
        return _open(source, labels, form, jets, external)
    except DataError as error:
        return error


def _open(
    source: Source, labels: tuple[str, ...] | None, form: Schema | None, jets: str | None, external: bool
) -> JetFile:
    reader = reader_of(source.path)
    with reader.open_tables(source.path, external) as tables:
        index, form = detect(tables, source.path, reader.NOUN, source.tree, form)
        table: Table = tables[index]
        if not external:
            check_entries(table.entries, size(source.path), source)
        digest = digest_of(source.path, tables[index])
        table, events = as_jets(table, form, jets, partial(reader.read, source.path, table.name), source.path)
        flat, where = table.flat(), f"{source.path}, {reader.NOUN} {table.name}" if table.name else source.path
        columns = check.present_columns(form, table, source, reader.NOUN)
        classes = check.present_labels(form, table.branches, labels, where)
        named = tuple(name for name, value in form.jets.items() if set(value.branches) <= set(table.branches))
        needed = check.check_branches(form, columns, named, classes, table, where)
        clusters, used = table.clusters(needed), {*classes.branches, *named}
        jet_columns = (*named, *(name for name in flat if name not in used))
        return JetFile(
            source=source,
            schema=form,
            reader=reader,
            tree=table.name,
            entries=table.entries if events is None else int(events.first[-1]),
            clusters=tuple(dict.fromkeys(clusters if events is None else events.first[list(clusters)].tolist())),
            bytes=size(source.path),
            columns=columns,
            jet_columns=jet_columns,
            types=own_types(form, table, jet_columns),
            label_names=classes.names,
            label_formulas=classes.formulas,
            label_branches=classes.branches,
            events=events,
            digest=digest,
        )
