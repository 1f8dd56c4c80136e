"""Secondary vertices: the fit on hand-made tracks, and vertices of simulated b jets and light jets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

import ssl_jets
from ssl_jets.simulation.columns import VERTEX_LAYOUT
from ssl_jets.simulation.events import Events
from ssl_jets.simulation.parts import simulate_part
from ssl_jets.simulation.request import Part, parts_of, request_of
from ssl_jets.simulation.run import simulate
from ssl_jets.simulation.vertices import TrackLines, _decay, fit_vertices, group_tracks

B_MASS = 5.28


def lines(points: Any, directions: Any, sigma: float = 0.02) -> TrackLines:
    """Tracks of one jet through points, with the same error in both directions across them."""
    points, momentum = np.array(points, dtype=float), np.array(directions, dtype=float)
    along = momentum / np.linalg.norm(momentum, axis=1, keepdims=True)
    size = len(points)
    weight = (np.eye(3) - along[:, :, None] * along[:, None, :]) / sigma**2
    none = np.zeros(size, dtype=np.int64)
    return TrackLines(none, none, momentum, points, weight, np.zeros(size))


def test_lines_that_meet_have_their_vertex_there() -> None:
    vertex, directions = np.array([3.0, -2.0, 5.0]), np.array([[5.0, -3, 8], [3, -2.5, 5], [4, -2, 6]])
    found = fit_vertices(lines(vertex + np.array([[2.0], [-1], [7]]) * directions, directions), np.zeros(3, int))
    assert found.dlen[0, 0] == pytest.approx(np.sqrt(38), rel=1e-4)
    assert found.dxy[0, 0] == pytest.approx(np.sqrt(13), rel=1e-4)
    assert found.chi2[0] == pytest.approx(0, abs=1e-6)
    assert found.tracks[0] == 3
    assert found.cosine[0] > 0.99
    np.testing.assert_allclose(found.momentum[0, :3], directions.sum(axis=0))


def test_errors_and_chi2_of_fitted_vertices_are_right() -> None:
    rng, sigma, vertex = np.random.default_rng(0), 0.02, np.array([0.0, 6.0, 8.0])
    directions = np.array([[0.3, 3, 4], [-0.2, 2.6, 3.8], [0.1, 3.3, 4.2]])
    pulls, chi2 = [], []
    for _ in range(400):
        found = fit_vertices(lines(vertex + sigma * rng.standard_normal((3, 3)), directions, sigma), np.zeros(3, int))
        pulls.append((found.dlen[0, 0] - 10) / (found.dlen[0, 0] / found.dlen[0, 1]))
        chi2.append(found.chi2[0])
    assert np.mean(pulls) == pytest.approx(0, abs=0.2)
    assert np.std(pulls) == pytest.approx(1, abs=0.12)
    assert np.mean(chi2) == pytest.approx(1, abs=0.15)


def test_parallel_lines_have_no_significant_vertex() -> None:
    found = fit_vertices(lines([[0, 5, 0], [0.01, 5, 0]], [[0, 1, 0], [0, 1, 0]]), np.zeros(2, int))
    assert np.isfinite(found.dlen).all()
    assert found.dlen[0, 1] < 3


def chain(*vertices: float) -> Events:
    """Particles each of which is made by the decay of the one before, at these distances from the beam."""
    size = len(vertices)
    position = np.zeros((size, 3))
    position[:, 0] = vertices
    none, zeros = np.full((size, 2), -1), np.zeros(size, dtype=np.int64)
    mothers = np.stack([np.maximum(np.arange(size) - 1, 0)] * 2, axis=1)
    return Events(np.array([0, size]), zeros, zeros == 0, mothers, none, np.ones((size, 4)), position)


@pytest.mark.parametrize(
    ("vertices", "decay"),
    [
        ((0, 0, 0), -1),  # from the collision
        ((0, 0, 5), 1),  # a b hadron
        ((0, 0, 5, 5), 1),  # through a short-lived particle
        ((0, 0, 5, 5, 9), 3),  # c after b, 4 mm away
        ((0, 0, 5, 5, 5.4), 1),  # 0.4 mm away: the vertex of b
        ((0, 0, 0.4), 1),  # close to the collision is not merged with it
        ((0, 0, 0.001), -1),
    ],
)
def test_a_decay_close_to_a_displaced_one_counts_as_that_one(vertices: tuple[float, ...], decay: int) -> None:
    assert _decay(chain(*vertices), len(vertices) - 1) == decay


def test_tracks_are_grouped_by_decay_in_a_jet_and_the_two_most_significant_others_are_a_pair() -> None:
    jet = np.array([0, 0, 0, 1, 1, 1, 1, 2])
    decay = np.array([7, 7, -1, 7, 9, -1, -1, -1])
    significance = np.array([0, 0, 9.0, 2.5, 5.0, 9.0, 1.0, 9.0])
    empty = np.zeros((8, 3))
    group = group_tracks(TrackLines(jet, decay, empty, empty, np.zeros((8, 3, 3)), significance))
    assert group[0] == group[1] >= 0
    assert group[4] == group[5] >= 0
    assert group[4] != group[0]
    assert (group[[2, 3, 6, 7]] == -1).all()


@pytest.fixture(scope="module")
def tables() -> dict[str, dict[str, np.ndarray]]:
    """Sixty jets each of H to bb and of QCD, with vertices."""
    pytest.importorskip("pythia8mc")
    return {
        process: simulate_part(request_of(process=process, jets=60, vertices=True), Part(0, 0, process, 60)).tables[0]
        for process in ("hbb", "qcd")
    }


def test_b_jets_have_vertices_far_from_the_beam_and_light_jets_rarely(tables: dict[str, Any]) -> None:
    bottom, light = tables["hbb"], tables["qcd"]
    assert (bottom["nsv"] > 0).mean() > 0.8
    assert (light["nsv"] > 0).mean() < 0.25
    assert bottom["nsv"].mean() > 1.4
    for name in VERTEX_LAYOUT:
        assert len(bottom[name]) == (60 if name == "nsv" else bottom["nsv"].sum())
    assert np.median(bottom["sv_dlen"]) > 5  # a b hadron of 200 GeV flies 19 mm
    assert (bottom["sv_dlensig"] > 3).all()
    assert np.median(bottom["sv_dlensig"]) > 10
    assert (bottom["sv_ntracks"] >= 2).all()


def test_masses_of_vertices_are_above_two_pions_and_below_the_b_mass(tables: dict[str, Any]) -> None:
    mass = tables["hbb"]["sv_mass"]
    assert mass.min() > 0.279
    assert (mass < B_MASS).mean() > 0.97
    assert np.quantile(mass, 0.9) > 1.5  # above the mass of most vertices of strange hadrons


def test_the_other_branches_do_not_depend_on_vertices(tables: dict[str, Any]) -> None:
    plain = simulate_part(request_of(process="hbb", jets=60), Part(0, 0, "hbb", 10)).tables[0]
    assert set(tables["hbb"]) - set(plain) == set(VERTEX_LAYOUT)
    for name, values in plain.items():
        np.testing.assert_array_equal(values, tables["hbb"][name][: len(values)], err_msg=name)


def test_a_model_reads_the_vertices_of_a_file_without_a_schema(tmp_path: Path) -> None:
    pytest.importorskip("pythia8mc")
    request = request_of(process="hbb", jets=20, vertices=True)
    jets = uproot.open(simulate(request, tmp_path / "jets.root").paths[0])["tree"].arrays()
    part = parts_of(request)[0]
    again = simulate_part(request, part).tables[0]
    for name in VERTEX_LAYOUT:
        np.testing.assert_array_equal(ak.flatten(jets[name][: part.jets], axis=None), again[name], err_msg=name)
    assert ak.all(ak.num(jets.sv_pt) == jets.nsv)
    assert ak.all(jets.sv_dlensig[:, 1:] <= jets.sv_dlensig[:, :-1])
    assert ak.all(np.hypot(jets.sv_deta, jets.sv_dphi) < 1.6)
    read = ssl_jets.read_jets(str(tmp_path / "jets.root")).collections["SV"]
    assert len(read) == 20
    np.testing.assert_allclose(read.column("dlen"), ak.flatten(jets.sv_dlen), rtol=1e-5)
    settings = {"model.size": "tiny", "model.inputs": ["columns", "SV"]}
    run = ssl_jets.pretrain(
        "mae", data=str(tmp_path / "jets.root"), out=tmp_path / "run", steps=1, batch_size=8, settings=settings
    )
    assert ssl_jets.load_model(run).encoder.reads_collections
