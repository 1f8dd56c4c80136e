"""Labels of particles that a schema declares: classes, such as the origin of a track, or numbers to regress."""

from __future__ import annotations

import numpy as np
from pydantic import model_validator

from ssl_jets.arrays import Array
from ssl_jets.data.schemas.value import UNITS, FeatureSource, Value


class ParticleLabel(Value):
    """Source of a label of particles. It is read only as a target, never as an input of the encoder."""

    classes: tuple[str, ...] | dict[str, int | tuple[int, ...]] = ()
    """Names of the classes 0, 1, 2, ...; or the name of each class and its value or values. Without, a number."""
    groups: bool = False
    """The number identifies a group, such as a vertex: particles of a jet with the same number belong together,
    particles with a negative number to no group."""
    missing: float | None = None
    """Value in the file that marks a missing label, such as -1; NaN and null are missing in any case."""

    @model_validator(mode="after")
    def _consistent(self) -> ParticleLabel:
        if len(self.names) == 1:
            raise ValueError("a label has two classes or more")
        if len(set(self.names)) < len(self.names):
            raise ValueError("each class is named once")
        values = [value for values in self._values for value in values]
        if len(set(values)) < len(values):
            raise ValueError("each value belongs to one class")
        if (self.classes or self.groups) and self.factor != 1.0:
            raise ValueError("classes and groups have no unit")
        if self.classes and self.groups:
            raise ValueError("a label is one of: classes, groups")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes; empty for a number."""
        return tuple(self.classes)

    @property
    def canonical_unit(self) -> str:
        """Unit of a number in `Jets`."""
        return UNITS[self.unit][0]

    @property
    def source(self) -> FeatureSource:
        """The source as a feature; its categories are the values of all classes, class by class."""
        categories = tuple(value for values in self._values for value in values)
        return FeatureSource(
            branch=self.branch, formula=self.formula, unit=self.unit, missing=self.missing, categories=categories
        )

    @property
    def class_of_category(self) -> Array:
        """Class of each category of `source`, with one more entry for unlisted values, float32 `[category + 1]`.

        Classes 0 and (3, 4, 5) give [0, 1, 1, 1, 2].
        """
        lengths = [len(values) for values in self._values]
        return np.repeat(np.arange(len(lengths) + 1, dtype=np.float32), [*lengths, 1])

    @property
    def _values(self) -> list[tuple[int, ...]]:
        if not isinstance(self.classes, dict):
            return [(number,) for number in range(len(self.classes))]
        return [values if isinstance(values, tuple) else (values,) for values in self.classes.values()]
