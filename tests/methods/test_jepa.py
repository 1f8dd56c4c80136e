"""The joint-embedding prediction against its formula, jet by jet and particle by particle."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ssl_jets.jets import Jets
from ssl_jets.methods import jepa
from ssl_jets.methods.jepa import Jepa
from ssl_jets.nn import masking
from ssl_jets.nn.augment import Views, make_view
from support.hidden_particles import learn_by_heart, shuffled_rows
from support.small_models import made_jets, tiny_encoder

STILL = Views(rotate=0.0, reflect=0.0, drop=0.0, smear=0.0)
"""Views without any augmentation."""


def build(jets: Jets, **settings: object) -> Jepa:
    """A method whose teacher differs from its student."""
    method = Jepa(Jepa.Config(**settings), tiny_encoder(jets))  # type: ignore[arg-type]
    method.teacher.load_state_dict(tiny_encoder(jets, seed=7).state_dict())
    for weight in method.teacher_out.parameters():
        weight.data.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(7)))
    return method


def fix_mask(monkeypatch: pytest.MonkeyPatch, jets: Jets) -> Tensor:
    torch.manual_seed(5)
    hidden = masking.hide_regions(jets, 3, 0.2)
    monkeypatch.setattr(masking, "hide_regions", lambda _jets, _regions, _ratio: hidden)
    return hidden


def fix_views(monkeypatch: pytest.MonkeyPatch, jets: Jets) -> tuple[Jets, Jets]:
    """The views of student and teacher, which `loss` will then make."""
    torch.manual_seed(6)
    views = make_view(jets, Jepa.Config().views), make_view(jets, Jepa.Config().views)
    remaining = iter(views)
    monkeypatch.setattr(jepa, "make_view", lambda _jets, _views: next(remaining))
    return views


def huber(predicted: Tensor, target: Tensor) -> float:
    """Mean smooth L1 of one vector."""
    gaps = (predicted - target).detach().abs().tolist()
    return sum(0.5 * gap**2 if gap < 1 else gap - 0.5 for gap in gaps) / len(gaps)


def standardized(rows: Tensor) -> Tensor:
    """Every column with mean 0 and standard deviation 1."""
    return (rows - rows.mean(0)) / rows.std(0, unbiased=False)


def spread(rows: Tensor) -> float:
    """The variance and covariance terms, in plain loops over the columns."""
    covariance = torch.cov(rows.T).tolist()
    size = len(covariance)
    hinges = [max(0.0, 1 - (covariance[i][i] + 1e-4) ** 0.5) for i in range(size)]
    squares = [covariance[i][j] ** 2 for i in range(size) for j in range(size) if i != j]
    return sum(hinges) / size + sum(squares) / size / 25


def reference(method: Jepa, views: tuple[Jets, Jets], hidden: Tensor) -> float:
    """The loss as the docstring of `jepa` writes it, in plain loops."""
    predicted, targets, said, wholes = [], [], [], []
    for jet in range(len(hidden.split(views[0].lengths.tolist()))):
        seen, turned = (view.select(torch.tensor([jet])) for view in views)
        mask = hidden[int(views[0].offsets[jet]) : int(views[0].offsets[jet + 1])]
        z, tokens = method.encoder(seen.keep(~mask))
        whole, taught = method.teacher(turned)
        said.append(z)
        wholes.append(whole)
        targets.append(taught[mask])
        of_jet = method.z_in(z)
        names = method.mask_tokens(masking.hidden_position(seen, mask)) + of_jet
        particles = torch.cat([method.tokens_in(tokens), names])
        offsets = torch.tensor([0, len(particles)])
        predicted.append(method.tokens_out(method.predictor(particles, offsets, of_jet[:, None])[1][len(tokens) :]))
    every = torch.cat(targets)
    mean, std = every.mean(0), every.std(0, unbiased=False)
    said, wholes = method.z_out(torch.cat(said)), standardized(method.teacher_out(torch.cat(wholes)))
    total = len(predicted) * method.cfg.spread_weight * spread(said.detach())
    for jet, (mine, theirs) in enumerate(zip(predicted, targets, strict=True)):
        total += method.cfg.z_weight * huber(said[jet], wholes[jet])
        if len(theirs):
            total += sum(huber(p, (t - mean) / std) for p, t in zip(mine, theirs, strict=True)) / len(theirs)
    return total / len(predicted)


@pytest.mark.parametrize("settings", [{}, {"z_weight": 0.3, "spread_weight": 0.5, "predictor_width": 32}], ids=str)
def test_the_loss_is_that_of_plain_loops_over_jets_and_particles(
    monkeypatch: pytest.MonkeyPatch, sample_jets: Jets, settings: dict[str, float]
) -> None:
    jets = sample_jets.select(torch.arange(6))
    jets = jets.keep(jets.rank_by_pt() < torch.tensor([1, 2, 3, 12, 30, 200])[jets.jet_of_particle])
    method, views = build(jets, **settings), fix_views(monkeypatch, jets)
    hidden = fix_mask(monkeypatch, views[0])
    assert float(method(jets, 0.0)["loss"].detach()) == pytest.approx(reference(method, views, hidden), rel=1e-3)


def test_views_that_lose_particles_are_refused() -> None:
    with pytest.raises(ValueError, match="the same particles"):
        Jepa.Config(views=Views(drop=0.1))


def test_the_student_never_sees_hidden_particles_and_the_predictor_only_where_they_are(
    monkeypatch: pytest.MonkeyPatch, batch: Jets
) -> None:
    method, hidden = build(batch, views=STILL), fix_mask(monkeypatch, batch)
    outputs: list[Tensor] = []
    method.tokens_out.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    method.z_out.register_forward_hook(lambda module, inputs, output: outputs.append(output))

    def predicted(*columns: str) -> list[Tensor]:
        particles = batch.particles.clone()
        for name in columns:
            particles[hidden, batch.columns.index(name)] *= 1.3
        outputs.clear()
        method(Jets(particles, batch.offsets, batch.columns), 0.0)
        return list(outputs)

    as_they_are, others, moved = predicted(), predicted("pt", "energy", "d0", "charge"), predicted("deta")
    assert all(torch.equal(a, b) for a, b in zip(as_they_are, others, strict=True))
    assert not torch.allclose(as_they_are[0], moved[0], atol=1e-3)  # particles
    assert torch.equal(as_they_are[1], moved[1])  # z


def test_the_teacher_sees_the_whole_jet_and_has_no_gradient(monkeypatch: pytest.MonkeyPatch, batch: Jets) -> None:
    method, seen = build(batch, views=STILL), []
    method.teacher.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    method(batch, 0.0)["loss"].backward()
    assert torch.equal(seen[0].particles, batch.particles)
    assert all(weight.grad is None for weight in method.teacher.parameters())
    assert method.exported() is method.encoder


@pytest.mark.parametrize(
    ("settings", "share"),
    [
        ({"momentum": 0.9}, 0.1),
        ({"momentum": 1.0}, 0.0),  # a teacher that never learns
        ({"momentum": 0.0, "final_momentum": 0.0}, 1.0),  # a teacher that is the student
    ],
    ids=str,
)
def test_the_teacher_moves_by_its_momentum(batch: Jets, settings: dict[str, float], share: float) -> None:
    method = build(batch, **settings)
    student, teacher = (encoder.transformer.blocks[0].qkv.weight for encoder in (method.encoder, method.teacher))
    expected = torch.lerp(teacher, student, share).detach().clone()
    method.after_step(0.0)
    torch.testing.assert_close(teacher, expected)


@pytest.mark.parametrize(("progress", "share"), [(0.25, 0.5 * (math.sqrt(0.5) + 1) / 2), (1.0, 0.0)])
def test_the_momentum_rises_to_its_final_value_by_a_half_cosine(batch: Jets, progress: float, share: float) -> None:
    method = build(batch, momentum=0.5)
    student, teacher = (encoder.transformer.blocks[0].qkv.weight for encoder in (method.encoder, method.teacher))
    expected = torch.lerp(teacher, student, share).detach().clone()
    method.after_step(progress)
    torch.testing.assert_close(teacher, expected)


@pytest.fixture(scope="module")
def overfitted(sample_jets: Jets) -> tuple[Jepa, Jets, Tensor, list[dict[str, float]]]:
    """A method trained on one batch of 24 jets with one mask and a fixed teacher; its losses."""
    jets = sample_jets.select(torch.arange(24))
    jets = jets.keep(jets.rank_by_pt() < 12)
    method = build(jets, views=STILL, spread_weight=0.0)
    torch.manual_seed(5)
    hidden = masking.hide_regions(jets, 3, 0.2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masking, "hide_regions", lambda _jets, _regions, _ratio: hidden)
        losses = learn_by_heart(method, jets, steps=200, lr=2e-3)
    return method.eval(), jets, hidden, losses


@pytest.mark.slow
def test_one_batch_can_be_learned_by_heart(overfitted: tuple[Jepa, Jets, Tensor, list[dict[str, float]]]) -> None:
    *_, losses = overfitted
    for part in ("token_loss", "z_loss"):
        assert losses[-1][part] < losses[0][part] / 4, part


@pytest.mark.slow
@pytest.mark.parametrize("which", ["z_in", "tokens_in", "mask_tokens"])
def test_predictions_depend_on_z_tokens_and_places_of_the_same_jet(
    overfitted: tuple[Jepa, Jets, Tensor, list[dict[str, float]]], monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    method, jets, hidden, _ = overfitted
    monkeypatch.setattr(masking, "hide_regions", lambda _jets, _regions, _ratio: hidden)
    right = float(method(jets, 0.0)["token_loss"])
    with shuffled_rows(getattr(method, which)):
        assert float(method(jets, 0.0)["token_loss"]) > 1.2 * right


def test_jets_of_one_particle_have_only_their_z_to_predict() -> None:
    parts = build(made_jets([30]))(made_jets([1, 1]), 0.0)
    assert float(parts["token_loss"]) == 0.0
    assert float(parts["z_loss"]) > 0.0
