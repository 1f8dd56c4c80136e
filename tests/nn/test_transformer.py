"""What the transformer keeps for the way back."""

from __future__ import annotations

import pytest
import torch

from ssl_jets.jets import Jets
from ssl_jets.nn.encoder import Encoder
from support.small_models import tiny_encoder


def gradients(encoder: Encoder, jets: Jets, checkpointing: bool) -> tuple[dict[str, torch.Tensor], int]:
    """Gradients by name, and the bytes that the forward pass kept for them."""
    encoder.transformer.checkpointing = checkpointing
    encoder.zero_grad()
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        encoded = encoder(jets)
        loss = encoded.z.square().sum() + encoded.tokens.square().mean()
    loss.backward()
    return {name: p.grad.clone() for name, p in encoder.named_parameters() if p.grad is not None}, sum(kept.values())


@pytest.mark.parametrize(("settings", "share"), [({}, 0.5), ({"pair_bias": True}, 0.8)], ids=str)
def test_checkpointing_gives_the_same_gradients_and_keeps_less(
    batch: Jets, settings: dict[str, bool], share: float
) -> None:
    encoder = tiny_encoder(batch, **settings)
    plain, kept = gradients(encoder, batch, False)
    again, kept_less = gradients(encoder, batch, True)
    assert plain.keys() == again.keys()
    assert all(torch.equal(plain[name], again[name]) for name in plain)
    assert kept_less < kept * share  # the pair bias is outside of the blocks


@pytest.mark.parametrize("checkpointing", [False, True])
def test_blocks_below_all_that_learns_keep_nothing(batch: Jets, checkpointing: bool) -> None:
    encoder = tiny_encoder(batch)
    everything, kept = gradients(encoder, batch, False)
    encoder.requires_grad_(False)
    encoder.transformer.blocks[-1].requires_grad_(True)
    found, kept_less = gradients(encoder, batch, checkpointing)
    assert set(found) == {name for name in everything if name.startswith("transformer.blocks.3.")}
    for name, value in found.items():
        torch.testing.assert_close(value, everything[name])
    assert kept_less < kept / 2
