"""The files of a training, and what of them is trained on, with or without labels, and what is held out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ssl_jets.config import DataSettings
from ssl_jets.data.files import (
    EntryRange,
    JetFile,
    count,
    open_files,
    shared_columns,
    shared_labels,
    whole,
    with_common_types,
)
from ssl_jets.data.seen import shared
from ssl_jets.data.skipped import require_jets
from ssl_jets.data.sources import resolve_sources, sample_sources
from ssl_jets.data.split import split
from ssl_jets.errors import UsageError
from ssl_jets.runtime.console import to_stderr
from ssl_jets.runtime.launcher import rank


@dataclass(frozen=True)
class Dataset:
    """Files, and which of their entries are for training and which are held out.

    Attributes:
        files: all files.
        train: entries to train on.
        held_out: entries to validate on.
        unlabelled: entries to train on without their labels; those of `train`, or of files of their own.
        unlabelled_held_out: entries of such files that are not trained on.
        left_out: files that could not be opened, with the reason.
        jets_left_out: jets that could not be used when some were chosen to be kept in memory, by reason.
    """

    files: list[JetFile]
    train: list[EntryRange]
    held_out: list[EntryRange]
    unlabelled: list[EntryRange] = field(default_factory=list)
    unlabelled_held_out: list[EntryRange] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    jets_left_out: Counter[str] = field(default_factory=Counter)

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the classes; empty where the jets have no labels."""
        return shared_labels([self.files[index] for index in sorted({part.file for part in self.train})])

    @property
    def all_train(self) -> list[EntryRange]:
        """Entries to train on, with or without labels, each once."""
        return self.train if self.unlabelled in ([], self.train) else [*self.train, *self.unlabelled]

    @property
    def columns(self) -> tuple[str, ...]:
        """Particle columns of the files to train on."""
        return shared_columns([self.files[index] for index in sorted({part.file for part in self.all_train})])

    @property
    def blind(self) -> list[JetFile]:
        """The files as if they had no labels: what reads these cannot see any."""
        return [replace(file, label_names=(), label_formulas=(), label_branches=()) for file in self.files]

    @property
    def names(self) -> list[str]:
        """How the user named each file."""
        return [str(file.source) for file in self.files]


def open_dataset(settings: DataSettings) -> Dataset:
    """Open the files that the settings name (the bundled sample where none) and split them."""
    left_out: dict[str, str] = {}
    files = open_named(settings.sources or tuple(settings.proportions), settings, left_out)
    if settings.validation:
        held = open_named(settings.validation, settings, left_out)
        _refuse_twice(files, held, "a file to validate on is one to train on, or a copy of one", "data.validation")
        held_out = [EntryRange(part.file + len(files), part.start, part.stop) for part in whole(held)]
        data = Dataset(with_common_types([*files, *held]), whole(files), held_out, left_out=left_out)
    else:
        train, held_out = split(files, settings.validation_fraction, settings.split_seed)
        data = Dataset(files, train, held_out, left_out=left_out)
    return _with_unlabelled(_not_empty(data), settings)


def open_named(
    names: Sequence[str], settings: DataSettings, left_out: dict[str, str], *, labelled: bool = True
) -> list[JetFile]:
    """Open files by their names, as the settings say; none named means the bundled sample.

    Args:
        names: files, folders, patterns, lists (see `resolve_sources`).
        settings: `format`, `jets`, `labels`, `external` and `bad_files` are used.
        left_out: files that cannot be opened go here, with the reason, where `bad_files` is "skip".
        labelled: whether labels are asked for; without, any labels that the files have are taken.

    Raises:
        SslJetsError: as `open_files`.
    """
    skipping = left_out if settings.bad_files == "skip" else None
    labels = settings.labels if labelled else None
    sources = resolve_sources(names, to_stderr if rank() == 0 else lambda message: None) if names else sample_sources()
    return open_files(sources, labels, settings.format, settings.jets, skipping, settings.external)


def _refuse_twice(files: Sequence[JetFile], others: Sequence[JetFile], what: str, where: str) -> None:
    """Refuse others that are among the files."""
    if twice := shared(files, others):
        raise UsageError(what, where=where, found=twice[0].source)


def _not_empty(data: Dataset) -> Dataset:
    require_jets(count(data.train), "to train on", where=", ".join(data.names[:8]))
    require_jets(count(data.held_out), "to validate on", where=", ".join(data.names[:8]))
    return data


def _with_unlabelled(data: Dataset, settings: DataSettings) -> Dataset:
    """The same with the jets that are used without labels; files of their own are split like the others."""
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
    parts: tuple[list[EntryRange], list[EntryRange]] = (whole(files), [])
    if not settings.validation:
        parts = split(files, settings.validation_fraction, settings.split_seed)
    first = len(data.files)
    train, held_out = ([EntryRange(part.file + first, part.start, part.stop) for part in side] for side in parts)
    together = with_common_types([*data.files, *files])
    return replace(data, files=together, unlabelled=train, unlabelled_held_out=held_out)
