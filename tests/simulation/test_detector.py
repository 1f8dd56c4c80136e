"""Helices, towers and particle flow."""

from __future__ import annotations

import numpy as np
import pytest

from ssl_jets.simulation.calorimeter import ECAL, HCAL, Deposits, ecal_cells, hcal_cells, log_normal, particle_flow
from ssl_jets.simulation.tracks import (
    RADIUS_OF_1_GEV,
    TRACKER_RADIUS,
    Helices,
    efficiency,
    impact_errors,
    straight_to_calorimeter,
)

ONE = np.zeros(1, dtype=np.int64)


def helix(px: float, py: float, pz: float, at: tuple[float, float, float], charge: int) -> Helices:
    return Helices(np.array([[px, py, pz]]), np.array([at]), np.array([float(charge)]))


def on_circle(track: Helices, turn: float) -> tuple[float, float, float]:
    """Point after a turn, by integration of the equation of motion in small steps."""
    (x, y, z), (px, py, pz) = track.vertex[0], track.momentum[0]
    pt, radius, steps = np.hypot(px, py), track.radius[0], 2000
    phi = np.arctan2(py, px)
    for _ in range(steps):
        phi -= track.charge[0] * turn / steps / 2
        x, y = x + radius * turn / steps * np.cos(phi), y + radius * turn / steps * np.sin(phi)
        phi -= track.charge[0] * turn / steps / 2
        z += radius * turn / steps * pz / pt
    return x, y, z


@pytest.mark.parametrize("charge", [-1, 1])
def test_a_track_from_the_beam_has_no_impact_parameter(charge: int) -> None:
    d0, dz = helix(0.4, -0.3, 1.0, (0, 0, 7.0), charge).impact()
    assert d0[0] == pytest.approx(0, abs=1e-9)
    assert dz[0] == pytest.approx(7.0)


@pytest.mark.parametrize("charge", [-1, 1])
def test_the_impact_parameter_of_a_displaced_stiff_track_is_the_distance_of_its_line(charge: int) -> None:
    d0, dz = helix(1e5, 0, 5e4, (30.0, -2.0, 100.0), charge).impact()
    assert d0[0] == pytest.approx(2.0, rel=1e-3)  # (x py - y px) / pt
    assert dz[0] == pytest.approx(100.0 - 30.0 * 0.5, rel=1e-3)


@pytest.mark.parametrize("charge", [-1, 1])
def test_a_track_that_starts_later_on_its_circle_has_the_same_impact_parameters(charge: int) -> None:
    track = helix(1.2, 0.4, 0.8, (5.0, -3.0, 2.0), charge)
    x, y, z = on_circle(track, 0.5)
    phi = track.phi[0] - charge * 0.5
    pt = np.hypot(1.2, 0.4)
    later = helix(pt * np.cos(phi), pt * np.sin(phi), 0.8, (x, y, z), charge)
    np.testing.assert_allclose(np.ravel(later.impact()), np.ravel(track.impact()), rtol=1e-4)


@pytest.mark.parametrize("charge", [-1, 1])
def test_a_track_reaches_the_calorimeter_where_the_equation_of_motion_has_it(charge: int) -> None:
    track = helix(1.0, 0.5, 0.3, (3.0, 1.0, 0.0), charge)
    eta, phi = track.at_calorimeter()
    turns = np.linspace(0.5, 1.5, 41) * TRACKER_RADIUS / track.radius[0]
    points = np.array([on_circle(track, turn) for turn in turns])
    closest = points[np.abs(np.hypot(points[:, 0], points[:, 1]) - TRACKER_RADIUS).argmin()]
    assert phi[0] == pytest.approx(np.arctan2(closest[1], closest[0]), abs=0.03)
    assert eta[0] == pytest.approx(np.arcsinh(closest[2] / TRACKER_RADIUS), abs=0.03)


