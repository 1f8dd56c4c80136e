"""Features of particles and context of jets, compiled from a schema: branches in, float32 numbers out, NaN if missing.

A categorical feature becomes the index of its category; a value that the schema does not list has the index behind the
last one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ssl_jets.arrays import Array
from ssl_jets.data.rows import Rows, texts
from ssl_jets.data.schemas.formula import formula
from ssl_jets.data.schemas.value import FeatureSource

Column = Callable[[Rows], Array]
"""Computation of one column, `[particle]` or `[jet]`, from the branches of a file."""


def feature_column(source: FeatureSource | None) -> Column:
    """Compile a feature of particles; without a source, of a file that lacks it, it is missing for all."""
    if source is None:
        return lambda rows: np.full(int(rows.offsets[-1]), np.nan, dtype=np.float32)
    if source.branch is None:
        return _converted(formula(source.formula or "").of_particles, source)
    branch = source.branch
    return _converted(lambda rows: rows.particle[branch], source)


def context_column(source: FeatureSource | None) -> Column:
    """Compile a number of the context of jets; without a source, of a file that lacks it, it is missing for all."""
    if source is None:
        return lambda rows: np.full(len(rows), np.nan, dtype=np.float32)
    if source.branch is None:
        return _converted(formula(source.formula or "").of_jets, source)
    branch = source.branch
    return _converted(lambda rows: rows.jet[branch], source)


def _converted(values: Column, source: FeatureSource) -> Column:
    """Compile the conversion of raw values to float32: missing ones, categories, unit."""

    def column(rows: Rows) -> Array:
        raw = values(rows)
        if source.categories:
            return _indices(raw, source)
        with np.errstate(over="ignore"):  # a value beyond float32 is infinite, which counts as missing
            converted: Array = raw.astype(np.float32)
        if source.missing is not None:
            converted = np.where(raw == source.missing, np.float32(np.nan), converted)
        return converted if source.factor == 1.0 else converted * np.float32(source.factor)

    return column


def _indices(raw: Array, source: FeatureSource) -> Array:
    """Return the index of the category of each value, float32.

    Categories 5, 4, 0: the values 0, 5, 7 and NaN have the indices 2, 0, 3 and NaN.
    """
    categories = source.categories
    if raw.dtype.kind in "OSU":
        index = {str(category): number for number, category in enumerate(categories)}
        return np.array([index.get(text, len(categories)) for text in texts(raw)], dtype=np.float32)
    numbers = {category: number for number, category in enumerate(categories) if isinstance(category, int)}
    known = np.array(sorted(numbers), dtype=np.float64)
    positions = np.array([numbers[int(category)] for category in known] + [len(categories)], dtype=np.float32)
    value = raw.astype(np.float64)
    at = np.searchsorted(known, value).clip(max=max(len(known) - 1, 0))
    listed = known[at] == value if len(known) else np.zeros(len(value), dtype=np.bool_)
    indices: Array = positions[np.where(listed, at, len(known))]
    missing = np.isnan(value) if source.missing is None else np.isnan(value) | (value == source.missing)
    return np.where(missing, np.float32(np.nan), indices)
