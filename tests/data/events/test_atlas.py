"""ATLAS derivations: element links lead to the particles of each jet, or to an error that says what is not stored."""

from __future__ import annotations

import os
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import torch
import uproot

from ssl_jets.data.bad_jets import BadJetError
from ssl_jets.data.chunks import read_chunk, read_jet_columns, read_rows
from ssl_jets.data.events import gather
from ssl_jets.data.events.links import element_key
from ssl_jets.data.files import JetFile, open_files
from ssl_jets.data.request import Request
from ssl_jets.data.sources import Source
from ssl_jets.errors import DataError
from ssl_jets.jets import Jets
from support.atlas_files import CHARGED, LARGE, NEUTRAL, SMALL, UNIFIED, atlas_branches, write_atlas
from support.event_files import Event, random_events

PHYSLITE = os.environ.get("SSL_JETS_PHYSLITE")
"""PHYSLITE_example.root of coffea's tests, which is too large to be copied here."""
NOT_HERE = "SSL_JETS_PHYSLITE does not name the real file"
TRACKS = """
events:
  collections: {AnalysisJetsAuxDyn: {}}
  jets: {jet_pt: "{jets}.pt", jet_eta: "{jets}.eta", jet_phi: "{jets}.phi"}
  prefix: "{jets}."
  containers: {InDetTrackParticlesAuxDyn: {}}
  particles: [{q: "{container}.qOverP", theta: "{container}.theta", phi: "{container}.phi"}]
  link: {elements: "{jets}.GhostTrack", classes: {TrackParticleContainer: 1287425431}}
particles:
  pt: {formula: sin(theta) / abs(q), unit: MeV}
  deta: {formula: 0 - log(sin(theta / 2) / cos(theta / 2)), absolute: true}
  dphi: {branch: phi, unit: rad, absolute: true}
axis: {eta: jet_eta, phi: jet_phi}
"""


def open_one(path: Path, jets: str | None = None, form: str | None = None) -> JetFile:
    return open_files([Source(str(path))], schema=form, jets=jets)[0]


def read(file: JetFile, request: Request = Request()) -> Jets:
    return read_chunk(file, 0, 0, file.entries, request)[0]


@pytest.fixture
def events() -> list[Event]:
    return random_events(30)


@pytest.mark.parametrize(
    ("name", "class_number", "key"),
    [
        ("InDetTrackParticles", 1287425431, 490246363),  # the keys of the links of public PHYSLITE files
        ("GSFTrackParticles", 1287425431, 776133387),
        ("UFOCSSK", 1158384067, 1036585512),
    ],
)
def test_keys_are_those_of_athena(name: str, class_number: int, key: int) -> None:
    assert element_key(name, class_number) == key


@pytest.mark.parametrize(("collection", "ours"), [(SMALL, "Jet"), (LARGE, "FatJet")])
def test_every_jet_has_its_particles_in_gev(
    tmp_path: Path, events: list[Event], monkeypatch: pytest.MonkeyPatch, collection: str, ours: str
) -> None:
    monkeypatch.setattr(gather, "PIECE", 4)
    file = open_one(write_atlas(tmp_path / "daod.root", atlas_branches(events)), collection)
    jets = read(file, Request(jet_columns=("jet_pt", "jet_eta", "jet_phi", f"{collection}.pt")))
    assert file.schema.name == "atlas"
    assert file.label_names == ("light", "c", "b", "tau")
    torch.testing.assert_close(jets.jet["jet_pt"] * 1000, jets.jet[f"{collection}.pt"])
    wanted = [(event, jet) for event in events for jet in event.jets[ours]]
    assert len(jets) == len(wanted)
    for row, (event, jet) in enumerate(wanted):
        found = jets.particles[jets.offsets[row] : jets.offsets[row + 1]].numpy()
        p = {name: values[jet].astype(np.float64) for name, values in event.particles.items()}
        eta, phi = (float(jets.jet[f"jet_{name}"][row]) for name in ("eta", "phi"))
        expected = {
            "pt": p["pt"],
            "deta": (p["eta"] - eta) * (-1 if eta < 0 else 1),
            "dphi": (p["phi"] - phi + np.pi) % (2 * np.pi) - np.pi,
            "energy": np.hypot(p["pt"] * np.cosh(p["eta"]), p["mass"]),
            "charge": p["charge"],
            "kind": np.where(p["charge"] != 0, 0, 5),
        }
        assert tuple(expected) == jets.columns
        np.testing.assert_allclose(found, np.stack(list(expected.values()), axis=1), rtol=2e-5, atol=2e-5)


def test_columns_may_lie_in_the_store_that_is_not_slimmed(tmp_path: Path, events: list[Event]) -> None:
    branches = atlas_branches(events)
    plain = open_one(write_atlas(tmp_path / "dynamic.root", branches), SMALL)
    branches = {name.replace("AuxDyn.", "Aux."): values for name, values in branches.items()}
    static = open_one(write_atlas(tmp_path / "static.root", branches), SMALL.removesuffix("Dyn"))
    assert read(static).particles.equal(read(plain).particles)


