"""Physics quantities read from z, likeness of two z, and accuracy on changed jets, where the answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ssl_jets.evaluation.metrics.cka import _cka, cka
from ssl_jets.evaluation.probes.observables import observables
from ssl_jets.evaluation.probes.physics import DISPLACED, Side, physics_probes, quantities, reference_probes
from ssl_jets.evaluation.probes.robustness import STRESSES, lose, rescale, robustness
from ssl_jets.jets import Jets
from support.small_models import made_jets, without_columns


def sides(jets: int = 400, seed: int = 0) -> tuple[list[np.ndarray], list[Side]]:
    """z whose first number is the mass and whose others are noise."""
    rng = np.random.default_rng(seed)
    z = [rng.normal(size=(jets, 4)) for _ in range(2)]
    found = [{"mass": 80 + 10 * side[:, 0], "pt": rng.normal(size=jets), "tau21": side[:, 1] ** 2} for side in z]
    return z, [Side(values, np.ones(jets)) for values in found]


def test_a_quantity_that_is_in_z_is_found_and_one_that_is_not_is_not() -> None:
    z, (fit, test) = sides()
    found = {(probe.quantity, probe.reader): probe for probe in physics_probes(*z, fit, test)}
    assert found["mass", "ridge"].explained.value > 0.98
    assert found["mass", "boosted trees"].explained.value > 0.85
    assert found["pt", "ridge"].explained.high95 < 0.1
    # A square is in z, but not for a linear reader.
    assert found["tau21", "boosted trees"].explained.low95 > found["tau21", "ridge"].explained.high95 + 0.3
    assert found["mass", "ridge"].unit == "GeV"


def test_the_reference_does_not_read_columns_akin_to_its_target() -> None:
    rng = np.random.default_rng(0)
    mass = rng.normal(size=300)
    values = {"mass": mass, "soft-drop mass": mass, "pt": rng.normal(size=300), "|eta|": 2 * mass}
    fit, test = (
        Side({name: one[half] for name, one in values.items()}, np.ones(150)) for half in (slice(150), slice(150, 300))
    )
    found = {probe.quantity: probe.explained.value for probe in reference_probes(fit, test)}
    assert found["mass"] > 0.8  # from |eta|, which holds it
    del values["|eta|"]
    fit, test = (
        Side({name: one[half] for name, one in values.items()}, np.ones(150)) for half in (slice(150), slice(150, 300))
    )
    assert reference_probes(fit, test)[0].explained.value < 0.1


def test_a_jet_without_the_quantity_or_without_weight_has_no_part() -> None:
    z, (fit, test) = sides()
    wrong = [Side({"mass": side.quantities["mass"].copy()}, side.weights.copy()) for side in (fit, test)]
    for side in wrong:
        side.quantities["mass"][::4] = np.nan
        side.quantities["mass"][1::4], side.weights[1::4] = 1e6, 0.0
        side.weights[2::4] *= 1e-6  # a cross section in another unit than the weights of jets without the quantity
        side.weights[3::4] *= 2e-6
    found = physics_probes(*z, *wrong)[0]
    assert (found.fit_jets, found.test_jets) == (200, 200)
    assert found.explained.value > 0.98


def test_a_jet_of_small_weight_hardly_decides_the_fit_and_the_score() -> None:
    z, (fit, test) = sides()
    turned = [
        np.where(np.arange(400) % 2, side.quantities["mass"], 160 - side.quantities["mass"]) for side in (fit, test)
    ]
    weights = np.where(np.arange(400) % 2, 1.0, 1e-3)
    found = physics_probes(*z, *(Side({"mass": mass}, weights) for mass in turned))[0]
    assert found.explained.value > 0.95


def test_quantities_are_counted_from_the_particles_and_need_their_columns() -> None:
    jets = made_jets([3, 5, 9])
    found = quantities(jets)
    assert found["particles"].tolist() == [3, 5, 9]
    d0, error = (jets.column(name).numpy() for name in ("d0", "d0err"))
    displaced = ((error > 0) & (np.abs(d0) > DISPLACED * error))[jets.offsets[1] : jets.offsets[2]].sum()
    assert found["displaced tracks"][1] == displaced
    np.testing.assert_allclose(found["pt"], observables(jets)["pt"], rtol=1e-6)
    assert not {"charged particles", "displaced tracks"} & set(
        quantities(without_columns(jets, "charge", "d0", "d0err"))
    )


def test_pt_is_the_one_of_the_summed_momentum_and_eta_has_no_sign() -> None:
    """Two particles of 30 and 40 GeV at right angles: 50 GeV. No column of particles has the sign of eta."""
    jets = Jets.of([[[30.0, 0.0, 0.0], [40.0, 0.0, np.pi / 2]]], columns=("pt", "deta", "dphi"))
    assert quantities(jets)["pt"] == pytest.approx([50.0])
    found = quantities(replace(jets, jet={"jet_pt": torch.tensor([48.0]), "jet_eta": torch.tensor([-1.5])}))
    assert (found["pt"], found["|eta|"]) == ([48.0], [1.5])
    assert "eta" not in found


def test_cka_is_one_for_a_rotation_and_small_for_independent_z() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(1500, 6)) * [5, 4, 3, 2, 1, 1]
    turned = 7 * z @ np.linalg.qr(rng.normal(size=(6, 6)))[0] + 3
    assert cka(z, turned).value == pytest.approx(1, abs=1e-5)
    assert cka(z, rng.normal(size=(1500, 4))).value < 0.02
    counts = rng.integers(0, 4, 1500).astype(np.float32)
    copies = [np.repeat(side, counts.astype(int), axis=0) for side in (z, turned[:, :2])]
    assert _cka(z, turned[:, :2], counts) == pytest.approx(_cka(*copies, np.ones(len(copies[0]))), rel=1e-4)
    half = cka(z, np.column_stack([z[:, :1], 5 * rng.normal(size=(1500, 1))]))
    assert 0.2 < half.low < half.value < half.high < 0.8


def test_lost_particles_are_the_share_asked_for_and_no_jet_is_empty() -> None:
    jets = made_jets([1] * 50 + [40] * 50)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = lose(jets, 0.7)
    assert int(found.lengths.min()) >= 1
    assert found.lengths[50:].float().mean() == pytest.approx(0.3 * 40, rel=0.1)
    torch.testing.assert_close(rescale(jets, 1.1).column("pt"), 1.1 * jets.column("pt"))
    torch.testing.assert_close(rescale(jets, 1.1).column("energy"), 1.1 * jets.column("energy"))
    torch.testing.assert_close(rescale(jets, 1.1).column("deta"), jets.column("deta"))


def test_only_the_changes_that_the_reader_looks_at_change_its_accuracy() -> None:
    jets = made_jets([2 + 8 * (i % 2) for i in range(300)])
    labels = np.arange(300) % 2

    def by_length(changed: Jets) -> np.ndarray:
        many = (changed.lengths.numpy() > 6).astype(float)
        return np.column_stack([1 - many, many])

    curves = {curve.name: curve for curve in robustness(by_length, jets, labels)}
    torch.manual_seed(1)  # another state outside changes nothing
    assert robustness(by_length, jets, labels) == list(curves.values())
    assert set(curves) == {stress.name for stress in STRESSES}
    assert all(
        point.value == 1 for name, curve in curves.items() if name != "lost particles" for point in curve.accuracy
    )
    lost = curves["lost particles"]
    assert lost.strengths == (0, 0.05, 0.1, 0.2, 0.3, 0.5)
    assert lost.accuracy[0].value == 1
    assert lost.accuracy[-1].high95 < 0.75
    assert curves["scale of pt"].strengths.index(1.0) == 3
    assert "no track columns" not in {
        curve.name for curve in robustness(by_length, without_columns(jets, "d0"), labels)
    }


def test_a_value_that_is_not_finite_costs_a_jet_and_not_the_quantity() -> None:
    z, (fit, test) = sides()
    fit.quantities["mass"][3] = -np.inf
    found = {(probe.quantity, probe.reader): probe for probe in physics_probes(*z, fit, test)}
    assert found["mass", "ridge"].fit_jets == 399
    assert found["mass", "ridge"].explained.value > 0.98
    test.quantities["mass"][:] = np.nan
    assert "mass" not in {probe.quantity for probe in physics_probes(*z, fit, test)}
