"""z of jets in memory as an array, for evaluation and protocols."""

from __future__ import annotations

import torch

from ssl_jets.arrays import Array
from ssl_jets.jets import Jets
from ssl_jets.model import BATCH, embed_jets, require_finite
from ssl_jets.nn.encoder import BaseEncoder


def encode(encoder: BaseEncoder, jets: Jets, device: torch.device) -> Array:
    """Compute z of jets in memory, float32 `[jet, D]`, in the precision of the device; all of it must be finite."""
    return require_finite(embed_jets(encoder, jets, device=device, batch=BATCH).numpy())
