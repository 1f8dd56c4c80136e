"""Random numbers for particles, jets and batches: the only source of randomness in masks, views and noise.

They come from torch's generator, which the training loop seeds for every step. All methods draw here, so that the
contract tests can replace the draws by functions of the particles, and compare a batch with the same batch reordered,
cut, or distributed over ranks.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor

from ssl_jets.jets import Jets
from ssl_jets.nn.collectives import from_first_rank


def kept_state(device: torch.device) -> AbstractContextManager[None]:
    """Return the context that restores torch's random state of the CPU and of `device`, and asks no other GPU."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def uniform(jets: Jets) -> Tensor:
    """Draw a number in [0, 1) for each particle, float64 `[particle]`."""
    return torch.rand(len(jets.particles), dtype=torch.float64, device=jets.particles.device)


def uniform_per_jet(jets: Jets) -> Tensor:
    """Draw a number in [0, 1) for each jet, float64 `[jet]`."""
    return torch.rand(len(jets), dtype=torch.float64, device=jets.particles.device)


def once() -> float:
    """Draw one number in [0, 1) for the whole batch."""
    return float(torch.rand((), dtype=torch.float64))


def normal(jets: Jets, width: int) -> Tensor:
    """Draw standard normal numbers for each particle, float32 `[particle, width]`."""
    return torch.stack([_normal(uniform(jets)) for _ in range(width)], dim=1)


def normal_per_jet(jets: Jets, width: int) -> Tensor:
    """Draw standard normal numbers for each jet, float32 `[jet, width]`."""
    return torch.stack([_normal(uniform_per_jet(jets)) for _ in range(width)], dim=1)


def directions(width: int, count: int, device: torch.device) -> Tensor:
    """Draw unit vectors in random directions, the same on all ranks, float32 `[width, count]`."""
    vectors = from_first_rank(torch.randn(width, count, device=device))
    return torch.nn.functional.normalize(vectors, dim=0)


def choose(logits: Tensor) -> Tensor:
    """Draw one index for each row of `logits` `[row, index]` by their softmax, int64 `[row]`."""
    return torch.multinomial(logits.softmax(dim=1), 1)[:, 0]


def _normal(uniform: Tensor) -> Tensor:
    value: Tensor = torch.special.ndtri(uniform.clamp(1e-12, 1 - 1e-12))
    return value.float()
