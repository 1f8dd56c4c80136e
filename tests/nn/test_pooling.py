"""z from the particle tokens: a function of each jet alone, and of its particles in any order."""

from __future__ import annotations

import math

import pytest
import torch

from ssl_jets.jets import Jets
from ssl_jets.nn.attention.attend import single_query_attention
from ssl_jets.nn.encoder import Encoder
from support.small_models import made_jets, shuffle_particles, tiny_encoder

CLOSE = {"atol": 2e-5, "rtol": 2e-5}


@pytest.fixture(params=["mean", "attention"])
def encoder(request: pytest.FixtureRequest, batch: Jets) -> Encoder:
    return tiny_encoder(batch, pool=request.param).eval()


@torch.no_grad()
def test_z_knows_neither_the_order_of_the_particles_nor_the_other_jets(encoder: Encoder, batch: Jets) -> None:
    z = encoder(batch).z
    torch.testing.assert_close(encoder(shuffle_particles(batch)[0]).z, z, **CLOSE)
    torch.testing.assert_close(encoder(batch.select(torch.tensor([17]))).z[0], z[17], **CLOSE)
    assert z.std(0).mean() > 100 * CLOSE["atol"]


@torch.no_grad()
def test_the_mean_is_that_of_the_tokens(batch: Jets) -> None:
    z, tokens = tiny_encoder(batch, pool="mean")(batch)
    first, second = batch.offsets[3:5]
    torch.testing.assert_close(z[3], tokens[first:second].mean(0))


@torch.no_grad()
def test_a_jet_without_particles_has_a_finite_z(encoder: Encoder) -> None:
    jets = made_jets([3, 5])
    assert encoder(jets.keep(jets.jet_of_particle == 1)).z.isfinite().all()


def test_attention_of_one_query_is_a_softmax_over_each_jet() -> None:
    generator = torch.Generator().manual_seed(0)
    jets, heads, d = made_jets([1, 4, 2]), 2, 8
    q = torch.randn(3, heads, d, generator=generator, requires_grad=True)
    k, v = (torch.randn(7, heads, d, generator=generator, requires_grad=True) for _ in range(2))
    out = single_query_attention(q, 30 * k, v, jets.jet_of_particle)  # large scores: the softmax must not overflow
    expected = []
    for jet, (start, stop) in enumerate(zip(jets.offsets[:-1], jets.offsets[1:])):
        weights = (torch.einsum("hd,nhd->hn", q[jet], 30 * k[start:stop]) / math.sqrt(d)).softmax(1)
        expected.append(torch.einsum("hn,nhd->hd", weights, v[start:stop]))
    torch.testing.assert_close(out, torch.stack(expected))
    ours = torch.autograd.grad(out.square().sum(), (q, k, v), retain_graph=True)
    theirs = torch.autograd.grad(torch.stack(expected).square().sum(), (q, k, v))
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_another_pool_keeps_all_other_weights(batch: Jets) -> None:
    encoder = tiny_encoder(batch, z_width=5)
    before = {name: value.clone() for name, value in encoder.state_dict().items() if not name.startswith("z_out")}
    assert encoder.dim == 5
    encoder.set_pool("attention")
    assert (encoder.dim, encoder.cfg.pool) == (64, "attention")
    assert dict.fromkeys(before, True) == {
        name: torch.equal(value, before[name])
        for name, value in encoder.state_dict().items()
        if not name.startswith("pool.")
    }
    assert encoder(batch).z.shape == (len(batch), 64)
