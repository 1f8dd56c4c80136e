"""Files of jets, checked: what each holds, and which entries of them are for training and which are held out."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from ssl_jets.data.detect import detect, missing_branches
from ssl_jets.data.formula import formula
from ssl_jets.data.readers import Reader, Table, reader_of
from ssl_jets.data.schema import Schema
from ssl_jets.data.sources import Source
from ssl_jets.errors import DataError, UsageError, nearest
from ssl_jets.jets import COLUMNS


@dataclass(frozen=True)
class JetFile:
    """A file whose format is known and whose branches were checked.

    Attributes:
        source: as the user named it.
        schema: its format.
        reader: the module that reads it.
        tree: the tree, or other table, that holds the jets; "" where a file has only one, without a name.
        entries: entries of the tree.
        clusters: entries at which a read may begin without decoding anything twice, from 0 to `entries`.
        bytes: size of the file.
        columns: canonical particle columns it has, in the order of `COLUMNS`.
        jet_columns: jet columns it has: those that the format names, then its flat branches.
        label_names: names of the classes; empty for a file without labels.
        label_formulas: for each class the formula (mostly a branch) that is 1 for its jets; or, for a label that is
            one number, none.
        label_branches: the branches the label is read from.
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
    label_names: tuple[str, ...] = ()
    label_formulas: tuple[str, ...] = field(default=(), repr=False)
    label_branches: tuple[str, ...] = field(default=(), repr=False)

    @property
    def place(self) -> str:
        """File and tree, for messages."""
        return f"{self.source}, {self.reader.NOUN} {self.tree}" if self.tree else str(self.source)

    @property
    def name(self) -> str:
        """Name of the file without its folder."""
        return os.path.basename(self.source.path)

    @property
    def identity(self) -> tuple[str, int]:
        """What a model remembers of the file: its name and size, but not where it lay."""
        return (self.name, self.bytes)

    @property
    def group(self) -> str:
        """Name without the number of the file: files of one group hold the same kind of jets."""
        stem = os.path.splitext(self.name)[0]
        return re.sub(r"[\d_-]+$", "", stem) or stem


@dataclass(frozen=True, order=True)
class Part:
    """Entries `start` to `stop` of file number `file` of a list."""

    file: int
    start: int
    stop: int

    @property
    def entries(self) -> int:
        """How many entries."""
        return self.stop - self.start


def open_files(
    sources: Sequence[Source], labels: tuple[str, ...] | None = None, form: Schema | None = None
) -> list[JetFile]:
    """Detect the format of each file, and check its branches.

    Args:
        sources: the files.
        labels: label branches (or names of the format's classes) that make up the classes, in this order; by default
            all that the format declares.
        form: the format of all files, instead of the one that is found from their branches.

    Raises:
        DataError: a file that cannot be read or whose format is unknown, a missing branch, files without any jet.
        UsageError: `labels` that no file has.
    """
    if not sources:
        raise UsageError("no input files are named")
    with ThreadPoolExecutor(min(8, len(sources)), thread_name_prefix="ssl-jets-open") as pool:
        files = list(pool.map(lambda source: _open(source, labels, form), sources))
    if not any(file.entries for file in files):
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        raise DataError("the input files hold no jets", where=f"{files[0].source}{more}")
    if labels and not any(file.label_names for file in files):
        known = [*files[0].jet_columns, *files[0].schema.labels]
        raise UsageError(
            "no file has the labels that were asked for",
            where="data.labels",
            found=", ".join(labels),
            allowed=nearest(labels[0], known),
        )
    return files


def whole(files: Sequence[JetFile]) -> list[Part]:
    """All entries of all files."""
    return [Part(index, 0, file.entries) for index, file in enumerate(files) if file.entries]


def count(parts: Sequence[Part]) -> int:
    """Entries of all parts together."""
    return sum(part.entries for part in parts)


