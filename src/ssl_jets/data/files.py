"""Files of jets: opened, their schema detected, their branches checked."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from ssl_jets.arrays import Array
from ssl_jets.data.collections.files import FileCollection, find_collections
from ssl_jets.data.decoder import Available, Decoder
from ssl_jets.data.events.gather import JetsOfEvents
from ssl_jets.data.events.views import as_jets
from ssl_jets.data.identity import FileId, digest_of, version_of
from ssl_jets.data.readers.base import Reader, Table, check_entries
from ssl_jets.data.readers.registry import reader_of
from ssl_jets.data.readers.remote import size
from ssl_jets.data.request import Request
from ssl_jets.data.schemas import check
from ssl_jets.data.schemas.detect import detect
from ssl_jets.data.schemas.labels import Classes
from ssl_jets.data.schemas.schema import Schema, known_schemas, load_schema
from ssl_jets.data.schemas.types import JetTypes, common_types, own_types
from ssl_jets.data.sources import Source
from ssl_jets.errors import DataError, UsageError, nearest
from ssl_jets.runtime.console import Bar
from ssl_jets.runtime.launcher import rank


@dataclass(frozen=True)
class JetFile:
    """A file with its schema and its checked branches.

    Attributes:
        source: as the user named it.
        schema: its schema.
        reader: the module that reads it.
        tree: the tree, or other table, that holds the jets; "" for the only table of a file, without a name.
        entries: entries of the tree; for events their jets, so that all counting is in jets.
        boundaries: entries from 0 to `entries` at which a read may begin without decoding anything twice.
        bytes: size of the file.
        columns: canonical particle columns it has, in the order of `COLUMNS`.
        features: features of particles it has, by the names of the schema.
        context: context of jets it has, by the names of the schema.
        particle_labels: labels of particles it has, by the names of the schema.
        collections: further collections it has, by the names of the schema.
        jet_columns: jet columns it has: first those named by the schema, then its flat branches.
        types: types of the jet columns, the same for all files that are opened together.
        classes: its classes, and the branches of its labels; none for a file without labels.
        events: jets of the events, if an entry is an event; None if it is a jet.
        digest: of the contents, the same for every copy.
        versions: size and time of the file at its opening, and later ones of the same contents.
        second: file of the second view of each jet, row by row (`data.pairs`); None without one.
        index: index of the reader, which spares later reads opening the file; None without one.
    """

    source: Source
    schema: Schema = field(repr=False, hash=False)
    reader: Reader = field(repr=False, hash=False, compare=False)
    tree: str
    entries: int
    boundaries: tuple[int, ...] = field(repr=False)
    bytes: int
    columns: tuple[str, ...]
    jet_columns: tuple[str, ...] = field(repr=False)
    features: tuple[str, ...] = ()
    context: tuple[str, ...] = ()
    particle_labels: tuple[str, ...] = ()
    collections: Mapping[str, FileCollection] = field(default_factory=dict, repr=False, hash=False, compare=False)
    types: JetTypes = field(default=JetTypes({}), repr=False, hash=False, compare=False)
    classes: Classes = field(default=Classes(), repr=False)
    events: JetsOfEvents | None = field(default=None, repr=False, hash=False, compare=False)
    digest: str = field(default="", repr=False)
    versions: list[tuple[int, int]] = field(default_factory=list, repr=False, hash=False, compare=False)
    second: JetFile | None = field(default=None, repr=False, hash=False)
    index: object = field(default=None, repr=False, hash=False, compare=False)
    _decoders: dict[Request, Decoder] = field(init=False, default_factory=dict, repr=False, compare=False)

    def decoder(self, request: Request) -> Decoder:
        """Return the decoder of a request, compiled at its first use."""
        if request not in self._decoders:
            collections = {name: one.features for name, one in self.collections.items()}
            available = Available(self.columns, self.features, self.context, self.particle_labels, collections)
            self._decoders[request] = Decoder(self.schema, available, self.classes, self.types, request)
        return self._decoders[request]

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the classes; empty for a file without labels."""
        return self.classes.names

    @property
    def views(self) -> tuple[JetFile, ...]:
        """The file, and the one of the second view if there is one."""
        return (self,) if self.second is None else (self, self.second)

    @property
    def place(self) -> str:
        """File and tree, for messages."""
        return f"{self.source}, {self.reader.NOUN} {self.tree}" if self.tree else str(self.source)

    def numbers(self, source: Array) -> Array:
        """Return the number of each jet in the file from its `Jets.source` `[jet, (file, entry, number in entry)]`."""
        return source[:, 1] if self.events is None else self.events.first[source[:, 1]] + source[:, 2]

    def keys(self, numbers: Array) -> tuple[Array, Array]:
        """Return the entry of jets, and their number in the entry, from their number in the file."""
        if self.events is None:
            return numbers, np.zeros_like(numbers)
        entry = np.searchsorted(self.events.first, numbers, "right") - 1
        return entry, numbers - self.events.first[entry]

    def tree_entries(self, start: int, stop: int) -> tuple[int, int]:
        """Return the range of entries of the tree with the jets `start` to `stop`."""
        return (start, stop) if self.events is None else self.events.entries(start, stop)

    def jets_of(self, start: int, stop: int) -> tuple[int, int]:
        """Return the range of jets of the entries `start` to `stop` of the tree."""
        return (start, stop) if self.events is None else self.events.jets(start, stop)

    @property
    def collection(self) -> str:
        """Name of the collection of jets that is read from events; "" if an entry is a jet."""
        return "" if self.events is None else self.events.layout.collection

    @property
    def name(self) -> str:
        """Name of the file without its folder."""
        return os.path.basename(self.source.path)

    @property
    def identity(self) -> FileId:
        """Name, size and digest, which a model stores of its training files."""
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
        """Number of entries."""
        return self.stop - self.start


