"""Bad jets: jets that cannot be used raise an error, or are left out and counted by reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from typing import Literal

import numpy as np
import torch

from ssl_jets.arrays import Array
from ssl_jets.data.rows import Rows
from ssl_jets.data.schemas.formula_text import quoted
from ssl_jets.data.schemas.labels import NO_CLASS, Classes
from ssl_jets.data.schemas.schema import Schema, known_schemas
from ssl_jets.errors import DataError
from ssl_jets.jets import COLUMNS, KINDS, Jets
from ssl_jets.records.particles import BEYOND, MOMENTUM_BEYOND, NO_KIND, impossible, no_kind

_LOST = "particles of it are not stored in the file"
_EMPTY = "no particles"
_WEIGHT_NOT_FINITE = "its weight is not finite"
_NO_CLASS = "it belongs to no class, or to several"
_NO_KIND = NO_KIND.format(last=len(KINDS) - 1)

_HINTS = {
    _LOST: ", --set data.jets=NAME reads other jets of the file",
    _NO_CLASS: ", --set data.labels=[...] names the classes to use, `labels` in a schema of yours what they are",
    _NO_KIND: "; of a PDG number in your schema, write `kind: {formula: kind(BRANCH)}`",
    **dict.fromkeys(
        [BEYOND.format(name="pt"), BEYOND.format(name="energy"), MOMENTUM_BEYOND],
        "; momenta are in GeV: of a file in MeV, write `unit: MeV` in a schema",
    ),
}
"""Reason to a remedy other than skipping."""


class BadJetError(DataError):
    """A jet that cannot be used, in a file that can be read, and that is not skipped."""

    skipped_by = None


class BadJetFilter:
    """Filter that raises at the first bad jet, or leaves bad jets out and counts them.

    A jet is bad if it has no particles or no class, a weight that is not finite, or a particle with a value that is not
    finite or beyond `LARGEST`, or with a pt that is not positive.

    Args:
        schema: the schema of the file.
        classes: the classes of the file.
        bad_jets: "error" raises, "skip" leaves out.
        may_miss: branches that only features read: there a value that is not finite is a missing one.
    """

    def __init__(
        self,
        schema: Schema,
        classes: Classes,
        bad_jets: Literal["error", "skip"],
        may_miss: Collection[str] = frozenset(),
    ) -> None:
        self._schema, self._classes, self._raises = schema, classes, bad_jets == "error"
        self._may_miss = may_miss
        kind = schema.particles.get("kind")
        self._kind_is_checked = kind is not None and kind.flags is None  # a kind made of flags is always valid

    def apply(self, jets: Jets, rows: Rows) -> tuple[Jets, Counter[str]]:
        """Return the good jets, and the number of bad ones by reason: the first that holds for a jet.

        Raises:
            BadJetError: a jet is bad, unless bad jets are skipped.
        """
        bad = np.zeros(len(jets), dtype=np.bool_)
        skipped: Counter[str] = Counter()
        for reason, wrong in self._findings(jets, rows):
            if not len(wrong):
                continue
            if self._raises:
                raise self._error(reason, wrong, jets, rows)
            new = wrong[~bad[wrong]]
            if len(new):
                skipped[reason] += len(new)
            bad[new] = True
        return (jets.select(torch.from_numpy(np.flatnonzero(~bad))) if bad.any() else jets), skipped

    def _error(self, reason: str, wrong: Array, jets: Jets, rows: Rows) -> BadJetError:
        found, allowed = rows.some(wrong), None
        hint = "--set data.bad_jets=skip leaves such jets out and counts them" + _HINTS.get(reason, "")
        if reason == _NO_CLASS:
            found, allowed = f"{self._classes.describe(rows, wrong[0])}; {found}", self._classes.names
        of_jets = (_LOST, _EMPTY, _WEIGHT_NOT_FINITE, _NO_CLASS)
        if reason not in of_jets and (padding := _padding(self._schema, rows)) is not None:
            hint = padding_hint(self._schema, *padding)
        what = f"a jet cannot be used: {reason}"
        return BadJetError(what, where=rows.where(wrong[0]), found=found, allowed=allowed, hint=hint)

    def _findings(self, jets: Jets, rows: Rows) -> Iterator[tuple[str, Array]]:
        """Yield reasons, each with the indices of its jets in rising order; branches come before columns."""
        if rows.lost is not None:
            yield _LOST, np.flatnonzero(rows.lost)
        for name, elements in rows.collections.items():
            if elements.lost is not None:
                yield f"elements of its {name} are not stored in the file", np.flatnonzero(elements.lost)
        yield _EMPTY, np.flatnonzero(jets.lengths.numpy() == 0)
        if jets.weights is not None:
            yield _WEIGHT_NOT_FINITE, _not_finite(jets.weights.numpy())
        if jets.labels is not None:
            yield _NO_CLASS, np.flatnonzero(jets.labels.numpy() == NO_CLASS)
        for reason, particles in self._particle_findings(jets, rows):
            if len(particles):
                # Particle 3 of offsets [0, 2, 2, 5] belongs to jet 2: jet 1 is empty.
                yield reason, np.unique(np.searchsorted(rows.offsets, particles, "right") - 1)

    def _particle_findings(self, jets: Jets, rows: Rows) -> Iterator[tuple[str, Array]]:
        """Yield reasons, each with the indices of its particles."""
        for name, values in rows.particle.items():
            if name not in self._may_miss:
                yield f"{name} is not finite", _not_finite(values)
        if self._kind_is_checked and "kind" in jets.columns:
            yield no_kind(jets.column("kind").numpy(), len(KINDS))
        names = [name for name in jets.columns if name in COLUMNS]  # features may have any value
        yield from impossible(jets.particles.numpy()[:, : len(names)], names)


def padding_hint(schema: Schema, branch: str = "", value: float = 0) -> str:
    """Return a hint to read lists that are padded with a value, in a branch of which pt is computed."""
    column, name = schema.particles["pt"], quoted(branch)
    base = f"`extends: {schema.name}` and " if schema in known_schemas() else ""
    pads, cut = "zeros", f"{column.formula or quoted(column.branch or '')} > 0"
    if value != 0:
        pads, cut = f"{value:g}", f"abs({name}) >= 0" if np.isnan(value) else f"{name} != {value:g}"
    return f"lists padded with {pads} are read with {base}`particle_cut: {cut}` in a schema: --schema FILE"


def _padding(schema: Schema, rows: Rows) -> tuple[str, float] | None:
    """Return a branch of pt and the value it ends in for most jets, which no real particles have in common; or None."""
    last = (rows.offsets[1:] - 1)[rows.lengths > 0]
    for name in (name for name in schema.particles["pt"].branches if name in rows.particle):
        values, counts = np.unique(rows.particle[name][last], return_counts=True)  # counts NaN as one value
        if len(counts) and counts.max() > max(1, len(last) / 2):
            return name, float(values[counts.argmax()])
    return None


def _not_finite(values: Array) -> Array:
    """Return the indices of values that are NaN or infinite."""
    # A sum is finite unless a value is not (or it overflows, and then the second look finds nothing).
    suspicious = values.dtype.kind == "f" and not np.isfinite(values.sum())
    return np.flatnonzero(~np.isfinite(values)) if suspicious else np.empty(0, dtype=np.int64)
