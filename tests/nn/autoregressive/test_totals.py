"""Totals of jets and their state before each particle, against plain loops."""

from __future__ import annotations

import math

import pytest
import torch

from ssl_jets.jets import Jets
from ssl_jets.nn.autoregressive.totals import STATE, STORED, JetTotals, pt_before_each, totals_of
from support.small_models import made_jets


def mass_of(particles: list[list[float]]) -> float:
    """Invariant mass of massless particles [pt, deta, dphi]."""
    energy = sum(pt * math.cosh(deta) for pt, deta, _ in particles)
    along = [
        sum(pt * math.cos(dphi) for pt, _, dphi in particles),
        sum(pt * math.sin(dphi) for pt, _, dphi in particles),
        sum(pt * math.sinh(deta) for pt, deta, _ in particles),
    ]
    return math.sqrt(max(energy**2 - sum(value**2 for value in along), 0.0))


def test_the_state_is_that_of_plain_loops() -> None:
    jets = made_jets([4, 1, 6]).by_pt()
    totals = JetTotals()
    totals.fit_statistics([jets])
    known = totals_of(jets)
    rows = totals.state(jets, known)
    assert rows.shape == (11, STATE)
    stored = totals.stored.double().log()
    before = pt_before_each(jets, known)
    for row in range(11):
        jet = int(jets.jet_of_particle[row])
        first = int(jets.offsets[jet])
        mine = jets.particles[first : int(jets.offsets[jet + 1]), :3].tolist()
        all_pt, mass, number = sum(particle[0] for particle in mine), max(mass_of(mine), 0.1), len(mine)
        assert known[jet].tolist() == pytest.approx([all_pt, mass, number], rel=1e-4)
        logs = torch.tensor([all_pt, mass, number], dtype=torch.float64).log()
        expected = [*((logs - stored.mean(0)) / stored.std(0)).tolist(), math.log(mass / all_pt) + 2]
        drawn = mine[: row - first]
        left = max(1 - sum(particle[0] for particle in drawn) / all_pt, 1e-3)
        expected += [math.log(left), math.log(number - len(drawn)), math.log(left / (number - len(drawn)))]
        expected += [10 * sum(pt * direction[axis] for pt, *direction in drawn) / all_pt for axis in (0, 1)]
        expected.append(mass_of(drawn) / mass)
        assert rows[row].tolist() == pytest.approx(expected, rel=1e-3, abs=1e-3), row
        assert float(before[row]) == pytest.approx(drawn[-1][0] if drawn else all_pt, rel=1e-5)


def test_drawn_totals_are_those_of_training_jets_all_equally_often(sample_jets: Jets) -> None:
    jets = sample_jets.select(torch.arange(40))
    totals = JetTotals()
    totals.fit_statistics([jets.select(torch.arange(15)), jets.select(torch.arange(15, 40))])
    assert torch.equal(totals.stored.unique(dim=0), totals_of(jets).unique(dim=0))
    assert totals.stored[:, 1].unique(return_counts=True)[1].max() <= math.ceil(STORED / 40)
    torch.manual_seed(0)
    drawn = totals.draw(400)
    assert len(drawn.unique(dim=0)) == 40


def test_jets_of_one_length_and_totals_that_were_never_fitted_stay_finite() -> None:
    jets = made_jets([3, 3, 3])
    for totals in (JetTotals(), JetTotals()):
        assert totals.state(jets, totals_of(jets)).abs().max() < 1e3
        totals.fit_statistics([jets])
        assert totals.state(jets, totals_of(jets)).isfinite().all()
