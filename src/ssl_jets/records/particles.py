"""Rules for particles, the same for files and for arrays in memory: values that no particle can have."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ssl_jets.arrays import Array
from ssl_jets.errors import SslJetsError, UsageError

ZERO_PT = "pt is zero"
BEYOND = "{name} is beyond 1,000,000"
MOMENTUM_BEYOND = "its momentum pt cosh(deta) is beyond 1,000,000"
NO_KIND = "kind is not an integer from 0 to {last}"

LARGEST = 1e6
"""Largest size of a column of a particle, in its unit (GeV, mm, e): far above any collider and detector, and far below
the numbers at which squares overflow in float32."""


def wrap_azimuth(dphi: npt.NDArray[np.float32]) -> None:
    """Wrap azimuths into [-pi, pi], in place; an angle inside keeps every bit.

    Example:
        >>> dphi = np.array([6.0, -0.5], dtype=np.float32)
        >>> wrap_azimuth(dphi)
        >>> [f"{angle:.4f}" for angle in dphi]
        ['-0.2832', '-0.5000']
    """
    beyond = np.flatnonzero((np.abs(dphi) > np.float32(np.pi)) & np.isfinite(dphi))
    turn = dphi[beyond].astype(np.float64)
    dphi[beyond] = turn - 2 * np.pi * np.round(turn / (2 * np.pi))


def require_columns(
    columns: Sequence[str], canonical: Sequence[str], features: Collection[str], *, needed: Collection[str] = ()
) -> None:
    """Check the names of the columns of particles.

    Args:
        columns: the names.
        canonical: names of canonical columns.
        features: names of features of a model, the only other ones.
        needed: names that must be among them.

    Raises:
        UsageError: one is unknown, missing, or there twice.
    """
    problems = {
        "unknown": set(columns) - {*canonical, *features},
        "missing": set(needed) - set(columns),
        "twice": {name for name in columns if columns.count(name) > 1},
    }
    if found := [f"{kind}: {', '.join(sorted(names))}" for kind, names in problems.items() if names]:
        raise UsageError("these are not columns of particles", where="columns", found=found[0], allowed=canonical)


def impossible(particles: Array, names: Sequence[str]) -> Iterator[tuple[str, Array]]:
    """Yield reasons, each with the indices of its particles, which may be none.

    Values are not finite or beyond `LARGEST`, pt is not positive, or the momentum is beyond `LARGEST`.

    Args:
        particles: canonical columns, `[particle, column]`.
        names: their names.

    Example:
        >>> jet = np.array([[310.0, 0.02], [0.0, 0.0], [-4.0, 0.1]])
        >>> [(reason, found.tolist()) for reason, found in impossible(jet, ("pt", "deta"))]
        [('pt is zero', [1]), ('pt is negative', [2])]
    """
    if particles.size:
        yield from _bounds(particles, names)
        yield from _momenta({name: particles[:, index] for index, name in enumerate(names)})


def no_kind(kind: Array, kinds: int) -> tuple[str, Array]:
    """Return the reason and the indices of particles with a kind that is not an index of `kinds`."""
    return NO_KIND.format(last=kinds - 1), np.flatnonzero((kind < 0) | (kind >= kinds) | (kind % 1 != 0))


def require_possible(
    particles: Array, names: Sequence[str], offsets: Array, *, kinds: int, error: type[SslJetsError], real: str
) -> None:
    """Check that jets in memory follow the rules for particles.

    Args:
        particles: canonical columns, `[particle, column]`.
        names: their names.
        offsets: int64 `[jet + 1]`.
        kinds: number of types of particles.
        error: raised at the first reason.
        real: expression of the particles that are no padding, for the hint.
    """
    findings = list(impossible(particles, names))
    if "kind" in names:
        findings.insert(0, no_kind(particles[:, list(names).index("kind")], kinds))
    for reason, wrong in findings:
        if len(wrong):
            jets = np.unique(np.searchsorted(offsets, wrong, "right") - 1)
            hint = f"{real} leaves padding out" if reason == ZERO_PT else None
            if reason in (MOMENTUM_BEYOND, *(BEYOND.format(name=name) for name in ("pt", "energy"))):
                hint = "momenta are in GeV"
            what, found = (
                f"a jet cannot be used: {reason}",
                f"{len(wrong):,} particles, in {len(jets):,} of {len(offsets) - 1:,} jets",
            )
            raise error(what, where=f"jet {jets[0]}", found=found, hint=hint)


def tables_of(
    particles: Sequence[Any], columns: Sequence[str], features: Collection[str]
) -> list[npt.NDArray[np.float32]]:
    """Return the table of each jet, float32 `[particle, column]`. A table with named columns is read by name.

    Raises:
        UsageError: no numbers, an array of another shape, a table without one of the columns, a jet without particles,
            or a value that is not finite.
    """
    width = len(columns)
    expected = [f"finite numbers [particle, {width}], at least one particle"]
    finite = [index for index, name in enumerate(columns) if name not in features]
    tables: list[npt.NDArray[np.float32]] = []
    for number, jet in enumerate(particles):
        what, where = "these are not the particles of a jet", f"jet {number}"
        try:
            table = np.asarray(_in_order(jet, columns, where), dtype=np.float32)
        except (TypeError, ValueError) as error:
            hint = '[jet for _, jet in table.groupby("JET")]' if hasattr(particles, "groupby") else None
            raise UsageError(what, where=where, found=error, allowed=expected, hint=hint) from None
        shaped = table.ndim == 2 and table.shape[1] == width and len(table)
        if not shaped or not np.isfinite(table[:, finite]).all():
            found = f"shape {table.shape}, {int((~np.isfinite(table)).sum())} values not finite"
            raise UsageError(what, where=where, found=found, allowed=expected)
        tables.append(table)
    return tables


def _in_order(jet: Any, columns: Sequence[str], where: str) -> Any:
    """Return the particles of a jet with `columns` in this order.

    Arrays are returned as they are. Columns with names are selected by name: tables of pandas, polars and pyarrow,
    mappings, structured arrays, awkward records.

    Raises:
        UsageError: a name is not among them.
    """
    named = jet if isinstance(jet, Mapping) else getattr(getattr(jet, "dtype", None), "names", None)
    for attribute in ("column_names", "columns", "fields"):
        named = getattr(jet, attribute, None) if named is None else named
    names = [name for name in (() if named is None else named) if isinstance(name, str)]
    if not names:
        return jet
    if lacking := [name for name in columns if name not in names]:
        hint = "rename the columns, or pass an array, which is read by position"
        what = f"the particles lack a column: {', '.join(lacking)}"
        raise UsageError(what, where=where, found=", ".join(names), hint=hint)
    return np.stack([np.asarray(jet[name], dtype=np.float32) for name in columns], axis=1)  # [particle, column]


def _bounds(particles: Array, names: Sequence[str]) -> Iterator[tuple[str, Array]]:
    """Yield reasons for values beyond `LARGEST` or not finite, also those computed from finite branches."""
    if not names or (particles.max() <= LARGEST and particles.min() >= -LARGEST):  # neither holds for NaN
        return
    for index, name in enumerate(names):
        values = particles[:, index]
        bounded = name not in ("kind", "dphi")  # an index, an angle
        yield f"{name} is not finite", np.flatnonzero(np.isnan(values) if bounded else ~np.isfinite(values))
        if bounded:  # an infinite value overflowed
            yield BEYOND.format(name=name), np.flatnonzero(np.abs(values) > LARGEST)


def _momenta(columns: dict[str, Array]) -> Iterator[tuple[str, Array]]:
    """Yield reasons for a pt that is not positive, and for a momentum beyond `LARGEST`."""
    if "pt" not in columns:
        return
    pt = columns["pt"]
    if not pt.min() > 0:
        yield ZERO_PT, np.flatnonzero(pt == 0)
        yield "pt is negative", np.flatnonzero(pt < 0)
    deta = np.abs(columns["deta"]) if "deta" in columns else np.zeros_like(pt)
    with np.errstate(all="ignore"):
        # The largest pt and |deta| of all particles bound each momentum: mostly one product decides.
        if not float(pt.max()) * np.cosh(float(deta.max())) <= LARGEST:
            momentum = pt * np.cosh(deta.astype(np.float64))
            yield MOMENTUM_BEYOND, np.flatnonzero(momentum > LARGEST)
