"""Groups of parameters with rates of their own; Muon for the matrices of the blocks."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from ssl_jets.config import ModelSettings, TrainSettings
from ssl_jets.nn.encoder import Encoder
from ssl_jets.training.muon import Muon, orthogonal
from ssl_jets.training.optimizer import load_optimizer, make_optimizer, part_of, set_rates, skip_frozen

MUON = TrainSettings(optimizer="muon", lr=0.1, weight_decay=0.0)


def test_a_parameter_belongs_to_the_longest_beginning_of_its_name() -> None:
    parts = ["a.", "a.b.", "c"]
    assert [part_of(name, parts) for name in ("a.b.x", "a.x", "c.x", "d")] == ["a.b.", "a.", "c", ""]


def test_a_group_without_rate_takes_no_part_in_norm_and_step() -> None:
    rests, moves = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    groups = [{"params": [rests], "part": "low"}, {"params": [moves], "part": "high"}]
    optimizer = torch.optim.AdamW(groups, lr=1.0, weight_decay=0.5)
    (rests.sum() + moves.sum()).backward()
    set_rates(optimizer, 0.1, {"low": 0.0, "high": 0.5})
    skip_frozen(optimizer)
    optimizer.step()
    assert torch.equal(rests.detach(), torch.ones(2))
    assert rests.grad is None
    assert not optimizer.state[rests]
    torch.testing.assert_close(moves.detach(), torch.full((2,), 1 - 0.05 * 0.5 - 0.05), atol=1e-6, rtol=0)


def with_gradients(encoder: Encoder) -> dict[str, torch.Tensor]:
    """Give all weights random gradients of random size; return a copy of the weights."""
    torch.manual_seed(1)
    for parameter in encoder.parameters():
        parameter.grad = torch.randn_like(parameter) * 10.0 ** int(torch.randint(-3, 2, ()))
    return {name: value.detach().clone() for name, value in encoder.named_parameters()}


def test_muon_moves_the_matrices_of_blocks_by_the_nearest_orthogonal_matrix_and_the_rest_as_adamw() -> None:
    encoder = Encoder(ModelSettings(size="tiny"))
    other = copy.deepcopy(encoder)
    before = with_gradients(encoder)
    make_optimizer(encoder, MUON).step()
    with_gradients(other)
    make_optimizer(other, MUON.model_copy(update={"optimizer": "adamw"})).step()
    by_adamw, blocks = dict(other.named_parameters()), 0
    for name, weight in encoder.named_parameters():
        move = before[name] - weight.detach()
        if not ("transformer.blocks." in name and weight.dim() == 2):
            assert torch.equal(weight, by_adamw[name]), name
            continue
        assert weight.grad is not None
        u, _, v = torch.linalg.svd(weight.grad, full_matrices=False)
        expected = 0.1 * 0.2 * max(weight.shape) ** 0.5 * (u @ v)  # momentum M is along the gradient in the first step
        cosine = torch.nn.functional.cosine_similarity(move.flatten(), expected.flatten(), 0)
        assert float(cosine) > 0.95, name
        assert float(move.norm() / expected.norm()) == pytest.approx(1, abs=0.2)
        blocks += 1
    assert blocks == 4 * len(encoder.transformer.blocks)


def test_the_state_of_muon_and_adamw_is_one_and_resumes_exactly() -> None:
    encoder = Encoder(ModelSettings(size="tiny"))
    optimizer = make_optimizer(encoder, MUON)
    with_gradients(encoder)
    optimizer.step()
    again, state = copy.deepcopy(encoder), copy.deepcopy(optimizer.state_dict())
    resumed = make_optimizer(again, MUON)
    load_optimizer(resumed, state)
    assert {name for of_one in state["state"].values() for name in of_one} == {
        *("momentum", "exp_avg", "exp_avg_sq", "step")
    }
    for one, its_optimizer in ((encoder, optimizer), (again, resumed)):
        with_gradients(one)
        set_rates(its_optimizer, 0.05, {})
        its_optimizer.step()
    for (name, value), other in zip(encoder.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(value, other), name


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="PyTorch before 2.9")
def test_muon_is_that_of_pytorch() -> None:
    torch.manual_seed(0)
    ours, theirs = ([nn.Parameter(torch.ones(shape)) for shape in ((48, 16), (16, 48), (16, 16))] for _ in range(2))
    groups: dict[str, Any] = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.3}
    own = Muon([{"params": ours, **groups}], lr=1.0, dtype=torch.bfloat16)
    reference = torch.optim.Muon(theirs, adjust_lr_fn="match_rms_adamw", **groups)
    for _ in range(3):
        for one, other in zip(ours, theirs):
            one.grad = other.grad = torch.randn_like(one)
        own.step()
        reference.step()
    for one, other in zip(ours, theirs):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-3)


@pytest.mark.parametrize("shape", [(48, 16), (16, 48), (16, 16)])
def test_an_update_is_nearly_the_orthogonal_factor(shape: tuple[int, int]) -> None:
    matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * 1e-4
    singular = torch.linalg.svdvals(orthogonal(matrix))
    assert 0.6 < float(singular.min()) <= float(singular.max()) < 1.3
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    assert float((orthogonal(matrix) * (u @ v)).sum() / (u @ v).norm() / orthogonal(matrix).norm()) > 0.97
