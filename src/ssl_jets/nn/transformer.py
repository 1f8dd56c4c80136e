"""Stack of transformer blocks, shared by encoders and decoders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ssl_jets.jets import offsets_of
from ssl_jets.nn.attention.attend import AttentionLayout, attend, padded_attention

PIECE = 1024
"""Tokens per MLP call on a CPU without gradients: its wide tensors then stay in the cache."""


class Block(nn.Module):
    """Pre-norm transformer block: x + attention(norm(x)), then x + MLP(norm(x)), with GELU and four-fold width.

    Attributes:
        dropout: probability that a number of an update (of attention or MLP) is set to zero in training.
        drop_path: probability that a jet skips an update in training (stochastic depth, arXiv:1603.09382).
    """

    dropout: float = 0.0
    drop_path: float = 0.0

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(
        self, x: Tensor, layout: AttentionLayout, bias: Sequence[Tensor] | None = None, rows: Tensor | None = None
    ) -> Tensor:
        """Update the tokens, `[token, width]` to `[token, width]`; with `rows` only these, to `[row, width]`.

        `rows` are the first n tokens of each jet, int64 `[jet * n]`; the result is the same, without the cost of the
        queries, the projection and the MLP of the others.
        """
        normed = self.norm_attention(x)
        if rows is None or type(self.qkv) is not nn.Linear:  # a wrapped one, as of LoRA, computes all three
            q, k, v = self.qkv(normed).view(len(x), 3, self.heads, -1).unbind(1)
            q = q if rows is None else q[rows]
        else:
            width, weight, shift = x.shape[1], self.qkv.weight, self.qkv.bias
            q = nn.functional.linear(normed[rows], weight[:width], shift[:width]).unflatten(1, (self.heads, -1))
            k, v = nn.functional.linear(normed, weight[width:], shift[width:]).view(len(x), 2, self.heads, -1).unbind(1)
        x = x if rows is None else x[rows]
        x = x + self._dropped(self.proj(attend(q, k, v, layout, bias).flatten(1)), layout)
        if torch.is_grad_enabled() or x.is_cuda or (self.training and (self.dropout or self.drop_path)):
            return x + self._dropped(self.mlp(x), layout)
        for piece in x.split(PIECE):
            piece += self.mlp(piece)
        return x

    def train(self, mode: bool = True) -> Block:
        """Set training or evaluation mode; a frozen block stays in evaluation mode, without dropout."""
        super().train(mode and any(parameter.requires_grad for parameter in self.parameters()))
        return self

    def padded(self, x: Tensor, mask: Tensor, bias: Tensor | None) -> Tensor:
        """Update the tokens of a padded batch, `[jet, token, width]`, with a mask of real tokens `[jet, token]`."""
        q, k, v = self.qkv(self.norm_attention(x)).unflatten(2, (3, self.heads, -1)).unbind(2)
        x = x + self.proj(padded_attention(q, k, v, mask, bias).flatten(2))
        return x + self.mlp(x)

    def mlp(self, x: Tensor) -> Tensor:
        """Return the update of the tokens `[..., width]` by the MLP."""
        update: Tensor = self.down(nn.functional.gelu(self.up(self.norm_mlp(x))))
        return update

    def _dropped(self, update: Tensor, layout: AttentionLayout) -> Tensor:
        """Apply dropout and stochastic depth to an update `[token, width]`, or `[jet * n, width]`, in training."""
        if self.training and self.dropout:
            update = nn.functional.dropout(update, self.dropout)
        if self.training and self.drop_path:
            kept = torch.rand(layout.jets, device=update.device) >= self.drop_path  # [jet]
            jet, tokens = layout.jet_of_token(), len(update)
            if tokens != len(jet):  # 2 tokens of each of 3 jets: 0 0 1 1 2 2
                jet = torch.arange(layout.jets, device=update.device).repeat_interleave(tokens // layout.jets)
            update = update * (kept / (1 - self.drop_path))[jet].unsqueeze(1)
        return update


class Transformer(nn.Module):
    """Blocks and a final norm over packed sets; every jet has extra tokens (class token, registers, z) of its own.

    There is no positional encoding: the output is equivariant under permutations of the particles.

    Args:
        width: dimension of a token.
        blocks: number of blocks.
        heads: attention heads.
        dropout: probability of dropout on the updates of the residual stream.
        drop_path: probability that a jet skips an update in the last block; it rises linearly from 0 in the first.

    Attributes:
        checkpointing: store only the tokens between blocks, and recompute the rest in the backward pass.
    """

    checkpointing: bool = False

    def __init__(self, width: int, blocks: int, heads: int, *, dropout: float = 0.0, drop_path: float = 0.0) -> None:
        super().__init__()
        stack = [Block(width, heads) for _ in range(blocks)]
        self.blocks = nn.ModuleList(stack)
        self.norm = nn.LayerNorm(width)
        self.apply(init_weights)
        for number, block in enumerate(stack):
            block.dropout, block.drop_path = dropout, drop_path * number / max(1, blocks - 1)
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
        only: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Attend within each jet over its extra tokens and its particles.

        Args:
            particles: `[particle, width]`, packed.
            offsets: int64 `[jet + 1]`; a jet may have no particles where it has extra tokens.
            extra: `[jet, extra, width]`.
            pair_bias: function from the order of the jets (int64 `[jet]`) and their layout to the bias of each run.
            causal: a token attends to itself and earlier tokens only: first the extra tokens, then the particles in
                the order of the input.
            only: compute the first `only` extra tokens of each jet alone, exactly, at a lower cost of the last block.

        Returns:
            Extra tokens `[jet, extra, width]` and particles `[particle, width]`, in the order of the input; with `only`
            `[jet, only, width]` and `[0, width]`.
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
        if only is None:
            x = self._through(self.blocks, x, layout, bias)
            return x[extra_index], x[index]
        x = self._through(self.blocks[:-1], x, layout, bias, normed=False)
        rows = (layout.offsets[:-1, None] + torch.arange(only, device=first.device)).flatten()  # [jet * only], sorted
        bias = None if bias is None else [run[:, :, :only] for run in bias]
        x = self._through(self.blocks[-1:], x, layout, bias, rows)
        return x.unflatten(0, (-1, only))[order.argsort()], x[:0]

    def _through(
        self,
        blocks: nn.ModuleList,
        x: Tensor,
        layout: AttentionLayout,
        bias: Sequence[Tensor] | None,
        rows: Tensor | None = None,
        *,
        normed: bool = True,
    ) -> Tensor:
        """Pass the tokens through some blocks, and through the final norm if `normed`."""
        for block in blocks:
            learns = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *(bias or ()), *block.parameters()))
            with torch.set_grad_enabled(learns):  # frozen blocks below the first trainable one store no activations
                if learns and self.checkpointing:
                    x = checkpoint(block, x, layout, bias, rows, use_reentrant=False)
                else:
                    x = block(x, layout, bias, rows)
        return self.norm(x).float() if normed else x

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


ModuleT = TypeVar("ModuleT", bound=nn.Module)


def init_weights(module: nn.Module) -> None:
    """Initialize linear layers with Xavier-uniform matrices and zero biases (as in MAE)."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def without_dropout(module: ModuleT) -> ModuleT:
    """Switch off dropout and stochastic depth in all blocks of a module for good: a teacher is not random."""
    for block in module.modules():
        if isinstance(block, Block):
            block.dropout = block.drop_path = 0.0
    return module
