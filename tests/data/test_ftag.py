"""ATLAS flavour tagging in HDF5, in the layout of umami and salt: detected, in GeV and mm, with its four flavours."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from ssl_jets.cli.app import app
from ssl_jets.config import ModelSettings
from ssl_jets.data.files import open_files, whole
from ssl_jets.data.inputs import with_definitions
from ssl_jets.data.loading.stream import ordered
from ssl_jets.data.request import Request
from ssl_jets.data.sources import Source

JETS, PLACES = 60, 12


def write_ftag(path: Path, *, eta: str, track_pt: bool, tables: bool = False, virtual: bool = False) -> dict:
    """Write jets and padded tracks, most columns in half precision; return the true values of the tracks."""
    rng = np.random.default_rng(1)
    prefix = "_btagJes" if eta == "eta_btagJes" else ""
    jet_type = [(f"pt{prefix}", "f4"), (eta, "f4"), ("HadronConeExclTruthLabelID", "i4"), ("flavour_label", "i4")]
    track_type = [("qOverP", "f4"), ("deta", "f2"), ("dphi", "f2"), ("d0", "f2"), ("z0SinTheta", "f2"), ("valid", "?")]
    track_type += [("z0SinThetaUncertainty", "f2"), ("numberOfPixelHits", "u1"), *([("pt", "f4")] if track_pt else [])]
    jets, tracks = np.zeros(JETS, jet_type), np.zeros((JETS, PLACES), track_type)
    jets[f"pt{prefix}"], jets[eta] = rng.uniform(20e3, 250e3, JETS), rng.uniform(-2.5, 2.5, JETS)
    jets["HadronConeExclTruthLabelID"] = rng.choice([0, 4, 5, 15], JETS)
    valid = np.arange(PLACES) < rng.integers(1, PLACES, JETS)[:, None]
    pt = rng.exponential(5e3, valid.shape) + 500
    tracks["deta"], tracks["dphi"] = rng.normal(0, 0.15, (2, *valid.shape))
    tracks["d0"], tracks["z0SinTheta"] = rng.normal(0, 0.1, (2, *valid.shape))
    tracks["z0SinThetaUncertainty"] = np.abs(tracks["z0SinTheta"]) / 4
    charge = rng.choice([-1, 1], valid.shape)
    inverse_sine = np.cosh(jets[eta][:, None].astype(float) + tracks["deta"].astype(float))  # 1 / sin(theta)
    momentum = pt * inverse_sine
    tracks["qOverP"], tracks["valid"] = charge / momentum, valid
    if track_pt:
        tracks["pt"] = pt
    tracks[~valid] = np.zeros(1, track_type)
    with h5py.File(path, "w") as file:
        file.create_dataset("jets", data=jets, compression="gzip")
        if virtual:
            file.create_dataset("stored", data=tracks, compression="gzip")
            layout = h5py.VirtualLayout(tracks.shape, tracks.dtype)
            layout[:] = h5py.VirtualSource(file["stored"])
            file.create_virtual_dataset("tracks", layout)
        else:
            file.create_dataset("tracks", data=tracks, compression="gzip")
        if tables:
            file["eventwise"] = np.zeros(7 * JETS, [("x", "f4")])
    sign = np.where(jets[eta] < 0, -1, 1)[:, None]
    return {
        "pt": pt[valid] / 1000,
        "energy": np.hypot(momentum, 139.57)[valid] / 1000,
        "deta": (tracks["deta"] * sign)[valid],
        "charge": charge[valid],
        "d0": -tracks["d0"][valid],  # x = -d0 sin(phi) at the perigee of ATLAS, +d0 sin(phi) in JetClass
        "dz": (tracks["z0SinTheta"] * inverse_sine)[valid],
        "dzerr": (tracks["z0SinThetaUncertainty"] * inverse_sine)[valid],
        "label": jets["HadronConeExclTruthLabelID"],
    }


@pytest.mark.parametrize(
    ("schema", "eta", "track_pt", "tables", "virtual"),
    [
        ("ftag", "eta_btagJes", False, True, False),
        ("ftag_pt", "eta_btagJes", True, False, False),
        ("ftag_eta", "eta", False, False, True),
    ],
)
def test_tracks_are_read_in_canonical_units(
    tmp_path: Path, schema: str, eta: str, track_pt: bool, tables: bool, virtual: bool
) -> None:
    path = tmp_path / "ttbar.h5"
    true = write_ftag(path, eta=eta, track_pt=track_pt, tables=tables, virtual=virtual)
    (file,) = open_files([Source(str(path))])
    assert file.schema.name == schema
    assert file.label_names == ("u", "c", "b", "tau")
    (jets,) = ordered([file], whole([file]), Request(("jet_pt", "jets.flavour_label")))
    for name in ("pt", "energy", "deta", "charge", "d0", "dz", "dzerr"):
        np.testing.assert_allclose(jets.column(name).numpy(), true[name], rtol=2e-5, atol=1e-6, err_msg=name)
    assert jets.labels is not None
    assert jets.labels.tolist() == [{0: 0, 4: 1, 5: 2, 15: 3}[code] for code in true["label"].tolist()]
    assert 20 < float(jets.jet["jet_pt"].min()) < float(jets.jet["jet_pt"].max()) < 250


@pytest.mark.parametrize("eta", ["eta_btagJes", "eta"])
def test_further_inputs_of_taggers_are_features_and_context(tmp_path: Path, eta: str) -> None:
    path = tmp_path / "ttbar.h5"
    write_ftag(path, eta=eta, track_pt=False)
    with h5py.File(path, "a") as old:
        tracks, jets = old["tracks"][:], old["jets"][:]
        rng = np.random.default_rng(2)
        more = [("IP3D_signed_d0_significance", "f2"), ("leptonID", "i4")]
        wider = np.zeros(tracks.shape, tracks.dtype.descr + more)
        for name in tracks.dtype.names:
            wider[name] = tracks[name]
        wider["numberOfPixelHits"] = rng.integers(0, 8, tracks.shape)
        wider["IP3D_signed_d0_significance"] = rng.normal(0, 3, tracks.shape)
        wider["leptonID"] = rng.choice([0, 11, -13], tracks.shape)
        del old["tracks"]
        old.create_dataset("tracks", data=wider)
    files = open_files([Source(str(path))])
    chosen = with_definitions(ModelSettings(inputs=("columns", "features", "context")), files)
    assert set(chosen.features) == {"numberOfPixelHits", "IP3D_signed_d0_significance", "leptonID"}
    request = Request(columns=tuple(chosen.features), context=tuple(chosen.context))
    (read,) = ordered(files, whole(files), request)
    valid = wider["valid"]
    wanted = {name: wider[name][valid].astype(float) for name in chosen.features}
    wanted["leptonID"] = np.select([wanted["leptonID"] == 11, wanted["leptonID"] == -13], [2, 3], 0)  # places
    for name, values in wanted.items():
        np.testing.assert_allclose(read.column(name).numpy(), values, rtol=1e-3)
    np.testing.assert_allclose(read.context["jet_eta"].numpy(), np.abs(jets[eta]), rtol=1e-5)
    assert 20 < float(read.context["jet_pt"].min()) < float(read.context["jet_pt"].max()) < 250


def test_inspect_counts_the_flavours(tmp_path: Path) -> None:
    true = write_ftag(tmp_path / "ttbar.h5", eta="eta_btagJes", track_pt=False)
    result = CliRunner().invoke(app, ["inspect", str(tmp_path / "ttbar.h5")])
    assert result.exit_code == 0, result.output
    counts = Counter(true["label"].tolist())
    assert "ATLAS flavour tagging (umami, salt)" in result.stdout
    assert f"u {counts[0]}, c {counts[4]}, b {counts[5]}, tau {counts[15]}" in result.stdout


def test_the_layout_of_jetset_is_read_with_the_pt_of_its_tracks(tmp_path: Path) -> None:
    """CERN Open Data 93940: both scales of jets, up to 40 tracks, event data, padded truth hadrons."""
    path = tmp_path / "mc-flavtag-ttbar-small.h5"
    true = write_ftag(path, eta="eta_btagJes", track_pt=True, tables=True)
    rng = np.random.default_rng(0)
    with h5py.File(path, "r+") as file:
        old_jets, old_tracks = file["jets"][:], file["tracks"][:]
        del file["jets"], file["tracks"]
        more = [(name, "f4") for name in ("pt", "eta", "phi", "mass", "GN2v01_pb")]
        jets = np.zeros(JETS, [*old_jets.dtype.descr, *more, ("eventNumber", "u8")])
        names = [(name, "f4") for name in ("ptfrac", "lifetimeSignedD0Significance", "phiUncertainty")]
        tracks = np.zeros((JETS, 40), [*old_tracks.dtype.descr, *names, ("ftagTruthOriginLabel", "i4")])
        for name in old_jets.dtype.names:
            jets[name] = old_jets[name]
        jets["pt"], jets["eta"] = 1.1 * jets["pt_btagJes"], jets["eta_btagJes"] + 0.01
        for name in old_tracks.dtype.names:
            tracks[name][:, :PLACES] = old_tracks[name]
        file.create_dataset("jets", data=jets, compression="lzf")
        file.create_dataset("tracks", data=tracks, compression="lzf")
        hadrons = np.zeros((JETS, 5), [("pt", "f4"), ("pdgId", "i4"), ("Lxy", "f4"), ("valid", "?")])
        hadrons["valid"] = rng.random((JETS, 5)) < 0.3
        file["truth_hadrons"] = hadrons
    (file,) = open_files([Source(str(path))])
    assert file.schema.name == "ftag_pt"
    assert file.label_names == ("u", "c", "b", "tau")
    (jets,) = ordered([file], whole([file]), Request(jet_columns=("jet_pt",)))
    np.testing.assert_allclose(jets.column("pt"), true["pt"], rtol=1e-5)
    np.testing.assert_allclose(jets.column("deta"), true["deta"], rtol=1e-3, atol=1e-5)
