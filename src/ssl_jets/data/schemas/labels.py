"""Classes of a file, and the label of each jet: the index of its class."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ssl_jets.arrays import Array
from ssl_jets.data.rows import Rows, texts
from ssl_jets.data.schemas.formula import formula

UNLABELLED = -1
"""Label of a jet of a file without labels."""

NO_CLASS = -2
"""Label of a bad jet: one of no class, or of several."""


class Classes(NamedTuple):
    """Classes of a file, and the branches their labels are computed from.

    Attributes:
        names: names of the classes; empty without labels.
        formulas: for each class a formula that is 1 for its jets and 0 for all others; none where a single branch
            holds the index or the name of the class.
        branches: all branches of labels.
    """

    names: tuple[str, ...] = ()
    formulas: tuple[str, ...] = ()
    branches: tuple[str, ...] = ()

    def labels(self, rows: Rows) -> Array:
        """Return the index of the class of each jet, int64 `[jet]`, or `NO_CLASS`; `UNLABELLED` without branches."""
        if not self.branches:
            return np.full(len(rows), UNLABELLED, dtype=np.int64)
        if self.formulas:
            flags = self._flags(rows)  # [jet, class]
            ones = flags == 1
            classes: Array = np.argmax(ones, axis=1)
            wrong = (ones.sum(axis=1) != 1) | (~ones & (flags != 0)).any(axis=1)
        elif (values := rows.jet[self.branches[0]]).dtype.kind in "OSU":
            index = {name: number for number, name in reversed(list(enumerate(self.names)))}  # the first of equal names
            classes = np.array([index.get(name, NO_CLASS) for name in texts(values)], dtype=np.int64)
            wrong = classes < 0
        else:
            wrong = ~((values >= 0) & (values < len(self.names)))  # NaN, too
            classes = np.where(wrong, 0, values).astype(np.int64)
            wrong |= classes != values
        for branch in self.branches:  # formulas such as `flavour != 5` hold for NaN
            if branch in rows.jet and rows.jet[branch].dtype.kind == "f":
                wrong |= np.isnan(rows.jet[branch])
        return np.where(wrong, NO_CLASS, classes)

    def describe(self, rows: Rows, jet: int) -> str:
        """Return the label of a jet as it is in the file, for messages: `flavour = 7`."""
        if not self.formulas:
            value = rows.jet[self.branches[0]][jet]
            return f"{self.branches[0]} = {texts([value])[0] if isinstance(value, bytes) else value}"
        flags = [f"{text} = {value:g}" for text, value in zip(self.formulas, self._flags(rows)[jet]) if value != 0]
        return ", ".join(flags) or "all labels are 0"

    def _flags(self, rows: Rows) -> Array:
        """Evaluate the formula of each class, float32 `[jet, class]`."""
        return np.stack([formula(text).of_jets(rows).astype(np.float32) for text in self.formulas], axis=1)
