"""What a model says about jets in memory: z, probabilities, regressed columns."""

from __future__ import annotations

import numpy as np
import torch

from ssl_jets.arrays import Array
from ssl_jets.errors import SslJetsError
from ssl_jets.jets import Jets, within_memory
from ssl_jets.model_file import Model
from ssl_jets.nn.encoder import Encoder
from ssl_jets.runtime.precision import autocast, native_precision

BATCH = 512
"""Jets of one forward pass."""


@torch.inference_mode()
def encode(encoder: Encoder, jets: Jets, device: torch.device) -> Array:
    """z of jets in memory, float32 `[jet, D]`, in the precision of the device."""
    encoder = encoder.to(device).eval()
    z = []
    with autocast(device, native_precision(device)):
        for rows in torch.split(torch.arange(len(jets)), BATCH):
            pieces = within_memory(jets.select(rows), BATCH)
            z += [encoder(piece.to(device)).z.float().cpu() for piece in pieces]
    result: Array = torch.cat(z).numpy()
    if lost := int((~np.isfinite(result).all(axis=1)).sum()):
        raise SslJetsError("the model gives z that is not finite", found=f"{lost:,} of {len(result):,} jets")
    return result


@torch.inference_mode()
def probabilities(model: Model, z: Array, classes: tuple[str, ...]) -> Array:
    """Of the model's head, float64 `[jet, class]`, in the order of `classes`."""
    assert model.head is not None
    logits = torch.cat([model.head(rows) for rows in torch.split(torch.from_numpy(z), BATCH)]).double()
    result: Array = logits[:, [model.labels.index(name) for name in classes]].softmax(dim=1).numpy()
    return result


@torch.inference_mode()
def regressed(model: Model, z: Array) -> Array:
    """Of the model's regressor, in the units of the files, float32 `[jet, target]`."""
    assert model.regressor is not None
    result: Array = torch.cat(
        [model.regressor.physical(rows) for rows in torch.split(torch.from_numpy(z), BATCH)]
    ).numpy()
    return result
