"""`Jets`: a batch of jets, packed. Every floor above speaks in these.

All particles of all jets lie end to end and nothing is padded, so no mask is ever inferred from a value, and every
linear layer, norm and loss works on real particles only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ssl_jets.errors import UsageError
from ssl_jets.runtime.short_repr import ShortRepr

COLUMNS = ("pt", "deta", "dphi", "energy", "charge", "kind", "d0", "d0err", "dz", "dzerr")
"""Canonical particle columns: pt, energy [GeV]; deta, dphi relative to the jet axis; charge [e]; kind (an index into
`KINDS`); d0, d0err, dz, dzerr [mm]."""

NEEDED = ("pt", "deta", "dphi")
"""Columns that every jet has."""

KINDS = ("charged hadron", "neutral hadron", "photon", "electron", "muon", "other")
"""Kinds of particle; the column `kind` holds the index."""

USUAL = 256
"""Particles of a jet up to which a batch of a number of jets is meant."""

MASSES = (0.13957, 0.0, 0.0, 0.000511, 0.10566, 0.0)
"""Mass that is assumed of each kind [GeV]: charged hadrons are taken for pions, neutral hadrons for massless."""


def wrap_azimuth(dphi: npt.NDArray[np.float32]) -> None:
    """Turn angles beyond pi back into [-pi, pi], in place; an angle inside keeps every bit.

    Example:
        >>> dphi = np.array([6.0, -0.5], dtype=np.float32)
        >>> wrap_azimuth(dphi)
        >>> [f"{angle:.4f}" for angle in dphi]
        ['-0.2832', '-0.5000']
    """
    beyond = np.flatnonzero((np.abs(dphi) > np.float32(np.pi)) & np.isfinite(dphi))
    turn = dphi[beyond].astype(np.float64)
    dphi[beyond] = turn - 2 * np.pi * np.round(turn / (2 * np.pi))


@dataclass(eq=False, repr=False)
class Jets(ShortRepr):
    """A batch of jets. Not to be changed in place; not `frozen` only because Fabric refuses frozen dataclasses.

    Attributes:
        particles: float32 `[particle, column]`, canonical columns in physical units.
        offsets: int64 `[jet + 1]`; jet i owns the particles `offsets[i]` to `offsets[i + 1]`.
        columns: names of the columns of `particles`, a subset of `COLUMNS` in that order. A column the format lacks
            is absent here: it is never filled with zeros.
        jet: jet-level columns by name, each `[jet]`.
        labels: int64 `[jet]`, an index into the label names of the source; -1 where a jet has none.
        weights: float32 `[jet]`, not negative: what a jet counts where jets are averaged with labels; None where all
            count the same.
        source: int64 `[jet, 3]`: index of the file, entry in the file, number of the jet in the entry.
    """

    particles: Tensor
    offsets: Tensor
    columns: tuple[str, ...] = COLUMNS
    jet: Mapping[str, Tensor] = field(default_factory=dict)
    labels: Tensor | None = None
    weights: Tensor | None = None
    source: Tensor | None = None

    @classmethod
    def of(cls, particles: Sequence[npt.ArrayLike], columns: Sequence[str] = COLUMNS) -> Jets:
        """Jets of your own numbers.

        Args:
            particles: for each jet an array `[particle, column]`, in GeV, mm and rad (`COLUMNS`). dphi may be any
                difference of two azimuths: it is wrapped into [-pi, pi].
            columns: names of its columns, in any order.

        Raises:
            UsageError: an unknown column, one of pt, deta, dphi is missing, an array of another shape, a jet without
                particles, or a value that is not finite.
        """
        if (unknown := set(columns) - set(COLUMNS)) or (lacking := set(NEEDED) - set(columns)):
            found = f"unknown: {', '.join(sorted(unknown))}" if unknown else f"missing: {', '.join(sorted(lacking))}"
            raise UsageError("these are not columns of particles", where="columns", found=found, allowed=COLUMNS)
        order = [list(columns).index(name) for name in COLUMNS if name in columns]
        arrays = [torch.as_tensor(np.asarray(jet, dtype=np.float32)) for jet in particles]
        for number, jet in enumerate(arrays):
            if jet.ndim != 2 or jet.shape[1] != len(columns) or not len(jet) or not jet.isfinite().all():
                wanted = [f"finite numbers [particle, {len(columns)}], at least one particle"]
                found = f"shape {tuple(jet.shape)}, {int((~jet.isfinite()).sum())} values not finite"
                raise UsageError(
                    "these are not the particles of a jet", where=f"jet {number}", found=found, allowed=wanted
                )
        together = torch.cat(arrays)[:, order] if arrays else torch.empty(0, len(order))
        offsets = offsets_of(torch.tensor([len(jet) for jet in arrays], dtype=torch.int64))
        jets = cls(together, offsets, tuple(name for name in COLUMNS if name in columns))
        wrap_azimuth(jets.column("dphi").numpy())
        return jets

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def column(self, name: str) -> Tensor:
        """One particle column, `[particle]`."""
        return self.particles[:, self.columns.index(name)]

    def masses(self) -> Tensor:
        """Assumed mass of each particle by its kind [GeV], `[particle]`; zero where kinds are not known."""
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
        return torch.repeat_interleave(
            torch.arange(len(self), device=self.offsets.device), self.lengths, output_size=len(self.particles)
        )

    def keep(self, mask: Tensor) -> Jets:
        """The same jets with only the particles where `mask` (bool `[particle]`) is true. A jet may become empty."""
        kept_before = torch.cat([mask.new_zeros(1, dtype=torch.int64), mask.cumsum(0)])
        return replace(self, particles=self.particles[mask], offsets=kept_before[self.offsets])

    def select(self, jets: Tensor) -> Jets:
        """The jets with the given indices (int64 `[selected]`), in that order."""
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
            labels=None if self.labels is None else self.labels[jets],
            weights=None if self.weights is None else self.weights[jets],
            source=None if self.source is None else self.source.index_select(0, jets),
        )

    def to(self, device: torch.device | str) -> Jets:
        """The same jets on another device. The copy to a GPU is not waited for, that from it is."""
        asked: Any = {"device": device, "non_blocking": torch.device(device).type != "cpu"}

        def moved(values: Tensor | None) -> Tensor | None:
            return None if values is None else values.to(**asked)

        return replace(
            self,
            particles=self.particles.to(**asked),
            offsets=self.offsets.to(**asked),
            jet={name: values.to(**asked) for name, values in self.jet.items()},
            labels=moved(self.labels),
            weights=moved(self.weights),
            source=moved(self.source),
        )

    def rank_by_pt(self) -> Tensor:
        """Rank of each particle in its jet by falling pt (0 = hardest), int64 `[particle]`. Ties keep their order."""
        return self.rank_within(-self.column("pt"))

    def rank_within(self, values: Tensor) -> Tensor:
        """Rank of each particle in its jet by rising `values`, int64 `[particle]`. Ties keep their order."""
        by_value = torch.argsort(values, stable=True)
        order = by_value[torch.argsort(self.jet_of_particle[by_value], stable=True)]
        rank = torch.empty_like(order)
        rank[order] = torch.arange(len(order), device=order.device) - self.offsets[:-1][self.jet_of_particle]
        return rank

    def sum(self, values: Tensor) -> Tensor:
        """Sum of per-particle `values` `[particle, ...]` over each jet, `[jet, ...]`; zero for an empty jet."""
        return values.new_zeros(len(self), *values.shape[1:]).index_add_(0, self.jet_of_particle, values)

    def mean(self, values: Tensor) -> Tensor:
        """Mean of per-particle `values` `[particle, ...]` over each jet, `[jet, ...]`; zero for an empty jet."""
        return self.sum(values) / self.lengths.clamp(min=1).view(-1, *[1] * (values.dim() - 1))

    def mass(self) -> Tensor:
        """Invariant mass of each jet from pt, deta and dphi of its particles taken as massless, `[jet]` [GeV]."""
        pt, deta, dphi = (self.column(name).double() for name in ("pt", "deta", "dphi"))
        momentum = torch.stack([pt * deta.cosh(), pt * dphi.cos(), pt * dphi.sin(), pt * deta.sinh()], dim=1)
        energy, *along = self.sum(momentum).unbind(1)
        return (energy.square() - torch.stack(along).square().sum(0)).clamp(min=0).sqrt().float()

    def scaled_to(self, pt: Tensor) -> Jets:
        """The jets with all momenta scaled so that the pt of their particles add up to `pt`, `[jet]` [GeV]."""
        factor = pt / self.sum(self.column("pt"))
        particles = self.particles.clone()
        scaled = [self.columns.index(name) for name in ("pt", "energy") if name in self.columns]
        particles[:, scaled] *= factor[self.jet_of_particle].unsqueeze(1)
        return replace(self, particles=particles)

    def to_padded(self, length: int | None = None, value: float = 0.0) -> tuple[Tensor, Tensor]:
        """Particles as `[jet, length, column]` and a bool mask `[jet, length]`, true for real ones (for the edges)."""
        length = int(self.lengths.max()) if length is None else length
        position = torch.arange(len(self.particles), device=self.offsets.device) - self.offsets[self.jet_of_particle]
        fits = position < length
        row, position = self.jet_of_particle[fits], position[fits]
        padded = self.particles.new_full((len(self), length, self.particles.shape[1]), value)
        mask = torch.zeros(len(self), length, dtype=torch.bool, device=self.offsets.device)
        padded[row, position] = self.particles[fits]
        mask[row, position] = True
        return padded, mask


def within_memory(jets: Jets, size: int) -> Iterator[Jets]:
    """Cut a batch where its jets are long: memory counts particles, and pairs of them, where a batch counts jets.

    Args:
        jets: at most `size` jets. They come as they are unless they have more than `USUAL` particles in the mean (or in
            the root mean square).
        size: jets of a batch of usual jets.

    Yields:
        consecutive jets, in order: as many as have no more particles, nor pairs, than `size` jets of `USUAL`
        particles; a single jet however long.
    """
    budgets = torch.tensor([size * USUAL, size * USUAL**2])
    costs = torch.stack([jets.lengths, jets.lengths.square()], dim=1).cpu()
    if not len(jets) or bool((costs.sum(0) <= budgets).all()):
        yield jets
        return
    first, spent = 0, torch.zeros_like(budgets)
    for number, cost in enumerate(costs):
        if number > first and bool((spent + cost > budgets).any()):
            yield jets.select(torch.arange(first, number))
            first, spent = number, torch.zeros_like(budgets)
        spent = spent + cost
    yield jets.select(torch.arange(first, len(jets)))


def offsets_of(lengths: Tensor) -> Tensor:
    """int64 `[jet]` lengths to int64 `[jet + 1]` offsets."""
    return torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])


def concatenate(batches: Sequence[Jets]) -> Jets:
    """One batch of all jets of `batches`, in order. All must have the same columns."""
    first = batches[0]
    if len(batches) == 1:
        return first
    labels = [batch.labels for batch in batches if batch.labels is not None]
    weights = [batch.weights for batch in batches if batch.weights is not None]
    source = [batch.source for batch in batches if batch.source is not None]
    return Jets(
        particles=torch.cat([batch.particles for batch in batches]),
        offsets=offsets_of(torch.cat([batch.lengths for batch in batches])),
        columns=first.columns,
        jet={name: torch.cat([batch.jet[name] for batch in batches]) for name in first.jet},
        labels=torch.cat(labels) if len(labels) == len(batches) else None,
        weights=torch.cat(weights) if len(weights) == len(batches) else None,
        source=torch.cat(source) if len(source) == len(batches) else None,
    )
