"""Pairs of particles of a jet: the probability that two belong to one group, such as a vertex.

    s_ij = sum_k e_k a_ik a_jk + b_i + b_j + c,       a = A t, b = B t of the tokens t of the particles

is symmetric, and computed by one product of matrices for each jet. Groups are the connected components of the pairs
with s_ij > 0. Vertexing as a classification of pairs is a task of GN2 and salt, whose pairs are concatenated tokens.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ssl_jets.arrays import Array
from ssl_jets.jets import Jets
from ssl_jets.nn.heads import mlp

RANK = 32
"""Number of products of the symmetric form."""

JETS_AT_ONCE = 64
"""Jets of about one length whose matrices are computed together."""


class Pairs(NamedTuple):
    """Pairs of particles, each once.

    Attributes:
        logits: logit of the probability that the two belong together, float32 `[pair]`.
        first, second: indices of the particles, int64 `[pair]`.
    """

    logits: Tensor
    first: Tensor
    second: Tensor


class PairHead(nn.Module):
    """Symmetric form of the tokens of two particles.

    Args:
        width: width of a token.
        hidden: width of a hidden layer before the form; 0 for none.
    """

    def __init__(self, width: int, hidden: int = 0) -> None:
        super().__init__()
        self.layers = mlp(width, hidden, RANK + 1)
        self.signs = nn.Parameter(torch.where(torch.arange(RANK) % 2 == 0, 1.0, -1.0) / RANK**0.5)
        self.constant = nn.Parameter(torch.zeros(()))

    def forward(self, tokens: Tensor, jets: Jets) -> Pairs:
        """Return the logits of all pairs of each jet, from tokens `[particle, width]`."""
        factors, single = self.layers(tokens).float().split([RANK, 1], dim=1)
        found = []
        for rows in jets.lengths.argsort(stable=True).split(JETS_AT_ONCE):
            length = int(jets.lengths[rows].max())
            place = torch.arange(length, device=rows.device)
            valid = place < jets.lengths[rows].unsqueeze(1)  # [jet, place]
            index = (jets.offsets[rows].unsqueeze(1) + place).where(valid, 0)
            a, b = factors[index], single[index, 0]  # [jet, place, rank], [jet, place]
            with torch.autocast(tokens.device.type, enabled=False):  # einsum would round the factors to bfloat16
                products = torch.einsum("jnk,k,jmk->jnm", a, self.signs.float(), a)
            scores = products + b.unsqueeze(2) + b.unsqueeze(1)
            chosen = (valid.unsqueeze(2) & valid.unsqueeze(1)).triu(1)  # [jet, place, place]
            first, second = index.unsqueeze(2).expand_as(chosen), index.unsqueeze(1).expand_as(chosen)
            found.append((scores[chosen] + self.constant, first[chosen], second[chosen]))
        return Pairs(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def same_group(groups: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Return the pairs whose particles both have a group, and those of one group, bool `[pair]` each.

    A negative group is none: its particles belong together with no other.

    Args:
        groups: group of each particle, `[particle]`, NaN if it is not known.
        pairs: the pairs.
    """
    first, second = groups[pairs.first], groups[pairs.second]
    return first.isfinite() & second.isfinite(), (first == second) & (first >= 0)


def components(pairs: Pairs, particles: int) -> Array:
    """Return the group of each particle, int64 `[particle]`: -1 for a particle without a partner.

    Groups are numbered through the whole batch; `within_jets` begins anew in each jet.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    chosen = (pairs.logits > 0).cpu()
    first, second = (index.cpu()[chosen].numpy() for index in (pairs.first, pairs.second))
    graph = coo_array((np.ones(len(first), dtype=np.int8), (first, second)), shape=(particles, particles))
    _, label = connected_components(graph, directed=False)
    sizes = np.bincount(label, minlength=1)
    grouped: Array = np.where(sizes[label] > 1, label, -1).astype(np.int64)
    return grouped


def within_jets(groups: Array, owner: Array) -> Array:
    """Renumber the groups of each jet 0, 1, ... by their first particle; -1 stays.

    Example:
        >>> within_jets(np.array([5, -1, 3, 5, 9, 9]), np.array([0, 0, 0, 0, 1, 1])).tolist()
        [0, -1, 1, 0, 0, 0]
    """
    result = np.full(len(groups), -1, dtype=np.int64)
    rows = np.flatnonzero(groups >= 0)
    if len(rows):
        labels, first, inverse = np.unique(groups[rows], return_index=True, return_inverse=True)
        order = np.argsort(first, kind="stable")  # groups by their first particle
        jet = owner[rows[first[order]]]
        number = np.arange(len(labels)) - np.searchsorted(jet, jet)  # in its jet
        of_label = np.empty(len(labels), dtype=np.int64)
        of_label[order] = number
        result[rows] = of_label[inverse]
    return result
