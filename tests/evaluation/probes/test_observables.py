"""Observables against plain loops over one jet, against the columns of the files, and what leaves them unchanged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ssl_jets.evaluation.probes import observables as module
from ssl_jets.evaluation.probes.observables import R0, observables, subjettiness
from ssl_jets.jets import Jets
from support.small_models import made_jets, shuffle_particles, without_columns


def plain_subjettiness(pt: np.ndarray, deta: np.ndarray, dphi: np.ndarray, wanted: int) -> float:
    """tau_N of one jet, by merging the pair with the smallest kT distance until `wanted` are left."""

    def distance(a, b):
        turn = abs(a[2] - b[2]) % (2 * np.pi)
        return np.hypot(a[1] - b[1], min(turn, 2 * np.pi - turn))

    particles = list(zip(pt, deta, dphi))
    merged = list(particles)
    while len(merged) > wanted:
        pairs = [
            (min(a[0], b[0]) * distance(a, b), i, j) for i, a in enumerate(merged) for j, b in enumerate(merged[:i])
        ]
        _, i, j = min(pairs)
        hard, soft = sorted((merged[i], merged[j]), reverse=True)
        merged = [other for k, other in enumerate(merged) if k not in (i, j)]
        merged.append((hard[0] + soft[0], hard[1], hard[2]))
    return sum(p[0] * min(distance(p, axis) for axis in merged) for p in particles) / (R0 * pt.sum())


def test_subjettiness_is_that_of_a_plain_clustering(batch: Jets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAIRS", 9000)  # several batches
    jets = batch.select(torch.argsort(batch.lengths)[:40])
    found = subjettiness(jets, (1, 2, 3))
    for jet in range(len(jets)):
        inside = slice(int(jets.offsets[jet]), int(jets.offsets[jet + 1]))
        columns = [jets.column(name)[inside].double().numpy() for name in ("pt", "deta", "dphi")]
        for n in (1, 2, 3):
            assert found[n][jet] == pytest.approx(plain_subjettiness(*columns, n), abs=1e-12), (jet, n)


def test_jets_of_few_particles_have_no_subjettiness_and_no_ratio() -> None:
    found = observables(made_jets([1, 2, 3, 4, 60]))
    assert (found["tau1"] > 0).tolist() == [False, True, True, True, True]
    assert (found["tau2"] > 0).tolist() == [False, False, True, True, True]
    assert (found["tau3"] > 0).tolist() == [False, False, False, True, True]
    assert np.isnan(found["tau21"]).tolist() == [True, False, False, False, False]
    assert np.isnan(found["tau32"]).tolist() == [True, True, False, False, False]


def test_the_angle_is_that_of_a_circle() -> None:
    """Two particles on either side of pi are neighbours."""
    jets = made_jets([2])
    dphi = torch.tensor([torch.pi - 0.05, -torch.pi + 0.05])
    particles = jets.particles.clone()
    for name, values in {"dphi": dphi, "deta": torch.zeros(2), "pt": torch.tensor([3.0, 1.0])}.items():
        particles[:, jets.columns.index(name)] = values
    assert subjettiness(replace(jets, particles=particles))[1] == pytest.approx(0.25 * 0.1 / R0, rel=1e-5)


def test_observables_agree_with_the_columns_of_the_files(sample_jets: Jets) -> None:
    """The columns' axes minimise tau, ours are winner-take-all: ours are larger by a per cent or so, never smaller."""
    found = observables(sample_jets)
    np.testing.assert_allclose(found["pt"], sample_jets.jet["jet_pt"].numpy(), rtol=1e-5)
    np.testing.assert_array_equal(found["particles"], sample_jets.lengths.numpy())
    for n, correlation in ((1, 0.98), (2, 0.99)):
        column, ours = sample_jets.jet[f"jet_tau{n}"].numpy().astype(float), found[f"tau{n}"]
        ratio = ours[column > 0] / column[column > 0]
        assert np.corrcoef(ours, column)[0, 1] > correlation
        assert 1.0 < np.median(ratio) < 1.02
    assert np.percentile(found["tau1"] / sample_jets.jet["jet_tau1"].numpy().clip(1e-9), 1) > 0.99


def test_nothing_depends_on_the_order_of_particles_or_on_a_rotation(batch: Jets) -> None:
    wanted = observables(batch)
    particles = shuffle_particles(batch)[0].particles.clone()
    deta, dphi = (particles[:, batch.columns.index(name)].clone() for name in ("deta", "dphi"))
    particles[:, batch.columns.index("deta")] = -deta
    particles[:, batch.columns.index("dphi")] = -dphi
    found = observables(replace(batch, particles=particles))
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-6, err_msg=name)


def test_mass_is_that_of_two_particles() -> None:
    """m^2 = 2 pt1 pt2 (cosh deta - cos dphi) for massless ones."""
    jets = without_columns(made_jets([2]), "kind")
    pt, deta, dphi = (jets.column(name).double() for name in ("pt", "deta", "dphi"))
    expected = (2 * pt.prod() * ((deta[0] - deta[1]).cosh() - (dphi[0] - dphi[1]).cos())).sqrt()
    found = observables(jets)
    assert found["mass"][0] == pytest.approx(float(expected), rel=1e-6)
    assert "photon" not in found
    heavy = made_jets([9])  # with the masses of their kinds
    pt, deta, dphi = (heavy.column(name).double() for name in ("pt", "deta", "dphi"))
    momentum = torch.stack([pt * dphi.cos(), pt * dphi.sin(), pt * deta.sinh()])
    energy = (momentum.square().sum(0) + heavy.masses().double() ** 2).sqrt().sum()
    expected = (energy**2 - momentum.sum(1).square().sum()).sqrt()
    assert observables(heavy)["mass"][0] == pytest.approx(float(expected), rel=1e-6)


def test_kinds_are_counted(batch: Jets) -> None:
    found = observables(batch)
    one = batch.column("kind")[batch.offsets[3] : batch.offsets[4]]
    assert found["photon"][3] == int((one == 2).sum())
    assert sum(found[name].sum() for name in module.KINDS) == len(batch.particles)
