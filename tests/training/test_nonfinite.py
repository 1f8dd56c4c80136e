"""A skipped step is as if it had never been, for every method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ssl_jets import methods
from ssl_jets.config import TrainSettings
from ssl_jets.jets import Jets
from ssl_jets.runtime.process_group import Ranks
from ssl_jets.training.nonfinite import LOSS, NonFinite
from ssl_jets.training.run_folder import TrainingRun
from support.batches import BadAt, InOrder
from support.small_models import build_method

COLLECTING: list[tuple[str, dict[str, Any]]] = [
    ("dino", {"balance": "centre", "particle_weight": 1.0}),
    ("semi_supervised", {"unlabelled": "dino"}),
]
"""Methods that collect for the update after a step, with settings that are not their defaults."""


def state_after_a_step(name: str, settings: dict[str, Any], jets: Jets, *, bad: bool) -> dict[str, Tensor]:
    """The state after one step, which a batch that is not finite comes before if `bad`."""
    method = build_method(name, jets, blocks=1, **settings)
    guard = NonFinite(TrainSettings(on_nonfinite="skip"), ["x.root"] * 10, Ranks(0, 1), torch.device("cpu"))
    optimizer = torch.optim.SGD(method.parameters(), 1e-3)
    for batch in [next(BadAt(jets, 8, 1))] * bad + [next(InOrder(jets, 8))]:
        torch.manual_seed(0)
        guard.begin(method)
        loss = method(batch, 0.1)["loss"]
        guard.check(loss, [batch], LOSS)
        loss.backward()
        if guard.decide(0, method, TrainingRun(Path("/dev/null"), writes=False)):
            optimizer.step()
            method.after_step(0.1)
        optimizer.zero_grad()
    assert guard.total == bad
    return method.state_dict()


@pytest.mark.parametrize(("name", "settings"), [*((name, {}) for name in methods.names()), *COLLECTING])
def test_a_skipped_step_leaves_nothing_behind(name: str, settings: dict[str, Any], batch: Jets) -> None:
    without = state_after_a_step(name, settings, batch, bad=False)
    after = state_after_a_step(name, settings, batch, bad=True)
    assert [key for key, value in after.items() if not torch.equal(value, without[key])] == []
