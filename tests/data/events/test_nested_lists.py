"""Events whose jets are lists of lists give each jet its own particles, numbers and label, with its key."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import awkward as ak
import h5py
import numpy as np
import pytest
import torch
import uproot

from ssl_jets.config import DataSettings, ModelSettings
from ssl_jets.data.chunks import read_chunk
from ssl_jets.data.events import gather
from ssl_jets.data.files import JetFile, open_files
from ssl_jets.data.request import Request
from ssl_jets.data.sources import Source
from ssl_jets.embedding.embed import embed
from ssl_jets.errors import DataError, UsageError
from ssl_jets.jets import Jets, concatenate
from ssl_jets.model_file import Model, save_model
from ssl_jets.nn.encoder import Encoder
from ssl_jets.zfile import read_z
from support.jetclass_files import CLASSES, jetclass_branches, write_tree
from support.vector_root_file import write_vector_tree

COUNTS = np.array([3, 0, 1, 2, 4, 0, 2] * 3)
JETS = int(COUNTS.sum())


def branches() -> dict[str, Any]:
    """One jet an entry, of two classes."""
    values = jetclass_branches(JETS, seed=5)
    second = np.arange(JETS) % 2
    return values | {"label_QCD": (1 - second).astype("i4"), "label_Hbb": second.astype("i4")}


def nested(values: dict[str, Any]) -> dict[str, Any]:
    """The same jets, several an event; with a number of the event, its process, and muons that are not of jets."""
    events = {name: ak.unflatten(ak.Array(column), COUNTS) for name, column in values.items()}
    muons = ak.unflatten(np.ones(2 * len(COUNTS), dtype="f4"), np.full(len(COUNTS), 2))
    return events | {"event": np.arange(len(COUNTS), dtype="i4") + 100, "muon_pt": muons}


def write_root(path: Path, events: dict[str, Any]) -> None:
    """Write lists of lists as float, and flags as int: `write_vector_tree` knows no others."""
    kinds = {name: "float32" if ak.Array(value).ndim == 3 else "int32" for name, value in events.items()}
    cast = [name for name in events if name.startswith(("part_", "label_"))]
    write_vector_tree(path, events | {name: ak.values_astype(events[name], kinds[name]) for name in cast}, cluster=5)


def write_rntuple(path: Path, events: dict[str, Any]) -> None:
    with uproot.recreate(path) as file:
        file.mkrntuple("tree", events)


def write_parquet(path: Path, events: dict[str, Any]) -> None:
    ak.to_parquet(ak.Array(events), path, row_group_size=5)


WRITERS = (write_root, write_rntuple, write_parquet)
WANTED = Request(("jet_pt", "event"))


def opened(path: Path, form: str | None = None, jets: str | None = None) -> JetFile:
    return open_files([Source(str(path))], schema=form, jets=jets)[0]


def read(file: JetFile, start: int = 0, stop: int = JETS, request: Request = WANTED) -> Jets:
    return read_chunk(file, 0, start, stop, request)[0]


@pytest.mark.parametrize("write", [write_rntuple, write_parquet])
@pytest.mark.parametrize("dtype", ["i4", "f4", "?"])
def test_a_missing_number_of_an_event_is_nan_for_all_its_jets(
    tmp_path: Path, write: Callable[..., None], dtype: str
) -> None:
    numbers = [None if event == 4 else event % 2 for event in range(len(COUNTS))]
    write(tmp_path / "jets", nested(branches()) | {"event": ak.values_astype(ak.Array(numbers), dtype)})
    found = read(opened(tmp_path / "jets")).jet["event"].numpy()
    np.testing.assert_array_equal(found, np.repeat(np.array(numbers, dtype="f8"), COUNTS))


@pytest.mark.parametrize("write", WRITERS)
def test_every_jet_of_an_event_has_its_particles_numbers_label_and_key(
    tmp_path: Path, write: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gather, "PIECE", 4)
    flat = opened(write_tree(tmp_path / "flat.root", {"tree": branches()}))
    write(tmp_path / "events", nested(branches()))
    file = opened(tmp_path / "events")
    assert (file.entries, file.columns, file.label_names) == (JETS, flat.columns, CLASSES)
    assert "muon_pt" not in file.jet_columns
    jets, expected = read(file), read(flat, request=Request(("jet_pt",)))
    assert jets.particles.equal(expected.particles)
    assert jets.offsets.equal(expected.offsets)
    assert jets.jet["jet_pt"].equal(expected.jet["jet_pt"])
    assert jets.labels is not None
    assert jets.labels.tolist() == [index % 2 for index in range(JETS)]
    assert jets.source is not None
    keys = [[entry, number] for entry, count in enumerate(COUNTS) for number in range(count)]
    assert jets.source[:, 1:].tolist() == keys
    assert jets.jet["event"].tolist() == [100 + entry for entry, _ in keys]
    pieces = [read(file, start, stop) for start, stop in pairwise([0, 1, 2, 5, 17, JETS - 1, JETS])]
    assert concatenate(pieces).particles.equal(jets.particles)


def test_a_schema_of_ones_own_reads_lists_of_lists_without_a_key(tmp_path: Path) -> None:
    write_parquet(tmp_path / "events", nested(branches()))
    (tmp_path / "own.yaml").write_text("""
