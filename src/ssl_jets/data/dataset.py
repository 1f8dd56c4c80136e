"""Dataset of a training: its files, and entry ranges to train on, with and without labels, and to hold out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ssl_jets.config import DataSettings
from ssl_jets.data.files import EntryRange, JetFile, count, open_files, whole, with_common_types
from ssl_jets.data.loading.pairs import with_pairs
from ssl_jets.data.request import NOT_SELECTED, Request
from ssl_jets.data.schemas.labels import Classes
from ssl_jets.data.seen import shared
from ssl_jets.data.selection import check_selection, count_selected
from ssl_jets.data.shared import shared_columns, shared_labels
from ssl_jets.data.skipped import require_jets
from ssl_jets.data.sources import Source, resolve_sources, sample_sources
from ssl_jets.data.split import split, split_fold
from ssl_jets.errors import UsageError
from ssl_jets.runtime.console import log


@dataclass(frozen=True)
class Dataset:
    """Files, and their entry ranges for training and validation.

    Attributes:
        files: all files.
        train: entry ranges to train on.
        held_out: entry ranges to validate on.
        unlabelled: entry ranges to train on without labels: `train` itself, or separate files.
        unlabelled_held_out: entry ranges of the separate files that are not trained on.
        left_out: files that could not be opened, with the reason.
        skipped_jets: jets skipped while a labelled subset was chosen for memory, by reason.
        selected: number of jets of each entry range that `data.where` selects; None without a selection.
    """

    files: list[JetFile]
    train: list[EntryRange]
    held_out: list[EntryRange]
    unlabelled: list[EntryRange] = field(default_factory=list)
    unlabelled_held_out: list[EntryRange] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    skipped_jets: Counter[str] = field(default_factory=Counter)
    selected: Mapping[EntryRange, int] | None = None

    def jets(self, parts: Sequence[EntryRange]) -> int:
        """Return the number of jets of entry ranges of this dataset that are selected, bad ones among them."""
        return count(parts) if self.selected is None else sum(self.selected[part] for part in parts)

    def entries_for(self, parts: Sequence[EntryRange], jets: int) -> int:
        """Return the number of entries that have about `jets` selected jets: 200 for 50 if a quarter is selected."""
        return jets if self.selected is None else math.ceil(jets * count(parts) / max(1, self.jets(parts)))

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the classes; empty without labels."""
        return shared_labels([self.files[index] for index in sorted({part.file for part in self.train})])

    @property
    def all_train(self) -> list[EntryRange]:
        """Entry ranges to train on, with or without labels, each once."""
        return self.train if self.unlabelled in ([], self.train) else [*self.train, *self.unlabelled]

    @property
    def columns(self) -> tuple[str, ...]:
        """Particle columns of the files to train on, which those to validate on must have, too."""
        parts = (*self.all_train, *self.held_out, *self.unlabelled_held_out)
        return shared_columns([self.files[index] for index in sorted({part.file for part in parts})])

    @property
    def blind(self) -> list[JetFile]:
        """The files without their labels, for training that must not read any."""
        return [replace(file, classes=Classes(), particle_labels=()) for file in self.files]

    @property
    def names(self) -> list[str]:
        """Name of each file, as the user typed it."""
        return [str(file.source) for file in self.files]


def open_dataset(settings: DataSettings) -> Dataset:
    """Open the files named in the settings (by default the bundled sample) and split them."""
    skipped: dict[str, str] = {}
    files = open_named(settings.named, settings, skipped)
    if settings.folds is not None:
        if settings.fold is None or settings.validation:
            hint = "--set data.fold=0" if settings.fold is None else "without --val"
            raise UsageError("one fold is held out to validate on", where="data.folds", hint=hint)
        train, held_out = split_fold(files, settings.fold, settings.folds)
        data = Dataset(files, train, held_out, left_out=skipped)
    elif settings.validation:
        held = open_named(settings.validation, settings, skipped)
        _refuse_twice(files, held, "a file to validate on is one to train on, or a copy of one", "data.validation")
        shared_labels([*files, *held])  # raises for other classes: their numbers would be compared
        held_out = [replace(part, file=part.file + len(files)) for part in whole(held)]
        data = Dataset(with_common_types([*files, *held]), whole(files), held_out, left_out=skipped)
    else:
        train, held_out = split(files, settings.validation_fraction, settings.split_seed)
        data = Dataset(files, train, held_out, left_out=skipped)
    data = _with_unlabelled(_not_empty(data), settings)
    return _with_selection(replace(data, files=with_pairs(data.files, settings, skipped)), settings)


