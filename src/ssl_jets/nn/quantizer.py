"""Vector quantisation: a vector becomes the nearest of a learned list of vectors, its code.

VQ-VAE (van den Oord et al., arXiv:1711.00937), with the codebook learned by moving averages of what falls to each code
(its appendix A.1), and dead codes revived as in Jukebox (arXiv:2005.00341): a code that is hardly used starts anew at a
vector of the batch.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ssl_jets.nn import collectives


class Quantized(NamedTuple):
    """What a vector x becomes.

    Attributes:
        vectors: `[vector, width]`, the codebook's e with the gradient of x (straight-through).
        codes: int64 `[vector]`, which of the codebook.
        commitment: `[vector]`, mean over the width of (x - e)^2, with gradient for x only.
    """

    vectors: Tensor
    codes: Tensor
    commitment: Tensor


class VectorQuantizer(nn.Module):
    """A codebook that follows the vectors it stands for.

    Each step, with n_k vectors of sum s_k nearest to code k in the batches of all ranks:

        N_k <- d N_k + (1 - d) n_k        S_k <- d S_k + (1 - d) s_k        e_k = S_k / N_k

    A code with N_k below `dead_below` of the mean over the codes is dead: it is moved to a vector of the batch drawn by
    chance, and N_k to the mean. In the first step all codes are, so that the codebook begins among the vectors.

    `forward` changes nothing. A method in training hands its vectors to `collect`, and calls `update` after the step;
    no gradient is needed for the codebook.

    Args:
        codes: size of the codebook.
        width: numbers of a vector.
        decay: d.
        dead_below: share of the mean use below which a code is dead.
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
        self._collected: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor) -> Quantized:
        """The nearest code of each vector of x `[vector, width]`."""
        x = x.float()
        with torch.autocast(x.device.type, enabled=False), torch.no_grad():
            # |x - e|^2 less |x|^2
            distances = torch.addmm(self.codebook.square().sum(1), x, self.codebook.T, alpha=-2)
            codes = distances.argmin(dim=1)
        nearest = self.codebook[codes]
        return Quantized(x + (nearest - x).detach(), codes, (x - nearest).square().mean(1))

    @torch.no_grad()
    def collect(self, x: Tensor, codes: Tensor, chance: Tensor) -> None:
        """Remember the vectors of a batch for `update`.

        Args:
            x: `[vector, width]`.
            codes: their codes.
            chance: a random number for each; those with the smallest are offered to dead codes.
        """
        size, width = self.codebook.shape
        found = x.new_zeros(size, width + 1, dtype=torch.float64)
        found.index_add_(0, codes, torch.cat([x, torch.ones_like(x[:, :1])], dim=1).double())
        offered = torch.argsort(chance)[:size]
        offers = torch.cat([chance[offered, None], x[offered].double()], dim=1)
        # Every rank offers as many; those that are not there come last.
        missing = offers.new_full((size - len(offered), width + 1), torch.inf)
        self._collected.append((found, torch.cat([offers, missing])))

    @torch.no_grad()
    def update(self) -> None:
        """Move the codebook by what was collected on all ranks since the last update."""
        if not self._collected:
            return
        found = collectives.gather(torch.stack([found for found, _ in self._collected]).sum(0, keepdim=True)).sum(0)
        offers = collectives.gather(torch.cat([offers for _, offers in self._collected]))
        self._collected.clear()
        begun = self.counts.any()
        self.sums.lerp_(found[:, :-1].float(), 1 - self.decay)
        self.counts.lerp_(found[:, -1].float(), 1 - self.decay)
        mean = self.counts.mean()
        dead = (self.counts < self.dead_below * mean) | ~begun
        offers = offers[torch.argsort(offers[:, 0])]
        offers = offers[offers[:, 0].isfinite(), 1:].float()
        revived = dead.nonzero()[: len(offers), 0]
        self.counts[revived] = mean
        self.sums[revived] = mean * offers[: len(revived)]
        used = self.counts > 0
        self.codebook[used] = self.sums[used] / self.counts[used, None]


def usage(counts: Tensor) -> float:
    """Share of the codes that were used at all, from how often each was, `[code]`."""
    return float((counts > 0).double().mean())


def perplexity(counts: Tensor) -> float:
    """exp of the entropy of the use of the codes `[code]`: how many there would be if all were used alike."""
    share = counts.double() / counts.sum()
    return float(torch.special.entr(share).sum().exp())
