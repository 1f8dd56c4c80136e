"""Self-distillation with prototypes against its formula."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ssl_jets.jets import Jets
from ssl_jets.methods import dino
from ssl_jets.methods.dino import Dino
from ssl_jets.nn.augment import Views
from ssl_jets.nn.prototypes import sinkhorn
from support.fixed_views import fix_views
from support.small_models import tiny_encoder


def build(jets: Jets, **settings: object) -> Dino:
    """A method whose teacher differs from its student."""
    method = Dino(Dino.Config(**settings), tiny_encoder(jets))  # type: ignore[arg-type]
    method.teacher.load_state_dict(tiny_encoder(jets, seed=7).state_dict())
    return method


def kinds_of(method: Dino) -> list[Views]:
    cfg = method.cfg
    return [cfg.global_view] * cfg.global_views + [cfg.local_view] * cfg.local_views


@pytest.mark.parametrize("balance", ["centre", "sinkhorn"])
def test_the_loss_is_that_of_plain_loops_over_jets_and_pairs_of_views(
    monkeypatch: pytest.MonkeyPatch, sample_jets: Jets, balance: str
) -> None:
    jets = sample_jets.select(torch.arange(6))
    method = build(jets, balance=balance, global_views=2, local_views=2, prototypes=16)
    method.centre.copy_(torch.linspace(-0.2, 0.2, 16))
    views = fix_views(monkeypatch, dino, jets, kinds_of(method))
    ours = float(method(jets, 0.0)["loss"].detach())
    total = 0.0
    cosines = [method.teacher_head(method.teacher(view).z) for view in views[:2]]
    said = []
    for view in views:
        z = [method.encoder(view.select(torch.tensor([jet]))).z for jet in range(len(jets))]
        said.append(method.head(torch.cat(z)).detach())
    for jet in range(len(jets)):
        for u in range(2):
            if balance == "sinkhorn":
                target = sinkhorn(cosines[u], method.cfg.teacher_temperature)[jet]
            else:
                target = ((cosines[u][jet] - method.centre) / method.cfg.teacher_temperature).softmax(0)
            for v in range(4):
                if v != u:
                    share = (said[v][jet] / method.cfg.student_temperature).softmax(0)
                    total -= sum(float(t) * float(s.log()) for t, s in zip(target, share, strict=True))
    assert ours == pytest.approx(total / len(jets) / 6, rel=1e-3)


def test_the_centre_moves_to_the_mean_of_the_teachers_cosines(monkeypatch: pytest.MonkeyPatch, batch: Jets) -> None:
    method = build(batch, centre_momentum=0.75)
    views = fix_views(monkeypatch, dino, batch, kinds_of(method))
    method(batch, 0.0)
    assert not method.centre.any()
    mean = sum(method.teacher_head(method.teacher(view).z) for view in views[:2]).mean(0) / 2
    method.after_step(0.0)
    torch.testing.assert_close(method.centre, 0.25 * mean)


def test_validation_does_not_move_the_centre(batch: Jets) -> None:
    method = build(batch).eval()
    method(batch, 0.0)
    method.after_step(0.0)
    assert not method.centre.any()


def test_teacher_and_its_head_follow_and_have_no_gradient(batch: Jets) -> None:
    method = build(batch, momentum=0.9)
    pairs = [
        (method.teacher.transformer.blocks[0].qkv.weight, method.encoder.transformer.blocks[0].qkv.weight),
        (method.teacher_head.prototypes, method.head.prototypes),
    ]
    method.head.prototypes.data += 0.1
    method(batch, 0.0)["loss"].backward()
    expected = [torch.lerp(teacher, student, 0.1).detach().clone() for teacher, student in pairs]
    method.after_step(0.0)
    for (teacher, _), value in zip(pairs, expected, strict=True):
        torch.testing.assert_close(teacher, value)
        assert teacher.grad is None
    assert method.exported() is method.encoder


def trained(jets: Jets, **settings: object) -> tuple[Dino, list[float]]:
    method = build(jets, momentum=0.9, prototypes=16, **settings)
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-3)
    losses = []
    torch.manual_seed(0)
    for _ in range(60):
        loss: Tensor = method(jets, 0.0)["loss"]
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(method.parameters(), 1.0)
        optimizer.step()
        method.after_step(0.0)
        losses.append(float(loss.detach()))
    return method, losses


def used(method: Dino, jets: Jets) -> int:
    """Prototypes that are the nearest of some jet."""
    with torch.no_grad():
        return len(method.head(method.encoder(jets).z).argmax(1).unique())


@pytest.mark.slow
def test_the_loss_falls_and_prototypes_stay_in_use(sample_jets: Jets) -> None:
    jets = sample_jets.select(torch.arange(48))
    jets = jets.keep(jets.rank_by_pt() < 12)
    method, losses = trained(jets)
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert used(method, jets) >= 6
