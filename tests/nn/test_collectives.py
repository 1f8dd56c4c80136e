"""Two gloo processes gather values with their gradient; one process is left alone."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ssl_jets.nn.collectives import alone, gather, rank, world
from support.ranks import all_ranks

JETS, WIDTH = 3, 2


def values(of_rank: int) -> Tensor:
    return torch.randn(JETS, WIDTH, generator=torch.Generator().manual_seed(of_rank), dtype=torch.float64)


def objective(everyone: Tensor, own: Tensor) -> Tensor:
    """Not linear, so that the gradient depends on all values; a mean over the own jets."""
    return (own @ everyone.T).exp().sum(1).log().mean()


def values_on_rank(out: Path) -> None:
    """Save the gathered values, their gradient, and the values that a rank gathers alone, without a warning."""
    warnings.simplefilter("error")
    torch.distributed.init_process_group("gloo")
    own = values(rank()).requires_grad_()
    everyone = gather(own)
    objective(everyone, own).backward()
    with torch.no_grad():
        without_gradient = gather(own)
    found = {"everyone": everyone.detach(), "grad": own.grad, "without_gradient": without_gradient, "world": world()}
    if rank() == 0:  # the other rank does not take part
        with alone():
            found |= {"alone": gather(own).detach(), "alone_world": world(), "alone_rank": rank()}
    torch.distributed.barrier()
    found["world_after"] = world()
    torch.save(found | {"rank": rank()}, out / f"{rank()}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Tensor]]:
    folder = tmp_path_factory.mktemp("gather")
    all_ranks(values_on_rank, folder)
    return [torch.load(folder / f"{number}.pt") for number in range(2)]


def test_every_rank_has_the_values_of_all_in_the_order_of_the_ranks(two_ranks: list[dict[str, Tensor]]) -> None:
    joined = torch.cat([values(0), values(1)])
    for number, found in enumerate(two_ranks):
        assert (found["rank"], found["world"], found["world_after"]) == (number, 2, 2)
        assert torch.equal(found["everyone"], joined)
        assert torch.equal(found["without_gradient"], joined)


def test_the_mean_over_ranks_has_the_gradient_of_the_joined_batch(two_ranks: list[dict[str, Tensor]]) -> None:
    joined = torch.cat([values(0), values(1)]).requires_grad_()
    objective(joined, joined).backward()
    assert joined.grad is not None
    for found, expected in zip(two_ranks, joined.grad.split(JETS), strict=True):
        torch.testing.assert_close(found["grad"] / 2, expected)


def test_a_rank_may_look_alone_while_the_others_wait(two_ranks: list[dict[str, Tensor]]) -> None:
    assert torch.equal(two_ranks[0]["alone"], values(0))
    assert (two_ranks[0]["alone_world"], two_ranks[0]["alone_rank"]) == (1, 0)


def test_one_process_is_the_identity() -> None:
    own = values(0).requires_grad_()
    assert gather(own) is own
    assert (world(), rank()) == (1, 0)
