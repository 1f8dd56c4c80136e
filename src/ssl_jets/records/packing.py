"""Packed columns of awkward records of particles, and results in the nesting of the records.

Names of fields are those of vector and coffea: `pt`, `eta`, `phi` with `mass` or `energy`, or what behaviors compute
from other components, such as px, py, pz, E.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ssl_jets.arrays import Array
from ssl_jets.errors import DataError, UsageError

ENERGY, MASS, CHARGE = ("energy", "E", "e"), ("mass", "m", "M"), ("charge", "q")
"""Names of fields."""
_EXPECTED = "an awkward array of particles [jet, particle] or [event, jet, particle]"


@dataclass(frozen=True)
class Packed:
    """Particles of records, end to end.

    Attributes:
        columns: pt, deta, dphi and further columns, each float32 `[particle]`, in GeV and rad.
        counts: particles of each jet, int64 `[jet]`.
        jets_of_event: jets of each event, int64 `[event]`; None if the records have no events.
        axis: eta and phi of each jet, float64 `[jet]`.
        context: numbers of the jets that an encoder may read, float64 `[jet]`: `jet_eta`, the size of eta of the axis,
            and `jet_pt` [GeV] of the records of the jets, as far as they have it.
    """

    columns: dict[str, Array]
    counts: Array
    jets_of_event: Array | None
    axis: tuple[Array, Array]
    context: dict[str, Array]

    def of_jets(self, values: Any, name: str) -> Array:
        """Return numbers of the jets, `[jet]` or in the nesting of the records, as float32 `[jet]`; NaN if missing.

        Raises:
            UsageError: the numbers are not one of each jet.
        """
        import awkward as ak

        if self.jets_of_event is not None and isinstance(values, ak.Array) and values.ndim == 2:
            _same(values, self.jets_of_event, f"context[{name!r}]", axis=1)
            values = ak.flatten(values)
        if isinstance(values, ak.Array):
            values = ak.fill_none(values, np.nan)
        numbers: Array = np.asarray(values, np.float32)
        if numbers.shape != self.counts.shape:
            what, allowed = "the arrays have different structures", [f"[{len(self.counts)}], one number of each jet"]
            raise UsageError(what, where=f"context[{name!r}]", found=[*numbers.shape], allowed=allowed)
        return numbers

    def nested(self, values: Array) -> Any:
        """Return values `[jet, ...]` as `[event, jet, ...]` if the records had events, otherwise as they are."""
        if self.jets_of_event is None:
            return values
        import awkward as ak

        return ak.unflatten(values, self.jets_of_event)


def pack(
    particles: Any, jets: Any = None, columns: Mapping[str, Any] | None = None, may_miss: Collection[str] = ()
) -> Packed:
    """Pack records of particles.

    Args:
        particles: awkward records `[jet, particle]` or `[event, jet, particle]`.
        jets: awkward records of the jets `[jet]` or `[event, jet]`, whose eta and phi are the axis; None for the sum of
            the particles.
        columns: further columns by name: a field of the particles, or an array of their structure.
        may_miss: names of further columns whose missing values become NaN.

    Raises:
        UsageError: not such arrays, another structure of jets, or a field that the records do not have.
        DataError: a missing value, or one that is not finite, of another column.
    """
    import awkward as ak

    if not isinstance(particles, ak.Array) or particles.ndim not in (2, 3):
        kind = f"{type(particles).__name__}" + (f" of {particles.ndim} axes" if hasattr(particles, "ndim") else "")
        raise UsageError("these are not particles of jets", where="particles", found=kind, allowed=[_EXPECTED])
    further = {
        name: _field(particles, value) if isinstance(value, str) else value for name, value in (columns or {}).items()
    }
    jets_of_event = None
    if particles.ndim == 3:
        jets_of_event = ak.to_numpy(ak.num(particles, axis=1))
        _same(jets, jets_of_event, "jets", axis=1)
        particles, jets = ak.flatten(particles, axis=1), None if jets is None else ak.flatten(jets, axis=1)
        further = {name: ak.flatten(values, axis=1) for name, values in further.items()}
    elif jets is not None and len(jets) != len(particles):
        raise UsageError("jets and particles differ", where="jets", found=len(jets), allowed=[len(particles)])
    counts = _flat(ak.num(particles, axis=1), "particles", axis=None).astype(np.int64)
    pt, eta, phi = (_flat(_field(particles, name), name) for name in ("pt", "eta", "phi"))
    found: dict[str, Array] = {"pt": pt}
    energy = _optional(particles, ENERGY)
    mass = None if energy is not None else _optional(particles, MASS)
    if mass is not None:
        found["energy"] = np.hypot(pt * np.cosh(eta), _flat(mass, "mass"))
    elif energy is not None:
        found["energy"] = _flat(energy, "energy")
    charge = _optional(particles, CHARGE)
    if charge is not None:
        found["charge"] = _flat(charge, "charge")
    for name, values in further.items():
        _same(values, counts, f"columns[{name!r}]", axis=1)
        found[name] = _flat(values, name, may_miss=name in may_miss)
    if jets is None:
        axis = _axis_of_sum(pt, eta, phi, counts)
    else:
        axis = (_flat(_field(jets, "eta"), "eta", axis=None), _flat(_field(jets, "phi"), "phi", axis=None))
    context = {"jet_eta": np.abs(axis[0])}
    if (jet_pt := _optional(jets, ("pt",))) is not None:
        context["jet_pt"] = _flat(jet_pt, "pt", axis=None)
    of_jet = np.repeat(np.arange(len(counts)), counts)
    sign = np.where(axis[0] < 0, -1.0, 1.0)[of_jet]
    turn = phi - axis[1][of_jet]
    found |= {"deta": sign * (eta - axis[0][of_jet]), "dphi": turn - 2 * np.pi * np.round(turn / (2 * np.pi))}
    columns = {name: values.astype(np.float32) for name, values in found.items()}
    return Packed(columns, counts, jets_of_event, axis, context)


def constituents(jets: Any) -> Any:
    """Return the particles of records of jets: `jets.constituents` or `jets.particles`, and of links `.pf` of them.

    Raises:
        UsageError: the jets have neither.
    """
    for name in ("constituents", "particles"):
        found = _optional(jets, (name,))
        if found is not None:
            linked = found if _optional(found, ("eta",)) is not None else _optional(found, ("pf",))
            return found if linked is None else linked
    raise UsageError(
        "these jets have no particles",
        where="jets",
        found=", ".join(getattr(jets, "fields", [])) or type(jets).__name__,
        allowed=["jets.constituents", "jets.particles"],
        hint="Jets.from_awkward(particles, jets), Jets.of(arrays, columns) or read_jets(files)",
    )


def _axis_of_sum(pt: Array, eta: Array, phi: Array, counts: Array) -> tuple[Array, Array]:
    """Return eta and phi of the summed momenta; 0 for a jet without particles."""
    of_jet = np.repeat(np.arange(len(counts)), counts)
    px, py, pz = (
        np.bincount(of_jet, weights=component, minlength=len(counts))
        for component in (pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta))
    )
    transverse = np.hypot(px, py)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(counts > 0, np.arcsinh(pz / transverse), 0.0), np.arctan2(py, px)


def _optional(records: Any, names: tuple[str, ...]) -> Any:
    """Return the first field, or computed property, of these names; None without one."""
    fields = getattr(records, "fields", [])
    for name in [name for name in names if name in fields]:
        return records[name]
    for name in names:
        try:
            return getattr(records, name)
        except (AttributeError, TypeError):  # vector: a component that needs one that is not there
            continue
    return None


def _field(records: Any, name: str) -> Any:
    found = _optional(records, (name,))
    if found is None:
        fields = getattr(records, "fields", [])
        raise UsageError("the records lack a field", where=name, found=", ".join(fields) or "no records")
    return found


def _same(values: Any, counts: Array, where: str, *, axis: int) -> None:
    """Check that an array has as many elements in each list."""
    import awkward as ak

    if values is None:
        return
    if len(values) != len(counts) or not np.array_equal(ak.to_numpy(ak.num(values, axis=axis)), counts):
        raise UsageError("the arrays have different structures", where=where, allowed=["one value for each element"])


def _flat(values: Any, name: str, *, axis: int | None = 1, may_miss: bool = False) -> Array:
    """Return values of lists end to end, float64, NaN for missing ones.

    Raises:
        DataError: a missing value, or one that is not finite, unless values may be missing.
    """
    import awkward as ak

    flat = ak.flatten(values, axis=axis) if axis is not None else values
    numbers = np.ma.filled(np.ma.asarray(ak.to_numpy(flat, allow_missing=True)).astype(np.float64), np.nan)
    if not may_miss and (bad := int((~np.isfinite(numbers)).sum())):
        found = f"{bad:,} of {len(numbers):,} values"
        raise DataError("values are missing or not finite", where=name, found=found, hint="select with awkward first")
    result: Array = numbers
    return result
