"""The spread of z where jets come file by file, and a file has one class."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ssl_jets.diagnostics.monitor import spread_and_collapse
from ssl_jets.diagnostics.representation import uniformity
from ssl_jets.jets import Jets
from support.small_models import made_jets


def test_the_spread_is_that_of_all_jets_although_they_come_class_by_class() -> None:
    rng = np.random.default_rng(0)
    jets = made_jets([1] * 1500)
    jets = replace(jets, source=torch.arange(1500)[:, None].expand(-1, 3).contiguous())
    z = np.repeat([[1.0, 0.0], [0.0, 1.0]], 750, axis=0) + 0.01 * rng.normal(size=(1500, 2))

    def embed(view: Jets) -> np.ndarray:
        assert view.source is not None
        return z[view.source[:, 1].numpy()] + 0.01 * rng.normal(size=(len(view), 2))

    found = spread_and_collapse(jets, (embed, z), (embed, z), targets=True)
    assert found["spread"]["z"].alignment < 0.1
    assert found["collapse"] == []
    shuffled = rng.permutation(1500)
    of_any_order = [float(uniformity(torch.from_numpy(z[order]), 300)) for order in (np.arange(1500), shuffled)]
    assert of_any_order[0] == pytest.approx(of_any_order[1], abs=0.05)
