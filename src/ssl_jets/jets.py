"""`Jets`: a packed batch of jets, the type that every part of the package passes on.

The particles of all jets are stored end to end without padding, so no mask is ever inferred from a value, and every
linear layer, norm and loss works on real particles only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ssl_jets.errors import DataError, SslJetsError, UsageError, nearest
from ssl_jets.records.indices import indices_of
from ssl_jets.records.packing import Packed, pack
from ssl_jets.records.particles import require_columns, require_possible, tables_of, wrap_azimuth
from ssl_jets.runtime.short_repr import ShortRepr

UNITS = {
    "pt": "GeV", "deta": "1", "dphi": "rad", "energy": "GeV", "charge": "e", "kind": "index",
    "d0": "mm", "d0err": "mm", "dz": "mm", "dzerr": "mm",
}  # fmt: skip
"""Unit of each canonical particle column; deta, dphi are relative to the jet axis, d0 is (x py - y px) / pt."""

COLUMNS = tuple(UNITS)
"""Canonical particle columns, in their order."""

NEEDED = ("pt", "deta", "dphi")
"""Columns that every particle has."""

KINDS = ("charged hadron", "neutral hadron", "photon", "electron", "muon", "other")
"""Particle types; the column `kind` holds the index."""

TRUTH = "truth:"
"""Begins the name of a column of particles that holds labels of them, such as `truth:origin`; no encoder reads it."""

USUAL_LENGTH = 256
"""Particles of a usual jet: a batch size counts jets of up to this length."""

MASSES = (0.13957, 0.0, 0.0, 0.000511, 0.10566, 0.0)
"""Mass hypothesis of each kind [GeV]: the pion mass for charged hadrons, zero for neutral ones."""


@dataclass(eq=False, repr=False)
class Jets(ShortRepr):
    """A packed batch of jets. Do not change it in place (it is not `frozen` because Fabric rejects frozen dataclasses).

    Attributes:
        particles: float32 `[particle, column]`, canonical columns in physical units.
        offsets: int64 `[jet + 1]`; jet i owns the particles `offsets[i]` to `offsets[i + 1]`.
        columns: names of the columns of `particles`: a subset of `COLUMNS` in that order, then features of a schema,
            then labels of particles (`TRUTH`). A column the format lacks is absent here; it is never filled with zeros.
            A missing value of a feature or label is NaN.
        jet: jet-level columns by name, each `[jet]`.
        context: jet-level numbers that the encoder may read, by name, each float32 `[jet]`; NaN where missing.
        collections: elements of further collections by name: `Jets` of the same jets, with elements as particles. A
            jet of a file without the collection has one element, with NaN for all values.
        labels: int64 `[jet]`, an index into the label names of the source; -1 for an unlabelled jet.
        weights: float32 `[jet]`, not negative: weight of each jet in losses and metrics with labels; None for equal
            weights.
        source: int64 `[jet, 3]`: index of the file, entry in the file, number of the jet in the entry.
        second: the same jets of the same events seen a second time (`data.pairs`), row by row; None without pairs.

    Example:
        >>> leading = [[310.0, 0.02, -0.01], [95.0, -0.11, 0.07]]
        >>> jets = Jets.of([leading, [[50.0, 0.1, 0.2]]], columns=("pt", "deta", "dphi"))
        >>> len(jets), jets.lengths.tolist(), jets.offsets.tolist()
        (2, [2, 1], [0, 2, 3])
        >>> jets.sum(jets.column("pt")).tolist()
        [405.0, 50.0]
    """

    particles: Tensor
    offsets: Tensor
    columns: tuple[str, ...] = COLUMNS
    jet: Mapping[str, Tensor] = field(default_factory=dict)
    context: Mapping[str, Tensor] = field(default_factory=dict)
    labels: Tensor | None = None
    weights: Tensor | None = None
    source: Tensor | None = None
    second: Jets | None = None
    collections: Mapping[str, Jets] = field(default_factory=dict)

    @classmethod
    def of(cls, particles: Sequence[Any], columns: Sequence[str] = COLUMNS, *, features: Sequence[str] = ()) -> Jets:
        """Build jets from arrays of your own.

        Args:
            particles: an array `[particle, column]` for each jet, in GeV, mm and rad (`COLUMNS`), or a table with
                named columns. dphi may be any difference of two azimuths: it is wrapped into [-pi, pi].
            columns: names of the columns of an array, in any order; names to read from a table.
            features: names among `columns` that are features of a model: NaN for a missing value, a category by index.

        Raises:
            UsageError: a column is unknown, there twice or missing (pt, deta, dphi), an array of another shape, a jet
                without particles, or a value that files may not have (docs/conventions.md), as pt 0 of padding.

        Example:
            >>> jets = Jets.of([[[0.02, 310.0, 6.28]]], columns=("deta", "pt", "dphi"))
            >>> jets.columns, [round(value, 4) for value in jets.particles[0].tolist()]
            (('pt', 'deta', 'dphi'), [310.0, 0.02, -0.0032])
        """
        require_columns(columns, COLUMNS, features, needed=(*NEEDED, *features))
        names = (*(name for name in COLUMNS if name in columns), *features)
        order = [list(columns).index(name) for name in names]
        arrays = [torch.as_tensor(table) for table in tables_of(particles, columns, features)]
        packed = torch.cat(arrays)[:, order] if arrays else torch.empty(0, len(order))  # [particle, column]
        offsets = offsets_of(torch.tensor([len(jet) for jet in arrays], dtype=torch.int64))
        jets = cls(packed, offsets, names)
        wrap_azimuth(jets.column("dphi").numpy())
        jets._require_possible(UsageError, f"jet[jet[:, {list(columns).index('pt')}] > 0]")
        return jets

    @classmethod
    def from_awkward(
        cls,
        particles: Any,
        jets: Any = None,
        *,
        columns: Mapping[str, Any] | None = None,
        features: Mapping[str, Any] | None = None,
        context: Mapping[str, npt.ArrayLike] | None = None,
    ) -> Jets:
        """Build jets from awkward records of particles, such as those of vector and coffea.

        Args:
            particles: records `[jet, particle]` or `[event, jet, particle]` with pt, eta, phi, optionally mass or
                energy, and charge, in GeV; the jets of events come event by event.
            jets: records of the jets `[jet]` or `[event, jet]`, whose eta and phi are the axis; by default the sum of
                the particles.
            columns: further columns (`COLUMNS`), in their units: a field, or an array of the structure of `particles`.
            features: the same for features of a model; a missing value is None or NaN, a category its index.
            context: numbers of the jets that a model reads, by name, `[jet]` or `[event, jet]`.

        Raises:
            UsageError: other arrays, a field or structure that does not fit, or an unknown column.
            DataError: a value is missing, not finite, or one that files may not have.

        Example:
            >>> import awkward as ak
            >>> events = ak.Array([[[{"pt": 9.0, "eta": 1.0, "phi": 3.1, "mass": 0.0}]], []])  # one jet, none
            >>> jets = Jets.from_awkward(events)
            >>> jets.columns, jets.lengths.tolist()
            (('pt', 'deta', 'dphi', 'energy'), [1])
        """
        further = {**(columns or {}), **(features or {})}
        return cls.from_packed(pack(particles, jets, further, may_miss=features or ()), context, features or ())

    @classmethod
    def from_packed(
        cls, packed: Packed, context: Mapping[str, npt.ArrayLike] | None = None, features: Collection[str] = ()
    ) -> Jets:
        """Build jets from packed columns.

        Raises:
            UsageError: an unknown column, or context of other jets.
            DataError: a value that files may not have.
        """
        require_columns(tuple(packed.columns), COLUMNS, features)
        names = (*(name for name in COLUMNS if name in packed.columns), *features)
        particles = torch.from_numpy(np.stack([packed.columns[name] for name in names], axis=1))
        numbers = {name: torch.from_numpy(packed.of_jets(one, name)) for name, one in (context or {}).items()}
        made = cls(particles, offsets_of(torch.from_numpy(packed.counts)), names, context=numbers)
        made._require_possible(DataError, "particles[particles.pt > 0]")
        return made

    def _require_possible(self, error: type[SslJetsError], real: str) -> None:
        names = [name for name in self.columns if name in COLUMNS]
        particles, offsets = self.particles[:, : len(names)].numpy(), self.offsets.numpy()
        require_possible(particles, names, offsets, kinds=len(KINDS), error=error, real=real)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, jets: int | slice | Tensor | npt.ArrayLike) -> Jets:
        """Return jets by number, slice, indices or mask, as `select` does; one number gives `Jets` of one jet.

        Example:
            >>> jets = Jets.of([[[310.0, 0, 0], [0.4, 0, 0]], [[50.0, 0, 0]]], ("pt", "deta", "dphi"))
            >>> jets[0].lengths.tolist(), jets[-1:].lengths.tolist(), [len(jet) for jet in jets]
            ([2], [1], [1, 1])
        """
        key: Any = jets
        one = hasattr(key, "__index__") and np.ndim(key) == 0 and not isinstance(key, bool | np.bool_)
        return self.select([key] if one else key)

    def __iter__(self) -> Iterator[Jets]:
        return (self[number] for number in range(len(self)))

    def column(self, name: str) -> Tensor:
        """Return one particle column, `[particle]`.

        Raises:
            UsageError: the jets do not have it.
        """
        if name not in self.columns:
            raise UsageError("the jets have no such column", found=name, allowed=nearest(name, self.columns))
        return self.particles[:, self.columns.index(name)]

    def masses(self) -> Tensor:
        """Return the mass hypothesis of each particle [GeV], `[particle]`; zero without the column `kind`."""
        if "kind" not in self.columns:
            return torch.zeros_like(self.column("pt"))
        return self.particles.new_tensor(MASSES)[self.column("kind").long()]

    @property
    def lengths(self) -> Tensor:
        """Particles of each jet, int64 `[jet]`."""
        return self.offsets[1:] - self.offsets[:-1]

    @property
    def jet_of_particle(self) -> Tensor:
        """The jet each particle belongs to, int64 `[particle]`."""
        jets = torch.arange(len(self), device=self.offsets.device)
        return torch.repeat_interleave(jets, self.lengths, output_size=len(self.particles))

    @property
    def place(self) -> Tensor:
        """Place of each particle in its jet, from 0, int64 `[particle]`."""
        return torch.arange(len(self.particles), device=self.offsets.device) - self.offsets[self.jet_of_particle]

    def second_view(self) -> Jets:
        """Return the second view of each jet: its partner of a pair, else the jet itself; without labels."""
        return replace(self, jet={}, labels=None, weights=None, source=None) if self.second is None else self.second

    def keep(self, mask: Tensor | npt.ArrayLike) -> Jets:
        """Return the jets with only the particles of `mask` (bool `[particle]`). A jet may become empty.

        Raises:
            UsageError: not a mask of all particles, such as indices.

        Example:
            >>> jets = Jets.of([[[310.0, 0, 0], [0.4, 0, 0]], [[50.0, 0, 0]]], ("pt", "deta", "dphi"))
            >>> jets.keep(jets.column("pt") > 0.5).lengths.tolist()
            [1, 1]
        """
        mask = torch.as_tensor(mask, device=self.offsets.device)
        if mask.dtype != torch.bool or mask.shape != self.particles.shape[:1]:  # torch takes integers for indices
            found = f"{mask.dtype} {[*mask.shape]}"
            raise UsageError("this is no mask of the particles", found=found, allowed=[f"bool {[len(self.particles)]}"])
        kept_before = torch.cat([mask.new_zeros(1, dtype=torch.int64), mask.cumsum(0)])
        return replace(self, particles=self.particles[mask], offsets=kept_before[self.offsets])

    def select(self, jets: slice | Tensor | npt.ArrayLike) -> Jets:
        """Return the jets of indices (int64 `[selected]`), in that order, of a mask (bool `[jet]`) or of a slice.

        Negative indices count from the end.

        Raises:
            UsageError: a mask of another length, or not indices of these jets.

        Example:
            >>> jets = Jets.of([[[310.0, 0, 0], [0.4, 0, 0]], [[50.0, 0, 0]]], ("pt", "deta", "dphi"))
            >>> jets.select(torch.tensor([1, 0, 1])).column("pt").round(decimals=1).tolist()
            [50.0, 310.0, 0.4000000059604645, 50.0]
        """
        jets = indices_of(jets, len(self), self.offsets.device)
        first = self.offsets[jets]
        lengths = self.offsets[jets + 1] - first
        offsets = offsets_of(lengths)
        shift = torch.repeat_interleave(first - offsets[:-1], lengths)
        index = torch.arange(len(shift), device=shift.device).add_(shift)
        return Jets(
            particles=self.particles.index_select(0, index),  # on CPUs faster than indexing
            offsets=offsets,
            columns=self.columns,
            jet={name: values[jets] for name, values in self.jet.items()},
            context={name: values[jets] for name, values in self.context.items()},
            collections={name: elements.select(jets) for name, elements in self.collections.items()},
            labels=None if self.labels is None else self.labels[jets],
            weights=None if self.weights is None else self.weights[jets],
            source=None if self.source is None else self.source.index_select(0, jets),
            second=None if self.second is None else self.second.select(jets),
        )

    def to(self, device: torch.device | str) -> Jets:
        """Copy the jets to another device: to a GPU asynchronously, from it synchronously."""
        options: Any = {"device": device, "non_blocking": torch.device(device).type != "cpu"}

        def moved(values: Tensor | None) -> Tensor | None:
            return None if values is None else values.to(**options)

        return replace(
            self,
            particles=self.particles.to(**options),
            offsets=self.offsets.to(**options),
            jet={name: values.to(**options) for name, values in self.jet.items()},
            context={name: values.to(**options) for name, values in self.context.items()},
            collections={name: elements.to(device) for name, elements in self.collections.items()},
            labels=moved(self.labels),
            weights=moved(self.weights),
            source=moved(self.source),
            second=None if self.second is None else self.second.to(device),
        )

    def without(self, names: Collection[str]) -> Jets:
        """Return the jets without particle columns, context and collections of these names: nobody can read them then.

        Example:
            >>> jets = Jets.of([[[310.0, 0, 0, 0.7]]], ("pt", "deta", "dphi", "puppi"), features=["puppi"])
            >>> jets.without(["puppi"]).columns
            ('pt', 'deta', 'dphi')
        """
        kept = [index for index, name in enumerate(self.columns) if name not in names]
        context = {name: values for name, values in self.context.items() if name not in names}
        collections = {name: elements for name, elements in self.collections.items() if name not in names}
        second = None if self.second is None else self.second.without(names)
        jets = replace(self, context=context, collections=collections, second=second)
        if len(kept) == len(self.columns):
            return jets
        return replace(jets, particles=self.particles[:, kept], columns=tuple(self.columns[index] for index in kept))

    def rank_by_pt(self) -> Tensor:
        """Rank each particle in its jet by falling pt (0 = hardest), int64 `[particle]`. Ties keep their order."""
        return self.rank_within(-self.column("pt"))

    def rank_within(self, values: Tensor) -> Tensor:
        """Rank each particle in its jet by rising `values`, int64 `[particle]`. Ties keep their order."""
        by_value = torch.argsort(values, stable=True)
        order = by_value[torch.argsort(self.jet_of_particle[by_value], stable=True)]
        return torch.empty_like(order).scatter_(0, order, self.place)

    def by_pt(self) -> Jets:
        """Return the jets with their particles in falling pt, as in JetClass."""
        particles = torch.empty_like(self.particles)
        particles[self.offsets[self.jet_of_particle] + self.rank_by_pt()] = self.particles
        return replace(self, particles=particles)

    def sum(self, values: Tensor) -> Tensor:
        """Sum per-particle `values` `[particle, ...]` over each jet, `[jet, ...]`; zero for an empty jet."""
        if values.dtype in (torch.bfloat16, torch.float16):  # in bfloat16, 256 + 1 is 256
            values = values.float()
        return values.new_zeros(len(self), *values.shape[1:]).index_add_(0, self.jet_of_particle, values)

    def mean(self, values: Tensor) -> Tensor:
        """Average per-particle `values` `[particle, ...]` over each jet, `[jet, ...]`; zero for an empty jet."""
        return self.sum(values) / self.lengths.clamp(min=1).view(-1, *[1] * (values.dim() - 1))

    def mass(self) -> Tensor:
        """Compute the invariant mass of each jet from pt, deta and dphi of massless particles, `[jet]` [GeV]."""
        pt, deta, dphi = (self.column(name).double() for name in ("pt", "deta", "dphi"))
        momentum = torch.stack([pt * deta.cosh(), pt * dphi.cos(), pt * dphi.sin(), pt * deta.sinh()], dim=1)
        energy, *along = self.sum(momentum).unbind(1)
        return (energy.square() - torch.stack(along).square().sum(0)).clamp(min=0).sqrt().float()

    def scaled(self, factor: Tensor) -> Jets:
        """Multiply pt and energy of each particle by its factor, `[particle]`."""
        particles = self.particles.clone()
        momenta = [index for index, name in enumerate(self.columns) if name in ("pt", "energy")]
        particles[:, momenta] *= factor.to(particles.dtype).unsqueeze(1)
        return replace(self, particles=particles)

    def to_padded(self, length: int | None = None) -> tuple[Tensor, Tensor]:
        """Return particles `[jet, length, column]`, padded with 0, and the mask of real ones, bool `[jet, length]`."""
        length = max(self.lengths.tolist(), default=0) if length is None else length
        position = self.place
        fits = position < length
        row, position = self.jet_of_particle[fits], position[fits]
        padded = self.particles.new_zeros(len(self), length, self.particles.shape[1])
        mask = torch.zeros(len(self), length, dtype=torch.bool, device=self.offsets.device)
        padded[row, position] = self.particles[fits]
        mask[row, position] = True
        return padded, mask


def offsets_of(lengths: Tensor) -> Tensor:
    """Return the offsets, int64 `[jet + 1]`, of jets with `lengths`, int64 `[jet]`."""
    return torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])


def concatenate(batches: Sequence[Jets]) -> Jets:
    """Concatenate batches with the same columns into one; if some are pairs, other jets are paired with themselves."""
    first = batches[0]
    if len(batches) == 1:
        return first
    labels = [batch.labels for batch in batches if batch.labels is not None]
    weights = [batch.weights for batch in batches if batch.weights is not None]
    source = [batch.source for batch in batches if batch.source is not None]
    paired = any(batch.second is not None for batch in batches)
    return Jets(
        particles=torch.cat([batch.particles for batch in batches]),
        offsets=offsets_of(torch.cat([batch.lengths for batch in batches])),
        columns=first.columns,
        jet={name: torch.cat([batch.jet[name] for batch in batches]) for name in first.jet},
        context={name: torch.cat([batch.context[name] for batch in batches]) for name in first.context},
        collections={name: concatenate([one.collections[name] for one in batches]) for name in first.collections},
        labels=torch.cat(labels) if len(labels) == len(batches) else None,
        weights=torch.cat(weights) if len(weights) == len(batches) else None,
        source=torch.cat(source) if len(source) == len(batches) else None,
        second=concatenate([batch.second_view() for batch in batches]) if paired else None,
    )