def test_a_soft_track_curls_to_the_endcap() -> None:
    soft = 0.4 * TRACKER_RADIUS / RADIUS_OF_1_GEV
    eta, _ = helix(soft, 0, 0.2, (0.001, 0, 0), 1).at_calorimeter()
    assert abs(eta[0]) > 1.5
    straight, _ = straight_to_calorimeter(np.array([[soft, 0, 0.2]]), np.zeros((1, 3)))
    assert straight[0] == pytest.approx(np.arcsinh(0.2 / soft))


def test_tracks_are_found_only_inside_the_tracker() -> None:
    found = efficiency("hadron", np.array([0.05, 0.5, 5.0, 5.0, 5.0]), np.array([0.0, 0.0, 0.0, 2.0, 2.6]))
    np.testing.assert_array_equal(found, [0, 0.70, 0.95, 0.85, 0])
    d0, dz = impact_errors(np.array([1.0, 100.0]), np.zeros(2))
    assert d0[0] > d0[1] > 0.01
    assert dz[0] > dz[1] > 0.03


@pytest.mark.parametrize("cells", [ecal_cells, hcal_cells])
def test_a_point_lies_in_its_cell_and_distant_points_in_different_ones(cells: object) -> None:
    rng = np.random.default_rng(0)
    eta, phi = rng.uniform(-2.94, 2.94, 5000), rng.uniform(-np.pi, np.pi, 5000)
    found = cells(eta, phi)  # type: ignore[operator]
    assert np.all((found.eta[0] <= eta) & (eta <= found.eta[1]))
    assert np.all((found.phi[0] <= phi % (2 * np.pi)) & (phi % (2 * np.pi) <= found.phi[1]))
    for number in np.unique(found.number)[:200]:
        inside = found.number == number
        assert np.ptp(eta[inside]) < 0.36
        assert np.ptp(phi[inside]) < 0.18


def one_tower(energy: float, track: float | None, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    deposits = Deposits(ONE, np.array([energy]), np.array([0.1]), np.array([0.1]))
    tracks = deposits[ONE if track is not None else ONE[:0]]
    if track is not None:
        tracks = Deposits(ONE, np.array([track]), tracks.eta, tracks.phi)
    neutrals, factor = particle_flow(HCAL, deposits, tracks, np.random.default_rng(seed))
    return neutrals.energy, factor


def test_a_neutral_particle_has_the_energy_of_its_tower() -> None:
    energies = np.concatenate([one_tower(100.0, None, seed)[0] for seed in range(200)])
    assert energies.mean() == pytest.approx(100, abs=4)
    assert energies.std() == pytest.approx(15.8, abs=3)  # 0.05 x 100 and 1.5 x sqrt(100) in quadrature


def test_tower_and_track_have_the_energy_of_the_tower_together() -> None:
    for seed in range(100):
        neutral, factor = one_tower(50.0, 40.0, seed)
        (alone,) = one_tower(50.0, None, seed)[0]
        assert neutral.sum() + 40.0 * factor[0] == pytest.approx(alone)
        assert factor[0] == 1 if len(neutral) else factor[0] < 1.5


def test_a_track_with_a_tower_below_threshold_is_lost() -> None:
    factors = [one_tower(0.3, 0.3, seed)[1][0] for seed in range(50)]
    assert np.mean(np.array(factors) == 0) > 0.8


def test_soft_photons_are_below_threshold() -> None:
    deposits = Deposits(ONE, np.array([0.1]), np.zeros(1), np.zeros(1))
    neutrals, _ = particle_flow(ECAL, deposits, deposits[ONE[:0]], np.random.default_rng(1))
    assert not len(neutrals.energy)


def test_log_normal_numbers_have_their_mean_and_width() -> None:
    values = log_normal(np.full(20000, 10.0), np.full(20000, 3.0), np.random.default_rng(0))
    assert values.mean() == pytest.approx(10, rel=0.02)
    assert values.std() == pytest.approx(3, rel=0.03)
    assert log_normal(np.zeros(1), np.ones(1), np.random.default_rng(0))[0] == 0
