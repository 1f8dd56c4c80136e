"""Discriminants: formulas of class probabilities, regressed columns and jet columns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ssl_jets.arrays import Array
from ssl_jets.data.schemas.formula import Formula, JetValues
from ssl_jets.errors import UsageError

_ASSIGNMENT = re.compile(r"\s*(?P<name>[^\s=`]+)\s*=(?!=)(?P<formula>.*)", re.DOTALL)


@dataclass(frozen=True)
class Discriminant:
    """A named formula.

    Example:
        >>> one = Discriminant.parse("D_Hbb = Hbb / (Hbb + 0.3 * Hcc + QCD)")
        >>> one.name, one.formula.names
        ('D_Hbb', ('Hbb', 'Hcc', 'QCD'))
        >>> one({"Hbb": np.array([0.5]), "Hcc": np.array([0.0]), "QCD": np.array([0.5])}, 1)
        array([0.5])
    """

    name: str
    formula: Formula

    @classmethod
    def parse(cls, text: str) -> Discriminant:
        """Read `NAME = FORMULA`.

        Raises:
            UsageError: it is no such assignment, or the formula is none.
        """
        found = _ASSIGNMENT.fullmatch(text)
        if found is None:
            hint = "--score 'D_Hbb = Hbb / (Hbb + QCD)'"
            raise UsageError("a discriminant is NAME = FORMULA", where="--score", found=text, hint=hint)
        try:
            parsed = Formula(found["formula"])
        except ValueError as error:
            raise UsageError("a discriminant has no valid formula", where="--score", found=f"{text}: {error}") from None
        one = cls(found["name"], parsed)
        try:
            one({name: np.ones(1) for name in parsed.names}, 1)
        except UsageError as error:  # a sum over particles
            raise UsageError(error.what, where="--score", found=text) from None
        return one

    def __call__(self, values: Mapping[str, Array], jets: int) -> Array:
        """Evaluate the formula, float64 `[jet]`; NaN or infinite where it has no finite value."""
        return self.formula.of_jets(JetValues(values, jets)).astype(np.float64)


def parse_all(texts: Sequence[str], taken: Sequence[str]) -> tuple[Discriminant, ...]:
    """Read discriminants; each may use the ones before it.

    Raises:
        UsageError: as `Discriminant.parse`, or two columns have one name.
    """
    names = set(taken)
    parsed = []
    for text in texts:
        one = Discriminant.parse(text)
        if not one.name.isidentifier():
            hint = "letters, digits and _, as in D_Hbb"
            raise UsageError("a score is named as a variable", where="--score", found=one.name, hint=hint)
        if one.name in names:
            raise UsageError("the output has a column of that name already", where="--score", found=one.name)
        names.add(one.name)
        parsed.append(one)
    return tuple(parsed)
