"""The stack of transformer blocks that encoders and decoders share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ssl_jets.jets import offsets_of
from ssl_jets.nn.attention import AttentionLayout, attend

PIECE = 1024
"""Tokens that go through the MLP together on a CPU where no gradient is wanted: its wide tensors stay in the cache."""


class Block(nn.Module):
    """Pre-norm transformer block: x + attention(norm(x)), then x + MLP(norm(x)), with GELU and four-fold width."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, layout: AttentionLayout, bias: Sequence[Tensor] | None = None) -> Tensor:
        """`[token, width]` to `[token, width]`."""
        q, k, v = self.qkv(self.norm_attention(x)).view(len(x), 3, self.heads, -1).unbind(1)
        x = x + self.proj(attend(q, k, v, layout, bias).flatten(1))
        if torch.is_grad_enabled() or x.is_cuda:
            return x + self._mlp(x)
        for piece in x.split(PIECE):
            piece += self._mlp(piece)
        return x

    def _mlp(self, x: Tensor) -> Tensor:
        update: Tensor = self.down(nn.functional.gelu(self.up(self.norm_mlp(x))))
        return update


class Transformer(nn.Module):
    """Blocks and a last norm over packed sets; every jet brings extra tokens (class token, registers, z) of its own.

    No positional encoding: the output of a particle does not depend on the order of the particles.

    Attributes:
        checkpointing: keep only what goes from block to block, and compute the rest again on the way back.
    """

    checkpointing: bool = False

    def __init__(self, width: int, blocks: int, heads: int) -> None:
        super().__init__()
        stack = [Block(width, heads) for _ in range(blocks)]
        self.blocks = nn.ModuleList(stack)
        self.norm = nn.LayerNorm(width)
        self.apply(init_weights)
        for block in stack:
            # What all blocks add together starts at order one (GPT-2).
            for layer in (block.proj, block.down):
                layer.weight.data.mul_((2 * blocks) ** -0.5)

    def forward(
        self,
        particles: Tensor,
        offsets: Tensor,
        extra: Tensor,
        pair_bias: Callable[[Tensor, AttentionLayout], Sequence[Tensor]] | None = None,
        causal: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Attend within each jet over its extra tokens and its particles.

        Args:
            particles: `[particle, width]`, packed.
            offsets: int64 `[jet + 1]`; a jet may have no particles where it has extra tokens.
            extra: `[jet, extra, width]`.
            pair_bias: from the order of the jets (int64 `[jet]`) and their layout to the bias of each run.
            causal: whether a token sees only itself and those before it: first the extra tokens, then the particles in
                the order they are given.

        Returns:
            Extra tokens `[jet, extra, width]` and particles `[particle, width]`, in the order of the input.
        """
        extras = extra.shape[1]
        # Jets are laid out by length, so that attention finds long runs. Nothing is moved back until the end.
        lengths, order = (offsets[1:] - offsets[:-1]).sort(stable=True)
        layout = AttentionLayout.of(offsets_of(lengths + extras), causal)
        first = torch.empty_like(order)
        first[order] = layout.offsets[:-1]
        shift = torch.repeat_interleave(first + extras - offsets[:-1], offsets[1:] - offsets[:-1])
        index = torch.arange(len(particles), device=shift.device) + shift
        extra_index = first[:, None] + torch.arange(extras, device=first.device)
        # The residual stream stays in float32, also where autocast computes the products in bfloat16.
        x = torch.empty(len(particles) + extra_index.numel(), particles.shape[1], device=particles.device)
        x = x.index_copy(0, index, particles.float()).index_copy(0, extra_index.flatten(), extra.flatten(0, 1).float())
        bias = None if pair_bias is None else pair_bias(order, layout)
        for block in self.blocks:
            learns = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *(bias or ()), *block.parameters()))
            with torch.set_grad_enabled(learns):  # a frozen block below all that learns keeps nothing
                if learns and self.checkpointing:
                    x = checkpoint(block, x, layout, bias, use_reentrant=False)
                else:
                    x = block(x, layout, bias)
        x = self.norm(x).float()
        return x[extra_index], x[index]


def init_weights(module: nn.Module) -> None:
    """Xavier-uniform matrices, zero biases (as in MAE)."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
