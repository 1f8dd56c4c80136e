"""Causal transformer on jets that grow by one token at a time, with a cache of keys and values."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from ssl_jets.nn.transformer import Block, Transformer


class GrowingJets:
    """Jets of equal length, with the keys and values of their tokens in each block of a causal transformer.

    A new token attends to the cached ones, so that n tokens cost n tokens, and not 1 + 2 + ... + n.

    Args:
        transformer: the transformer, without gradients.
        jets: number of jets.
        longest: largest number of tokens of a jet.

    Example:
        >>> transformer, x = Transformer(32, 2, 2), torch.randn(2, 5, 32)
        >>> growing = GrowingJets(transformer, 2, 5)
        >>> with torch.no_grad():
        ...     together = transformer(x.flatten(0, 1), torch.tensor([0, 5, 10]), x[:, :0], causal=True)[1]
        ...     one_by_one = torch.stack([growing.append(token) for token in x.unbind(1)], dim=1)
        >>> torch.allclose(one_by_one.flatten(0, 1), together, atol=1e-5)
        True
    """

    def __init__(self, transformer: Transformer, jets: int, longest: int) -> None:
        self.blocks, self.norm = cast(list[Block], list(transformer.blocks)), transformer.norm
        self.jets, self.length = jets, 0
        weight = self.norm.weight
        self.cache = [  # keys and values
            weight.new_empty(2, jets, block.heads, longest, len(weight) // block.heads) for block in self.blocks
        ]

    def append(self, x: Tensor) -> Tensor:
        """Append a token `[jet, width]` to each jet, and return its output, `[jet, width]`."""
        self.length += 1
        x = x.float()
        for block, cache in zip(self.blocks, self.cache, strict=True):
            x = self._through(block, x, cache[:, : self.jets, :, : self.length])
        output: Tensor = self.norm(x).float()
        return output

    def keep(self, jets: Tensor) -> None:
        """Keep these jets only, int64 indices `[jet]` in rising order."""
        if len(jets) == self.jets:
            return
        self.jets = len(jets)
        for cache in self.cache:
            used = cache[:, :, :, : self.length]
            used[:, : self.jets] = used[:, jets]

    def _through(self, block: Block, x: Tensor, cache: Tensor) -> Tensor:
        """Pass the last token `[jet, width]` through a block; its key and value are stored in the last place."""
        q, k, v = block.qkv(block.norm_attention(x)).float().unflatten(1, (3, block.heads, -1)).unbind(1)
        cache[:, :, :, -1] = torch.stack([k, v])
        keys, values = cache  # [jet, head, token, d] each
        x = x + block.proj(scaled_dot_product_attention(q.unsqueeze(2), keys, values).flatten(1))
        updated: Tensor = x + block.mlp(x)
        return updated
