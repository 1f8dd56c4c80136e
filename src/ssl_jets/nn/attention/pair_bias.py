"""Pairwise interaction bias of attention (ParT, arXiv:2202.03772)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssl_jets.jets import Jets
from ssl_jets.nn.attention.attend import AttentionLayout
from ssl_jets.nn.geometry import delta_r

SLICE = 2**16
"""Pairs that pass through the MLP at one time: hidden layers of all pairs of a batch would take a gigabyte."""


class PairBias(nn.Module):
    """MLP from ln dR, ln kT, ln z, ln m^2 of each pair of particles to one attention score per head.

    With massless particles m^2 = 2 pt_i pt_j (cosh(deta) - cos(dphi)), kT = min(pt_i, pt_j) dR and
    z = min(pt_i, pt_j) / (pt_i + pt_j). They are symmetric, so each pair is computed once. Class token, registers and
    elements of further collections have no bias. The same bias serves every block. It is zero at first: a trained
    encoder that gets one goes on from its own z.
    """

    def __init__(self, heads: int, width: int = 64) -> None:
        super().__init__()
        last = nn.Linear(width, heads)
        self.mlp = nn.Sequential(nn.Linear(4, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), last)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, jets: Jets, layout: AttentionLayout, extra: int) -> list[Tensor]:
        """Return the bias of the attention: for each run `[jet, head, length, length]`; on a GPU for the padded batch.

        Args:
            jets: the jets in the order of `layout`, with pt, deta and dphi; elements of collections have pt 0.
            layout: the layout of sequences with `extra` tokens before the particles of each jet.
            extra: number of extra tokens of each jet.
        """
        pt = jets.column("pt")
        particle = pt > 0
        kinematics = torch.stack([pt.where(particle, 1).log(), jets.column("deta"), jets.column("dphi")], dim=1)
        sizes = [(count, length - extra) for _, count, length in layout.runs]
        counts = [count * length * (length + 1) // 2 for count, length in sizes]
        first, second = pairs_of(jets.offsets, len(kinematics), sum(counts))
        slices = zip(first.split(SLICE), second.split(SLICE), strict=True)
        scores = torch.cat([self.mlp(_pairs(kinematics[one], kinematics[other])) for one, other in slices])
        scores = scores.masked_fill(~(particle[first] & particle[second]).unsqueeze(1), 0)
        if scores.is_cuda:
            return [_padded(scores, first, second, jets, layout, extra)]
        runs = zip(scores.split(counts), sizes, strict=True)
        return [nn.functional.pad(_square(part, *size), (extra, 0, extra, 0)) for part, size in runs]

    def padded(self, kinematics: Tensor, extra: int) -> Tensor:
        """Return the bias `[jet, head, token, token]` of a padded batch, for exported graphs.

        Args:
            kinematics: ln pt, deta, dphi of each particle, `[jet, particle, 3]`, finite also for padding.
            extra: number of extra tokens of each jet.
        """
        pairs = _pairs(kinematics.unsqueeze(2), kinematics.unsqueeze(1))
        scores = self.mlp(pairs).permute(0, 3, 1, 2)  # [jet, head, particle, particle]
        return nn.functional.pad(scores, (extra, 0, extra, 0))


def pairs_of(offsets: Tensor, particles: int, pairs: int) -> tuple[Tensor, Tensor]:
    """Return the particles of each pair, int64 `[pair]` each: of each particle the pairs with itself and later ones.

    Args:
        offsets: int64 `[jet + 1]`.
        particles: their number, so that a GPU need not be waited for.
        pairs: the same of pairs.

    Example:
        >>> pairs_of(torch.tensor([0, 2, 3]), 3, 4)
        (tensor([0, 0, 1, 2]), tensor([0, 1, 1, 2]))
    """
    index = torch.arange(particles, device=offsets.device)
    later = torch.repeat_interleave(offsets[1:], offsets.diff(), output_size=particles) - index
    first = torch.repeat_interleave(index, later, output_size=pairs)
    begin = later.cumsum(0) - later
    return first, first + torch.arange(pairs, device=offsets.device) - begin[first]


def _square(scores: Tensor, count: int, length: int) -> Tensor:
    """Return both orders of the pairs of a run, `[jet, head, length, length]`, from one, `[pair, head]`."""
    first, second = torch.triu_indices(length, length)
    place = torch.empty(length, length, dtype=torch.int64)
    place[first, second] = place[second, first] = torch.arange(len(first))
    of_jets: Tensor = scores.unflatten(0, (count, -1)).transpose(1, 2)  # [jet, head, pair]
    return of_jets[:, :, place]


def _padded(scores: Tensor, first: Tensor, second: Tensor, jets: Jets, layout: AttentionLayout, extra: int) -> Tensor:
    """Return the bias of the padded batch, `[jet, head, token, token]`, from pairs `[pair, head]`; -inf for padding."""
    longest = layout.longest
    padding = torch.arange(longest, device=scores.device) >= layout.offsets.diff()[:, None]  # [jet, key]
    bias = scores.new_zeros(layout.jets, scores.shape[1], longest, longest)
    bias = bias.masked_fill(padding[:, None, None], -torch.inf)
    of_pair = jets.jet_of_particle[first]
    shift = extra - jets.offsets[of_pair]
    jet, row, column = (index.unsqueeze(1) for index in (of_pair, first + shift, second + shift))
    heads = torch.arange(scores.shape[1], device=scores.device)
    return bias.index_put((jet, heads, row, column), scores).index_put((jet, heads, column, row), scores)


def _pairs(first: Tensor, second: Tensor) -> Tensor:
    """Compute `[..., (ln dR, ln kT, ln z, ln m^2)]` of particles with kinematics `[..., (ln pt, deta, dphi)]`."""
    _, deta, dphi = first.sub(second).unbind(-1)
    log_pt, other = first[..., 0], second[..., 0]
    softer, total = torch.minimum(log_pt, other), torch.logaddexp(log_pt, other)
    distance = delta_r(deta, dphi).clamp(min=1e-4).log()
    # cosh a - cos b = 2 (sinh^2(a/2) + sin^2(b/2)) has no cancellation for close particles.
    angle = 4 * ((deta / 2).sinh().square() + (dphi / 2).sin().square())
    mass = log_pt + other + angle.clamp(min=1e-8).log()
    return torch.stack([distance, softer + distance, softer - total, mass], dim=-1)
