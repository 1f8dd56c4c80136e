"""The quantizer against its formula code by code; dead codes come back; ranks agree."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ssl_jets.nn import collectives
from ssl_jets.nn.quantizer import VectorQuantizer, perplexity, usage

WIDTH = 3


def quantizer(codes: int = 5, decay: float = 0.9, dead_below: float = 0.0, seed: int = 0) -> VectorQuantizer:
    """One that has begun: its codes count as used alike."""
    torch.manual_seed(seed)
    made = VectorQuantizer(codes, WIDTH, decay, dead_below)
    made.counts.fill_(2.0)
    made.sums.copy_(2 * made.codebook)
    return made


def vectors(count: int, seed: int = 1) -> Tensor:
    return torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed))


def chances(count: int, seed: int = 2) -> Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def take(made: VectorQuantizer, x: Tensor, chance: Tensor | None = None) -> None:
    made.collect(x, made(x).codes, chances(len(x)) if chance is None else chance)


def test_each_vector_becomes_the_nearest_of_the_codebook() -> None:
    made, x = quantizer(), vectors(40)
    found = made(x)
    for row, vector in enumerate(x):
        distances = [float(((vector - code) ** 2).sum()) for code in made.codebook]
        nearest = distances.index(min(distances))
        assert int(found.codes[row]) == nearest
        torch.testing.assert_close(found.vectors[row], made.codebook[nearest])
        assert float(found.commitment[row]) == pytest.approx(min(distances) / WIDTH, rel=1e-5)


def test_the_gradient_passes_straight_through_and_the_commitment_pulls_the_vector_only() -> None:
    made, x, weight = quantizer(), vectors(6).requires_grad_(), vectors(6, seed=3)
    found = made(x)
    (through,) = torch.autograd.grad((found.vectors * weight).sum(), x)
    assert torch.equal(through, weight)
    (pull,) = torch.autograd.grad(made(x).commitment.sum(), x)
    torch.testing.assert_close(pull, 2 * (x - made.codebook[found.codes]).detach() / WIDTH)
    assert not list(made.parameters())


def test_the_codebook_moves_to_the_average_of_the_vectors_of_each_code() -> None:
    made, x = quantizer(codes=4), vectors(30)
    codes = made(x).codes.tolist()
    expected = []
    for code in range(4):
        mine = [x[row] for row in range(30) if codes[row] == code]
        count = 0.9 * 2.0 + 0.1 * len(mine)
        total = 0.9 * 2.0 * made.codebook[code] + 0.1 * sum(mine, torch.zeros(WIDTH))
        expected.append(total / count)
    take(made, x)
    made.update()
    torch.testing.assert_close(made.codebook, torch.stack(expected))


def test_batches_before_one_update_count_as_one_batch() -> None:
    whole, parts = quantizer(dead_below=0.6), quantizer(dead_below=0.6)
    x, chance = vectors(20), chances(20)
    take(whole, x, chance)
    take(parts, x[:7], chance[:7])
    take(parts, x[7:], chance[7:])
    for made in (whole, parts):
        made.update()
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], value, msg=lambda text, name=name: name + text)


def test_forward_and_an_update_without_vectors_change_nothing() -> None:
    made = quantizer()
    before = copy.deepcopy(made.state_dict())
    made(vectors(9))
    made.update()
    take(made, vectors(9))
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())
    made.update()
    assert not torch.equal(made.codebook, before["codebook"])
    after = made.codebook.clone()
    made.update()
    assert torch.equal(made.codebook, after)


def test_at_first_every_code_is_put_on_a_vector_of_the_batch() -> None:
    torch.manual_seed(0)
    made, x = VectorQuantizer(5, WIDTH, 0.9, 0.0), vectors(30) + 40
    take(made, x)
    made.update()
    drawn = x[chances(30).argsort()[:5]]
    torch.testing.assert_close(made.codebook, drawn)
    assert made.counts.unique().numel() == 1


def test_fewer_vectors_than_codes_leave_the_others_for_the_next_step() -> None:
    torch.manual_seed(0)
    made = VectorQuantizer(6, WIDTH, 0.9, 0.01)
    for seed in (1, 2):
        take(made, vectors(4, seed) + 10 * seed)
        made.update()
    assert (made.counts > 0).all()
    assert made.codebook.isfinite().all()


def test_a_code_that_nothing_falls_to_is_moved_to_the_vector_that_chance_chose() -> None:
    made = quantizer(codes=3, decay=0.5, dead_below=0.3)
    made.codebook[2] = made.sums[2] = 50.0
    x = vectors(12)
    steps = 0
    while float(made.codebook[2].abs().max()) > 10:
        take(made, x)
        made.update()
        steps += 1
    assert 1 < steps < 6  # it had been used: it dies when the average has forgotten that
    assert any(torch.allclose(made.codebook[2], vector) for vector in x)
    torch.testing.assert_close(made.codebook[2], x[chances(12).argmin()])
    torch.testing.assert_close(made.counts[2], made.counts.sum() / 3, rtol=0.3, atol=0)


def clusters(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    centres = 5 * torch.randn(16, WIDTH, generator=generator)
    index = torch.randint(0, 16, (count,), generator=generator)
    return centres[index] + 0.05 * torch.randn(count, WIDTH, generator=generator)


def learned(dead_below: float) -> tuple[float, float]:
    """Use of the codebook and error after learning clusters that lie away from where the codebook began."""
    made = quantizer(codes=16, decay=0.8, dead_below=dead_below)
    made.codebook[1:] = 100.0
    made.sums.copy_(2 * made.codebook)
    for step in range(60):
        take(made, clusters(256), chances(256, seed=step))
        made.update()
    found = made(clusters(256))
    return usage(found.codes.bincount(minlength=16)), float(found.commitment.mean())


def test_clusters_are_found_with_revival_and_the_codebook_collapses_without() -> None:
    use, error = learned(dead_below=0.05)
    collapsed_use, collapsed_error = learned(dead_below=0.0)
    assert use > 0.8
    assert collapsed_use == 1 / 16
    assert error < 0.1 * collapsed_error


def test_two_ranks_move_as_one_rank_with_both_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    def ranks_update(ranks: list[VectorQuantizer]) -> None:
        """What a rank sends does not depend on what it receives: first all send, then each receives all."""
        sent: list[list[Tensor]] = [[] for _ in ranks]

        def sender(number: int) -> Callable[[Tensor], Tensor]:
            return lambda values: (sent[number].append(values), values)[1]

        for number, made in enumerate(ranks):
            monkeypatch.setattr(collectives, "gather", sender(number))
            copy.deepcopy(made).update()
        for made in ranks:
            answers = [torch.cat(values) for values in zip(*sent, strict=True)]
            monkeypatch.setattr(collectives, "gather", lambda _, answers=answers: answers.pop(0))
            made.update()

    alone, ranks = quantizer(dead_below=0.8), [quantizer(dead_below=0.8) for _ in range(2)]
    for step in range(4):
        x, chance = vectors(20, seed=10 + step), chances(20, seed=step)
        take(alone, x, chance)
        for made, half in zip(ranks, (slice(0, 7), slice(7, 20)), strict=True):
            take(made, x[half], chance[half])
        ranks_update(ranks)
        monkeypatch.undo()
        alone.update()
    for name, value in alone.state_dict().items():
        assert torch.equal(ranks[0].state_dict()[name], ranks[1].state_dict()[name])
        torch.testing.assert_close(ranks[0].state_dict()[name], value, msg=lambda text, name=name: name + text)


def test_bfloat16_autocast_does_not_blur_the_choice() -> None:
    made, x = quantizer(codes=64), vectors(200)
    nearest = torch.cdist(x.double(), made.codebook.double()).argmin(1)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(made(x).codes, nearest)


@pytest.mark.parametrize(
    ("counts", "share", "codes"), [([1, 1, 1, 1], 1.0, 4.0), ([7, 0, 0, 0], 0.25, 1.0), ([3, 3, 0, 0], 0.5, 2.0)]
)
def test_use_and_perplexity(counts: list[int], share: float, codes: float) -> None:
    assert usage(torch.tensor(counts)) == share
    assert perplexity(torch.tensor(counts)) == pytest.approx(codes)
