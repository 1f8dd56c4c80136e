"""NT-Xent against its formula, view by view; what it must see, and what it must not."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ssl_jets.jets import Jets
from ssl_jets.methods._describe import describe_method
from ssl_jets.methods.simclr import SimCLR
from ssl_jets.nn import regularizers
from ssl_jets.nn.augment import make_view
from ssl_jets.nn.regularizers import similarities
from support.small_models import tiny_encoder


def build(jets: Jets, **settings: object) -> SimCLR:
    return SimCLR(SimCLR.Config(**settings), tiny_encoder(jets, blocks=2))


def hardest(jets: Jets) -> Jets:
    """The jets with at most 8 particles, which train quickly."""
    return jets.keep(jets.rank_by_pt() < 8)


def reference(first: Tensor, second: Tensor, temperature: float) -> float:
    """The loss as the docstring of `simclr` writes it, in plain loops over views."""
    views = [[float(x) for x in row] for row in (*first, *second)]
    jets, total = len(first), 0.0

    def cosine(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b)) / math.hypot(*a) / math.hypot(*b)

    for a in range(2 * jets):
        partner = (a + jets) % (2 * jets)
        others = sum(math.exp(cosine(views[a], views[c]) / temperature) for c in range(2 * jets) if c != a)
        total -= math.log(math.exp(cosine(views[a], views[partner]) / temperature) / others)
    return total / (2 * jets)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_the_loss_is_that_of_plain_loops_over_the_views(batch: Jets, temperature: float) -> None:
    jets, method = batch.select(torch.arange(7)), build(batch, temperature=temperature)
    torch.manual_seed(3)
    parts = method(jets, 0.0)
    torch.manual_seed(3)
    first, second = (method.projector(method.encoder(make_view(jets, method.cfg.views)).z).detach() for _ in range(2))
    assert not torch.allclose(first, second)
    expected = reference(first, second, temperature) + 5 * float(parts["observables_loss"])
    assert float(parts["loss"].detach()) == pytest.approx(expected, rel=1e-5)


def test_a_second_rank_brings_negatives_and_shifts_the_partner(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    first, second = torch.randn(6, 4), torch.randn(6, 4)
    whole = torch.nn.functional.cross_entropy(*similarities(first, second, 0.2), reduction="none")
    everyone = iter([torch.nn.functional.normalize(views, dim=1) for views in (first, second)])
    monkeypatch.setattr(regularizers, "gather", lambda _own: next(everyone))
    monkeypatch.setattr(regularizers, "rank", lambda: 1)
    share = torch.nn.functional.cross_entropy(*similarities(first[3:], second[3:], 0.2), reduction="none")
    torch.testing.assert_close(share, torch.cat([whole[3:6], whole[9:12]]))


def test_the_loss_is_computed_in_float32_under_autocast() -> None:
    torch.manual_seed(0)
    first, second = torch.randn(6, 64), torch.randn(6, 64)
    exact = similarities(first, second, 0.1)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(similarities(first, second, 0.1)[0], exact)


def test_indistinguishable_jets_have_the_loss_of_guessing() -> None:
    same = torch.ones(5, 4)
    loss = torch.nn.functional.cross_entropy(*similarities(same, same, 0.1))
    assert float(loss) == pytest.approx(math.log(2 * 5 - 1), rel=1e-5)


def test_one_batch_can_be_told_apart_and_only_with_the_right_partners(batch: Jets) -> None:
    jets = hardest(batch.select(torch.arange(24)))
    method = build(jets)
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-3)
    torch.manual_seed(0)
    losses = []
    for _ in range(60):
        loss = method(jets, 0.0)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    learned = sum(losses[-5:]) / 5
    assert learned < 0.5 * losses[0]
    first, second = (method.projector(method.encoder(make_view(jets, method.cfg.views)).z) for _ in range(2))
    wrong = torch.nn.functional.cross_entropy(*similarities(first, second.roll(1, 0), 0.1))
    assert float(wrong.detach()) > 3 * learned


def test_the_settings_of_the_views_are_described_by_their_full_keys() -> None:
    text = describe_method("simclr")
    assert f"  method.views.drop = {SimCLR.Config().views.drop!r}\n      Probability to drop" in text
    assert "Views(" not in text