def open_named(
    names: Sequence[str], settings: DataSettings, skipped: dict[str, str], *, labelled: bool = True
) -> list[JetFile]:
    """Open files by their names; without names, the bundled sample.

    Args:
        names: files, folders, patterns, lists (see `resolve_sources`).
        settings: `format`, `jets`, `labels`, `external`, `where` and `bad_files` are used.
        skipped: receives the files that cannot be opened, with the reason, if `bad_files` is "skip".
        labelled: require the labels of the settings; otherwise any labels of the files are used.

    Raises:
        SslJetsError: as `open_files` and `check_selection`.
    """
    return open_sources(named_sources(names), settings, skipped, labelled=labelled)


def named_sources(names: Sequence[str]) -> list[Source]:
    """Return the files of names as the user typed them; without names, the bundled sample."""
    return resolve_sources(names, log) if names else sample_sources()


def open_sources(
    sources: Sequence[Source],
    settings: DataSettings,
    skipped: dict[str, str],
    *,
    labelled: bool = True,
    may_be_empty: bool = False,
) -> list[JetFile]:
    """Open files as `open_named` does; with `may_be_empty` there may be no jets, or no file that can be opened."""
    labels = settings.labels if labelled else None
    errors = skipped if settings.bad_files == "skip" else None
    files = open_files(
        sources, labels, settings.format, settings.jets, errors, settings.external, may_be_empty=may_be_empty
    )
    check_selection(files, settings.where)
    return files


def _refuse_twice(files: Sequence[JetFile], others: Sequence[JetFile], what: str, where: str) -> None:
    """Check that no file has the contents of another."""
    if twice := shared(files, others):
        raise UsageError(what, where=where, found=twice[0].source)


def _not_empty(data: Dataset) -> Dataset:
    require_jets(count(data.train), "to train on", where=", ".join(data.names[:8]))
    require_jets(count(data.held_out), "to validate on", where=", ".join(data.names[:8]))
    return data


def _with_selection(data: Dataset, settings: DataSettings) -> Dataset:
    """Count the jets that `data.where` selects.

    Raises:
        DataError: there are none to train on, or none to validate on.
    """
    if settings.where is None:
        return data
    parts = [*data.all_train, *data.held_out, *data.unlabelled_held_out]
    data = replace(data, selected=count_selected(data.files, parts, Request.of(settings), settings.workers))
    for purpose, ranges in ("to train on", data.train), ("to validate on", data.held_out):
        left_out = {NOT_SELECTED: count(ranges)}
        require_jets(data.jets(ranges), purpose, where=f"data.where={settings.where}", left_out=left_out)
    if data.unlabelled:
        left_out = {NOT_SELECTED: count(data.unlabelled)}
        require_jets(data.jets(data.unlabelled), "to train on without labels", where="data.where", left_out=left_out)
    return data


def _with_unlabelled(data: Dataset, settings: DataSettings) -> Dataset:
    """Add the jets that are used without labels; separate files are split like the others."""
    if not settings.unlabelled_ratio:
        if settings.unlabelled:
            hint = "--set data.unlabelled_ratio=3 puts three of their jets in a batch for each labelled one"
            raise UsageError("no batch would have jets of these files", where="data.unlabelled", hint=hint)
        return data
    if not settings.unlabelled:
        return replace(data, unlabelled=data.train)
    files = open_named(settings.unlabelled, settings, data.left_out, labelled=False)
    _refuse_twice(
        data.files, files, "a file is both labelled and unlabelled, or a copy of one that is", "data.unlabelled"
    )
    train, held_out = whole(files), list[EntryRange]()
    if not settings.validation:
        train, held_out = split(files, settings.validation_fraction, settings.split_seed)
    first = len(data.files)  # their numbers follow the labelled files
    return replace(
        data,
        files=with_common_types([*data.files, *files]),
        unlabelled=[replace(part, file=part.file + first) for part in train],
        unlabelled_held_out=[replace(part, file=part.file + first) for part in held_out],
    )