def open_files(
    sources: Sequence[Source],
    labels: tuple[str, ...] | None = None,
    schema: str | None = None,
    jets: str | None = None,
    left_out: dict[str, str] | None = None,
    external: bool = False,
    *,
    may_be_empty: bool = False,
) -> list[JetFile]:
    """Open files: detect the schema of each, and check its branches.

    Args:
        sources: the files.
        labels: label branches, or names of the schema's classes, in the order of the classes; by default the schema's.
        schema: name of the schema of all files, or a user's YAML file; by default it is detected from the branches.
        jets: the collection of jets to read in files of events; by default the first of the schema.
        left_out: if given, files that cannot be opened are skipped and added here, with the reason.
        external: open also the files that a file links to (HDF5).
        may_be_empty: accept files without jets and, with `left_out`, that no file can be opened.

    Raises:
        DataError: a file (with `left_out`: all files) that cannot be read or is of no known format, or no jets at all.
        UsageError: `labels` or `jets` that no file has.
    """
    if not sources:
        raise UsageError("no input files are named")
    known_schemas()  # before the threads, each of which would load them
    own = None if schema is None else load_schema(schema)

    def try_to_open(source: Source) -> JetFile | DataError:
        try:
            return _open(source, labels, own, jets, external)
        except DataError as error:
            return error

    files, errors, at_once = list[JetFile](), dict[str, DataError](), min(8, len(sources))
    with (
        ThreadPoolExecutor(at_once, thread_name_prefix="ssl-jets-open") as pool,
        Bar("open", len(sources), "files", shown=rank() == 0) as bar,
    ):
        for source, result in zip(sources, pool.map(try_to_open, sources)):
            files += [] if isinstance(result, DataError) else [result]
            errors |= {str(source): result} if isinstance(result, DataError) else {}
            bar.to(len(files) + len(errors))
            if left_out is None and errors and (files or len(errors) == at_once):
                break  # the first error is known, and its hint: a slow server has thousands of other files
    first = next(iter(errors.values()), None)
    if first is not None and (left_out is None or not (files or may_be_empty)):
        if files:
            first.suggest_skipping()
        raise first
    if left_out is not None:
        left_out |= {name: error.what for name, error in errors.items()}
    if any(file.entries for file in files) or not may_be_empty:
        _check_opened(files, labels, jets)
    return with_common_types(files) if files else []


