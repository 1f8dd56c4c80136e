"""Masks hide what they say, by chance alone, and names of hidden particles tell nothing of the visible ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from small_models import made_jets
from ssl_jets.jets import Jets
from ssl_jets.nn import masking


def hidden_per_jet(jets: Jets, hidden: torch.Tensor) -> list[int]:
    return [int(part.sum()) for part in hidden.split(jets.lengths.tolist())]


@pytest.mark.parametrize("ratio", [0.01, 0.4, 0.5, 0.7, 0.99])
def test_each_jet_hides_its_rounded_share_at_least_one_and_never_all(ratio: float) -> None:
    lengths = [*range(1, 130), 1, 2, 2, 1]
    jets = made_jets(lengths)
    for n, hidden in zip(lengths, hidden_per_jet(jets, masking.hide(jets, "random", ratio)), strict=True):
        share = round(n * ratio)
        rounded = {share} if abs(n * ratio % 1 - 0.5) > 1e-4 else {int(n * ratio), int(n * ratio) + 1}
        assert hidden in {min(max(number, 1), n - 1) for number in rounded}, n


def test_a_jet_of_one_particle_keeps_it_and_one_of_two_hides_one() -> None:
    jets = made_jets([1, 2, 1, 2])
    assert hidden_per_jet(jets, masking.hide(jets, "random", 0.9)) == [0, 1, 0, 1]


def test_the_mask_is_that_of_the_seed() -> None:
    jets = made_jets([50, 40, 30])
    masks = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        masks.append(masking.hide(jets, "random", 0.4))
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


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
    assert masking.hidden_rank(batch, hidden).tolist() == expected


def test_hidden_rank_does_not_change_when_visible_particles_change(batch: Jets) -> None:
    torch.manual_seed(0)
    hidden = masking.hide(batch, "random", 0.4)
    before = masking.hidden_rank(batch, hidden)
    changed = batch.particles.clone()
    changed[~hidden, 0] = 1000 * torch.rand(int((~hidden).sum()))
    altered = Jets(changed, batch.offsets, batch.columns)
    assert torch.equal(masking.hidden_rank(altered, hidden), before)
    assert not torch.equal(altered.rank_by_pt()[hidden], batch.rank_by_pt()[hidden])
