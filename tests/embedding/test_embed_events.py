"""embed on files of events: a row for every jet of the collection, with its event and its number there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import torch

from ssl_jets.config import DataSettings, ModelSettings
from ssl_jets.data.files import open_files
from ssl_jets.data.seen import Seen
from ssl_jets.data.sources import Source
from ssl_jets.embedding.embed import embed
from ssl_jets.embedding.inputs import trained_entries
from ssl_jets.model_file import Model, save_model
from ssl_jets.nn.encoder import Encoder
from ssl_jets.zfile import ZFile, read_z
from support.event_files import Values, nano_branches, random_events, write_events

EVENTS = random_events(30)


@pytest.fixture
def nano(tmp_path: Path) -> Path:
    return write_events(tmp_path / "nano.root", nano_branches(EVENTS))


def keys(collection: str) -> list[list[int]]:
    return [[entry, jet] for entry, event in enumerate(EVENTS) for jet in range(len(event.jets[collection]))]


def rows(file: ZFile) -> list[list[int]]:
    return np.stack([file.columns["source_entry"], file.columns["source_jet"]], axis=1).tolist()


@pytest.mark.parametrize(("jets", "collection"), [(None, "FatJet"), ("AK4", "Jet")])
def test_rows_are_the_jets_of_the_collection_in_order(
    tmp_path: Path, model: Path, nano: Path, jets: str | None, collection: str
) -> None:
    keep = ("event", f"{collection}_pt")
    found = []
    for batch in (1, 1000):
        out = tmp_path / f"z{batch}.h5"
        summary = embed(model, [str(nano)], out, keep=keep, data=DataSettings(jets=jets), batch_size=batch)
        found.append(read_z(out))
        assert summary.jets == len(keys(collection))
    one, many = found
    assert many.metadata["collections"] == [jets or "AK8"]
    assert rows(many) == keys(collection)
    assert many.columns["event"].tolist() == [1000 + entry for entry, _ in keys(collection)]
    assert many.columns[f"{collection}_pt"].tolist() == ak.flatten(nano_branches(EVENTS)[f"{collection}_pt"]).tolist()
    np.testing.assert_allclose(one.z, many.z, atol=2e-2)
    assert len(np.unique(many.z, axis=0)) == len(many.z)


def _unlink(branches: Values) -> None:
    """The first jets of all events but the last have particles that are not stored."""
    first = branches["FatJetPFCands_jetIdx"] == 0
    index = branches["FatJetPFCands_pFCandsIdx"]
    keep = ak.Array(np.arange(len(index)) == len(index) - 1)
    branches["FatJetPFCands_pFCandsIdx"] = ak.values_astype(ak.where(first & ~keep, 9999, index), np.int32)


def test_jets_whose_particles_are_not_stored_have_rows_of_nan(tmp_path: Path, model: Path) -> None:
    path = write_events(tmp_path / "nano.root", nano_branches(EVENTS), edit=_unlink)
    data: Any = DataSettings(bad_jets="skip")
    summary = embed(model, [str(path)], tmp_path / "z.parquet", keep=("event", "jet_pt"), data=data, batch_size=7)
    file = read_z(tmp_path / "z.parquet")
    lost = np.array([jet == 0 and entry < len(EVENTS) - 1 for entry, jet in keys("FatJet")])
    assert summary.skipped == lost.sum() > 0
    assert rows(file) == keys("FatJet")
    assert np.isnan(file.z).all(axis=1).tolist() == lost.tolist()
    assert file.columns["event"].tolist() == [1000 + entry for entry, _ in keys("FatJet")]
    np.testing.assert_array_equal(file.columns["jet_pt"], ak.flatten(nano_branches(EVENTS)["FatJet_pt"]).to_numpy())


def test_columns_that_the_files_lack_are_named(tmp_path: Path, model: Path) -> None:
    def drop_tracks(branches: Values) -> None:
        for name in ("charge", "d0", "d0Err", "dz", "dzErr"):
            del branches[f"PFCand_{name}"]

    branches = nano_branches(EVENTS[:3], "PFCand", "pfCandIdx")
    path = write_events(tmp_path / "v15.root", branches, edit=drop_tracks)
    logged: list[str] = []
    embed(model, [str(path)], tmp_path / "z.npz", log=logged.append)
    (lacking,) = [text for text in logged if "the files lack" in text]
    assert lacking.endswith(": d0, d0err, dz, dzerr")
    assert np.isfinite(read_z(tmp_path / "z.npz").z).all()


def test_columns_that_the_model_was_not_trained_with_are_named_and_change_nothing(
    tmp_path: Path, write_jetclass: Callable[..., Path]
) -> None:
    torch.manual_seed(0)
    facts = {"method": "mae", "training": {"columns": ["pt", "deta", "dphi", "energy"]}}
    save_model(Model(Encoder(ModelSettings(size="tiny", blocks=1)), facts=facts), tmp_path / "run" / "model")
    tracks = ["part_d0val", "part_d0err", "part_dzval", "part_dzerr"]
    logged: dict[str, list[str]] = {}
    z = {}
    for name, drop in (("with", []), ("without", tracks)):
        path = write_jetclass(f"{name}.root", entries=20, drop=drop)
        logged[name] = []
        embed(tmp_path / "run", [str(path)], tmp_path / f"{name}.npz", log=logged[name].append, precision="32-true")
        z[name] = read_z(tmp_path / f"{name}.npz").z
    np.testing.assert_array_equal(z["with"], z["without"])
    assert logged["with"][0].endswith("not used: charge, kind, d0, d0err, dz, dzerr")
    assert logged["without"][0].endswith("not used: charge, kind")


def test_training_jets_are_marked_in_events_with_fewer_jets(tmp_path: Path) -> None:
    events = random_events(12)
    for event in events[::2]:
        event.jets["FatJet"] = []
    file = open_files([Source(str(write_events(tmp_path / "few.root", nano_branches(events))))])[0]
    assert file.entries < len(events)
    training = {"files": [list(file.identity)], "held_out": [[*file.identity, 3, 5]]}
    assert trained_entries([file], Seen.of(training)) == ((0, 0, 3), (0, 5, 12))