def test_jets_whose_collections_are_stored_are_the_default(tmp_path: Path, events: list[Event]) -> None:
    branches = {name: values for name, values in atlas_branches(events).items() if not name.startswith(UNIFIED)}
    file = open_one(write_atlas(tmp_path / "daod.root", branches))
    assert file.events is not None
    assert file.events.layout.collection == SMALL


def test_a_jet_that_links_to_a_collection_that_is_not_stored_is_told(tmp_path: Path, events: list[Event]) -> None:
    branches = {name: values for name, values in atlas_branches(events).items() if not name.startswith(NEUTRAL)}
    file = open_one(write_atlas(tmp_path / "daod.root", branches), SMALL)
    with pytest.raises(BadJetError, match="not stored in the file"):
        read(file)
    whole = [jet for event in events for jet in event.jets["Jet"] if event.particles["charge"][jet].all()]
    assert read(file, Request(bad_jets="skip")).lengths.tolist() == [len(jet) for jet in whole]


def test_a_derivation_without_any_constituents_is_refused(tmp_path: Path, events: list[Event]) -> None:
    branches = {name: v for name, v in atlas_branches(events).items() if name.startswith((SMALL, LARGE))}
    branches |= {"AnalysisJetsAuxDyn.pt": branches[f"{SMALL}.pt"], "AnalysisJetsAuxDyn.eta": branches[f"{SMALL}.eta"]}
    with pytest.raises(DataError, match=r"no constituents.*does not store"):
        open_one(write_atlas(tmp_path / "daod.root", branches))


def test_a_null_link_is_a_particle_that_was_removed(tmp_path: Path, events: list[Event]) -> None:
    branches = atlas_branches(events)
    links = branches[f"{LARGE}.constituentLinks"]
    branches[f"{LARGE}.constituentLinks"] = ak.zip(
        {"m_persKey": ak.values_astype(links.m_persKey * 0, np.uint32), "m_persIndex": links.m_persIndex}
    )
    file = open_one(write_atlas(tmp_path / "daod.root", branches), LARGE)
    _, left_out = read_chunk(file, 0, 0, file.entries, Request(bad_jets="skip"))
    assert sum(left_out.values()) == file.entries


def test_charged_objects_without_a_stored_charge_still_have_a_kind(tmp_path: Path, events: list[Event]) -> None:
    branches = atlas_branches(events)
    del branches[f"{CHARGED}AuxDyn.charge"]
    without = open_one(write_atlas(tmp_path / "daod.root", branches), SMALL)
    assert "charge" not in without.columns
    full = open_one(write_atlas(tmp_path / "full.root", atlas_branches(events)), SMALL)
    assert read(without).column("kind").equal(read(full).column("kind"))


@pytest.mark.slow
@pytest.mark.skipif(PHYSLITE is None, reason=NOT_HERE)
def test_the_files_of_these_tests_have_the_layout_of_a_real_one(tmp_path: Path, events: list[Event]) -> None:
    assert PHYSLITE is not None
    ours = uproot.open(write_atlas(tmp_path / "daod.root", atlas_branches(events)))["CollectionTree"]
    theirs = uproot.open(PHYSLITE)["CollectionTree"]
    branch = "AnalysisLargeRJetsAuxDyn"
    for name in ("constituentLinks", "pt"):
        mine, real = ours[f"{LARGE}.{name}"], theirs[f"{branch}.{name}"]
        assert (mine.typename, str(mine.interpretation)) == (real.typename, str(real.interpretation))
    assert (
        ours[f"{LARGE}.constituentLinks"].array().type.content
        == theirs[f"{branch}.constituentLinks"].array().type.content
    )


@pytest.mark.slow
@pytest.mark.skipif(PHYSLITE is None, reason=NOT_HERE)
def test_links_of_a_real_file_lead_to_tracks_inside_their_jets(tmp_path: Path) -> None:
    """6,667 of the 7,793 links to tracks are null; the others must be within the jets."""
    form = tmp_path / "tracks.yaml"
    form.write_text(TRACKS)
    assert PHYSLITE is not None
    file = open_one(Path(PHYSLITE), form=str(form))
    rows = read_rows(file, ("q", "theta", "phi"), 0, file.entries)
    assert rows.lost is not None
    assert (int(rows.lengths.sum()), int(rows.lost.sum())) == (1126, 6667)
    _, jet = read_jet_columns(file, ("jet_eta", "jet_phi"), 0, file.entries)
    deta = -np.log(np.tan(rows.particle["theta"] / 2)) - rows.spread(jet["jet_eta"])
    dphi = (rows.particle["phi"] - rows.spread(jet["jet_phi"]) + np.pi) % (2 * np.pi) - np.pi
    assert np.hypot(deta, dphi).max() < 0.42


def test_a_branch_that_ends_early_is_a_corrupt_file(tmp_path: Path, events: list[Event]) -> None:
    branches = atlas_branches(events)
    branches[f"{LARGE}.constituentLinks"] = branches[f"{LARGE}.constituentLinks"][:23]
    file = open_one(write_atlas(tmp_path / "daod.root", branches, cluster=30), LARGE)
    with pytest.raises(DataError, match=r"corrupt[^~]*23 of 30 rows of \S*constituentLinks"):
        read(file)
