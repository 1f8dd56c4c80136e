"""What of a format a table has: its columns, its labels, and whether the formulas work on it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from ssl_jets.data.readers.base import Table
from ssl_jets.data.rows import Rows, empty_rows
from ssl_jets.data.schemas import columns as of
from ssl_jets.data.schemas.detect import missing_branches
from ssl_jets.data.schemas.formula import formula
from ssl_jets.data.schemas.formula_text import quoted
from ssl_jets.data.schemas.schema import Schema
from ssl_jets.data.sources import Source
from ssl_jets.errors import DataError, UsageError
from ssl_jets.jets import COLUMNS

_TYPES = {0: ("float", "int"), 1: ("std::vector<float>", "float[]")}
"""Types of a branch with one number per jet, and with a list."""


_LIKE_LABELS = re.compile(r"label|class|flavou?r|truth|target|signal|^is_?[A-Za-z]|^pid$|^y$", re.IGNORECASE)
"""Names of jet columns that may hold labels."""


def like_labels(columns: Iterable[str]) -> str | None:
    """Return a hint that names the jet columns of unlabelled files that look like labels; None where none does."""
    names = [name for name in dict.fromkeys(columns) if _LIKE_LABELS.search(name)]
    if not names:
        return None
    key = f"`label_index: {{branch: {names[0]}, names: [...]}}`"
    return f"{', '.join(names[:4])} may be labels: {key} in a schema, with `extends: FORMAT`, reads one"


class Classes(NamedTuple):
    """How the label of a jet is read.

    Attributes:
        names: names of the classes; empty without labels.
        formulas: one for each class; none where one branch holds its number or its name.
        branches: all branches that are read.
    """

    names: tuple[str, ...] = ()
    formulas: tuple[str, ...] = ()
    branches: tuple[str, ...] = ()


def check_branches(
    form: Schema, columns: Sequence[str], named: Sequence[str], classes: Classes, table: Table, where: str
) -> tuple[str, ...]:
    """Check that each branch holds the numbers that the schema takes it for, and return all that are read.

    A branch by itself holds a list where it is a particle column or a flag, and one number where it is a jet column or
    a label (a label of one branch: perhaps the name of the class); in formulas both are allowed.

    Args:
        form: the format.
        columns: particle columns of the table.
        named: those of its jet columns that the format names.
        classes: its labels.
        table: the table.
        where: file and table, for messages.

    Raises:
        DataError: a branch is there and cannot be used; it names the type.
        UsageError: a formula that takes numbers of particles for those of jets.
    """
    origins = [form.particles[name] for name in columns]
    lists = {branch for origin in origins if origin.formula is None for branch in origin.branches}
    index = classes.branches if not classes.formulas else ()
    direct = {quoted(name): name for name in classes.branches}
    numbers = {form.jets[name].branch for name in named} | {direct.get(text) for text in classes.formulas} | {*index}
    needed = form.needed(columns, named, classes.branches)
    for name in needed:
        wanted = {1} if name in lists else {0} if name in numbers else {0, 1}
        if table.depth(name) not in wanted and not (name in index and table.is_text(name)):
            raise wrong_type(name, wanted, table, where)
    single = [name for name in needed if table.depth(name) == 0]
    _try_formulas(form, columns, named, classes.formulas, empty_rows([*{*needed} - {*single}], single))
    return needed


def _try_formulas(
    form: Schema, columns: Sequence[str], named: Sequence[str], labels: Sequence[str], nothing: Rows
) -> None:
    """Compute everything for no jets, so that a formula that mixes up jets and particles is told before any work."""
    try:
        of.chosen_jets(form, of.unpad(form, nothing))
        of.particle_columns(form, nothing, columns)
        for name in named:
            of.jet_column(form, nothing, name)
        for text in labels:
            formula(text).of_jets(nothing)
    except UsageError as error:
        raise UsageError(error.what, where=form.title, found=error.where, hint=error.hint) from None


def wrong_type(name: str, wanted: Collection[int], table: Table, where: str) -> DataError:
    """Return the error for a branch that holds no numbers, or not at one of the `wanted` levels of lists."""
    kind = "one number" if 1 not in wanted else "a list of numbers" if 0 not in wanted else "numbers, one or a list,"
    hint = f"`label_index: {{branch: {name}, names: [...]}}` in a schema takes the strings for names of classes"
    return DataError(
        f"the branch {name} does not hold {kind} per jet",
        where=where,
        found=table.typename(name),
        allowed=[text for level in sorted(wanted) for text in _TYPES[level]],
        hint=hint if table.is_text(name) else None,
    )


def present_columns(form: Schema, table: Table, source: Source, noun: str) -> tuple[str, ...]:
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
            raise missing_branches(missing, table.branches, table, form, source.path, noun)
    return tuple(present)


def _label_formula(label: str, there: Collection[str]) -> str:
    """The formula of a label that was asked for: a branch, whatever it is called, or a formula."""
    if label in there:
        return quoted(label)
    try:
        return formula(label).text
    except ValueError:
        return quoted(label)


def present_labels(form: Schema, there: Collection[str], asked: tuple[str, ...] | None, where: str) -> Classes:
    """Return the classes asked for, or those of the format; none without labels."""
    if asked is None and form.label_index is not None:
        branch = form.label_index.branch
        return Classes(form.label_index.names, (), (branch,)) if branch in there else Classes()
    wanted = dict(form.labels)
    if asked is not None:
        names = {branch: name for name, branch in form.labels.items()}
        wanted = {names.get(label, label): form.labels.get(label) or _label_formula(label, there) for label in asked}
    branches = dict.fromkeys(name for text in wanted.values() for name in formula(text).names)
    missing = [branch for branch in branches if branch not in there]
    if len(missing) == len(branches):
        return Classes()
    if missing:
        raise DataError(
            f"some label branches are there, but not {', '.join(missing)}",
            where=where,
            found=", ".join(branch for branch in branches if branch in there),
            hint="name the classes of the file: --set data.labels=[label_A,label_B]",
        )
    return Classes(tuple(wanted), tuple(wanted.values()), tuple(branches))