particles:
  pt: {formula: "hypot(part_px, part_py)", unit: GeV}
  deta: {formula: part_deta + jet_pt - jet_pt}
  dphi: {branch: part_dphi}
jet_cut: sum(1) > 0
jets: {mass: {branch: jet_sdmass}, event_number: {branch: event}}
label_index: {branch: label_Hbb, names: [other, Hbb]}
""")
    file = opened(tmp_path / "events", str(tmp_path / "own.yaml"))
    jets = read(file, request=Request(("mass", "event_number")))
    np.testing.assert_allclose(jets.jet["mass"], branches()["jet_sdmass"], rtol=1e-6)
    assert jets.labels is not None
    assert jets.labels.tolist() == [index % 2 for index in range(JETS)]


def test_branches_of_other_numbers_of_jets_are_told_with_their_entry(tmp_path: Path) -> None:
    events = nested(branches())
    events["part_dphi"] = ak.concatenate([events["part_dphi"][:4], events["part_dphi"][4:, 1:]])
    write_parquet(tmp_path / "events", events)
    with pytest.raises(DataError, match=r"part_dphi does not have as many values[\s\S]*entry 4\n[\s\S]*3 and 4"):
        read(opened(tmp_path / "events"))
    events = nested(branches())
    events["part_dphi"] = events["part_dphi"][:, :, :-1]
    write_parquet(tmp_path / "events", events)
    with pytest.raises(DataError, match=r"different numbers of particles[\s\S]*entry 0\n"):
        read(opened(tmp_path / "events"))


def test_kept_columns_of_bad_jets_beside_an_unreadable_event_are_those_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssl_jets.data.events.nested._LOOK", 4)  # at 4 events the column is one of jets
    tag = np.arange(JETS, dtype="f4")
    values = branches() | {"tag": tag}
    bad = [5, 10]  # the last jet of event 3, and the first of event 6
    particles = ak.to_list(values["part_energy"])
    for jet in bad:
        particles[jet][0] = float("nan")
    events = nested(values | {"part_energy": ak.Array(particles)})
    events["tag"] = ak.concatenate([events["tag"][:4], events["tag"][4:5, 1:], events["tag"][5:]])
    write_parquet(tmp_path / "events", events)
    torch.manual_seed(0)
    save_model(Model(Encoder(ModelSettings(size="tiny", blocks=1)), facts={"method": "mae"}), tmp_path / "model")
    skip = DataSettings(bad_jets="skip", bad_files="skip")
    embed(tmp_path / "model", [str(tmp_path / "events")], tmp_path / "z.npz", data=skip, keep=["tag"])
    z = read_z(tmp_path / "z.npz")
    unreadable = np.flatnonzero(z.columns["source_entry"] == 4)
    assert len(unreadable) == COUNTS[4]
    assert np.flatnonzero(np.isnan(z.z).any(1)).tolist() == sorted([*bad, *unreadable])
    expected = tag.copy()
    expected[unreadable] = np.nan
    np.testing.assert_array_equal(z.columns["tag"], expected)


def test_there_are_no_other_jets_to_choose(tmp_path: Path) -> None:
    write_parquet(tmp_path / "events", nested(branches()))
    with pytest.raises(UsageError, match="no others to choose from"):
        opened(tmp_path / "events", jets="AK8")


def test_an_array_of_three_axes_is_not_taken_for_lists_of_lists(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "jets.h5", "w") as file:
        for name in ("px", "py", "deta", "dphi", "energy"):
            file[f"part_{name}"] = np.ones((4, 3, 2), dtype="f4")
    with pytest.raises(DataError, match=r"does not hold[\s\S]*float32\[3, 2\]"):
        opened(tmp_path / "jets.h5")
