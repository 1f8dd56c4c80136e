"""The settings of domain adaptation: one class for each way."""

from __future__ import annotations

from pydantic import Field

from ssl_jets.config import Settings
from ssl_jets.nn.domain_distance import SCALES


class DannSettings(Settings):
    """Of `--adapt dann` (`method.dann.*`)."""

    weight: float = Field(default=0.3, gt=0)
    """Largest factor of the reversed gradient; 1 in the paper."""
    gamma: float = Field(default=10.0, gt=0)
    """How fast the factor rises: 2 / (1 + exp(-gamma p)) - 1 of it at the share p of the training."""
    hidden: int = Field(default=128, ge=1)
    """Width of the discriminator."""


class CoralSettings(Settings):
    """Of `--adapt coral` (`method.coral.*`)."""

    weight: float = Field(default=10.0, gt=0)
    """Factor of the loss."""


class MmdSettings(Settings):
    """Of `--adapt mmd` (`method.mmd.*`)."""

    weight: float = Field(default=1.0, gt=0)
    """Factor of the loss."""
    scales: tuple[float, ...] = Field(default=SCALES, min_length=1)
    """Widths of the kernels, in units of the mean squared distance of two jets of the batch."""


class ReweightSettings(Settings):
    """Of `--adapt reweight` (`method.reweight.*`)."""

    clip: float = Field(default=10.0, gt=1)
    """Largest weight of a jet before all are divided by their mean; the smallest is one over it."""
    jets: int = Field(default=10_000, ge=20)
    """Jets of each domain that the weights are fitted and measured on, a half each."""
