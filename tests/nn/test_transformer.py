"""Transformer: memory of the backward pass, z alone, dropout and stochastic depth."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ssl_jets.jets import Jets
from ssl_jets.nn.attention import exact
from ssl_jets.nn.attention.attend import AttentionLayout
from ssl_jets.nn.ema import teacher_of
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.transformer import Block, Transformer
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


def z_and_gradients(encoder: Encoder, jets: Jets, z_only: bool) -> dict[str, torch.Tensor]:
    """z, and the gradients of a function of z by the name of the weight."""
    encoder.zero_grad()
    z = encoder(jets, z_only=z_only).z
    (z * torch.linspace(-1, 1, z.shape[1])).sin().sum().backward()
    return {"z": z.detach()} | {name: p.grad.clone() for name, p in encoder.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    "settings",
    [{}, {"registers": 0}, {"pair_bias": True}, {"z_tokens": 3, "z_width": 5}, {"pool": "mean"}, {"blocks": 1}],
    ids=str,
)
@pytest.mark.parametrize("long", [256, 3])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_z_alone_and_its_gradients_are_those_of_the_full_block(
    batch: Jets, settings: dict[str, Any], long: int, checkpointing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exact, "LONG", long)
    monkeypatch.setattr(exact, "SLICE", 200)
    jets = batch.select(torch.tensor([5, 0, 33, 7, 8, 9]))
    encoder = tiny_encoder(batch, **settings)
    encoder.transformer.checkpointing = checkpointing
    full, alone = z_and_gradients(encoder, jets, False), z_and_gradients(encoder, jets, True)
    assert full.keys() == alone.keys()
    for name, value in full.items():
        torch.testing.assert_close(alone[name], value, atol=3e-6 * float(value.abs().max() + 1), rtol=1e-5, msg=name)
    with torch.inference_mode():
        torch.testing.assert_close(encoder.eval()(jets, z_only=True).z, full["z"], atol=3e-6, rtol=1e-5)


def test_z_alone_has_no_tokens_and_a_smaller_last_block(batch: Jets) -> None:
    encoder = tiny_encoder(batch)
    rows: list[int] = []
    encoder.transformer.blocks[-1].up.register_forward_hook(lambda _module, inputs, _out: rows.append(len(inputs[0])))
    assert encoder(batch, z_only=True).tokens.shape == (0, encoder.width)
    assert encoder(batch).tokens.shape == (len(batch.particles), encoder.width)
    assert rows == [len(batch), len(batch.particles) + 9 * len(batch)]


@pytest.mark.parametrize("causal", [False, True])
def test_the_first_extra_tokens_alone_are_those_of_the_full_block_also_for_jets_without_particles(causal: bool) -> None:
    torch.manual_seed(0)
    transformer = Transformer(16, 2, 2)
    lengths = [3, 1, 0, 5, 1]
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    particles, extra = torch.randn(sum(lengths), 16), torch.randn(len(lengths), 3, 16)
    full, _ = transformer(particles, offsets, extra, causal=causal)
    alone, none = transformer(particles, offsets, extra, causal=causal, only=2)
    assert len(none) == 0
    torch.testing.assert_close(alone, full[:, :2], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("rows", [None, 1])
def test_dropout_and_stochastic_depth_keep_the_mean_of_an_update(rows: int | None) -> None:
    torch.manual_seed(0)
    block, layout = Block(16, 2), AttentionLayout.of(torch.arange(0, 4001, 2))
    update = torch.ones(4000 if rows is None else 2000, 16)
    assert block._dropped(update, layout) is update
    block.dropout = 0.2
    numbers = block._dropped(update, layout)
    assert set(numbers.unique().tolist()) == {0.0, 1.25}
    assert numbers.mean() == pytest.approx(1, abs=0.02)
    block.dropout, block.drop_path = 0.0, 0.5
    per_jet = block._dropped(update, layout).view(2000, -1)  # [jet, token * width]
    assert set(per_jet.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(per_jet, per_jet[:, :1].expand_as(per_jet))
    assert per_jet.mean() == pytest.approx(1, abs=0.1)
    assert block.eval()._dropped(update, layout) is update


@torch.no_grad()
def test_stochastic_depth_skips_a_block_for_whole_jets() -> None:
    torch.manual_seed(0)
    transformer = Transformer(16, 2, 2, drop_path=0.5)
    assert [block.drop_path for block in transformer.blocks] == [0.0, 0.5]
    offsets = torch.arange(0, 41, 2)
    x = torch.randn(1, 16).expand(40, 16)
    tokens = transformer(x, offsets, torch.zeros(20, 0, 16))[1].view(20, 2, 16)
    torch.testing.assert_close(tokens[:, 0], tokens[:, 1])  # equal particles of a jet stay equal
    assert 2 <= len(tokens[:, 0].mul(1e4).round().unique(dim=0)) <= 4  # attention, MLP: each kept or skipped


def test_a_teacher_of_a_random_student_is_not_random(batch: Jets) -> None:
    student = tiny_encoder(batch, dropout=0.3, drop_path=0.3).train()
    teacher = teacher_of(student).train()
    assert not torch.equal(student(batch).z, student(batch).z)
    assert torch.equal(teacher(batch).z, teacher(batch).z)
