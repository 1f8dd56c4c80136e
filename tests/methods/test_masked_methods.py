"""Properties that all methods have in common which predict hidden particles from the others."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ssl_jets.jets import Jets
from ssl_jets.methods._method import Method
from ssl_jets.nn import masking
from support.hidden_particles import fix_mask, learn_by_heart, shuffled_rows
from support.small_models import build_method, made_jets

FACTORS = {"mae": 5.0, "masked_tokens": 5.0, "salt": 2.0}
"""Methods that decode z, tokens and mask tokens of one mask, with the factor by which 100 steps lower their loss."""


@pytest.mark.parametrize("name", ["bottleneck_mae", "diffusion_mae", "mae", "mar", "masked_tokens", "salt"])
def test_the_encoder_never_sees_hidden_particles(name: str, monkeypatch: pytest.MonkeyPatch, batch: Jets) -> None:
    method, hidden = build_method(name, batch), fix_mask(monkeypatch, batch)
    monkeypatch.setattr(masking, "hide_most", lambda _jets, _least: hidden)
    seen: list[Tensor] = []
    method.encoder.register_forward_hook(lambda _module, _inputs, output: seen.append(torch.cat([*output])))
    for rows in (hidden & ~hidden, hidden, ~hidden):
        particles = batch.particles.clone()
        particles[rows, :4] *= 1.3
        method(Jets(particles, batch.offsets, batch.columns), 0.0)
    assert torch.equal(seen[0], seen[1])
    assert not torch.allclose(seen[0], seen[2], atol=1e-3)


@pytest.mark.parametrize("name", ["diffusion_mae", "mae", "masked_tokens", "nepa", "salt"])
def test_jets_of_one_particle_have_nothing_to_predict(name: str) -> None:
    method = build_method(name, made_jets([30]))
    assert float(method(made_jets([1, 1]), 0.0)["loss"].detach()) == 0.0


@pytest.fixture(
    scope="module", params=["mae", *(pytest.param(name, marks=pytest.mark.slow) for name in [*FACTORS][1:])]
)
def learned(request: pytest.FixtureRequest) -> tuple[Method, Jets, Tensor, float]:
    """A method trained on one batch with one mask: method, jets, mask, and last loss over the first."""
    jets = made_jets([4, 8, 6, 10] * 4)
    method = build_method(request.param, jets, blocks=1)
    method.fit_statistics([jets])
    with pytest.MonkeyPatch.context() as patch:
        hidden = fix_mask(patch, jets)
        losses = [parts["loss"] for parts in learn_by_heart(method, jets, steps=100, lr=3e-3)]
    return method.eval(), jets, hidden, losses[-1] / losses[0]


def test_one_batch_can_be_learned_by_heart(learned: tuple[Method, Jets, Tensor, float]) -> None:
    method, *_, remaining = learned
    assert remaining < 1 / FACTORS[str(method.cfg.name)]


@pytest.mark.parametrize("layer", ["z_in", "tokens_in"])
def test_predictions_depend_on_z_and_the_tokens_of_the_same_jet(
    learned: tuple[Method, Jets, Tensor, float], monkeypatch: pytest.MonkeyPatch, layer: str
) -> None:
    method, jets, hidden, _ = learned
    monkeypatch.setattr(masking, "hide", lambda _jets, _how, _ratio: hidden)
    right = float(method(jets, 0.0)["loss"].detach())
    with shuffled_rows(getattr(method, layer)):
        assert float(method(jets, 0.0)["loss"].detach()) > 1.2 * right
