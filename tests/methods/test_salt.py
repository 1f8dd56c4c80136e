"""Prediction of a frozen teacher's tokens against its formula; a teacher of another size that never moves."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ssl_jets.diagnostics.monitor import student_and_teacher
from ssl_jets.jets import Jets
from ssl_jets.methods.salt import Salt
from support.hidden_particles import decoded_of_jet, fix_mask
from support.small_models import tiny_encoder


def build(jets: Jets, **settings: float) -> Salt:
    """A student of the tiny size, and a teacher that is wider."""
    return Salt(Salt.Config(**settings), tiny_encoder(jets), teacher=tiny_encoder(jets, seed=10, width=96, heads=6))


def reference(method: Salt, jets: Jets, hidden: Tensor) -> float:
    """Loss as the docstring of `salt` defines it, in plain loops."""
    total = 0.0
    for jet in range(len(jets)):
        one, mask = jets.select(torch.tensor([jet])), hidden[int(jets.offsets[jet]) : int(jets.offsets[jet + 1])]
        if not mask.any():
            continue
        targets = (method.teacher(one).tokens[mask] - method.mean) / method.std
        pts = one.keep(mask).column("pt").tolist()
        z, tokens = method.encoder(one.keep(~mask))
        predicted = decoded_of_jet(method, method.predictor, z, tokens, pts)
        for row, target in zip(method.tokens_out(predicted).detach(), targets, strict=True):
            errors = [abs(float(a) - float(b)) for a, b in zip(row, target, strict=True)]
            total += sum(errors) / len(errors) / len(pts)
    return total / len(jets)


@pytest.mark.parametrize("settings", [{}, {"mask_tokens": 4}], ids=str)
def test_the_loss_equals_plain_loops_over_jets_and_particles(
    monkeypatch: pytest.MonkeyPatch, sample_jets: Jets, settings: dict[str, float]
) -> None:
    jets = sample_jets.select(torch.arange(6))
    jets = jets.keep(jets.rank_by_pt() < torch.tensor([1, 2, 3, 12, 30, 200])[jets.jet_of_particle])
    method, hidden = build(jets, **settings), fix_mask(monkeypatch, jets)
    method.fit_statistics([sample_jets])
    assert float(method(jets, 0.0)["loss"].detach()) == pytest.approx(reference(method, jets, hidden), rel=1e-4)


def test_targets_have_mean_0_and_variance_1_in_each_component(sample_jets: Jets) -> None:
    method = build(sample_jets)
    method.fit_statistics([sample_jets])
    some = sample_jets.select(torch.arange(0, len(sample_jets), 5))
    targets = (method.teacher(some).tokens - method.mean) / method.std
    torch.testing.assert_close(targets.mean(0), torch.zeros(96), atol=1e-3, rtol=0)
    torch.testing.assert_close(targets.std(0), torch.ones(96), atol=1e-2, rtol=0)


def test_the_encoder_never_sees_hidden_particles_and_the_teacher_sees_all(
    monkeypatch: pytest.MonkeyPatch, batch: Jets
) -> None:
    method, hidden = build(batch), fix_mask(monkeypatch, batch)
    seen: list[int] = []
    for module in (method.teacher, method.encoder):
        module.register_forward_hook(lambda _module, inputs, _output: seen.append(len(inputs[0].particles)))
    method(batch, 0.0)
    assert seen == [len(batch.particles), int((~hidden).sum())]


def test_the_teacher_stays_as_it_was_and_is_no_momentum_teacher(batch: Jets) -> None:
    method = build(batch).train()
    before = {name: value.clone() for name, value in method.teacher.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=1.0)
    method(batch, 0.0)["loss"].backward()
    optimizer.step()
    method.after_step(1.0)
    assert all(parameter.grad is None for parameter in method.teacher.parameters())
    assert all(torch.equal(value, before[name]) for name, value in method.teacher.state_dict().items())
    assert method.exported() is method.encoder
    assert student_and_teacher(method) is None  # else each validation would report that it does not move
