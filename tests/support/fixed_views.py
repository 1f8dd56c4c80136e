"""Fixed views in the place of random ones."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import pytest
import torch

from ssl_jets.jets import Jets
from ssl_jets.nn.augment import Views, make_view


def fix_views(monkeypatch: pytest.MonkeyPatch, method: ModuleType, jets: Jets, kinds: Sequence[Views]) -> list[Jets]:
    """Let a method get these views, and assert that it makes one of each kind, in their order."""
    torch.manual_seed(5)
    views = [make_view(jets, Views(crop_region=0.5)) for _ in kinds]
    remaining = iter(list(zip(views, kinds, strict=True)))

    def fixed(_: Jets, kind: Views) -> Jets:
        view, expected = next(remaining)
        assert kind == expected
        return view

    monkeypatch.setattr(method, "make_view", fixed)
    return views
