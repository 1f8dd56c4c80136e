"""The joint-embedding prediction against its formula, jet by jet and particle by particle."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from small_models import made_jets, tiny_encoder
from ssl_jets.jets import Jets
from ssl_jets.methods.jepa import Jepa
from ssl_jets.nn import masking


def build(jets: Jets, **settings: float) -> Jepa:
    """A method whose teacher differs from its student."""
    method = Jepa(Jepa.Config(**settings), tiny_encoder(jets))
    method.teacher.load_state_dict(tiny_encoder(jets, seed=7).state_dict())
    return method


def fix_mask(monkeypatch: pytest.MonkeyPatch, jets: Jets) -> Tensor:
    torch.manual_seed(5)
    hidden = masking.hide_regions(jets, 3, 0.2)
    monkeypatch.setattr(masking, "hide_regions", lambda _jets, _regions, _ratio: hidden)
    return hidden


def huber(predicted: Tensor, taught: Tensor) -> float:
    """Mean smooth L1 of one vector to a taught one, brought to mean 0 and variance 1."""
    taught = (taught - taught.mean()) / (taught.var(unbiased=False) + 1e-5).sqrt()
    gaps = (predicted - taught).detach().abs().tolist()
    return sum(0.5 * gap**2 if gap < 1 else gap - 0.5 for gap in gaps) / len(gaps)


def reference(method: Jepa, jets: Jets, hidden: Tensor) -> float:
    """The loss as the docstring of `jepa` writes it, in plain loops."""
    total = 0.0
    for jet in range(len(jets)):
        one, mask = jets.select(torch.tensor([jet])), hidden[int(jets.offsets[jet]) : int(jets.offsets[jet + 1])]
        z, tokens = method.encoder(one.keep(~mask))
        taught = method.teacher(one)
        total += method.cfg.z_weight * huber(method.z_out(z)[0], taught.z[0])
        if not mask.any():
            continue
        of_jet = method.z_in(z)
        names = method.names(masking.hidden_position(one, mask)) + of_jet
        particles = torch.cat([method.tokens_in(tokens), names])
        offsets = torch.tensor([0, len(particles)])
        predicted = method.tokens_out(method.predictor(particles, offsets, of_jet[:, None])[1][len(tokens) :])
        targets = taught.tokens[mask]
        total += sum(huber(p, t) for p, t in zip(predicted, targets, strict=True)) / len(targets)
    return total / len(jets)


@pytest.mark.parametrize("settings", [{}, {"z_weight": 0.3, "predictor_width": 32}], ids=str)
def test_the_loss_is_that_of_plain_loops_over_jets_and_particles(
    monkeypatch: pytest.MonkeyPatch, sample_jets: Jets, settings: dict[str, float]
) -> None:
    jets = sample_jets.select(torch.arange(6))
    jets = jets.keep(jets.rank_by_pt() < torch.tensor([1, 2, 3, 12, 30, 200])[jets.jet_of_particle])
    method, hidden = build(jets, **settings), fix_mask(monkeypatch, jets)
    assert float(method(jets, 0.0)["loss"].detach()) == pytest.approx(reference(method, jets, hidden), rel=1e-4)


def test_the_student_never_sees_hidden_particles_and_the_predictor_only_where_they_are(
    monkeypatch: pytest.MonkeyPatch, batch: Jets
) -> None:
    method, hidden = build(batch), fix_mask(monkeypatch, batch)
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
    method, seen = build(batch), []
    method.teacher.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    method(batch, 0.0)["loss"].backward()
    assert torch.equal(seen[0].particles, batch.particles)
    assert all(weight.grad is None for weight in method.teacher.parameters())
    assert method.exported() is method.teacher


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
    student, teacher = (encoder.trunk.blocks[0].qkv.weight for encoder in (method.encoder, method.teacher))
    expected = torch.lerp(teacher, student, share).detach().clone()
    method.after_step(0.0)
    torch.testing.assert_close(teacher, expected)


def test_the_momentum_ends_at_its_final_value(batch: Jets) -> None:
    method = build(batch, momentum=0.5)
    before = method.teacher.trunk.blocks[0].qkv.weight.clone()
    method.after_step(1.0)
    assert torch.equal(method.teacher.trunk.blocks[0].qkv.weight, before)


@pytest.fixture(scope="module")
def overfitted(sample_jets: Jets) -> tuple[Jepa, Jets, Tensor, list[dict[str, float]]]:
    """A method trained on one batch of 24 jets with one mask and a fixed teacher; its losses."""
    jets = sample_jets.select(torch.arange(24))
    jets = jets.keep(jets.rank_by_pt() < 12)
    method = build(jets)
    torch.manual_seed(5)
    hidden = masking.hide_regions(jets, 3, 0.2)
    optimizer = torch.optim.AdamW(method.parameters(), lr=2e-3)
    losses = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masking, "hide_regions", lambda _jets, _regions, _ratio: hidden)
        for _ in range(200):
            parts = method(jets, 0.0)
            optimizer.zero_grad()
            parts["loss"].backward()
            nn.utils.clip_grad_norm_(method.parameters(), 1.0)
            optimizer.step()
            losses.append({name: float(part.detach()) for name, part in parts.items()})
    return method.eval(), jets, hidden, losses


def test_one_batch_can_be_learned_by_heart(overfitted: tuple[Jepa, Jets, Tensor, list[dict[str, float]]]) -> None:
    *_, losses = overfitted
    for part in ("token_loss", "z_loss"):
        assert losses[-1][part] < losses[0][part] / 4, part


@pytest.mark.parametrize("which", ["z_in", "tokens_in", "names"])
def test_what_was_learned_is_read_from_z_tokens_and_places_of_the_same_jet(
    overfitted: tuple[Jepa, Jets, Tensor, list[dict[str, float]]], monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    method, jets, hidden, _ = overfitted
    monkeypatch.setattr(masking, "hide_regions", lambda _jets, _regions, _ratio: hidden)
    right = float(method(jets, 0.0)["token_loss"])
    generator = torch.Generator().manual_seed(0)

    def shuffled(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        return output[torch.randperm(len(output), generator=generator)]

    with_hook = getattr(method, which).register_forward_hook(shuffled)
    wrong = float(method(jets, 0.0)["token_loss"])
    with_hook.remove()
    assert wrong > 1.2 * right


def test_jets_of_one_particle_have_only_their_z_to_predict() -> None:
    parts = build(made_jets([30]))(made_jets([1, 1]), 0.0)
    assert float(parts["token_loss"]) == 0.0
    assert float(parts["z_loss"]) > 0.0
