"""Columns compiled from a schema: branches of a file in; particle columns, features, labels and jet columns out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from ssl_jets.arrays import Array
from ssl_jets.data.bad_jets import BadJetError
from ssl_jets.data.rows import Rows, texts
from ssl_jets.data.schemas.formula import formula
from ssl_jets.data.schemas.particle_labels import ParticleLabel
from ssl_jets.data.schemas.schema import Axis, Schema
from ssl_jets.data.schemas.value import FeatureSource, Value, branch_value

Column = Callable[[Rows], Array]
"""Computation of one column, `[particle]` or `[jet]`, from the branches of a file."""

RelativeColumn = Callable[[Rows, Rows], Array]
"""Computation of a column from the branches of particles, or elements, and from those of the jets."""


def numbers_of(value: Value, *, of_jets: bool = False) -> Column:
    """Compile the numbers of a branch or formula in the unit of the file, of particles or of jets."""
    if value.branch is None:
        parsed = formula(value.formula or "")
        return parsed.of_jets if of_jets else parsed.of_particles
    branch = value.branch
    return lambda rows: rows.jet[branch] if of_jets else rows.particle[branch]


def feature_column(source: FeatureSource | None, *, of_jets: bool = False) -> Column:
    """Compile a feature of particles, or of jets; without a source, of a file that lacks it, all values are missing.

    Values are float32, NaN where missing. A categorical feature becomes the index of its category; a value that the
    schema does not list has the index behind the last one.
    """
    if source is None:
        return lambda rows: np.full(len(rows) if of_jets else rows.offsets[-1], np.nan, dtype=np.float32)
    numbers = numbers_of(source, of_jets=of_jets)

    def column(rows: Rows) -> Array:
        raw = numbers(rows)
        values = _indices(raw, source.categories) if source.categories else _converted(raw, source.factor)
        return values if source.missing is None else np.where(raw == source.missing, np.float32(np.nan), values)

    return column


def label_column(label: ParticleLabel | None) -> Column:
    """Compile a label of particles: class indices or numbers, float32 `[particle]`, NaN where missing.

    A value that belongs to no class has the index behind the last one. Without a source, of a file that lacks it, the
    label is missing for all.
    """
    if label is None or not label.classes:
        return feature_column(None if label is None else label.source)
    categories, class_of = feature_column(label.source), label.class_of_category

    def column(rows: Rows) -> Array:
        index = categories(rows)
        known = np.isfinite(index)
        result = np.full(len(index), np.nan, dtype=np.float32)
        result[known] = class_of[index[known].astype(np.int64)]
        return result

    return column


def jet_column(schema: Schema, name: str, dtype: npt.DTypeLike, *, rounded: bool = False) -> Column:
    """Compile a column of jets; integers are int64, since float32 would round them.

    Unsigned integers beyond int64 raise a `BadJetError`; if they may be `rounded`, the column is float64.
    """
    value = schema.jets.get(name) or branch_value(name)
    values, factor = numbers_of(value, of_jets=True), value.factor

    def column(rows: Rows) -> Array:
        array = values(rows)
        if array.dtype == np.uint64 and (beyond := np.flatnonzero(array > np.iinfo(np.int64).max)).size:
            if rounded:
                return array.astype(np.float64)
            raise _beyond_int64(name, array[beyond[0]], rows.where(beyond[0]))
        if array.dtype.kind in "iu":
            array = array.astype(np.int64)
        if factor != 1.0:  # 0.001 as float32 would be wrong by 5e-8 in columns of double precision
            array = array * (np.float32(factor) if array.dtype.kind == "f" and array.dtype.itemsize <= 4 else factor)
        return np.require(array, requirements=["C", "W"]).astype(dtype, copy=False)

    return column


def relative(name: Literal["deta", "dphi"], values: Column, axis: Axis) -> RelativeColumn:
    """Compile deta or dphi from the pseudorapidity or the azimuth of particles, or of elements.

    deta has the sign of the jet's pseudorapidity; dphi is in [-pi, pi].
    """
    of_jets = formula(axis.eta if name == "deta" else axis.phi).of_jets

    def column(rows: Rows, jets: Rows) -> Array:
        center = of_jets(jets)
        distance: Array = values(rows) - rows.spread(center)
        if name == "dphi":
            return distance - 2 * np.pi * np.round(distance / (2 * np.pi))
        return distance * rows.spread(np.where(center < 0, -1.0, 1.0))

    return column


def _converted(raw: Array, factor: float) -> Array:
    """Convert numbers to float32 and to the canonical unit; one beyond float32 is infinite, which counts as missing."""
    values: Array = raw.astype(np.float32)
    return values if factor == 1.0 else values * np.float32(factor)


def _indices(raw: Array, categories: Sequence[int | str]) -> Array:
    """Return the index of the category of each value, float32.

    Categories 5, 4, 0: the values 0, 5, 7 and NaN have the indices 2, 0, 3 and NaN.
    """
    if raw.dtype.kind in "OSU":
        index = {str(category): number for number, category in enumerate(categories)}
        missing = [value is None for value in raw]
        indices = [index.get(text, len(categories)) for text in texts(raw)]
        return np.where(missing, np.nan, indices).astype(np.float32)
    numbers = {category: number for number, category in enumerate(categories) if isinstance(category, int)}
    known = np.array(sorted(numbers), dtype=np.float64)
    positions = np.array([numbers[int(category)] for category in known] + [len(categories)], dtype=np.float32)
    value = raw.astype(np.float64)
    at = np.searchsorted(known, value).clip(max=max(len(known) - 1, 0))
    listed = known[at] == value if len(known) else np.zeros(len(value), dtype=np.bool_)
    return np.where(np.isnan(value), np.float32(np.nan), positions[np.where(listed, at, len(known))])


def _beyond_int64(name: str, value: object, where: str) -> BadJetError:
    return BadJetError(
        "a whole number of a jet column is too large: columns of jets have 64 bits with a sign",
        where=f"{where}, column {name}",
        found=value,
        allowed=["numbers below 2^63"],
    )
