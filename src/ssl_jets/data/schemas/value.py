"""Sources of numbers in a schema: a branch or a formula, with a unit; features of particles and context of jets."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Literal

from pydantic import AfterValidator, model_validator

from ssl_jets.config import FeatureSettings, Settings, Transform
from ssl_jets.data.schemas.formula import formula
from ssl_jets.jets import UNITS as CANONICAL

UNITS = {
    "GeV": ("GeV", 1.0),
    "MeV": ("GeV", 1e-3),
    "mm": ("mm", 1.0),
    "cm": ("mm", 10.0),
    "m": ("mm", 1000.0),
    "rad": ("rad", 1.0),
    "e": ("e", 1.0),
    "1": ("1", 1.0),
}
"""Unit of a file to the canonical unit of the same dimension, and the factor between them."""

COLUMN_UNITS = {name: unit for name, unit in CANONICAL.items() if unit in UNITS and unit != "1"}
"""Unit of each canonical particle column that has one."""

Unit = Literal["GeV", "MeV", "mm", "cm", "m", "rad", "e", "1"]


def _parsed(text: str) -> str:
    formula(text)
    return text


FormulaText = Annotated[str, AfterValidator(_parsed)]
"""A formula over branches, see `formula.py`."""


class Value(Settings):
    """Source of a number: exactly one of `branch` and `formula`."""

    branch: str | None = None
    """The branch that holds it."""
    formula: FormulaText | None = None
    """The formula that computes it, such as `hypot(px, py)`."""
    unit: Unit = "1"
    """Unit in the file; values are converted to GeV and mm."""

    @model_validator(mode="after")
    def _one_source(self) -> Value:
        self._check_source(branch=self.branch, formula=self.formula)
        return self

    @staticmethod
    def _check_source(**sources: object) -> None:
        if sum(source is not None for source in sources.values()) != 1:
            raise ValueError(f"it comes from exactly one of: {', '.join(sources)}")

    @property
    def branches(self) -> tuple[str, ...]:
        """All branches it is computed from."""
        if self.branch is not None:
            return (self.branch,)
        return formula(self.formula).names if self.formula is not None else ()

    @property
    def factor(self) -> float:
        """Factor to the canonical unit: 0.001 for MeV."""
        return UNITS[self.unit][1]

    @property
    def canonical_unit(self) -> str:
        """Unit of the converted values: GeV, if the file has MeV."""
        return UNITS[self.unit][0]


@lru_cache(maxsize=4096)
def branch_value(branch: str) -> Value:
    """Return the source of a jet column that a schema does not name: the branch as it is."""
    return Value(branch=branch)


class FeatureSource(Value):
    """Source of a feature of particles, or of a number of the context of a jet, with its definition."""

    transform: Transform = "none"
    """Transform before the encoder standardizes the values."""
    categories: tuple[int | str, ...] = ()
    """Values of a categorical feature; any other value counts as unlisted."""
    missing: float | None = None
    """Value in the file that marks a missing one, such as -999; NaN and null are missing in any case."""
    target: bool = False
    """Whether decoders of particles predict the feature."""

    @model_validator(mode="after")
    def _defined(self) -> FeatureSource:
        self.definition  # noqa: B018  raises for categories with a transform
        if self.categories and self.factor != 1.0:
            raise ValueError("categories have no unit")
        return self

    @property
    def definition(self) -> FeatureSettings:
        """Definition that becomes a part of the model; values are in the canonical unit."""
        return FeatureSettings(
            unit=UNITS[self.unit][0], transform=self.transform, categories=self.categories, target=self.target
        )
