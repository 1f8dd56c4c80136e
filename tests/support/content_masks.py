"""Chance that is a function of the particles, so that reordered, cut and shared batches draw the same numbers.

Each draw has a salt of its own from torch's generator, so that two draws of one loss differ, and the same seed gives
the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from ssl_jets.jets import Jets
from ssl_jets.nn import random


@contextmanager
def chance_by_content() -> Iterator[None]:
    """Within it, `nn.chance` draws by content."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(random, "uniform", uniform)
        patch.setattr(random, "uniform_per_jet", uniform_per_jet)
        yield


def uniform(jets: Jets) -> Tensor:
    """In the place of `chance.uniform`: fixed by the pt of the particle."""
    return _hash(jets.column("pt"))


def uniform_per_jet(jets: Jets) -> Tensor:
    """In the place of `chance.uniform_per_jet`: fixed by the largest pt of the jet."""
    hardest = jets.particles.new_zeros(len(jets)).scatter_reduce(0, jets.jet_of_particle, jets.column("pt"), "amax")
    return _hash(hardest)


def _hash(values: Tensor) -> Tensor:
    salt = float(torch.rand(())) + 1
    return (torch.sin(values.double() * 12.9898 * salt) * 43758.5453).frac().abs()
