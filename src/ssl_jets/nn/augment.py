"""Augmentations of packed jets, in physical units.

Every augmentation is a function of jets and one strength, draws random numbers from `nn.random` and never empties a
jet. `docs/augmentations.md` lists what each conserves. Angles are taken as small: rotations, boosts and masses are
computed in the plane around the jet axis, m^2 = sum over pairs of pt_i pt_j dR_ij^2, and a particle that moves in that
plane keeps its energy. Those that move a jet as a whole (rotate, reflect, boost, shift) move the elements of its
collections with it; the others leave elements as they are.

The choice follows JetCLR (Dillon et al., arXiv:2108.04253: rotation, shift, smearing, collinear splitting), with
dropout and crops as in masked and joint-embedding models.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ssl_jets.config import Settings
from ssl_jets.jets import COLUMNS, KINDS, Jets, offsets_of
from ssl_jets.nn import random
from ssl_jets.nn.masking import TRACKS, distance_to_one

_NEUTRAL_KINDS = (KINDS.index("neutral hadron"), KINDS.index("photon"))


class Views(Settings):
    """Strengths of the augmentations of a view, in the order of application; 0 switches one off, `none` all of them."""

    rotate: float = Field(default=math.pi, ge=0, le=math.pi)
    """Rotate each jet about its axis by an angle up to this [rad]."""
    reflect: float = Field(default=0.5, ge=0, le=1)
    """Probability to mirror a jet (dphi to -dphi)."""
    boost: float = Field(default=0.0, ge=0, lt=1)
    """Boost each jet along its axis: pt and energy times a factor up to exp(this) or down to exp(-this)."""
    shift: float = Field(default=0.0, ge=0)
    """Shift all particles of a jet together by up to this in deta and in dphi: a misreconstructed axis."""
    crop_region: float = Field(default=0.0, ge=0, lt=1)
    """Crop up to this fraction of the particles, the farthest from a random particle."""
    crop_hardest: float = Field(default=0.0, ge=0, lt=1)
    """Crop up to this fraction of the particles, the softest."""
    thin: float = Field(default=0.0, ge=0, lt=1)
    """Drop up to this fraction of the particles, independent of pt."""
    drop: float = Field(default=0.1, ge=0, lt=1)
    """Probability to drop a particle of zero pt; it falls as exp(-pt / 2 GeV)."""
    split: float = Field(default=0.0, ge=0, le=1)
    """Probability to split a neutral particle into two collinear ones."""
    smear: float = Field(default=0.1, ge=0)
    """Smear deta and dphi of each particle by normal noise of width this / pt [GeV]; at most 0.1."""
    resolution: float = Field(default=0.0, ge=0)
    """Relative smearing of pt and energy of each particle, this / sqrt(pt in GeV), as in a calorimeter."""
    beam: float = Field(default=0.0, ge=0)
    """Boost each jet along the beam, to an |eta| of its axis up to this; only the energies change."""
    hide_tracks: float = Field(default=0.0, ge=0, le=1)
    """Probability to mark the track columns (d0, dz and their errors) of the whole batch as missing."""
    hide_kind: float = Field(default=0.0, ge=0, le=1)
    """Probability to mark the kind of all particles of the batch as missing."""

    @model_validator(mode="before")
    @classmethod
    def _none_is_zero(cls, values: Any) -> Any:
        return dict.fromkeys(cls.model_fields, 0.0) if values == "none" else values


def make_view(jets: Jets, views: Views) -> Jets:
    """Return an augmented copy of jets; labels and jet columns stay.

    Args:
        jets: the jets, none of them empty.
        views: strengths; 0 switches an augmentation off.

    Returns:
        As many jets, in the same order, each with at least one particle.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> jets = Jets.of([[[50.0, 0.1, 0.0], [9.0, -0.2, 0.1], [1.0, 0.3, 0.2]]], columns=("pt", "deta", "dphi"))
        >>> make_view(jets, Views(thin=0.9)).lengths.tolist()
        [1]
    """
    for augmentation in AUGMENTATIONS:
        strength = getattr(views, augmentation.__name__)
        if strength > 0:
            jets = augmentation(jets, strength)
    return jets


def rotate(jets: Jets, strength: float) -> Jets:
    """Rotate (deta, dphi) of each jet by one angle in [-strength, strength].

    Example:
        >>> jets = Jets.of([[[50.0, 0.3, 0.4]]], columns=("pt", "deta", "dphi"))
        >>> turned = rotate(jets, math.pi)
        >>> f"{torch.hypot(turned.column('deta'), turned.column('dphi')).item():.3f}"
        '0.500'
    """
    uniform = random.uniform_per_jet(jets)

    def rotated(part: Jets) -> Jets:
        angle = _signed(uniform, part) * strength
        cos, sin = angle.cos(), angle.sin()
        deta, dphi = part.column("deta"), part.column("dphi")
        return _with_values(part, deta=cos * deta - sin * dphi, dphi=sin * deta + cos * dphi)

    return _move_together(jets, rotated)


def reflect(jets: Jets, strength: float) -> Jets:
    """Mirror a jet with probability `strength`: dphi and d0 change sign."""
    sign = torch.where(random.uniform_per_jet(jets) < strength, -1.0, 1.0).to(jets.particles.dtype)

    def reflected(part: Jets) -> Jets:
        side = sign[part.jet_of_particle]
        return _with_values(part, **{name: side * part.column(name) for name in ("dphi", "d0") if name in part.columns})

    return _move_together(jets, reflected)


def boost(jets: Jets, strength: float) -> Jets:
    """Boost along the axis: pt and energy times f, angles to the axis divided by f; conserves pt_i pt_j dR_ij^2."""
    uniform = random.uniform_per_jet(jets)

    def boosted(part: Jets) -> Jets:
        factor = (_signed(uniform, part) * strength).exp()
        return _with_values(part.scaled(factor), deta=part.column("deta") / factor, dphi=part.column("dphi") / factor)

    return _move_together(jets, boosted)


def shift(jets: Jets, strength: float) -> Jets:
    """Shift all particles of each jet together, by up to `strength` in deta and in dphi."""
    first, second = random.uniform_per_jet(jets), random.uniform_per_jet(jets)

    def shifted(part: Jets) -> Jets:
        deta = part.column("deta") + _signed(first, part) * strength
        return _with_values(part, deta=deta, dphi=part.column("dphi") + _signed(second, part) * strength)

    return _move_together(jets, shifted)


def crop_region(jets: Jets, strength: float) -> Jets:
    """Keep the particles nearest to a random one, at least the fraction 1 - strength."""
    return _keep_first(jets, jets.rank_within(distance_to_one(jets)), strength)


def crop_hardest(jets: Jets, strength: float) -> Jets:
    """Keep the hardest particles, at least the fraction 1 - strength."""
    return _keep_first(jets, jets.rank_by_pt(), strength)


def thin(jets: Jets, strength: float) -> Jets:
    """Keep random particles, at least the fraction 1 - strength."""
    return _keep_first(jets, jets.rank_within(random.uniform(jets)), strength)


def drop(jets: Jets, strength: float) -> Jets:
    """Drop soft particles, each with probability strength * exp(-pt / 2 GeV), never the hardest of a jet."""
    lost = random.uniform(jets) < strength * (-jets.column("pt").double() / 2).exp()
    return jets.keep(~lost | (jets.rank_by_pt() == 0))


def split(jets: Jets, strength: float) -> Jets:
    """Split neutral particles in two with probability `strength`: fractions s and 1 - s of pt, s in [.05, .95).

    Example:
        >>> jets = Jets.of([[[50.0, 0.1, 0.0, 0.0]]], columns=("pt", "deta", "dphi", "charge"))
        >>> halves = split(jets, 1.0)
        >>> halves.lengths.tolist(), f"{halves.column('pt').sum().item():.1f}"
        ([2], '50.0')
    """
    fraction = (0.05 + 0.9 * random.uniform(jets)).to(jets.particles.dtype)
    chosen = (random.uniform(jets) < strength) & _neutral(jets)
    copies = 1 + chosen.long()
    # particles 0, 1, 2, of which 1 is split -> index 0, 1, 1, 2; first true, true, false, true
    index = torch.repeat_interleave(torch.arange(len(copies), device=copies.device), copies)
    first = torch.ones_like(index, dtype=torch.bool)
    first[1:] = index[1:] != index[:-1]
    factor = torch.where(chosen[index], torch.where(first, fraction[index], 1 - fraction[index]), 1.0)
    particles = jets.particles[index]
    offsets = offsets_of(copies)[jets.offsets]
    features = [at for at, name in enumerate(jets.columns) if name not in COLUMNS]
    if features:  # measured of the whole particle, they describe neither half
        particles[:, features] = particles[:, features].masked_fill(chosen[index].unsqueeze(1), torch.nan)
    return replace(jets, particles=particles, offsets=offsets).scaled(factor)


def smear(jets: Jets, strength: float) -> Jets:
    """Smear the direction of each particle by normal noise of width strength / pt, at most 0.1 (JetCLR)."""
    width = (strength / jets.column("pt").clamp(min=1e-3)).clamp(max=0.1).unsqueeze(1)
    noise = random.normal(jets, 2) * width
    return _with_values(jets, deta=jets.column("deta") + noise[:, 0], dphi=jets.column("dphi") + noise[:, 1])


def resolution(jets: Jets, strength: float) -> Jets:
    """Scale pt and energy of each particle by exp(n strength / sqrt(pt)), n standard normal."""
    width = (strength / jets.column("pt").clamp(min=1e-3).sqrt()).clamp(max=1.0)
    return jets.scaled((random.normal(jets, 1)[:, 0] * width).exp())


def beam(jets: Jets, strength: float) -> Jets:
    """Move the axis to an |eta| in [0, strength): energies become pt cosh(|eta| + deta), as for massless particles.

    The other augmentations keep energies, whose ratio to pt still encodes the original directions and axis.
    """
    if "energy" not in jets.columns:
        return jets
    eta = (random.uniform_per_jet(jets) * strength).to(jets.particles.dtype)[jets.jet_of_particle]
    return _with_values(jets, energy=jets.column("pt") * (eta + jets.column("deta")).cosh())


def hide_tracks(jets: Jets, strength: float) -> Jets:
    """Mark the track columns of the batch as missing with probability `strength`."""
    return _without(jets, TRACKS, strength)


def hide_kind(jets: Jets, strength: float) -> Jets:
    """Mark the kind of the particles of the batch as missing with probability `strength`."""
    return _without(jets, ("kind",), strength)


AUGMENTATIONS: tuple[Callable[[Jets, float], Jets], ...] = (
    rotate, reflect, boost, shift, crop_region, crop_hardest, thin, drop, split, smear, resolution, beam,
    hide_tracks, hide_kind,
)  # fmt: skip
"""All augmentations, in the order of `make_view`; each has the name of its setting in `Views`."""


def _move_together(jets: Jets, change: Callable[[Jets], Jets]) -> Jets:
    """Change the particles, and the elements of each collection with deta and dphi, in the same way."""
    collections = {
        name: change(elements) if {"deta", "dphi"} <= {*elements.columns} else elements
        for name, elements in jets.collections.items()
    }
    return replace(change(jets), collections=collections)


def _signed(uniform: Tensor, jets: Jets) -> Tensor:
    """Map numbers in [0, 1) `[jet]` to [-1, 1) `[particle]`, the same for all particles of a jet."""
    return (2 * uniform - 1).to(jets.particles.dtype)[jets.jet_of_particle]


def _with_values(jets: Jets, **changed: Tensor) -> Jets:
    """Return the jets with other values of the particle columns of these names, each `[particle]`."""
    particles = jets.particles.clone()
    for name, values in changed.items():
        particles[:, jets.columns.index(name)] = values.to(particles.dtype)
    return replace(jets, particles=particles)


def _keep_first(jets: Jets, rank: Tensor, strength: float) -> Jets:
    fraction = 1 - strength * random.uniform_per_jet(jets)
    count = (jets.lengths * fraction).ceil().long()
    return jets.keep(rank < count[jets.jet_of_particle])


def _neutral(jets: Jets) -> Tensor:
    """Return the particles without a track, bool `[particle]`, by charge, kind or d0err; all without these columns."""
    for name, neutral in (("charge", (0,)), ("kind", _NEUTRAL_KINDS), ("d0err", (0,))):
        if name in jets.columns:
            return torch.isin(jets.column(name), torch.tensor(neutral, device=jets.particles.device))
    return torch.ones(len(jets.particles), dtype=torch.bool, device=jets.particles.device)


def _without(jets: Jets, names: tuple[str, ...], strength: float) -> Jets:
    return jets.without(names) if random.once() < strength else jets
