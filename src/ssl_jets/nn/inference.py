"""Inference of z: batches of jets through a trained encoder, in memory and without gradients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from ssl_jets.jets import Jets, within_memory
from ssl_jets.nn.encoder import Encoded, Encoder
from ssl_jets.runtime.precision import Precision, PrecisionSetting, autocast, resolve_precision

BATCH = 512
"""Jets of one forward pass."""


def default_device(device: torch.device | str | None = None) -> torch.device:
    """Return the named device; by default the GPU, or the CPU of a machine without one."""
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def embed_jets(
    encoder: Encoder,
    jets: Jets,
    *,
    device: torch.device | str = "cpu",
    batch: int = BATCH,
    precision: PrecisionSetting = "auto",
) -> Tensor:
    """Compute z of jets in memory. The encoder is moved to `device` and put into evaluation mode.

    Args:
        encoder: the encoder.
        jets: the jets, on any device.
        device: device of the forward pass.
        batch: most jets of one forward pass; batches of long jets are cut (`within_memory`).
        precision: number format of the forward pass; "auto" is the native one of the device.

    Returns:
        z, float32 `[jet, D]` on the CPU.
    """
    batches = (jets.select(index) for index in torch.arange(len(jets)).split(batch))
    encoded = encode(encoder, batches, device, resolve_precision(precision, device), batch=batch)
    return torch.cat([entry.z for _, entry in encoded])


def encode(
    encoder: Encoder,
    batches: Iterable[Jets],
    device: torch.device | str,
    precision: Precision,
    *,
    batch: int,
    tokens: bool = False,
) -> Iterator[tuple[Jets, Encoded]]:
    """Yield each batch of jets with its z and, if asked for, its tokens (otherwise none), float32 on the CPU."""
    encoder = encoder.to(device).eval()
    for jets in batches:
        z: list[Tensor] = []
        particles: list[Tensor] = []
        for piece in within_memory(jets, batch):
            with torch.inference_mode(), autocast(device, precision):
                encoded = encoder(piece.to(device))
            # Copied outside of inference mode: to the CPU, and as tensors from which gradients may be computed.
            z.append(encoded.z.to("cpu", torch.float32, copy=True))  # [jet, D]
            if tokens:
                particles.append(encoded.tokens.to("cpu", torch.float32, copy=True))  # [particle, width]
        yield jets, Encoded(_joined(z), _joined(particles) if tokens else torch.empty(0, encoder.width))


def _joined(pieces: list[Tensor]) -> Tensor:
    return torch.cat(pieces) if len(pieces) > 1 else pieces[0]
