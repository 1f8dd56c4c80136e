"""Masks hide what they say, by chance alone, and names of hidden particles tell nothing of the visible ones."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch

from ssl_jets.errors import DataError
from ssl_jets.jets import KINDS, Jets
from ssl_jets.nn import masking
from support.content_masks import chance_by_content
from support.small_models import made_jets, shuffle_particles, without_columns

STRATEGIES: tuple[masking.MaskStrategy, ...] = get_args(masking.MaskStrategy)
every_strategy = pytest.mark.parametrize("strategy", STRATEGIES)


def hidden_per_jet(jets: Jets, hidden: torch.Tensor) -> list[int]:
    return [int(part.sum()) for part in hidden.split(jets.lengths.tolist())]


@pytest.mark.parametrize("strategy", [strategy for strategy in STRATEGIES if strategy != "pt"])
@pytest.mark.parametrize("ratio", [0.01, 0.4, 0.5, 0.7, 0.99])
def test_each_jet_hides_its_rounded_share_at_least_one_and_never_all(
    strategy: masking.MaskStrategy, ratio: float
) -> None:
    lengths = [*range(1, 130), 1, 2, 2, 1]
    jets = made_jets(lengths)
    for n, hidden in zip(lengths, hidden_per_jet(jets, masking.hide(jets, strategy, ratio)), strict=True):
        share = round(n * ratio)
        rounded = {share} if abs(n * ratio % 1 - 0.5) > 1e-4 else {int(n * ratio), int(n * ratio) + 1}
        assert hidden in {min(max(number, 1), n - 1) for number in rounded}, n


@every_strategy
def test_a_jet_of_one_particle_keeps_it_and_one_of_two_hides_one(strategy: masking.MaskStrategy) -> None:
    jets = made_jets([1, 2, 1, 2])
    assert hidden_per_jet(jets, masking.hide(jets, strategy, 0.9)) == [0, 1, 0, 1]


@every_strategy
def test_the_mask_is_that_of_the_seed(strategy: masking.MaskStrategy) -> None:
    jets = made_jets([50, 40, 30])
    masks = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        masks.append(masking.hide(jets, strategy, 0.4))
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


@every_strategy
def test_a_jet_is_masked_the_same_in_any_order_and_company(strategy: masking.MaskStrategy) -> None:
    jets = made_jets([3, 1, 12, 20, 7])
    shuffled, index = shuffle_particles(jets)
    with chance_by_content():
        torch.manual_seed(0)
        hidden = masking.hide(jets, strategy, 0.4)
        torch.manual_seed(0)
        assert torch.equal(masking.hide(shuffled, strategy, 0.4), hidden[index])
        torch.manual_seed(0)
        alone = masking.hide(jets.select(torch.tensor([3])), strategy, 0.4)
    assert torch.equal(alone, hidden[jets.jet_of_particle == 3])


def test_a_region_is_the_neighbourhood_of_one_of_its_particles() -> None:
    jets = made_jets([30] * 20)
    hidden = masking.hide(jets, "region", 0.3).view(20, 30)
    centres = set()
    for place, deta, dphi in zip(hidden, jets.column("deta").view(20, 30), jets.column("dphi").view(20, 30)):
        distance = torch.hypot(deta[:, None] - deta, dphi[:, None] - dphi)
        discs = [row for row in range(30) if place[row] and distance[row][place].max() < distance[row][~place].min()]
        assert discs
        centres.add(discs[0])
    assert len(centres) > 5  # not always the same place


def test_hidden_particles_hold_the_share_of_pt_and_no_more_than_needed(batch: Jets) -> None:
    torch.manual_seed(0)
    for ratio in (0.1, 0.5, 0.8):
        for jets in (batch, made_jets([20] * 50)):
            hidden = masking.hide(jets, "pt", ratio)
            for jet in range(len(jets)):
                rows = slice(int(jets.offsets[jet]), int(jets.offsets[jet + 1]))
                pt, mine = jets.column("pt")[rows].double(), hidden[rows]
                held, largest = float(pt[mine].sum() / pt.sum()), float(pt[mine].max() / pt.sum())
                all_but_one = int((~mine).sum()) == 1
                assert held >= ratio - 1e-6 or all_but_one
                assert held - largest < ratio  # without the last one, at most the hardest, it was not enough


def test_particles_hidden_by_pt_are_chosen_without_regard_to_pt() -> None:
    jets = made_jets([10] * 4000)
    torch.manual_seed(0)
    first = masking.hide(jets, "pt", 1e-9)  # one particle fills the share
    assert set(hidden_per_jet(jets, first)) == {1}
    rank = jets.rank_by_pt()[first]
    assert (torch.bincount(rank, minlength=10) / 4000 - 0.1).abs().max() < 0.025


def test_kinds_are_hidden_whole_but_for_one() -> None:
    jets = made_jets([40] * 50)
    torch.manual_seed(0)
    hidden, first = masking.hide(jets, "kind", 0.5).view(50, 40), set()
    for mine, kinds in zip(hidden, jets.column("kind").long().view(50, 40)):
        shares = [float(mine[kinds == kind].float().mean()) for kind in kinds.unique()]
        assert sum(0 < share < 1 for share in shares) <= 1
        assert max(shares) == 1
        first.add(tuple(kinds[mine].unique().tolist()))
    assert len(first) > 10  # in an order that differs from jet to jet


def test_a_jet_of_one_kind_hides_its_share_at_random() -> None:
    jets = made_jets([10] * 2000)
    particles = jets.particles.clone()
    particles[:, jets.columns.index("kind")] = KINDS.index("photon")
    torch.manual_seed(0)
    hidden = masking.hide(Jets(particles, jets.offsets, jets.columns), "kind", 0.4).view(2000, 10)
    assert hidden.sum(1).unique().tolist() == [4]
    assert (hidden.float().mean(0) - 0.4).abs().max() < 0.06


def test_a_mask_of_kinds_without_kinds_is_one_message() -> None:
    with pytest.raises(DataError, match="needs the kind"):
        masking.hide(without_columns(made_jets([5]), "kind"), "kind", 0.4)


def test_every_particle_is_hidden_equally_often_and_pairs_independently_of_place() -> None:
    particles, repeats, ratio = 10, 4000, 0.4
    jets = made_jets([particles] * repeats)
    torch.manual_seed(0)
    hidden = masking.hide(jets, "random", ratio).view(repeats, particles).double().numpy()
    spread = np.sqrt(ratio * (1 - ratio) / repeats)
    assert np.abs(hidden.mean(0) - ratio).max() < 4.5 * spread
    # Without replacement: two particles are hidden together with probability 4/10 * 3/9.
    together = (hidden.T @ hidden / repeats)[~np.eye(particles, dtype=bool)]
    pair = 4 / 10 * 3 / 9
    assert np.abs(together - pair).max() < 5 * np.sqrt(pair * (1 - pair) / repeats)


def test_jets_of_one_batch_have_masks_of_their_own() -> None:
    jets = made_jets([20] * 8)
    torch.manual_seed(0)
    assert len(set(map(tuple, masking.hide(jets, "random", 0.5).view(8, 20).tolist()))) == 8


def test_hidden_rank_is_the_pt_rank_among_the_hidden(batch: Jets) -> None:
    torch.manual_seed(0)
    hidden = masking.hide(batch, "random", 0.4)
    expected = []
    for jet in range(len(batch)):
        rows = slice(int(batch.offsets[jet]), int(batch.offsets[jet + 1]))
        pts = batch.column("pt")[rows][hidden[rows]].tolist()
        expected += [
            sum(other > pt or (other == pt and place < mine) for place, other in enumerate(pts))
            for mine, pt in enumerate(pts)
        ]
    assert masking.hidden_pt_rank(batch, hidden).tolist() == expected


def test_hidden_rank_does_not_change_when_visible_particles_change(batch: Jets) -> None:
    torch.manual_seed(0)
    hidden = masking.hide(batch, "random", 0.4)
    before = masking.hidden_pt_rank(batch, hidden)
    changed = batch.particles.clone()
    changed[~hidden, 0] = 1000 * torch.rand(int((~hidden).sum()))
    altered = Jets(changed, batch.offsets, batch.columns)
    assert torch.equal(masking.hidden_pt_rank(altered, hidden), before)
    assert not torch.equal(altered.rank_by_pt()[hidden], batch.rank_by_pt()[hidden])
