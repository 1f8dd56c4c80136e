"""Features of particles and context of jets, compiled from a schema: branches in, float32 numbers out, NaN if missing.

A categorical feature becomes the index of its category; a value that the schema does not list has the index behind the
last one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ssl_jets.arrays import Array
from ssl_jets.data.rows import Rows, texts
from ssl_jets.data.schemas.formula import formula
from ssl_jets.data.schemas.value import FeatureSource, Value

Column = Callable[[Rows], Array]
"""Computation of one column, `[particle]` or `[jet]`, from the branches of a file."""


def numbers_of(value: Value, *, of_jets: bool = False) -> Column:
    """Compile the numbers of a branch or formula in the unit of the file, of particles or of jets."""
    if value.branch is None:
        parsed = formula(value.formula or "")
        return parsed.of_jets if of_jets else parsed.of_particles
    branch = value.branch
    return lambda rows: rows.jet[branch] if of_jets else rows.particle[branch]


def feature_column(source: FeatureSource | None, *, of_jets: bool = False) -> Column:
    """Compile a feature of particles, or of jets; without a source, of a file that lacks it, all values are missing."""
    if source is None:
        return lambda rows: np.full(len(rows) if of_jets else rows.offsets[-1], np.nan, dtype=np.float32)
    numbers = numbers_of(source, of_jets=of_jets)

    def column(rows: Rows) -> Array:
        raw = numbers(rows)
        values = _indices(raw, source.categories) if source.categories else _converted(raw, source.factor)
        return values if source.missing is None else np.where(raw == source.missing, np.float32(np.nan), values)

    return column


def _converted(raw: Array, factor: float) -> Array:
    """Convert numbers to float32 and to the canonical unit."""
    with np.errstate(over="ignore"):  # a value beyond float32 is infinite, which counts as missing
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