def _check_opened(files: Sequence[JetFile], labels: tuple[str, ...] | None, jets: str | None) -> None:
    """Check that some file has jets, the requested labels and the requested collection of jets."""
    if not any(file.entries for file in files):
        raise DataError("the input files hold no jets", where=", ".join(str(file.source) for file in files[:8]))
    if jets is not None and all(file.events is None for file in files):
        found = f"{jets}; {files[0].source} holds one jet in each entry"
        what = "only files of events have several collections of jets to choose from"
        raise UsageError(what, where="data.jets", found=found)
    if labels and not any(file.label_names for file in files):
        allowed = nearest(labels[0], [*files[0].jet_columns, *files[0].schema.labels])
        index = files[0].schema.label_index
        hint = index and f"classes of {index.branch} are chosen in a schema: `labels: {{A: {index.branch} == 0}}`"
        what, found = "no file has the labels that were asked for", ", ".join(labels)
        raise UsageError(what, where="data.labels", found=found, allowed=allowed, hint=hint or None)


def with_common_types(files: Sequence[JetFile]) -> list[JetFile]:
    """Return the files with one type for each jet column (see `types.py`)."""
    types = common_types([file.types for file in files])
    return [file if own is file.types else replace(file, types=own) for file, own in zip(files, types)]


def whole(files: Sequence[JetFile]) -> list[EntryRange]:
    """Return all entries of all files."""
    return [EntryRange(index, 0, file.entries) for index, file in enumerate(files) if file.entries]


def count(parts: Sequence[EntryRange]) -> int:
    """Return the number of entries of all parts together."""
    return sum(part.entries for part in parts)


def _open(
    source: Source, labels: tuple[str, ...] | None, schema: Schema | None, jets: str | None, external: bool
) -> JetFile:
    reader, version = reader_of(source.path), version_of(source.path)
    with reader.open_tables(source.path, external) as tables:
        index, schema = detect(tables, source.path, reader.NOUN, source.tree, schema)
        table: Table = tables[index]
        if not external:
            check_entries(table.entries, size(source.path), source)
        digest = digest_of(source.path, tables[index])
        held = tables[index].index(source.path)
        read = partial(reader.read, source.path, table.name)
        table, events = as_jets(table, schema, jets, read, source.path)
        where = f"{source.path}, {reader.NOUN} {table.name}" if table.name else source.path
        columns = check.present_columns(schema, table, source, reader.NOUN)
        present = partial(check.present_sources, table=table, where=where, known=schema in known_schemas())
        features, context = present(schema.features, 1), present(schema.context, 0)
        particle_labels = present({name: label.source for name, label in schema.particle_labels.items()}, 1)
        classes = check.present_labels(schema, table.branches, labels, where)
        named = tuple(name for name, value in schema.jets.items() if set(value.branches) <= set(table.branches))
        branches = check.check_branches(schema, columns, named, classes, table, where)
        boundaries = table.boundaries(branches)
        used = {*classes.branches, *named}
        jet_columns = (*named, *(name for name in table.flat() if name not in used))
        file = JetFile(
            source=source,
            schema=schema,
            reader=reader,
            tree=table.name,
            entries=table.entries if events is None else int(events.first[-1]),
            boundaries=tuple(dict.fromkeys(boundaries if events is None else events.first[list(boundaries)].tolist())),
            bytes=size(source.path),
            columns=columns,
            jet_columns=jet_columns,
            features=features,
            context=context,
            particle_labels=particle_labels,
            collections=find_collections(schema, table, events, read, where),
            types=own_types(schema, table, jet_columns),
            classes=classes,
            events=events,
            digest=digest,
            versions=[version],
            index=held,
        )
        request = Request(named, columns=(*columns, *features), context=context, particle_labels=particle_labels)
        check.check_formulas(file.decoder(request), table, schema.title)
        return file
