"""Mask tokens: the rows of a decoder's input that stand for hidden particles."""

from __future__ import annotations

from torch import Tensor, nn


class MaskTokens(nn.Embedding):
    """Learned vectors by pT rank: int64 `[particle]` to `[particle, width]`.

    Softer particles than the last rank share its vector.

    Args:
        count: number of mask tokens.
        width: width of the decoder.

    Example:
        >>> import torch
        >>> MaskTokens(2, 8)(torch.tensor([0, 1, 5])).shape
        torch.Size([3, 8])
    """

    def __init__(self, count: int, width: int) -> None:
        super().__init__(count, width)
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, rank: Tensor) -> Tensor:
        """Return the mask token of each pT rank."""
        return super().forward(rank.clamp(max=self.num_embeddings - 1))


def decoder_input(hidden: Tensor, tokens: Tensor, mask_tokens: Tensor) -> Tensor:
    """Return the rows of a decoder, in the order of the particles: tokens and mask tokens.

    Args:
        hidden: bool `[particle]`, true for a hidden particle.
        tokens: of the visible particles, `[visible particle, width]`.
        mask_tokens: of the hidden particles, `[hidden particle, width]`.

    Returns:
        `[particle, width]`, in the dtype of `mask_tokens`.

    Example:
        >>> import torch
        >>> hidden = torch.tensor([False, True, False])
        >>> decoder_input(hidden, torch.tensor([[1.0], [3.0]]), torch.tensor([[-2.0]])).squeeze(1)
        tensor([ 1., -2.,  3.])
    """
    rows = mask_tokens.new_empty(len(hidden), mask_tokens.shape[1])
    rows = rows.index_put((~hidden,), tokens.to(rows.dtype))
    return rows.index_put((hidden,), mask_tokens)
