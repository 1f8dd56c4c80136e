"""What of a format a table has: its columns, its labels, and whether the formulas work on it."""

from __future__ import annotations

from collections.abc import Sequence

from ssl_jets.data import columns as of
from ssl_jets.data.detect import missing_branches
from ssl_jets.data.formula import formula
from ssl_jets.data.formula_text import quoted
from ssl_jets.data.readers import Table
from ssl_jets.data.rows import empty_rows
from ssl_jets.data.schema import Schema
from ssl_jets.data.sources import Source
from ssl_jets.errors import DataError, UsageError
from ssl_jets.jets import COLUMNS


def try_formulas(
    form: Schema,
    columns: Sequence[str],
    named: Sequence[str],
    labels: Sequence[str],
    needed: Sequence[str],
    flat: Sequence[str],
) -> None:
    """Compute everything for no jets, so that a formula that mixes up jets and particles is told before any work."""
    nothing = empty_rows([name for name in needed if name not in flat], [name for name in needed if name in flat])
    try:
        of.chosen_jets(form, of.unpad(form, nothing))
        of.particle_columns(form, nothing, columns)
        for name in named:
            of.jet_column(form, nothing, name)
        for text in labels:
            formula(text).of_jets(nothing)
    except UsageError as error:
        raise UsageError(error.what, where=form.title, found=error.where, hint=error.hint) from None


def check_lists(form: Schema, columns: Sequence[str], lists: Sequence[str], table: Table, where: str) -> None:
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
            raise missing_branches(missing, table, form, source.path, noun)
    return tuple(present)


def _label_formula(label: str, flat: Sequence[str]) -> str:
    """The formula of a label that was asked for: a branch, whatever it is called, or a formula."""
    if label in flat:
        return quoted(label)
    try:
        return formula(label).text
    except ValueError:
        return quoted(label)


def present_labels(
    form: Schema, flat: Sequence[str], asked: tuple[str, ...] | None, where: str
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Names, formulas and branches of the classes: those asked for or those of the format; none without labels."""
    if asked is None and form.label_index is not None:
        branch = form.label_index.branch
        return (form.label_index.names, (), (branch,)) if branch in flat else ((), (), ())
    wanted = dict(form.labels)
    if asked is not None:
        names = {branch: name for name, branch in form.labels.items()}
        wanted = {names.get(label, label): form.labels.get(label) or _label_formula(label, flat) for label in asked}
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
