"""Moves of a jet as a whole, of its particles and of the elements of its collections alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from ssl_jets.jets import Jets


def move_together(jets: Jets, change: Callable[[Jets], Jets]) -> Jets:
    """Change the particles, and the elements of each collection with deta and dphi, in the same way."""
    changed = change(jets)
    if not jets.collections:
        return changed
    collections = {
        name: change(elements) if {"deta", "dphi"} <= {*elements.columns} else elements
        for name, elements in jets.collections.items()
    }
    return replace(changed, collections=collections)


def signed(uniform: Tensor, jets: Jets) -> Tensor:
    """Map numbers in [0, 1) `[jet]` to [-1, 1) `[particle]`, the same for all particles of a jet."""
    return (2 * uniform - 1).to(jets.particles.dtype)[jets.jet_of_particle]


def with_values(jets: Jets, **changed: Tensor) -> Jets:
    """Return the jets with other values of the particle columns of these names, each `[particle]`."""
    particles = jets.particles.clone()
    for name, values in changed.items():
        particles[:, jets.columns.index(name)] = values.to(particles.dtype)
    return replace(jets, particles=particles)
