"""Masks that stay, a decoder in plain steps, and trainings of one batch, for tests of methods that hide particles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ssl_jets.jets import Jets
from ssl_jets.methods._method import Method
from ssl_jets.nn import masking


def fix_mask(monkeypatch: pytest.MonkeyPatch, jets: Jets, ratio: float = 0.4) -> Tensor:
    """Hide the same particles at each call of `masking.hide`."""
    torch.manual_seed(5)
    hidden = masking.hide(jets, "random", ratio)
    monkeypatch.setattr(masking, "hide", lambda _jets, _how, _ratio: hidden)
    return hidden


def decoded_of_jet(layers: Any, transformer: nn.Module, z: Tensor, tokens: Tensor, pts: list[float]) -> Tensor:
    """Output at the hidden particles of one jet, of which nothing is used but the order of their pts."""
    ranks = torch.tensor([sum(other > pt for other in pts) for pt in pts])
    of_jet = layers.z_in(z)
    mask_tokens = layers.mask_tokens(ranks.clamp(max=layers.mask_tokens.num_embeddings - 1)) + of_jet
    particles = torch.cat([layers.tokens_in(tokens), mask_tokens])
    decoded: Tensor = transformer(particles, torch.tensor([0, len(particles)]), of_jet[:, None])[1]
    return decoded[len(tokens) :]


def learn_by_heart(
    method: Method,
    jets: Jets,
    *,
    steps: int,
    lr: float,
    seed: Callable[[int], int] | None = None,
    after_step: bool = False,
) -> list[dict[str, float]]:
    """Train on one batch, and return the loss and its parts at each step."""
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=lr)
    history = []
    for step in range(steps):
        if seed is not None:
            torch.manual_seed(seed(step))
        parts = method(jets, 0.0)
        optimizer.zero_grad()
        parts["loss"].backward()
        nn.utils.clip_grad_norm_(method.parameters(), 1.0)
        optimizer.step()
        if after_step:
            method.after_step(step / steps)
        history.append({name: float(part.data) for name, part in parts.items()})
    return history


@contextmanager
def shuffled_rows(layer: nn.Module) -> Iterator[None]:
    """Exchange the rows of the layer's output."""
    generator = torch.Generator().manual_seed(0)
    hook = layer.register_forward_hook(lambda _, inputs, out: out[torch.randperm(len(out), generator=generator)])
    try:
        yield
    finally:
        hook.remove()


def log_pts(jets: Jets) -> Tensor:
    """ln pt in the order of jet and pt."""
    order = torch.argsort(jets.jet_of_particle * 1000 + jets.rank_by_pt())
    return jets.column("pt")[order].log()
