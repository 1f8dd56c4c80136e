"""Check which columns and labels of a schema a table provides, and that its formulas evaluate."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from ssl_jets.data.decoder import Decoder
from ssl_jets.data.readers.base import Table
from ssl_jets.data.rows import empty_rows
from ssl_jets.data.schemas.detect import missing_branches
from ssl_jets.data.schemas.formula import formula
from ssl_jets.data.schemas.formula_text import quoted
from ssl_jets.data.schemas.labels import Classes
from ssl_jets.data.schemas.schema import Schema
from ssl_jets.data.schemas.value import FeatureSource
from ssl_jets.data.sources import Source
from ssl_jets.errors import DataError, SslJetsError, UsageError, nearest
from ssl_jets.jets import COLUMNS

_TYPES = {0: ("float", "int"), 1: ("std::vector<float>", "float[]")}
"""Types of a branch with one number per jet, and with a list."""

_LIKE_LABELS = tuple(
    re.compile(name, re.IGNORECASE)
    for name in ("label|class|flavou?r|target|^y$", "signal|^is_?[A-Za-z]|^pid$", "truth")
)
"""Names of jet columns that may hold labels, the likeliest first."""


def like_labels(columns: Iterable[str]) -> str | None:
    """Return a hint that names the jet columns of unlabelled files that look like labels; None where none does."""
    columns = [*columns]
    names = [*dict.fromkeys(name for pattern in _LIKE_LABELS for name in columns if pattern.search(name))]
    if not names:
        return None
    key = f"`label_index: {{branch: {names[0]}, names: [...]}}`"
    return f"{', '.join(names[:4])} may be labels: {key} in a schema, with `extends: FORMAT`, reads one"


def check_branches(
    schema: Schema, columns: Sequence[str], jets: Sequence[str], classes: Classes, table: Table, where: str
) -> tuple[str, ...]:
    """Check that each branch holds numbers at the level the schema expects, and return all branches to read.

    A branch by itself holds a list where it is a particle column or a flag, and one number where it is a jet column or
    a label (or the name of the class, in a label of one branch). Formulas accept both.

    Raises:
        DataError: a branch holds something else; the message has its type.
    """
    sources = [schema.particles[name] for name in columns]
    lists = {branch for source in sources if source.formula is None for branch in source.branches}
    index = classes.branches if not classes.formulas else ()
    direct = {quoted(name): name for name in classes.branches}
    numbers = {schema.jets[name].branch for name in jets} | {direct.get(text) for text in classes.formulas} | {*index}
    branches = schema.branches_for(columns, jets, classes.branches)
    for name in branches:
        levels = {1} if name in lists else {0} if name in numbers else {0, 1}
        if table.depth(name) not in levels and not (name in index and table.is_text(name)):
            raise wrong_type(name, levels, table, where)
    return branches


def check_formulas(decoder: Decoder, table: Table, where: str) -> None:
    """Decode no jets at all, so that a formula that mixes up jets and particles is an error before any work.

    Raises:
        UsageError: a formula has numbers of particles instead of jets.
    """
    particle = [name for name in decoder.branches if table.depth(name) == 1]
    jet = [name for name in decoder.branches if name not in particle]  # numbers, or the strings of a label
    try:
        decoder.decode(empty_rows(particle, jet))
    except UsageError as error:
        raise UsageError(error.what, where=where, found=error.where, hint=error.hint) from None


def wrong_type(
    name: str, levels: Collection[int], table: Table, where: str, *, error: type[SslJetsError] = DataError
) -> SslJetsError:
    """Return the error for a branch that holds no numbers, or none at one of the expected levels of lists.

    Args:
        name: the branch.
        levels: levels of lists that are allowed: 0 for one number per jet, 1 for a list.
        table: the table.
        where: file and table, for messages.
        error: class of the error.
    """
    if 1 not in levels:
        expected = "one number"
    else:
        expected = "a list of numbers" if 0 not in levels else "numbers, one or a list,"
    hint = f"`label_index: {{branch: {name}, names: [...]}}` in a schema takes the strings for names of classes"
    if not table.is_text(name):
        hint = f"{name}[0] is the first of its numbers" if f"{name}[0]" in table.branches and 1 not in levels else ""
    return error(
        f"the branch {name} does not hold {expected} per jet",
        where=where,
        found=table.typename(name),
        allowed=[text for level in sorted(levels) for text in _TYPES[level]],
        hint=hint or None,
    )


def present_columns(schema: Schema, table: Table, source: Source, noun: str) -> tuple[str, ...]:
    """Return the canonical columns whose branches the table has.

    A column is absent if none of its branches are there, apart from those that required columns read too.

    Raises:
        DataError: the table has some branches of a column, but not all.
    """
    available, required = set(table.branches), set(schema.required)
    present = []
    for name in COLUMNS:
        if name not in schema.particles:
            continue
        column = schema.particles[name]
        needed = [*column.branches]
        if schema.axis is not None and column.absolute:
            needed += schema.axis.branches
        missing = [branch for branch in needed if branch not in available]
        if not missing:
            present.append(name)
        elif not {*needed} <= {*missing, *required}:
            raise missing_branches(missing, table.branches, table, schema, source.path, noun)
    return tuple(present)


def present_sources(
    sources: Mapping[str, FeatureSource], level: int, table: Table, where: str, *, known: bool
) -> tuple[str, ...]:
    """Return the names of the sources whose branches the table has at a level of lists: 0 of jets, 1 of particles.

    In a known format a branch of another type than expected counts as missing, since nobody may ask for it.

    Raises:
        DataError: a branch that a schema of the user names holds something else.
    """
    available, names = set(table.branches), []
    for name, source in sources.items():
        if not available.issuperset(source.branches):
            continue
        wrong = wrong_branch(source, table, level)
        if wrong is not None and not known:
            raise wrong_type(wrong, {level} if source.formula is None else {0, 1}, table, where)
        names += [name] if wrong is None else []
    return tuple(names)


def wrong_branch(source: FeatureSource, table: Table, level: int) -> str | None:
    """Return the first branch that holds no numbers (or, of the categories of a jet, names) at the level; or None."""
    if source.formula is None:
        branch = source.branch or ""
        as_text = bool(source.categories) and level == 0 and table.is_text(branch)
        return None if as_text or table.depth(branch) == level else branch
    return next((branch for branch in source.branches if table.depth(branch) not in (0, 1)), None)


def _label_formula(label: str, available: Collection[str]) -> str:
    """Return the formula of a requested label: a branch of any name, or a formula."""
    if label in available:
        return quoted(label)
    try:
        return formula(label).text
    except ValueError:
        return quoted(label)


def present_labels(schema: Schema, available: Collection[str], labels: tuple[str, ...] | None, where: str) -> Classes:
    """Return the requested classes, by default all of the schema; none if the file lacks all branches of labels.

    Args:
        schema: the schema.
        available: branches of the table.
        labels: requested branches, formulas, or names of classes; None for the classes of the schema.
        where: file and table, for messages.

    Raises:
        DataError: the file has some branches of labels, but not all.
        UsageError: a class is requested twice.
    """
    if labels is None and schema.label_index is not None:
        branch = schema.label_index.branch
        return Classes(schema.label_index.names, (), (branch,)) if branch in available else Classes()
    formulas = dict(schema.labels)
    if labels is not None:
        class_of = {text: name for name, text in schema.labels.items()}  # label_QCD -> QCD
        formulas = {
            class_of.get(label, label): schema.labels.get(label) or _label_formula(label, available) for label in labels
        }
        if len(formulas) < len(labels):
            names = [class_of.get(label, label) for label in labels]
            twice = dict.fromkeys(name for name in names if names.count(name) > 1)
            raise UsageError("a class is named twice", where="data.labels", found=", ".join(twice))
    branches = dict.fromkeys(name for text in formulas.values() for name in formula(text).names)
    missing = [branch for branch in branches if branch not in available]
    if len(missing) == len(branches):
        return Classes()
    if missing:
        there = [name for name, text in schema.labels.items() if {*formula(text).names} <= {*available}]
        raise DataError(
            f"some label branches are there, but not {', '.join(missing)}",
            where=where,
            found=", ".join(branch for branch in branches if branch in available),
            allowed=nearest(missing[0], there) or None,
            hint="name the classes of the file: --set data.labels=[label_A,label_B]",
        )
    return Classes(tuple(formulas), tuple(formulas.values()), tuple(branches))
