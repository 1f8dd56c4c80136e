"""Jets of thousands of particles: the same numbers in less memory, and one message where it does not suffice."""

from __future__ import annotations

import pytest
import torch

from ssl_jets.jets import USUAL_LENGTH, Jets
from ssl_jets.model import Model, embed_jets, within_memory
from ssl_jets.nn.attention import exact
from ssl_jets.nn.attention.attend import AttentionLayout, attend
from support.small_models import made_jets, tiny_encoder

CPU = torch.device("cpu")


def test_a_batch_of_usual_jets_is_not_cut() -> None:
    jets = made_jets([USUAL_LENGTH] * 8)
    (whole,) = within_memory(jets, 8)
    assert whole is jets
    assert [len(piece) for piece in within_memory(made_jets([]), 8)] == [0]


def test_long_jets_make_smaller_batches_in_the_same_order() -> None:
    jets = made_jets([30, 40, 2000, 20, 900, 900, 50])
    pieces = list(within_memory(jets, 10))
    assert len(pieces) > 1
    assert all(len(piece) == 1 or piece.lengths.square().sum() <= 10 * USUAL_LENGTH**2 for piece in pieces)
    assert torch.equal(torch.cat([piece.particles for piece in pieces]), jets.particles)
    assert sum(map(len, pieces)) == len(jets)


def test_z_of_a_long_jet_is_that_of_the_jet_alone_wherever_it_stands() -> None:
    jets = made_jets([30, 700, 20, 600, 50])
    encoder = tiny_encoder(jets).eval()
    assert len(list(within_memory(jets, 5))) > 1
    each = [jets.select(torch.tensor([row])) for row in range(len(jets))]
    alone = torch.cat([embed_jets(encoder, jet, precision="32-true") for jet in each])
    torch.testing.assert_close(embed_jets(encoder, jets, batch=5, precision="32-true"), alone, rtol=1e-4, atol=1e-5)
    z = Model(encoder).embed(jets, batch_size=5, device=CPU)
    assert torch.equal(torch.from_numpy(z), embed_jets(encoder, jets, batch=5))


def _gradients(jets: Jets, *, causal: bool, biased: bool) -> list[torch.Tensor]:
    """Output of attention and the gradients of all that goes in."""
    generator = torch.Generator().manual_seed(0)
    tokens, layout = len(jets.particles), AttentionLayout.of(jets.offsets, causal)
    qkv = [torch.randn(tokens, 2, 8, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(3)]
    bias = [
        torch.randn(many, 2, length, length, generator=generator, dtype=torch.float64).requires_grad_()
        for _, many, length in layout.runs
    ]
    out = attend(*qkv, layout, bias if biased else None)
    (out * torch.randn(out.shape, generator=generator, dtype=torch.float64)).sum().backward()
    return [out.detach(), *(x.grad for x in (*qkv, *(bias if biased else ())) if x.grad is not None)]


def test_attention_in_slices_is_that_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    jets = made_jets([5, 300, 300, 7, 280])
    for causal in (False, True):
        for biased in (False, True):
            found = []
            for long, many in ((10**9, exact.SLICE), (256, exact.SLICE), (256, 300 * 300), (256, 40 * 300)):
                monkeypatch.setattr(exact, "LONG", long)
                monkeypatch.setattr(exact, "SLICE", many)
                found.append(_gradients(jets, causal=causal, biased=biased))
            for other in found[1:]:
                assert len(other) == len(found[0])
                for ours, whole in zip(other, found[0], strict=True):
                    torch.testing.assert_close(ours, whole, rtol=1e-12, atol=1e-12)
