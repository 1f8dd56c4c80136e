"""Stack of transformer blocks, shared by encoders and decoders."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ssl_jets.jets import offsets_of
from ssl_jets.nn.attention import AttentionLayout, attend, attend_padded

PIECE = 1024
"""Tokens per MLP call on a CPU without gradients: its wide tensors then stay in the cache."""


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
        """Update the tokens, `[token, width]` to `[token, width]`."""
        q, k, v = self.qkv(self.norm_attention(x)).view(len(x), 3, self.heads, -1).unbind(1)
        x = x + self.proj(attend(q, k, v, layout, bias).flatten(1))
        if torch.is_grad_enabled() or x.is_cuda:
            return x + self._mlp(x)
        for piece in x.split(PIECE):
            piece += self._mlp(piece)
        return x

    def padded(self, x: Tensor, mask: Tensor, bias: Tensor | None) -> Tensor:
        """Update the tokens of a padded batch, `[jet, token, width]`, with a mask of real tokens `[jet, token]`."""
        q, k, v = self.qkv(self.norm_attention(x)).unflatten(2, (3, self.heads, -1)).unbind(2)
        x = x + self.proj(attend_padded(q, k, v, mask, bias).flatten(2))
        return x + self._mlp(x)

    def _mlp(self, x: Tensor) -> Tensor:
        update: Tensor = self.down(nn.functional.gelu(self.up(self.norm_mlp(x))))
        return update


class Transformer(nn.Module):
    """Blocks and a final norm over packed sets; every jet has extra tokens (class token, registers, z) of its own.

    There is no positional encoding: the output is equivariant under permutations of the particles.

    Attributes:
        checkpointing: store only the tokens between blocks, and recompute the rest in the backward pass.
    """

    checkpointing: bool = False

    def __init__(self, width: int, blocks: int, heads: int) -> None:
        super().__init__()
        stack = [Block(width, heads) for _ in range(blocks)]
        self.blocks = nn.ModuleList(stack)
        self.norm = nn.LayerNorm(width)
        self.apply(init_weights)
        for block in stack:
            # Scaled residual branches: the sum over all blocks starts at order one (GPT-2).
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
            pair_bias: function from the order of the jets (int64 `[jet]`) and their layout to the bias of each run.
            causal: a token attends to itself and earlier tokens only: first the extra tokens, then the particles in
                the order of the input.

        Returns:
            Extra tokens `[jet, extra, width]` and particles `[particle, width]`, in the order of the input.
        """
        extras = extra.shape[1]
        # Jets are sorted by length, so that attention has long runs, and restored only at the end.
        # Lengths 3, 1 with 1 extra token each -> order 1, 0; tokens x1 p3 | x0 p0 p1 p2, layout offsets 0, 2, 6.
        lengths, order = (offsets[1:] - offsets[:-1]).sort(stable=True)
        layout = AttentionLayout.of(offsets_of(lengths + extras), causal)
        first = torch.empty_like(order)
        first[order] = layout.offsets[:-1]
        shift = torch.repeat_interleave(first + extras - offsets[:-1], offsets[1:] - offsets[:-1])
        index = torch.arange(len(particles), device=shift.device) + shift
        extra_index = first[:, None] + torch.arange(extras, device=first.device)
        # The residual stream stays in float32 also under bfloat16 autocast.
        x = torch.empty(len(particles) + extra_index.numel(), particles.shape[1], device=particles.device)
        x = x.index_copy(0, index, particles.float()).index_copy(0, extra_index.flatten(), extra.flatten(0, 1).float())
        bias = None if pair_bias is None else pair_bias(order, layout)
        for block in self.blocks:
            learns = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *(bias or ()), *block.parameters()))
            with torch.set_grad_enabled(learns):  # frozen blocks below the first trainable one store no activations
                if learns and self.checkpointing:
                    x = checkpoint(block, x, layout, bias, use_reentrant=False)
                else:
                    x = block(x, layout, bias)
        x = self.norm(x).float()
        return x[extra_index], x[index]

    def padded(
        self, particles: Tensor, mask: Tensor, extra: Tensor, bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Attend within each jet of a padded batch, as `forward` does, for exported graphs.

        Args:
            particles: `[jet, particle, width]`.
            mask: true for a real particle, bool `[jet, particle]`.
            extra: `[jet, extra, width]`.
            bias: `[jet, head, token, token]` with the extra tokens before the particles.

        Returns:
            Extra tokens `[jet, extra, width]` and particles `[jet, particle, width]`.
        """
        extras = extra.shape[1]
        x = torch.cat([extra, particles], dim=1)  # [jet, token, width]
        real = torch.cat([torch.ones_like(extra[:, :, 0], dtype=torch.bool), mask], dim=1)
        for block in self.blocks:
            x = block.padded(x, real, bias)  # type: ignore[operator]
        x = self.norm(x)
        return x[:, :extras], x[:, extras:]


def init_weights(module: nn.Module) -> None:
    """Initialize linear layers with Xavier-uniform matrices and zero biases (as in MAE)."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
