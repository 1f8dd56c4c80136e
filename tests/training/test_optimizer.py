"""Groups of parameters with rates of their own."""

from __future__ import annotations

import torch
from torch import nn

from ssl_jets.training.optimizer import part_of, set_rates, skip_frozen


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
