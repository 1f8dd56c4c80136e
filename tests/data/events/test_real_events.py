"""Real files of events: the particles of a jet add up to the jet, and missing particles are an error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ssl_jets.data.chunks import read_chunk
from ssl_jets.data.files import JetFile, open_files
from ssl_jets.data.request import Request
from ssl_jets.data.sources import Source
from ssl_jets.errors import DataError
from ssl_jets.jets import Jets
from support.paths import REAL

SHARED = next((path for above in REAL.parents if (path := above / "shared" / "data" / "real").exists()), REAL / "none")
AXIS = ("jet_pt", "jet_eta", "jet_phi")


def read(path: Path, collection: str | None = None, *columns: str) -> tuple[JetFile, Jets]:
    file = open_files([Source(str(path))], jets=collection)[0]
    return file, read_chunk(file, 0, 0, file.entries, Request(jet_columns=(*AXIS, *columns)))[0]


def sums(jets: Jets) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """pt, |eta| and mass of the sum of the particles of each jet."""
    eta = jets.column("deta").double() + jets.jet["jet_eta"].double().abs()[jets.jet_of_particle]
    pt, phi = jets.column("pt").double(), jets.column("dphi").double()
    momentum = torch.stack([pt * phi.cos(), pt * phi.sin(), pt * eta.sinh(), jets.column("energy").double()], dim=1)
    px, py, pz, energy = (jets.mean(momentum) * jets.lengths[:, None]).T
    pt = torch.hypot(px, py)
    return pt, torch.asinh(pz / pt), (energy**2 - pt**2 - pz**2).clamp(min=0).sqrt()


@pytest.mark.parametrize(
    ("collection", "prefix", "spread"), [("AK8", "FatJet", 0.003), ("AK4", "Jet", 0.003), ("AK4PUPPI", "Jet", None)]
)
def test_cms_candidates_add_up_to_the_uncorrected_jet(collection: str, prefix: str, spread: float | None) -> None:
    _, jets = read(REAL / "pfnano.root", collection, f"{prefix}_rawFactor", f"{prefix}_mass")
    raw = 1 - jets.jet[f"{prefix}_rawFactor"].double()
    pt, eta, mass = sums(jets)
    ratio = pt / (jets.jet["jet_pt"] * raw)
    if spread is None:  # CHS jets are not made of weighted candidates
        assert float(ratio.median()) < 0.95
        return
    assert float((ratio - 1).abs().max()) < spread
    assert float((eta - jets.jet["jet_eta"].abs()).abs().max()) < 2e-3
    assert float((mass / (jets.jet[f"{prefix}_mass"] * raw) - 1).abs().median()) < 2e-3


@pytest.mark.parametrize("collection", ["AK8", "AK4"])
def test_an_rntuple_of_cms_gives_the_jets_of_the_tree(collection: str) -> None:
    tree, ntuple = (read(REAL / name, collection) for name in ("pfnano.root", "pfnano_rntuple.root"))
    assert ntuple[0].columns == tree[0].columns
    assert set(ntuple[0].jet_columns) == set(tree[0].jet_columns)
    assert ntuple[1].particles.equal(tree[1].particles)
    assert ntuple[1].offsets.equal(tree[1].offsets)


def test_cms_impact_parameters_are_in_mm_and_zero_without_track_details() -> None:
    _, jets = read(REAL / "pfnano.root")
    d0, d0err = jets.column("d0"), jets.column("d0err")
    assert float(d0err.min()) == 0
    assert not d0[d0err == 0].any()
    tracked = d0err > 0
    assert bool((jets.column("charge")[tracked] != 0).all())
    # A few tens of micrometres: ten times more or less would be a wrong unit.
    assert 0.01 < float(d0err[tracked].median()) < 0.2


@pytest.mark.parametrize(("name", "collection"), [("pfnano.root", "AK4"), ("delphes_eflow.root", None)])
def test_the_sign_of_d0_is_the_same_in_all_formats(name: str, collection: str | None) -> None:
    """At the closest approach d0 = (x py - y px) / pt: of a decay at a distance L ahead, L sin(dphi).

    So it mostly has the sign of dphi. Delphes stores this number (ParticlePropagator), CMS the opposite (TrackBase).
    """
    _, jets = read(REAL / name, collection)
    d0, d0err, dphi = (jets.column(column) for column in ("d0", "d0err", "dphi"))
    displaced = (d0err > 0) & (d0.abs() > 5 * d0err) & (d0.abs() < 3)
    assert int(displaced.sum()) > 15
    assert float((d0 * dphi > 0)[displaced].double().mean()) > 0.75


@pytest.mark.parametrize("collection", ["JetPUPPIAK8"])
def test_delphes_candidates_add_up_to_the_jet(collection: str) -> None:
    file, jets = read(REAL / "delphes.root", None, f"{collection}.Mass", f"{collection}.Tau[0]")
    assert file.events is not None
    assert file.events.layout.collection == collection
    pt, eta, mass = sums(jets)
    torch.testing.assert_close(pt, jets.jet["jet_pt"].double(), rtol=1e-5, atol=0)
    torch.testing.assert_close(eta, jets.jet["jet_eta"].double().abs(), rtol=0, atol=1e-5)
    # Delphes adds the rest energies of the candidates that PUPPI removed to those jets that had some.
    own = jets.jet[f"{collection}.Mass"].double()
    assert bool((mass < own + 0.01).all())
    assert int(((mass / own - 1).abs() < 1e-3).sum()) >= 8
    assert bool((jets.jet[f"{collection}.Tau[0]"] >= 0).all())
    assert float(jets.column("pt").min()) > 0


def test_delphes_jets_of_three_collections_have_their_direction_and_all_their_particles() -> None:
    file, jets = read(REAL / "delphes_eflow.root")
    assert file.columns == jets.columns
    pt, eta, _ = sums(jets)
    torch.testing.assert_close(eta, jets.jet["jet_eta"].double().abs(), rtol=0, atol=1e-5)
    ratio = (pt / jets.jet["jet_pt"]).numpy()
    assert np.all((ratio > 0.85) & (ratio < 1.0))  # the jets' energies were scaled up
    assert set(jets.column("kind").tolist()) >= {0.0, 1.0, 2.0}
    neutral = jets.column("charge") == 0
    assert not jets.particles[neutral][:, [jets.columns.index("d0"), jets.columns.index("d0err")]].any()


def test_delphes_jets_without_stored_candidates_are_an_error_or_counted() -> None:
    file = open_files([Source(str(REAL / "delphes.root"))], jets="JetAK8")[0]
    with pytest.raises(DataError, match="not stored in the file") as caught:
        read_chunk(file, 0, 0, file.entries, Request())
    assert "data.jets" in str(caught.value)
    jets, skipped = read_chunk(file, 0, 0, file.entries, Request(bad_jets="skip"))
    assert (len(jets), sum(skipped.values())) == (0, file.entries)


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="the whole files are not here")
@pytest.mark.parametrize(
    ("name", "collection", "jets"),
    [
        ("pfnano.root", "AK8", 24),
        ("pfnano.root", "AK4", 64),
        ("events_delphes_example.root", "JetPUPPIAK8", 22),
        ("uproot-issue513.root", "Jet", 60),
    ],
)
def test_whole_files_have_all_their_jets(name: str, collection: str, jets: int) -> None:
    found = read(SHARED / name, collection)[1]
    assert len(found) == jets
    assert int(found.lengths.min()) > 0


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="the whole files are not here")
@pytest.mark.parametrize(
    ("name", "message"),
    [("nanoAOD_2015_CMS_Open_Data_ttbar.root", "PFNano"), ("PHYSLITE_example.root", "does not store")],
)
def test_files_without_particles_of_jets_are_refused(name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_files([Source(str(SHARED / name))])


def test_features_of_cms_are_there_if_asked_for() -> None:
    file = open_files([Source(str(REAL / "pfnano.root"))])[0]  # the other branches were cut from this file
    assert (file.features, file.context) == (("puppiWeight",), ("jet_pt", "jet_eta"))
    asked = Request(jet_columns=AXIS, columns=("pt", "deta", "dphi", "puppiWeight"), context=file.context)
    jets = read_chunk(file, 0, 0, file.entries, asked)[0]
    assert bool(((jets.column("puppiWeight") > 0) & (jets.column("puppiWeight") <= 1)).all())
    assert torch.equal(jets.context["jet_pt"], jets.jet["jet_pt"])
    assert torch.equal(jets.context["jet_eta"], jets.jet["jet_eta"].abs())
    plain = read_chunk(file, 0, 0, file.entries, Request())[0]
    assert "puppiWeight" not in plain.columns
    assert not plain.context


@pytest.mark.skipif(not SHARED.exists(), reason="the whole files are not here")
def test_the_track_features_of_a_whole_cms_file_are_in_their_categories() -> None:
    file = open_files([Source(str(SHARED / "pfnano.root"))])[0]
    lacking = {"fromPV"} - set(file.features)  # in newer productions only
    assert set(file.features) == set(file.schema.features) - lacking
    jets = read_chunk(file, 0, 0, file.entries, Request(columns=("pt", "charge", *file.features)))[0]
    for name in ("lostInnerHits", "pvAssocQuality", "trkQuality"):
        assert float(jets.column(name).max()) < len(file.schema.features[name].categories), name
    neutral = jets.column("charge") == 0
    assert bool(jets.column("trkChi2")[neutral].isnan().all())
    assert not bool(jets.column("trkChi2")[~neutral].isnan().all())
