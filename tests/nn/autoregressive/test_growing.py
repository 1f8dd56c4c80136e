"""Cache of keys and values: one token at a time gives what the causal transformer gives all at once."""

from __future__ import annotations

import torch

from ssl_jets.nn.autoregressive.growing import GrowingJets
from ssl_jets.nn.transformer import Transformer


@torch.no_grad()
def test_tokens_one_by_one_are_those_of_whole_jets_of_several_lengths() -> None:
    torch.manual_seed(0)
    transformer, counts = Transformer(32, 3, 2), torch.tensor([2, 5, 1, 4])
    x = torch.randn(4, 5, 32)
    real = torch.arange(5) < counts[:, None]
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    expected = transformer(x[real], offsets, x[:, :0], causal=True)[1]
    left, growing = torch.arange(4), GrowingJets(transformer, 4, 5)
    found = torch.zeros_like(x)
    for place in range(5):
        more = (counts[left] > place).nonzero()[:, 0]
        growing.keep(more)
        left = left[more]
        found[left, place] = growing.append(x[left, place])
    torch.testing.assert_close(found[real], expected)
