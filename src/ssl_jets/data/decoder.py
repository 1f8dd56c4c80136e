"""`Decoder`: branches of a file to `Jets`, compiled once from the schema of the file and a request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from functools import partial
from types import MappingProxyType
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from ssl_jets.arrays import Array
from ssl_jets.data.bad_jets import BadJetError, BadJetFilter
from ssl_jets.data.collections.decoding import CollectionDecoder
from ssl_jets.data.request import NOT_SELECTED, Request
from ssl_jets.data.rows import Rows
from ssl_jets.data.schemas.columns import Column, feature_column, jet_column, label_column, numbers_of, relative
from ssl_jets.data.schemas.formula import Formula, JetValues, formula
from ssl_jets.data.schemas.formula_text import quoted
from ssl_jets.data.schemas.labels import Classes
from ssl_jets.data.schemas.schema import Schema
from ssl_jets.data.schemas.types import JetTypes
from ssl_jets.jets import COLUMNS, KINDS, TRUTH, Jets
from ssl_jets.records.particles import wrap_azimuth

T = TypeVar("T")

_QUIET = partial(np.errstate, over="ignore", invalid="ignore")
"""Numbers that are infinite in the file or in float32 are no warnings: the bad-jet filter finds them."""


class Available(NamedTuple):
    """Names that a file provides of a schema; of a collection, the names of its features."""

    columns: tuple[str, ...]
    features: tuple[str, ...] = ()
    context: tuple[str, ...] = ()
    particle_labels: tuple[str, ...] = ()
    collections: Mapping[str, tuple[str, ...]] = MappingProxyType({})


class JetTable(NamedTuple):
    """Jets without their particles.

    Attributes:
        columns: jet columns, `[jet]` each.
        labels: class of each jet, int64 `[jet]`.
        weights: weight of each jet, float64 `[jet]`; 0 for one that is not finite.
    """

    columns: dict[str, Array]
    labels: Array
    weights: Array


class Decoder:
    """Compiled schema and request of a file: branches in, `Jets` out.

    Particle values are float32, labels int64, jet columns of the type in the files (integers int64, so that event
    numbers stay exact; see `types.py`), NaN where the file lacks a value.

    Attributes:
        branches: branches to read, each once.
        collections: decoders of further collections by name.
    """

    def __init__(
        self, schema: Schema, available: Available, classes: Classes, types: JetTypes, request: Request
    ) -> None:
        self._schema, self._request = schema, request
        self._classes = classes if request.labels else Classes()
        self._where = None if request.where is None else formula(request.where)
        self._flatten = request.weighting
        self._particle_cut = None if schema.particle_cut is None else formula(schema.particle_cut)
        self._jet_cut = None if schema.jet_cut is None else formula(schema.jet_cut)
        self._compile_jet_columns(types)
        columns = available.columns if request.columns is None else request.columns
        canonical = tuple(name for name in columns if name in COLUMNS)
        features = _present(schema.features, columns, available.features)
        labels = _present(schema.particle_labels, request.particle_labels, available.particle_labels)
        self._columns = (*columns, *(f"{TRUTH}{name}" for name in request.particle_labels))
        self._particle_columns = [_particle_column(schema, name) for name in canonical]
        self._particle_columns += [feature_column(features.get(name)) for name in columns[len(canonical) :]]
        self._particle_columns += [label_column(labels.get(name)) for name in request.particle_labels]
        context = _present(schema.context, request.context, available.context)
        self._context = {name: feature_column(context.get(name), of_jets=True) for name in request.context}
        elements = available.collections
        self.collections = {
            one.name: CollectionDecoder(schema, one, elements.get(one.name, ())) for one in request.collections
        }
        jets = (*request.all_jet_columns, *self._where_columns, *self._by)
        branches = schema.branches_for(canonical, jets, self._classes.branches)
        declared = (*features.values(), *context.values(), *labels.values())
        may_miss = [branch for source in declared for branch in source.branches]
        axis = [branch for one in self.collections.values() for branch in one.jet_branches]
        self.branches = tuple(dict.fromkeys((*branches, *may_miss, *axis)))
        self._filter = BadJetFilter(schema, self._classes, request.bad_jets, may_miss=set(may_miss) - set(branches))

    def _compile_jet_columns(self, types: JetTypes) -> None:
        """Compile the requested jet columns, the weight, and the columns of the selection and of the spectrum."""
        request, compiled = self._request, partial(jet_column, self._schema)
        self._jet_columns = {
            name: compiled(name, types.of[name], rounded=request.rounded) for name in request.jet_columns
        }
        self._weight = None if request.weights is None else compiled(request.weights, np.float32)
        by = () if self._flatten is None else self._flatten.settings.by
        self._by = {name: compiled(name, types.of[name]) for name in by}
        names = () if self._where is None else self._where.names
        self._where_columns = {name: compiled(name, types.of.get(name, np.float64)) for name in names}

    def decode(self, rows: Rows, file: int = 0) -> tuple[Jets, Counter[str]]:
        """Return the good jets in the order of the file, and the number of skipped ones by reason.

        Raises:
            BadJetError: a bad jet, unless they are skipped; a negative weight in any case.
        """
        with _QUIET():
            return self._decode(rows, file)

    def _decode(self, rows: Rows, file: int) -> tuple[Jets, Counter[str]]:
        rows, skipped = self._select_jets(*self._cut_jets(self._unpad(rows)))
        jets = Jets(
            particles=torch.from_numpy(self._particles(rows)),
            offsets=torch.from_numpy(rows.offsets),
            columns=self._columns,
            jet={name: torch.from_numpy(column(rows)) for name, column in self._jet_columns.items()},
            context={name: torch.from_numpy(column(rows)) for name, column in self._context.items()},
            collections={name: decoder.decode(rows) for name, decoder in self.collections.items()},
            labels=torch.from_numpy(self._classes.labels(rows)),
            weights=self._weights(rows),
            source=torch.from_numpy(rows.source(file)),
        )
        if self._request.wrap and "dphi" in self._columns:
            wrap_azimuth(jets.column("dphi").numpy())
        good, bad = self._filter.apply(jets, rows)
        return good, skipped + bad

    def jet_columns(self, rows: Rows) -> dict[str, Array]:
        """Return the jet columns `[jet]` of every jet, also of bad jets and of those that the jet cut removes."""
        with _QUIET():
            rows = self._unpad(rows)
            return {name: column(rows) for name, column in self._jet_columns.items()}

    def jet_table(self, rows: Rows) -> JetTable:
        """Return jet columns, labels and weights of the selected jets, bad ones among them, without their particles."""
        with _QUIET():
            rows, _ = self._select_jets(*self._cut_jets(self._unpad(rows)))
            weights = np.ones(len(rows)) if self._weight is None else self._weight(rows).astype(np.float64)
            columns = {name: column(rows) for name, column in self._jet_columns.items()}
            return JetTable(columns, self._classes.labels(rows), np.nan_to_num(weights, nan=0.0, posinf=0.0))

    def selected(self, rows: Rows) -> Array:
        """Evaluate the selection of the request for all jets, bad ones too; bool `[jet]` if it is a condition.

        Raises:
            UsageError: the formula adds over particles.
        """
        assert self._where is not None
        with _QUIET():
            return self._selected(self._where, self._unpad(rows))

    def _selected(self, where: Formula, rows: Rows) -> Array:
        numbers = {name: column(rows) for name, column in self._where_columns.items()}
        return where.of_jets(JetValues(numbers, len(rows)))

    def _select_jets(self, rows: Rows, skipped: Counter[str]) -> tuple[Rows, Counter[str]]:
        """Keep the selected jets, and count the others."""
        if self._where is None:
            return rows, skipped
        selected = self._selected(self._where, rows)
        return rows.select(selected), skipped + Counter({NOT_SELECTED: int(np.count_nonzero(~selected))})

    def _unpad(self, rows: Rows) -> Rows:
        """Keep the places of the lists that hold particles."""
        return rows if self._particle_cut is None else rows.keep(self._particle_cut.of_particles(rows).astype(bool))

    def _cut_jets(self, rows: Rows) -> tuple[Rows, Counter[str]]:
        """Keep the jets that pass the jet cut, and count the others."""
        if self._jet_cut is None:
            return rows, Counter()
        passed = self._jet_cut.of_jets(rows).astype(bool)
        return rows.select(passed), +Counter({f"not {self._schema.jet_cut}": int(np.count_nonzero(~passed))})

    def _particles(self, rows: Rows) -> Array:
        """Compute the canonical columns and the features, float32 `[particle, column]`."""
        particles = np.empty((int(rows.offsets[-1]), len(self._columns)), dtype=np.float32)
        for position, column in enumerate(self._particle_columns):
            particles[:, position] = column(rows)
        return particles

    def _weights(self, rows: Rows) -> torch.Tensor | None:
        """Compute the weights of the jets, float32 `[jet]`.

        Raises:
            BadJetError: one is negative, however bad jets are treated: skipping them would change the sum of the rest.
        """
        if self._weight is None:
            return None if self._flatten is None else torch.from_numpy(self._factors(rows))
        weights, name = self._weight(rows), self._request.weights or ""
        negative = np.flatnonzero(weights < 0)
        if len(negative):
            raise BadJetError(
                "a jet has a negative weight, with which a loss has no smallest value and a ROC curve is not defined",
                where=f"{rows.where(negative[0])}, column {name}",
                found=f"{weights[negative[0]]:g}; {rows.some(negative)}",
                hint=f"data.weights=weight, with `jets: {{weight: {{formula: abs({quoted(name)})}}}}` in a schema",
            )
        return torch.from_numpy(weights if self._flatten is None else weights * self._factors(rows))

    def _factors(self, rows: Rows) -> Array:
        """Compute the factor of each jet that gives all classes one spectrum, float32 `[jet]`."""
        assert self._flatten is not None
        columns = {name: column(rows) for name, column in self._by.items()}
        factors: Array = self._flatten.of(columns, self._classes.labels(rows)).astype(np.float32)
        return factors


def _present(sources: Mapping[str, T], names: Collection[str], available: Collection[str]) -> dict[str, T]:
    """Return the sources of the names that the file has."""
    return {name: sources[name] for name in names if name in available}


def _particle_column(schema: Schema, name: str) -> Column:
    """Compile a canonical column of particles, in its canonical unit."""
    column = schema.particles[name]
    if column.flags is not None:
        return _kind(column.flags)
    in_file, factor = numbers_of(column), np.float32(column.factor)
    values = in_file if factor == 1.0 else lambda rows: in_file(rows) * factor
    if not column.absolute:
        return values
    assert schema.axis is not None  # a schema without it is refused
    column_of = relative("deta" if name == "deta" else "dphi", values, schema.axis)
    return lambda rows: column_of(rows, rows)


def _kind(flags: Mapping[str, str]) -> Column:
    """Compile the index of the first kind with a flag that is set; "other" if no flag is set."""
    # The flags are the bits of one small number, which a table turns into a kind: several times faster than one mask
    # after another. Flags of photon, electron and muon set to 0, 1, 1 are the code 6, an electron.
    kinds = [KINDS.index(name) for name in flags]
    other = KINDS.index("other")
    codes = range(1 << len(kinds))
    table = np.array(
        [next((kind for bit, kind in enumerate(kinds) if code >> bit & 1), other) for code in codes], dtype=np.float32
    )

    def kind(rows: Rows) -> Array:
        masks = ((rows.particle[branch] != 0).view(np.uint8) for branch in flags.values())
        code = sum(mask << np.uint8(bit) for bit, mask in enumerate(masks))
        column: Array = table.take(code)
        return column

    return kind
