"""The supervised contrastive loss against its formula, view by view; unlabelled jets, ranks, and what it learns."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ssl_jets.errors import SslJetsError
from ssl_jets.jets import Jets
from ssl_jets.methods import supcon
from ssl_jets.methods.semi_supervised import SemiSupervised
from ssl_jets.methods.simclr import SimCLR
from ssl_jets.methods.supcon import SupCon, positives
from ssl_jets.nn import regularizers
from ssl_jets.nn.augment import make_view
from ssl_jets.nn.regularizers import similarities
from support.small_models import CLASSES, tiny_encoder


def build(jets: Jets, **settings: object) -> SupCon:
    return SupCon(SupCon.Config(**settings), tiny_encoder(jets, blocks=2))


def labelled(jets: Jets, *labels: int) -> Jets:
    return replace(jets.select(torch.arange(len(labels))), labels=torch.tensor(labels))


def reference(first: Tensor, second: Tensor, labels: list[int], temperature: float) -> float:
    """The loss as Khosla et al. write L_out, in plain loops over anchors, positives and all other views."""
    views = [[float(x) for x in row] for row in (*first, *second)]
    number, total = len(views), 0.0

    def similarity(a: int, b: int) -> float:
        one, other = views[a], views[b]
        return sum(x * y for x, y in zip(one, other)) / math.hypot(*one) / math.hypot(*other) / temperature

    for anchor in range(number):
        jet = anchor % len(labels)
        others = [view for view in range(number) if view != anchor]
        norm = math.log(sum(math.exp(similarity(anchor, view)) for view in others))
        alike = [
            view
            for view in others
            if view % len(labels) == jet or (labels[jet] >= 0 and labels[view % len(labels)] == labels[jet])
        ]
        total -= sum(similarity(anchor, view) - norm for view in alike) / len(alike)
    return total / number


@pytest.mark.parametrize("labels", [(0, 1, 0, 2, 1, 0, 2), (0, -1, 0, -1, 1, 0, -1)])
def test_the_loss_is_that_of_plain_loops_over_the_views(batch: Jets, labels: tuple[int, ...]) -> None:
    jets, method = labelled(batch, *labels), build(batch, temperature=0.3)
    torch.manual_seed(3)
    parts = method(jets, 0.0)
    torch.manual_seed(3)
    first, second = (method.projector(method.encoder(make_view(jets, method.cfg.views)).z).detach() for _ in range(2))
    assert float(parts["loss"].detach()) == pytest.approx(reference(first, second, list(labels), 0.3), rel=1e-5)


def test_without_labels_it_is_simclr(batch: Jets) -> None:
    jets, method = labelled(batch, *[-1] * 9), build(batch)
    other = SimCLR(SimCLR.Config(views=method.cfg.views, observables_weight=0), tiny_encoder(batch, blocks=2))
    other.load_state_dict(method.state_dict())
    torch.manual_seed(1)
    ours = method(jets, 0.0)
    torch.manual_seed(1)
    expected = other(jets, 0.0)
    torch.testing.assert_close(ours, expected)


def test_jets_without_any_labels_are_refused(batch: Jets) -> None:
    with pytest.raises(SslJetsError, match="needs labels"):
        build(batch)(replace(batch, labels=None), 0.0)


def test_a_second_rank_brings_jets_of_the_same_class(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    first, second = torch.randn(6, 4), torch.randn(6, 4)
    labels = torch.tensor([0, 1, 2, 0, 1, -1])
    whole = positives(*similarities(first, second, 0.2), labels)
    everyone: Iterator[Tensor] = iter([torch.nn.functional.normalize(views, dim=1) for views in (first, second)])
    monkeypatch.setattr(regularizers, "gather", lambda _own: next(everyone))
    monkeypatch.setattr(regularizers, "rank", lambda: 1)
    monkeypatch.setattr(supcon, "gather", lambda _own: labels)
    share = positives(*similarities(first[3:], second[3:], 0.2), labels[3:])
    assert torch.equal(share, torch.cat([whole[3:6], whole[9:12]]))


def test_one_batch_is_sorted_by_class(batch: Jets) -> None:
    jets = batch.keep(batch.rank_by_pt() < 8).select(torch.arange(24))
    labels = torch.as_tensor(jets.labels)
    method = build(jets, views="none")
    optimizer = torch.optim.AdamW(method.parameters(), lr=2e-3)
    torch.manual_seed(0)
    for _ in range(60):
        parts = method(jets, 0.0)
        optimizer.zero_grad()
        parts["loss"].backward()
        optimizer.step()
    projections = torch.nn.functional.normalize(method.projector(method.encoder(jets).z), dim=1)
    nearest = (projections @ projections.T).fill_diagonal_(-1).argmax(1)
    assert float((labels[nearest] == labels).float().mean()) > 0.9
    alike = 2 * torch.bincount(labels)[labels] - 1  # other views of the class
    best, guess = float(alike.log().mean()), math.log(2 * 24 - 1)
    assert best < float(parts["loss"].detach()) < best + 0.35 * (guess - best)


def test_it_is_the_contrastive_half_of_semi_supervised_pretraining(batch: Jets) -> None:
    jets = labelled(batch, *[index % 10 if index < 12 else -1 for index in range(32)])
    cfg = SemiSupervised.Config(unlabelled="supcon", targets=("jet_sdmass",))
    assert SemiSupervised.needs_labels(cfg)
    method = SemiSupervised(SemiSupervised.Config(unlabelled="supcon", weights="equal"), tiny_encoder(batch), CLASSES)
    torch.manual_seed(2)
    whole = method(jets, 0.0)["loss"]
    torch.manual_seed(2)
    contrastive = method.method(jets, 0.0)["loss"]
    few = jets.select(torch.arange(12))
    log_p = method.tasks.head(method.encoder(few).z).log_softmax(1)  # type: ignore[misc]
    cross_entropy = torch.nn.functional.nll_loss(log_p, torch.as_tensor(few.labels))
    torch.testing.assert_close(whole, cross_entropy + contrastive / 2)