def shared_columns(files: Sequence[JetFile]) -> tuple[str, ...]:
    """The particle columns of the files, which must be the same in all of them.

    Raises:
        DataError: two files differ.
    """
    for file in files[1:]:
        if file.columns != files[0].columns:
            differing = sorted(set(file.columns) ^ set(files[0].columns))
            raise DataError(
                "the files have different particle columns",
                where=f"{files[0].source} and {file.source}",
                found=f"{', '.join(differing)} only in one of them",
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


def split(files: Sequence[JetFile], fraction: float, seed: int) -> tuple[list[Part], list[Part]]:
    """Parts to train on, and parts held out.

    Files of one group (same name but for the number) are held out whole where that comes near the fraction (within
    half of it). Otherwise one contiguous block of entries per file is held out, and training drops the entry on each
    side of it, since two jets of one event are neighbours. The outcome depends on the names and entries of the files,
    on `fraction` and on `seed`, and not on folders or on the order of the files.

    Raises:
        DataError: too few jets for both.
    """
    groups: dict[str, list[int]] = {}
    for index in sorted(range(len(files)), key=lambda index: (files[index].name, files[index].entries)):
        groups.setdefault(files[index].group, []).append(index)
    train: list[Part] = []
    held: list[Part] = []
    for group, members in groups.items():
        entries = [files[index].entries for index in members]
        apart = _held_files(entries, fraction, np.random.default_rng([seed, *group.encode()]))
        for position, index in enumerate(members):
            file = files[index]
            if apart is None:
                rng = np.random.default_rng([seed, file.entries, *file.name.encode()])
                start, stop = _held_block(file.entries, fraction, rng)
                held.append(Part(index, start, stop))
                # Without a block (a tiny file) nothing has neighbours to drop.
                gap = 1 if stop > start else 0
                train += [Part(index, 0, start - gap), Part(index, stop + gap, file.entries)]
            else:
                (held if position in apart else train).append(Part(index, 0, file.entries))
    train, held = (
        sorted((p for p in side if p.entries > 0), key=lambda p: (p.file, p.start)) for side in (train, held)
    )
    if not train or not held:
        total = sum(file.entries for file in files)
        raise DataError(
            "there are too few jets to hold some out", found=f"{total} jets, of which {fraction:g} is asked for"
        )
    return train, held


def _held_files(entries: Sequence[int], fraction: float, rng: np.random.Generator) -> set[int] | None:
    """Positions of the files to hold out, or None where whole files do not come near the fraction."""
    target = fraction * sum(entries)
    apart: set[int] = set()
    total = 0
    for position in rng.permutation(len(entries)).tolist():
        if abs(total + entries[position] - target) < abs(total - target):
            apart.add(position)
            total += entries[position]
    if len(entries) < 2 or len(apart) == len(entries) or not 0.5 * target <= total <= 1.5 * target:
        return None
    return apart


def _held_block(entries: int, fraction: float, rng: np.random.Generator) -> tuple[int, int]:
    """A block of entries at a random place; empty for a file of fewer than four entries."""
    if entries < 4:
        return 0, 0
    size = min(max(round(fraction * entries), 1), entries - 1)
    start = int(rng.integers(entries - size + 1))
    return start, start + size


def _open(source: Source, labels: tuple[str, ...] | None, form: Schema | None) -> JetFile:
    reader = reader_of(source.path)
    with reader.open_tables(source.path) as tables:
        index, form = detect(tables, source.path, reader.NOUN, source.tree, form)
        table = tables[index]
        where = f"{source.path}, {reader.NOUN} {table.name}" if table.name else source.path
        flat = table.flat()
        columns = _columns(form, table, source, reader.NOUN)
        branches = dict.fromkeys(branch for name in columns for branch in form.particles[name].branches)
        lists = [name for name in branches if name not in flat]
        _check_lists(form, columns, lists, table, where)
        label_names, formulas, label_branches = _labels(form, flat, labels, where)
        named = tuple(name for name, value in form.jets.items() if set(value.branches) <= set(table.branches))
        return JetFile(
            source=source,
            schema=form,
            reader=reader,
            tree=table.name,
            entries=table.entries,
            clusters=table.clusters([*branches, *label_branches]),
            bytes=os.path.getsize(source.path),
            columns=columns,
            jet_columns=(*named, *(name for name in flat if name not in (*label_branches, *named))),
            label_names=label_names,
            label_formulas=formulas,
            label_branches=label_branches,
        )


def _check_lists(form: Schema, columns: Sequence[str], lists: Sequence[str], table: Table, where: str) -> None:
    """Every branch that is not flat holds lists; a column that is a branch by itself, or kinds by flags, is a list."""
    plain = [form.particles[name] for name in columns]
    direct = [branch for column in plain if column.formula is None for branch in column.branches]
    if wrong := table.not_lists([*lists, *direct]):
        raise DataError(
            f"the branch {wrong[0]} does not hold a list of numbers per jet",
            where=where,
            found=table.typename(wrong[0]),
            allowed=["std::vector<float>", "float[]"],
        )


def _columns(form: Schema, table: Table, source: Source, noun: str) -> tuple[str, ...]:
    """Canonical columns whose branches are there; a column of which some branches are missing is an error."""
    there = set(table.branches)
    present = []
    for name in COLUMNS:
        if name not in form.particles:
            continue
        column = form.particles[name]
        needed = (*column.branches, *(form.axis.branches if form.axis is not None and column.absolute else ()))
        missing = [branch for branch in needed if branch not in there]
        if not missing:
            present.append(name)
        elif len(missing) < len(needed):
            raise missing_branches(missing, table, form, source.path, noun)
    return tuple(present)


def _labels(
    form: Schema, flat: Sequence[str], asked: tuple[str, ...] | None, where: str
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Names, formulas and branches of the classes: those asked for or those of the format; none without labels."""
    if asked is None and form.label_index is not None:
        branch = form.label_index.branch
        return (form.label_index.names, (), (branch,)) if branch in flat else ((), (), ())
    wanted = dict(form.labels)
    if asked is not None:
        names = {branch: name for name, branch in form.labels.items()}
        wanted = {names.get(label, label): form.labels.get(label, label) for label in asked}
    branches = dict.fromkeys(name for text in wanted.values() for name in formula(text).names)
    missing = [branch for branch in branches if branch not in flat]
    if len(missing) == len(branches):
        return (), (), ()
    if missing:
        raise DataError(
            f"some label branches are there, but not {', '.join(missing)}",
            where=where,
            found=", ".join(branch for branch in branches if branch in flat),
            hint="name the classes of the file: --set data.labels=[label_A,label_B]",
        )
    return tuple(wanted), tuple(wanted.values()), tuple(branches)
