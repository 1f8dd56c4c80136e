"""From the tokens of a jet to its z: the class token, the mean of the particles, or attention over them.

The pool is the last part of the encoder, so whatever reads z (heads, z files, probes) reads the pooled one.
"""

from __future__ import annotations

from torch import Tensor, nn

from ssl_jets.jets import Jets
from ssl_jets.nn.attention import attend_once
from ssl_jets.nn.trunk import init_weights


class MeanPool(nn.Module):
    """The mean of the particle tokens; zero for a jet without particles."""

    def forward(self, class_token: Tensor, tokens: Tensor, jets: Jets) -> Tensor:
        """`[jet, width]` and `[particle, width]` to `[jet, width]`."""
        return jets.mean(tokens)


class AttentionPool(nn.Module):
    """A block of class attention (CaiT, arXiv:2103.17239; for frozen tokens the attentive probe of arXiv:2404.08471).

        c <- c + W attention(query W_q norm(c), keys and values W_kv norm(tokens))
        c <- c + MLP(norm(c)),      z = norm(c)

    with the class token c. It starts near z = norm(c), as the last maps are small. A jet without particles attends to
    nothing and keeps its class token.

    Args:
        width: numbers of a token.
        heads: heads of the attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_class, self.norm_tokens = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.norm = nn.LayerNorm(width)
        self.apply(init_weights)
        for layer in (self.proj, self.mlp[-1]):
            assert isinstance(layer, nn.Linear)
            layer.weight.data.mul_(0.1)

    def forward(self, class_token: Tensor, tokens: Tensor, jets: Jets) -> Tensor:
        """`[jet, width]` and `[particle, width]` to `[jet, width]`."""
        query = self.query(self.norm_class(class_token)).unflatten(1, (self.heads, -1))
        keys, values = self.key_value(self.norm_tokens(tokens)).unflatten(1, (2, self.heads, -1)).unbind(1)
        z = class_token + self.proj(attend_once(query, keys, values, jets.jet_of_particle).flatten(1))
        pooled: Tensor = self.norm(z + self.mlp(z))
        return pooled
