"""Self-distillation of particles in `dino`: its formula, its teacher, and nothing of it by default."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from ssl_jets.jets import Jets
from ssl_jets.methods.dino import Dino
from ssl_jets.nn import masking
from ssl_jets.nn.augment import Views
from ssl_jets.nn.prototypes import ParticleDistillation
from support.hidden_particles import decoded_of_jet, learn_by_heart, shuffled_rows
from support.ranks import all_ranks
from support.small_models import made_jets, tiny_encoder

WHOLE = Views(rotate=0, reflect=0, drop=0, smear=0, split=0)
"""A view that is the jet itself."""


def build(jets: Jets, **settings: object) -> Dino:
    """A method with particles, whose teacher differs from its student."""
    method = Dino(Dino.Config(**{"particle_weight": 1.0, "prototypes": 16} | settings), tiny_encoder(jets, blocks=2))  # type: ignore[arg-type]
    method.teacher.load_state_dict(tiny_encoder(jets, seed=7, blocks=2).state_dict())
    return method


def test_by_default_there_are_no_particles(batch: Jets) -> None:
    method = Dino(Dino.Config(), tiny_encoder(batch))
    assert method.particles is None
    assert set(method(batch, 0.0)) == {"loss", "prototypes_used"}
    seen: list[int] = []
    method.encoder.register_forward_hook(lambda _module, _inputs, output: seen.append(len(output.tokens)))
    method(batch, 0.0)
    assert seen == [0, 0, 0]  # z alone is computed


def test_the_loss_of_particles_equals_plain_loops(monkeypatch: pytest.MonkeyPatch, sample_jets: Jets) -> None:
    jets = sample_jets.select(torch.arange(6))
    jets = jets.keep(jets.rank_by_pt() < torch.tensor([1, 2, 3, 8, 12, 15])[jets.jet_of_particle])
    method = build(jets, global_views=2, global_view=WHOLE, particle_weight=0.7)
    part = method.particles
    assert part is not None
    part.centre.copy_(torch.linspace(-0.2, 0.2, 16))
    torch.manual_seed(5)
    masks = [masking.hide(jets, "random", 0.5) for _ in range(2)]
    remaining = iter(masks)
    monkeypatch.setattr(masking, "hide", lambda _jets, _how, _ratio: next(remaining))
    parts = method(jets, 0.0)
    total = 0.0
    for mask in masks:
        for jet in range(len(jets)):
            one, hidden = jets.select(torch.tensor([jet])), mask[int(jets.offsets[jet]) : int(jets.offsets[jet + 1])]
            if not hidden.any():
                continue
            taught = part.teacher_head(method.teacher(one).tokens[hidden])
            target = ((taught - part.centre) / method.cfg.teacher_temperature).softmax(1)
            pts = one.keep(hidden).column("pt").tolist()
            z, tokens = method.encoder(one.keep(~hidden))
            out = decoded_of_jet(part, part.predictor, z, tokens, pts)
            prediction = (part.head(part.tokens_out(out)) / method.cfg.student_temperature).log_softmax(1).detach()
            for t, s in zip(target, prediction, strict=True):
                total -= sum(float(a) * float(b) for a, b in zip(t, s, strict=True)) / len(pts)
    assert float(parts["particle_loss"]) == pytest.approx(total / len(jets) / 2, rel=1e-3)
    expected = float(parts["jet_loss"]) + 0.7 * float(parts["particle_loss"])
    assert float(parts["loss"].detach()) == pytest.approx(expected, rel=1e-5)


def test_every_parameter_learns_and_the_teacher_of_particles_only_follows(batch: Jets) -> None:
    method = build(batch, momentum=0.9, centre_momentum=0.75)
    part = method.particles
    assert part is not None
    part.head.prototypes.data += 0.1
    method(batch, 0.0)["loss"].backward()
    for name, parameter in method.named_parameters():
        assert not parameter.requires_grad or name == "encoder.missing" or parameter.grad.any(), name  # type: ignore[union-attr]
    assert all(parameter.grad is None for parameter in part.teacher_head.parameters())
    expected = torch.lerp(part.teacher_head.prototypes, part.head.prototypes, 0.1).detach().clone()
    sums = torch.stack(part.sums.items).sum(0)
    method.after_step(0.0)
    torch.testing.assert_close(part.teacher_head.prototypes, expected)
    torch.testing.assert_close(part.centre, (0.25 * sums[:-1] / sums[-1]).float())
    method.eval()(batch, 0.0)
    assert part.sums.items == []  # validation does not move the centre


def test_the_state_goes_on_to_the_last_bit(batch: Jets) -> None:
    batch = batch.keep(batch.rank_by_pt() < 12)

    def go_on(method: Dino, steps: range) -> Dino:
        optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.1)
        for step in steps:
            torch.manual_seed(step)
            loss = method(batch, 0.5)["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            method.after_step(0.5)
        return method

    whole = go_on(build(batch), range(3))
    first = go_on(build(batch), range(2))
    other = build(batch, student_temperature=0.1)
    other.load_state_dict(first.state_dict())
    for name, value in go_on(other, range(2, 3)).state_dict().items():
        assert torch.equal(value, whole.state_dict()[name]), name


def centre_of(cosines: list[Tensor]) -> Tensor:
    part = ParticleDistillation(tiny_encoder(made_jets([9])), 3, 0.1, 0.04)
    part.sums.items = [torch.cat([one.double().sum(0), torch.tensor([len(one)]).double()]) for one in cosines]
    part.update(1.0, 0.0)
    return part.centre


def centre_on_rank(folder: Path) -> None:
    rows = torch.load(folder / "rows.pt")
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    torch.save(centre_of([rows[:5] if rank == 0 else rows[5:]]), folder / f"{rank}.pt")


def test_ranks_with_different_numbers_of_particles_have_the_centre_of_all(tmp_path: Path) -> None:
    rows = torch.rand(16, 3, generator=torch.Generator().manual_seed(0))
    torch.save(rows, tmp_path / "rows.pt")
    all_ranks(centre_on_rank, tmp_path)
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), rows.mean(0))


@pytest.fixture(scope="module")
def overfitted() -> tuple[Dino, Jets, list[float]]:
    """A method trained on one batch with one mask and a teacher that stays: the loss of its particles at each step."""
    jets = made_jets([4, 9, 6, 12] * 6)
    torch.manual_seed(0)
    # The centre is fixed by the first batch: targets stay the same.
    method = build(jets, global_view=WHOLE, local_view=WHOLE, momentum=1.0, particle_weight=3.0)
    history = learn_by_heart(method, jets, steps=150, lr=2e-3, seed=lambda step: 1)
    return method.eval(), jets, [parts["particle_loss"] for parts in history]


@pytest.mark.slow
def test_one_batch_can_be_learned_by_heart(overfitted: tuple[Dino, Jets, list[float]]) -> None:
    losses = overfitted[2]
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.slow
@pytest.mark.parametrize("which", ["z", "tokens"])
def test_assignments_depend_on_z_and_the_tokens_of_the_same_jet(
    overfitted: tuple[Dino, Jets, list[float]], which: str
) -> None:
    method, jets, _ = overfitted
    part = method.particles
    assert part is not None

    def loss() -> float:
        torch.manual_seed(1)
        return float(method(jets, 0.0)["particle_loss"])

    right = loss()
    with shuffled_rows(part.z_in if which == "z" else part.tokens_in):
        assert loss() > 1.1 * right
