"""Predictions for jets in memory as arrays: z, class probabilities, regressed columns."""

from __future__ import annotations

import torch

from ssl_jets.arrays import Array
from ssl_jets.jets import Jets
from ssl_jets.model import BATCH, Model, embed_jets, require_finite
from ssl_jets.nn.encoder import Encoder


def encode(encoder: Encoder, jets: Jets, device: torch.device) -> Array:
    """Compute z of jets in memory, float32 `[jet, D]`, in the precision of the device; all of it must be finite."""
    return require_finite(embed_jets(encoder, jets, device=device, batch=BATCH).numpy())


def probabilities(model: Model, z: Array, classes: tuple[str, ...]) -> Array:
    """Compute class probabilities from z, float64 `[jet, class]`, in the order of `classes`."""
    return model.probabilities(z, classes)


def regressed(model: Model, z: Array) -> Array:
    """Compute the regressed columns from z, in the units of the files, float32 `[jet, target]`."""
    return model.regressed(z)
