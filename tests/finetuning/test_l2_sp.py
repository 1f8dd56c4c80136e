"""L2-SP: half the squared way from the start, of the weights that train."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ssl_jets.finetuning.objective import L2SPTerm


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


def penalty(anchor: L2SPTerm, module: nn.Module) -> Tensor:
    objective: Any = SimpleNamespace(encoder=module)
    value: Tensor = anchor(objective, torch.zeros(1), None, 0.0)
    return value


def test_it_is_half_the_squared_way_and_its_gradient_the_way() -> None:
    module = network()
    anchor = L2SPTerm(1.0, module, module.parameters())
    assert float(penalty(anchor, module)) == 0
    with torch.no_grad():
        module[0].weight.add_(0.1)
        module[1].bias.sub_(0.5)
    omega = penalty(anchor, module)
    assert float(omega) == pytest.approx((12 * 0.1**2 + 2 * 0.5**2) / 2, rel=1e-5)
    omega.backward()
    torch.testing.assert_close(module[0].weight.grad, torch.full((4, 3), 0.1))
    torch.testing.assert_close(module[1].bias.grad, torch.full((2,), -0.5))


def test_descent_goes_back_to_the_start() -> None:
    module = network()
    start = {name: value.clone() for name, value in module.state_dict().items()}
    anchor = L2SPTerm(1.0, module, module.parameters())
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(torch.randn_like(weight))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
    for _ in range(40):
        optimizer.zero_grad()
        penalty(anchor, module).backward()
        optimizer.step()
    for name, value in module.state_dict().items():
        torch.testing.assert_close(value, start[name], atol=1e-5, rtol=0)


def test_frozen_weights_have_no_anchor_and_checkpoints_do_not_hold_it() -> None:
    module = network()
    module[0].requires_grad_(False)
    anchor = L2SPTerm(1.0, module, module.parameters())
    assert anchor.names == ["1.weight", "1.bias"]
    assert not anchor.state_dict()


def test_the_held_out_loss_that_chooses_the_best_weights_has_no_penalty() -> None:
    module = network()
    anchor = L2SPTerm(1.0, module, module.parameters())
    with torch.no_grad():
        module[0].weight.add_(0.1)
    assert float(penalty(anchor, module)) > 0
    value, weight = penalty(anchor.eval(), module)
    assert (float(value), weight) == (0, 0)
