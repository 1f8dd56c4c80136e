"""Branches of a file to canonical columns in canonical units, as its format says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ssl_jets.arrays import Array
from ssl_jets.data.rows import Rows
from ssl_jets.data.schemas.formula import formula
from ssl_jets.data.schemas.schema import Axis, ParticleColumn, Schema, Value
from ssl_jets.jets import KINDS

NO_CLASS = -2
"""The label of a jet whose class cannot be told: a bad jet. That of a jet of a file without labels is -1."""


def unpad(schema: Schema, rows: Rows) -> Rows:
    """The same jets with the places of their lists that are particles."""
    if schema.particle_cut is None:
        return rows
    return rows.keep(formula(schema.particle_cut).of_particles(rows).astype(bool))


def chosen_jets(schema: Schema, rows: Rows) -> tuple[Rows, Counter[str]]:
    """The jets that the cut of the format leaves, and how many it leaves out."""
    if schema.jet_cut is None:
        return rows, Counter()
    chosen = formula(schema.jet_cut).of_jets(rows).astype(bool)
    return rows.select(chosen), +Counter({f"not {schema.jet_cut}": int(np.count_nonzero(~chosen))})


def particle_columns(schema: Schema, rows: Rows, columns: Sequence[str]) -> Array:
    """The canonical columns of the particles, float32 `[particle, column]`."""
    particles = np.empty((int(rows.offsets[-1]), len(columns)), dtype=np.float32)
    for position, name in enumerate(columns):
        origin = schema.particles[name]
        values = _particle_column(origin, rows)
        if origin.absolute:
            assert schema.axis is not None
            values = _from_axis(name, values, schema.axis, rows)
        particles[:, position] = values
    return particles


def jet_column(schema: Schema, rows: Rows, name: str) -> Array:
    """A jet column, `[jet]`: floating types as they are, integers as int64, since float32 would round them; of what is
    computed, float32."""
    value = schema.jets.get(name, Value(branch=name))
    if value.branch is None:
        array = formula(value.formula or "").of_jets(rows).astype(np.float32)
    else:
        array = rows.jet[value.branch]
    if array.dtype.kind in "iu":
        array = array.astype(np.int64)
    return np.require(array if value.factor == 1.0 else array * np.float32(value.factor), requirements=["C", "W"])


def labels(names: Sequence[str], formulas: Sequence[str], branches: Sequence[str], rows: Rows) -> Array:
    """Index of the class of each jet, int64; `NO_CLASS` of one with none or several, -1 for all without branches.

    Args:
        names: the classes.
        formulas: one for each class, or none: then the only branch holds the index, or the name.
        branches: the branches of labels.
        rows: the jets.
    """
    if not branches:
        return np.full(len(rows), -1, dtype=np.int64)
    if formulas:
        flags = _flags(formulas, rows)
        ones = flags == 1
        classes: Array = np.argmax(ones, axis=1)
        wrong = (ones.sum(axis=1) != 1) | (~ones & (flags != 0)).any(axis=1)
    elif (values := rows.jet[branches[0]]).dtype.kind in "OSU":
        classes = np.array([names.index(name) if name in names else -1 for name in _texts(values)], dtype=np.int64)
        wrong = classes < 0
    else:
        classes = np.nan_to_num(values, nan=NO_CLASS).astype(np.int64)
        wrong = (classes != values) | (classes < 0) | (classes >= len(names))
    for branch in branches:  # formulas such as `flavour != 5` hold for NaN
        if branch in rows.jet and rows.jet[branch].dtype.kind == "f":
            wrong |= np.isnan(rows.jet[branch])
    return np.where(wrong, NO_CLASS, classes)


def label_values(formulas: Sequence[str], branches: Sequence[str], rows: Rows, jet: int) -> str:
    """What a jet has as its label, for messages."""
    if not formulas:
        value = rows.jet[branches[0]][jet]
        return f"{branches[0]} = {_texts([value])[0] if isinstance(value, bytes) else value}"
    flags = _flags(formulas, rows)[jet]
    return ", ".join(f"{text} = {value:g}" for text, value in zip(formulas, flags) if value != 0) or "all labels are 0"


def _texts(values: Iterable[object]) -> list[str]:
    """Strings, which HDF5 and npz files may hold as bytes."""
    return [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in values]


def _particle_column(origin: ParticleColumn, rows: Rows) -> Array:
    if origin.flags is not None:
        return _kind(origin.flags, rows.particle)
    if origin.branch is not None:
        column = rows.particle[origin.branch]
    else:
        column = formula(origin.formula or "").of_particles(rows)
    return column if origin.factor == 1.0 else column * np.float32(origin.factor)


def _from_axis(name: str, values: Array, axis: Axis, rows: Rows) -> Array:
    """Distance from the axis of the jet: in pseudorapidity with the sign of the jet's, or in azimuth."""
    eta = formula(axis.eta).of_jets(rows)
    if name == "deta":
        side = np.where(eta < 0, -1.0, 1.0)
        distance: Array = (values - rows.spread(eta)) * rows.spread(side)
        return distance
    turn = values - rows.spread(formula(axis.phi).of_jets(rows))
    wrapped: Array = turn - 2 * np.pi * np.round(turn / (2 * np.pi))
    return wrapped


def _kind(flags: Mapping[str, str], values: Mapping[str, Array]) -> Array:
    """Index of the kind whose flag is set, the first where several are; "other" where none is."""
    # The flags as bits of one small number, looked up in a table: several times faster than one mask after another.
    bits = sum((values[branch] != 0).view(np.uint8) << np.uint8(bit) for bit, branch in enumerate(flags.values()))
    kinds = [KINDS.index(name) for name in flags]
    other = KINDS.index("other")
    table = [
        next((kind for bit, kind in enumerate(kinds) if code >> bit & 1), other) for code in range(1 << len(kinds))
    ]
    column: Array = np.array(table, dtype=np.float32).take(bits)
    return column


def _flags(formulas: Sequence[str], rows: Rows) -> Array:
    """What the label of each class is, float32 `[jet, class]`: 1 for the class of the jet and otherwise 0."""
    return np.stack([formula(text).of_jets(rows).astype(np.float32) for text in formulas], axis=1)
