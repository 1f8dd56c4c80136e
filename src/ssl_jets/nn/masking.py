"""Masks of particles, and mask tokens that stand for hidden particles in a decoder, for all methods.

Example:
    >>> import torch
    >>> from ssl_jets.jets import Jets
    >>> from ssl_jets.nn import masking
    >>> _ = torch.manual_seed(0)
    >>> jets = Jets.of([[[50.0, 0.0, 0.0], [9.0, 0.1, 0.0], [4.0, 0.0, -0.2], [1.0, 0.3, 0.1]]], ("pt", "deta", "dphi"))
    >>> hidden = masking.hide(jets, "random", 0.5)
    >>> int(hidden.sum()), jets.keep(~hidden).lengths.tolist()
    (2, [2])
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from ssl_jets.errors import DataError
from ssl_jets.jets import COLUMNS, KINDS, TRUTH, Jets
from ssl_jets.nn import random
from ssl_jets.nn.geometry import delta_r
from ssl_jets.nn.transformer import Transformer

TRACKS = ("d0", "d0err", "dz", "dzerr")
"""Columns of tracks."""

MaskStrategy = Literal["random", "region", "pt", "kind"]
"""Names of the masks that `hide` can draw."""


def hide(jets: Jets, strategy: MaskStrategy, ratio: float) -> Tensor:
    """Hide particles of each jet: at least one and never all; a jet of one particle keeps it.

    - `random`: round(n * ratio) of n particles, uniformly at random.
    - `region`: as many, the nearest in (deta, dphi) to a random particle.
    - `pt`: particles in random order until they hold the fraction `ratio` of the jet's pt.
    - `kind`: whole kinds of particle in random order until round(n * ratio) are hidden; the last kind in part.

    Args:
        jets: the jets.
        strategy: one of the above.
        ratio: fraction to hide, between 0 and 1.

    Returns:
        bool `[particle]`, true for hidden particles.

    Raises:
        DataError: the jets lack a column that the strategy needs.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> line = [[9.0, 0.0, 0.0], [8.0, 0.1, 0.0], [2.0, 0.2, 0.0], [1.0, 0.3, 0.0]]
        >>> jets = Jets.of([line, line[:1]], columns=("pt", "deta", "dphi"))
        >>> hide(jets, "region", 0.5).tolist()  # neighbours in deta; the jet of one particle keeps it
        [False, True, True, False, False]
    """
    owner = jets.jet_of_particle
    if strategy == "pt":
        order = jets.rank_within(random.uniform(jets))
        before = sum_before(jets, order, jets.column("pt"))
        total = jets.sum(jets.column("pt"))[owner]
        # pt 50, 30, 20 in this order, ratio 0.6 -> sums before 0, 50, 80 of 100: the first two are hidden.
        below_ratio = (before < ratio * total) & (order < jets.lengths[owner] - 1)
        return below_ratio | ((order == 0) & (jets.lengths[owner] > 1))
    if strategy == "random":
        key = random.uniform(jets)
    elif strategy == "region":
        key = distance_to_one(jets)
    else:
        if "kind" not in jets.columns:
            raise DataError("the mask `kind` needs the kind of the particles, and these files lack it")
        order_of_kinds = torch.stack([random.uniform_per_jet(jets) for _ in KINDS], dim=1)  # [jet, kind]
        key = order_of_kinds[owner, jets.column("kind").long()] + 1e-6 * random.uniform(jets)
    count = (jets.lengths * ratio).round().long().clamp(min=1).minimum(jets.lengths - 1)
    return jets.rank_within(key) < count[owner]


def hide_inputs(jets: Jets, probability: float) -> Jets:
    """Hide groups of inputs of the whole batch, each with this probability, as of files that lack them.

    The groups are the track columns, charge and kind, all features of a schema, the context, and each collection.
    """
    features = tuple(name for name in jets.columns if name not in COLUMNS and not name.startswith(TRUTH))
    collections = ((name,) for name in jets.collections)
    for group in (TRACKS, ("charge", "kind"), features, tuple(jets.context), *collections):
        if random.once() < probability:
            jets = jets.without(group)
    return jets


def visible(jets: Jets, hidden: Tensor) -> Jets:
    """Return the jets as a masked method encodes them: without the hidden particles, and some elements.

    Each element of a collection is hidden as well, with a probability equal to the share of its jet's particles that
    are hidden. The mark of a jet whose file lacks the collection stays.

    Args:
        jets: the jets.
        hidden: bool `[particle]`, true for a hidden particle.

    Example:
        >>> jets = Jets.of([[[9.0, 0.0, 0.0], [8.0, 0.1, 0.0]]], columns=("pt", "deta", "dphi"))
        >>> visible(jets, torch.tensor([True, False])).column("pt").tolist()
        [8.0]
    """
    seen = jets.keep(~hidden)
    if not jets.collections:
        return seen
    share = jets.mean(hidden.double())  # [jet]
    collections = {}
    for name, elements in jets.collections.items():
        lost = random.uniform(elements) < share[elements.jet_of_particle]
        collections[name] = elements.keep(~lost | elements.particles.isnan().all(1))
    return replace(seen, collections=collections)


def distance_to_one(jets: Jets) -> Tensor:
    """Return the distance dR of each particle from a random particle of its jet, `[particle]`."""
    centre = jets.rank_within(random.uniform(jets)) == 0  # one particle of each jet
    deta = jets.column("deta") - jets.column("deta")[centre][jets.jet_of_particle]
    dphi = jets.column("dphi") - jets.column("dphi")[centre][jets.jet_of_particle]
    return delta_r(deta, dphi)


def hide_regions(jets: Jets, regions: int, ratio: float) -> Tensor:
    """Hide the union of several regions of each jet: the particles nearest in (deta, dphi) to a random particle.

    Regions may overlap. A random particle of each jet always stays visible.

    Args:
        jets: the jets.
        regions: number of regions.
        ratio: fraction of the jet's particles in each region, between 0 and 1.

    Returns:
        bool `[particle]`, true for hidden particles.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> line = [[9.0, 0.0, 0.0], [8.0, 0.1, 0.0], [2.0, 0.2, 0.0], [1.0, 0.3, 0.0]]
        >>> hidden = hide_regions(Jets.of([line], columns=("pt", "deta", "dphi")), regions=2, ratio=0.25)
        >>> 1 <= int(hidden.sum()) <= 2
        True
    """
    stays = jets.rank_within(random.uniform(jets)) == 0
    count = (jets.lengths * ratio).round().long().clamp(min=1).minimum(jets.lengths - 1)[jets.jet_of_particle]
    hidden = torch.zeros_like(stays)
    for _ in range(regions):
        hidden |= jets.rank_within(distance_to_one(jets).masked_fill(stays, torch.inf)) < count
    return hidden


def hide_most(jets: Jets, least: float) -> Tensor:
    """Hide a random fraction of each jet's particles, and possibly all: ceil(r n), as MAR (arXiv:2406.11838) does.

    r is normal around 1 with a standard deviation of 0.25, cut to the interval from `least` to 1.

    Args:
        jets: the jets.
        least: smallest fraction, from 0 to below 1.

    Returns:
        bool `[particle]`, true for hidden particles; at least one of each jet.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> jets = Jets.of([[[9.0, 0.0, 0.0], [1.0, 0.1, 0.0]]] * 100, columns=("pt", "deta", "dphi"))
        >>> jets.sum(hide_most(jets, 0.1).long()).unique().tolist()
        [1, 2]
    """
    lowest = 0.5 * (1 + math.erf((least - 1) / 0.25 / math.sqrt(2)))  # quantile of `least`
    ratio: Tensor = 1 + 0.25 * torch.special.ndtri(lowest + random.uniform_per_jet(jets) * (0.5 - lowest))  # [jet]
    count = (jets.lengths * ratio).ceil().long().clamp(min=1).minimum(jets.lengths)
    return jets.rank_within(random.uniform(jets)) < count[jets.jet_of_particle]


def prefix_lengths(jets: Jets, from_nothing: float) -> Tensor:
    """Draw how many of its hardest particles a model reads before it predicts the others, int64 `[jet]`.

    0 for the fraction `from_nothing` of the jets and for jets of one particle, else uniform from 1 to n - 1.
    """
    lengths = (random.uniform_per_jet(jets) * (jets.lengths - 1)).long() + 1
    without = random.uniform_per_jet(jets) < from_nothing
    return lengths.masked_fill(without | (jets.lengths == 1), 0)


def hidden_pt_rank(jets: Jets, hidden: Tensor) -> Tensor:
    """Return the pT rank of each hidden particle among the hidden particles of its jet, int64 `[hidden particle]`.

    A set has no positions, so the rank identifies the particle to predict. The rank in the full jet would leak pt,
    since the visible particles on either side bracket it.

    Example:
        >>> jet = [[9.0, 0.0, 0.0], [1.0, 0.1, 0.0], [5.0, 0.2, 0.0]]  # pt 9 is visible; of 1 and 5, 5 is the hardest
        >>> jets = Jets.of([jet], columns=("pt", "deta", "dphi"))
        >>> hidden_pt_rank(jets, torch.tensor([False, True, True])).tolist()
        [1, 0]
    """
    return jets.keep(hidden).rank_by_pt()


POSITION_WAVES = 8
"""Wavelengths of `hidden_position`: 4, 2, 1 ... 0.03."""


def hidden_position(jets: Jets, hidden: Tensor) -> Tensor:
    """Return a Fourier encoding of the direction of each hidden particle, `[hidden particle, 4 POSITION_WAVES]`.

    Sines and cosines of deta and dphi resolve the core of a jet, where directions differ by hundredths.
    """
    position = torch.stack([jets.column("deta"), jets.column("dphi")], dim=1)[hidden]  # [hidden particle, 2]
    frequencies = torch.arange(POSITION_WAVES, device=position.device).exp2() * (torch.pi / 2)
    phase = (position.unsqueeze(2) * frequencies).flatten(1)  # [hidden particle, 2 POSITION_WAVES]
    return torch.cat([phase.sin(), phase.cos()], dim=1)


class MaskTokens(nn.Embedding):
    """Learned vectors by pT rank: int64 `[particle]` to `[particle, width]`.

    Softer particles than the last rank share its vector.

    Example:
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
        >>> hidden = torch.tensor([False, True, False])
        >>> decoder_input(hidden, torch.tensor([[1.0], [3.0]]), torch.tensor([[-2.0]])).squeeze(1)
        tensor([ 1., -2.,  3.])
    """
    rows = mask_tokens.new_empty(len(hidden), mask_tokens.shape[1])
    rows = rows.index_put((~hidden,), tokens.to(rows.dtype))
    return rows.index_put((hidden,), mask_tokens)


def decode_hidden(
    transformer: Transformer, jets: Jets, hidden: Tensor, z: Tensor, tokens: Tensor, mask_tokens: Tensor
) -> Tensor:
    """Return transformer({z, tokens, z + mask token of each hidden particle})[hidden].

    Args:
        transformer: the decoder, or predictor, of this width.
        jets: the whole jets.
        hidden: bool `[particle]`, true for a hidden particle.
        z: of the jets without the hidden particles, mapped to `[jet, width]`.
        tokens: of the visible particles, mapped to `[visible particle, width]`.
        mask_tokens: of the hidden particles, `[hidden particle, width]`, such as `MaskTokens` of `hidden_pt_rank`.

    Returns:
        float32 `[hidden particle, width]`.

    Example:
        >>> jets = Jets.of([[[9.0, 0.0, 0.0], [8.0, 0.1, 0.0], [1.0, 0.2, 0.0]]], columns=("pt", "deta", "dphi"))
        >>> hidden = torch.tensor([False, True, True])
        >>> mask_tokens = MaskTokens(64, 16)(hidden_pt_rank(jets, hidden))
        >>> z, tokens = torch.zeros(1, 16), torch.zeros(1, 16)
        >>> decode_hidden(Transformer(16, 2, 1), jets, hidden, z, tokens, mask_tokens).shape
        torch.Size([2, 16])
    """
    z = z.float()
    mask_tokens = mask_tokens.float() + z[jets.jet_of_particle[hidden]]
    particles = decoder_input(hidden, tokens, mask_tokens)  # [particle, width]
    decoded: Tensor = transformer(particles, jets.offsets, z.unsqueeze(1))[1]
    return decoded[hidden]


def sum_before(jets: Jets, order: Tensor, values: Tensor) -> Tensor:
    """Sum `values` `[particle, ...]` over the particles before each one by `order`, float64 `[particle, ...]`."""
    # values 5, 1, 3 of one jet in order 2, 0, 1 -> sorted 1, 3, 5; sums before 0, 1, 4; back in place 4, 0, 1
    index = jets.offsets[:-1][jets.jet_of_particle] + order
    in_order = torch.empty_like(values, dtype=torch.float64)
    in_order[index] = values.double()
    before = in_order.cumsum(0) - in_order
    return (before - before[jets.offsets[:-1]][jets.jet_of_particle])[index]
