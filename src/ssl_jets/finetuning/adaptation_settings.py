"""Settings of the adaptations to a target domain."""

from __future__ import annotations

from pydantic import Field

from ssl_jets.config import Settings
from ssl_jets.nn.domain.distance import SCALES

ADAPTED_Z = ("dann", "coral", "mmd", "sinkhorn")
"""Adaptations that compare z of the domains, and so need jets of both in a batch."""


class DannSettings(Settings):
    """Settings of `--adapt dann` (`method.dann.*`)."""

    weight: float = Field(default=0.3, gt=0)
    """Largest factor of the reversed gradient; 1 in the paper."""
    gamma: float = Field(default=10.0, gt=0)
    """Steepness of its ramp: the factor is weight (2 / (1 + exp(-gamma p)) - 1) at the fraction p of the training."""
    hidden: int = Field(default=128, ge=1)
    """Width of the discriminator."""


class CoralSettings(Settings):
    """Settings of `--adapt coral` (`method.coral.*`)."""

    weight: float = Field(default=10.0, gt=0)
    """Factor of the loss."""


class MmdSettings(Settings):
    """Settings of `--adapt mmd` (`method.mmd.*`)."""

    weight: float = Field(default=1.0, gt=0)
    """Factor of the loss."""
    scales: tuple[float, ...] = Field(default=SCALES, min_length=1)
    """Squared widths of the kernels, in units of the mean squared distance of two jets of the batch."""


class SinkhornSettings(Settings):
    """Settings of `--adapt sinkhorn` (`method.sinkhorn.*`)."""

    weight: float = Field(default=0.1, gt=0)
    """Factor of the loss."""
    regularization: float = Field(default=0.5, ge=0.01)
    """Entropic regularization of the transport plans, in units of the mean squared distance of two jets of the batch.
    Smaller values see finer differences, but of few jets mostly their fluctuations, and need more iterations."""


class ReweightSettings(Settings):
    """Settings of `--adapt reweight` (`method.reweight.*`)."""

    clip: float = Field(default=10.0, gt=1)
    """Largest weight of a jet, before all are divided by their mean; the smallest is 1 / clip."""
    jets: int = Field(default=10_000, ge=20)
    """Jets of each domain: one half to fit the weights, one half to measure them."""
