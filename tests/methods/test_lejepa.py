"""LeJEPA against its formula."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ssl_jets.jets import Jets
from ssl_jets.methods import lejepa
from ssl_jets.methods.lejepa import LeJepa
from ssl_jets.nn import random
from ssl_jets.nn.regularizers import sigreg
from support.fixed_views import fix_views
from support.small_models import tiny_encoder


def build(jets: Jets, **settings: object) -> LeJepa:
    return LeJepa(LeJepa.Config(**settings), tiny_encoder(jets))  # type: ignore[arg-type]


@pytest.mark.parametrize("settings", [{}, {"global_views": 3, "local_views": 1, "sigreg_weight": 0.4}], ids=str)
def test_the_loss_is_that_of_plain_loops_over_jets_and_views(
    monkeypatch: pytest.MonkeyPatch, sample_jets: Jets, settings: dict[str, float]
) -> None:
    jets = sample_jets.select(torch.arange(6))
    method = build(jets, **settings)
    number = method.cfg.global_views + method.cfg.local_views
    kinds = [method.cfg.global_view] * method.cfg.global_views + [method.cfg.local_view] * method.cfg.local_views
    views = fix_views(monkeypatch, lejepa, jets, kinds)
    torch.manual_seed(8)
    ours = method(jets, 0.0)
    torch.manual_seed(8)
    directions = random.directions(method.cfg.projector_width, method.cfg.directions, torch.device("cpu"))
    clouds = []
    for view in views:
        z = [method.encoder(view.select(torch.tensor([jet]))).z for jet in range(len(jets))]
        clouds.append(method.projector(torch.cat(z)).detach())
    agreement = 0.0
    for jet in range(len(jets)):
        centre = sum(cloud[jet] for cloud in clouds[: method.cfg.global_views]) / method.cfg.global_views
        for cloud in clouds:
            agreement += float(((cloud[jet] - centre) ** 2).sum()) / method.cfg.projector_width / number / len(jets)
    spread = sum(float(sigreg(cloud, directions)) for cloud in clouds) / number
    assert float(ours["agreement_loss"]) == pytest.approx(agreement, rel=1e-3)
    assert float(ours["sigreg"]) == pytest.approx(spread, rel=1e-4)
    assert float(ours["loss"].detach()) == pytest.approx(agreement + method.cfg.sigreg_weight * spread, rel=1e-3)


def trained(jets: Jets, **settings: object) -> tuple[LeJepa, list[dict[str, float]]]:
    method = build(jets, **settings)
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-3)
    losses = []
    torch.manual_seed(0)
    for _ in range(60):
        parts = method(jets, 0.0)
        optimizer.zero_grad()
        parts["loss"].backward()
        nn.utils.clip_grad_norm_(method.parameters(), 1.0)
        optimizer.step()
        losses.append({name: float(part.detach()) for name, part in parts.items()})
    return method, losses


def projections(method: LeJepa, jets: Jets) -> Tensor:
    with torch.no_grad():
        return method.projector(method.encoder(jets).z)  # type: ignore[no-any-return]


@pytest.mark.slow
def test_without_sigreg_the_projections_collapse_and_with_it_they_spread(sample_jets: Jets) -> None:
    jets = sample_jets.select(torch.arange(48))
    jets = jets.keep(jets.rank_by_pt() < 12)
    method, losses = trained(jets, projector_width=8)
    collapsed, _ = trained(jets, projector_width=8, sigreg_weight=0.0)
    assert losses[-1]["sigreg"] < losses[0]["sigreg"] / 3
    std, std_collapsed = (projections(m, jets).std(0).mean() for m in (method, collapsed))
    assert std > 0.5
    assert std_collapsed < 0.1
