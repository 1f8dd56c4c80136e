"""Vector quantization: replace a vector by the nearest vector of a learned codebook.

VQ-VAE (van den Oord et al., arXiv:1711.00937), with the codebook learned by moving averages of the vectors assigned to
each code (its appendix A.1), and dead codes revived as in Jukebox (arXiv:2005.00341): a rarely used code is reset to a
vector of the batch.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ssl_jets.nn import collectives
from ssl_jets.nn.ema import Collected


class Quantized(NamedTuple):
    """Quantization of vectors x.

    Attributes:
        vectors: `[vector, width]`, the codebook's e with the gradient of x (straight-through).
        codes: int64 `[vector]`, indices of the codebook.
        commitment: `[vector]`, mean over the width of (x - e)^2, with gradient for x only.
    """

    vectors: Tensor
    codes: Tensor
    commitment: Tensor


class VectorQuantizer(nn.Module):
    """Codebook of moving averages of the vectors assigned to each code.

    Each step, with n_k vectors of sum s_k nearest to code k in the batches of all ranks:

        N_k <- d N_k + (1 - d) n_k        S_k <- d S_k + (1 - d) s_k        e_k = S_k / N_k

    A code with N_k below `dead_below` times the mean over the codes is dead: it is reset to a random vector of the
    batch, and N_k to the mean. In the first step this applies to all codes, which initializes the codebook with data.

    `forward` changes nothing. A method in training passes its vectors to `collect`, and calls `update` after the step;
    the codebook needs no gradient.

    Args:
        codes: size of the codebook.
        width: dimension of a vector.
        decay: d.
        dead_below: usage, relative to the mean, below which a code is dead.
    """

    codebook: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(self, codes: int, width: int, decay: float, dead_below: float) -> None:
        super().__init__()
        self.decay, self.dead_below = decay, dead_below
        self.register_buffer("codebook", torch.randn(codes, width))
        self.register_buffer("counts", torch.zeros(codes))
        self.register_buffer("sums", torch.zeros(codes, width))
        self.collected = Collected[tuple[Tensor, Tensor]]()

    def forward(self, x: Tensor) -> Quantized:
        """Quantize each vector of x `[vector, width]` to its nearest code."""
        x = x.float()
        with torch.autocast(x.device.type, enabled=False), torch.no_grad():
            # |x - e|^2 - |x|^2, `[vector, code]`: the term |x|^2 does not change the nearest code
            distances = torch.addmm(self.codebook.square().sum(1), x, self.codebook.T, alpha=-2)
            codes = distances.argmin(dim=1)
        nearest = self.codebook[codes]
        return Quantized(x + (nearest - x).detach(), codes, (x - nearest).square().mean(1))

    @torch.no_grad()
    def collect(self, x: Tensor, codes: Tensor, chance: Tensor) -> None:
        """Collect the vectors of a batch for `update`.

        Args:
            x: `[vector, width]`.
            codes: their codes.
            chance: a random number for each; vectors with the smallest are candidates for dead codes.
        """
        size, width = self.codebook.shape
        sums = x.new_zeros(size, width + 1, dtype=torch.float64)  # sum of the vectors of each code, and their number
        sums.index_add_(0, codes, torch.cat([x, torch.ones_like(x[:, :1])], dim=1).double())
        chosen = torch.argsort(chance)[:size]
        candidates = torch.cat([chance[chosen, None], x[chosen].double()], dim=1)
        # Equal shapes on all ranks: 3 vectors for 5 codes are padded with 2 rows of infinite chance, sorted last.
        padding = candidates.new_full((size - len(chosen), width + 1), torch.inf)
        self.collected.items.append((sums, torch.cat([candidates, padding])))

    @torch.no_grad()
    def update(self) -> None:
        """Update the codebook with the vectors collected on all ranks since the last update."""
        if not (collected := self.collected.take()):
            return
        own_sums = torch.stack([sums for sums, _ in collected]).sum(0, keepdim=True)
        sums = collectives.gather(own_sums).sum(0)
        candidates = collectives.gather(torch.cat([candidates for _, candidates in collected]))
        initialized = self.counts.any()
        self.sums.lerp_(sums[:, :-1].float(), 1 - self.decay)
        self.counts.lerp_(sums[:, -1].float(), 1 - self.decay)
        mean = self.counts.mean()
        dead = (self.counts < self.dead_below * mean) | ~initialized
        candidates = candidates[torch.argsort(candidates[:, 0])]
        candidates = candidates[candidates[:, 0].isfinite(), 1:].float()
        revived = dead.nonzero()[: len(candidates), 0]
        self.counts[revived] = mean
        self.sums[revived] = mean * candidates[: len(revived)]
        used = self.counts > 0
        self.codebook[used] = self.sums[used] / self.counts[used, None]


def usage(counts: Tensor) -> float:
    """Return the fraction of codes that were used, from the counts of all codes `[code]`.

    Example:
        >>> usage(torch.tensor([4, 0, 4, 0]))
        0.5
    """
    return float((counts > 0).double().mean())


def perplexity(counts: Tensor) -> float:
    """Return exp of the entropy of the counts of codes `[code]`: the effective number of codes.

    Example:
        >>> round(perplexity(torch.tensor([4, 0, 4, 0])), 6)
        2.0
    """
    probability = counts.double() / counts.sum()
    return float(torch.special.entr(probability).sum().exp())
