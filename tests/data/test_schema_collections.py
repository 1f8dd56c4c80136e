"""Further collections of jets, which a schema declares, from files to `Jets`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import torch

from ssl_jets.config import ModelSettings
from ssl_jets.data.chunks import read_chunk
from ssl_jets.data.files import JetFile, open_files, whole
from ssl_jets.data.inputs import (
    check_definitions,
    describe_inputs,
    joint_requests,
    requests_of,
    unlisted,
    with_definitions,
)
from ssl_jets.data.inspection import files_as_text, inspect_files
from ssl_jets.data.loading.stream import TrainStream, ordered
from ssl_jets.data.profile import profile
from ssl_jets.data.request import CollectionRequest, Request
from ssl_jets.data.schemas.schema import load_schema
from ssl_jets.data.sources import Source
from ssl_jets.errors import DataError, UsageError
from ssl_jets.jets import Jets, concatenate
from support.collection_files import SCHEMA, padded_branches, write_collections
from support.event_files import nano_branches, random_events, write_events
from support.paths import REAL

FEATURES = ("pt", "deta", "dphi", "length", "ntracks", "share")
SV = CollectionRequest("SV", FEATURES, 3)
REQUEST = Request(columns=("pt", "deta", "dphi"), collections=(SV,))
SHARED = next((path for above in REAL.parents if (path := above / "shared" / "data" / "real").exists()), REAL / "none")


def opened(path: Path, text: str = SCHEMA) -> JetFile:
    schema = path.parent / "mine.yaml"
    schema.write_text(text)
    return open_files([Source(str(path))], schema=str(schema))[0]


def read(file: JetFile, start: int = 0, stop: int | None = None, request: Request = REQUEST) -> Jets:
    return read_chunk(file, 0, start, file.entries if stop is None else stop, request)[0]


def elements(file: JetFile, request: Request = REQUEST) -> Jets:
    return read(file, request=request).collections["SV"]


def chosen(file: JetFile, *inputs: str, **more: Any) -> ModelSettings:
    return with_definitions(ModelSettings(size="tiny", inputs=inputs or ("columns", "collections"), **more), [file])


@pytest.mark.parametrize("suffix", [".h5", ".root"])
def test_elements_are_read_with_cut_units_axis_and_missing_values_from_padded_tables_and_lists(
    tmp_path: Path, suffix: str
) -> None:
    file = opened(write_collections(tmp_path / f"jets{suffix}"))
    assert {name: one.features for name, one in file.collections.items()} == {"SV": FEATURES}
    sv, raw = elements(file), padded_branches(40)
    there = (raw["sv_valid"] > 0) & (raw["sv_valid"].cumsum(1) <= 3)  # `most: 3`, the first ones
    assert sv.columns == FEATURES
    assert sv.lengths.tolist() == there.sum(1).tolist()
    assert int(raw["sv_valid"].sum(1).max()) > 3 > int(sv.lengths.min()) == 0

    def real(values: np.ndarray) -> np.ndarray:
        return np.broadcast_to(values, there.shape)[there]

    np.testing.assert_allclose(sv.column("pt"), real(raw["sv_pt"]) / 1000, rtol=1e-6)
    side = np.sign(raw["jet_eta"])[:, None]
    np.testing.assert_allclose(sv.column("deta"), real((raw["sv_eta"] - raw["jet_eta"][:, None]) * side), atol=1e-6)
    turn = real(raw["sv_phi"] - raw["jet_phi"][:, None])
    np.testing.assert_allclose(sv.column("dphi"), (turn + math.pi) % (2 * math.pi) - math.pi, atol=1e-5)
    length = real(raw["sv_length"])
    np.testing.assert_allclose(sv.column("length"), np.where(length == -1, np.nan, 10 * length), rtol=1e-6)
    assert sv.column("ntracks").tolist() == [{2: 0, 3: 1, 7: 2}[value] for value in real(raw["sv_ntracks"]).tolist()]
    np.testing.assert_allclose(sv.column("share"), real(raw["sv_pt"] / (1000 * raw["jet_pt"][:, None])), rtol=1e-5)


def test_relative_azimuths_are_wrapped_as_those_of_particles(tmp_path: Path) -> None:
    turn = 3 * padded_branches(40)["sv_phi"]
    text = SCHEMA.replace("sv_phi, absolute: true", "sv_phi")
    dphi = elements(opened(write_collections(tmp_path / "jets.h5", sv_phi=turn), text)).column("dphi")
    same = elements(
        opened(write_collections(tmp_path / "same.h5", sv_phi=np.arctan2(np.sin(turn), np.cos(turn))), text)
    )
    assert np.abs(turn).max() > 6
    torch.testing.assert_close(dphi, same.column("dphi"), rtol=0, atol=1e-5)


def test_padding_of_a_collection_is_suspicious_until_a_cut_removes_it(tmp_path: Path) -> None:
    path = write_collections(tmp_path / "jets.h5")
    zeros = SCHEMA.replace("pt: {branch: sv_pt,", "pt: {formula: sv_pt * sv_valid,")
    assert not any("padding" in text for text in profile(opened(path, zeros), 40).suspicions)
    there = padded_branches(40)["sv_valid"] > 0
    found = f"{(~there).sum()} of {there.size} elements of SV have pt zero"
    texts = profile(opened(path, zeros.replace("    cut: sv_valid > 0\n    most: 3\n", "")), 40).suspicions
    assert [found in text for text in texts] == [True]


def test_particles_are_the_same_to_the_last_bit_and_nothing_is_read_without_being_asked_for(tmp_path: Path) -> None:
    file = opened(write_collections(tmp_path / "jets.root"))
    plain = Request(columns=("pt", "deta", "dphi"))
    decoder = file.decoder(plain)
    assert not decoder.collections
    assert not [name for name in decoder.branches if name.startswith(("sv_", "jet_eta"))]
    jets, other = read(file, request=plain), read(file)
    assert not jets.collections
    assert jets.particles.equal(other.particles)
    assert jets.offsets.equal(other.offsets)


def test_every_stream_gives_each_jet_its_own_elements(tmp_path: Path) -> None:
    file = opened(write_collections(tmp_path / "jets.root"))
    expected = elements(file)
    by_entry = [expected.particles[a:b].nan_to_num(-9).tolist() for a, b in expected.offsets.unfold(0, 2, 1).tolist()]
    chunks = [read(file, start, min(start + 7, 40)) for start in range(0, 40, 7)]
    stream = TrainStream([file], whole([file]), request=REQUEST, batch_size=8, buffer=20, seed=1)
    try:
        batches = [next(stream) for _ in range(10)]
    finally:
        stream.close()
    for jets in (concatenate(chunks), *ordered([file], whole([file]), REQUEST), *batches, read(file).to("cpu")):
        sv = jets.collections["SV"]
        assert jets.source is not None
        assert len(sv) == len(jets)
        for row, entry in enumerate(jets.source[:, 1].tolist()):
            own = sv.particles[sv.offsets[row] : sv.offsets[row + 1]]
            assert own.nan_to_num(-9).tolist() == by_entry[entry]


def test_a_file_without_the_collection_gives_each_jet_one_element_with_all_values_missing(tmp_path: Path) -> None:
    file = opened(write_collections(tmp_path / "jets.root", drop="sv_"))
    assert not file.collections
    sv = elements(file)
    assert sv.lengths.tolist() == [1] * 40
    assert bool(sv.particles.isnan().all())
    other = opened(
        write_collections(tmp_path / "other.root", drop="sv_length"), SCHEMA.replace("cut: sv_valid > 0", "")
    )
    sv = elements(other, Request(columns=("pt",), collections=(CollectionRequest("SV", ("length",), 3),)))
    assert sv.lengths.tolist() == [1] * 40  # nothing that is asked for tells their number
    some = opened(write_collections(tmp_path / "some.root", drop="sv_length"))
    sv = elements(some)
    assert bool(sv.column("length").isnan().all())
    assert bool(sv.column("pt").isfinite().all())
    definitions = chosen(some).collections | chosen(opened(write_collections(tmp_path / "all.root"))).collections
    lines = check_definitions({}, {}, [file, some], definitions)
    assert len(lines) == 1
    assert "collections that the encoder then reads as missing" in lines[0]
    assert lines[0].endswith(": SV (1 of 2 files), SV.length (1 of 2 files)")


def test_a_selection_and_bad_jets_leave_out_the_elements_of_their_jets(tmp_path: Path) -> None:
    raw = padded_branches(40)
    raw["part_pt"][3, 0] = np.inf
    file = opened(write_collections(tmp_path / "jets.root", part_pt=raw["part_pt"]))
    request = Request(
        columns=("pt", "deta", "dphi"), collections=(SV,), bad_jets="skip", where="jet_label == 1 && jet_pt > 120"
    )
    jets, skipped = read_chunk(file, 0, 0, 40, request)
    kept = np.flatnonzero((raw["jet_label"] == 1) & (raw["jet_pt"] > 120) & (np.arange(40) != 3))
    assert jets.source is not None
    assert jets.source[:, 1].tolist() == kept.tolist()
    assert skipped.total() == 40 - len(kept)
    assert jets.collections["SV"].lengths.tolist() == np.minimum(raw["sv_valid"].sum(1), 3)[kept].tolist()


@pytest.mark.parametrize("collection", ["AK8", "AK4"])
def test_vertices_of_cms_are_linked_by_the_table_of_the_jets(tmp_path: Path, collection: str) -> None:
    events = random_events(12)
    prefix = {"AK8": "FatJet", "AK4": "Jet"}[collection]
    branches = nano_branches(events) | vertices(events, prefix)
    file = open_files([Source(str(write_events(tmp_path / "nano.root", branches)))], jets=collection)[0]
    request = Request(("jet_eta",), columns=("pt", "deta", "dphi"), collections=(CollectionRequest("SV", WANTED, 16),))
    jets = read(file, request=request)
    sv = jets.collections["SV"]
    assert jets.source is not None
    for row, (_, entry, number) in enumerate(jets.source.tolist()):
        table = zip(branches[f"{prefix}SVs_jetIdx"][entry].tolist(), branches[f"{prefix}SVs_sVIdx"][entry].tolist())
        own = [vertex for jet, vertex in table if jet == number and vertex >= 0]
        found = sv.particles[sv.offsets[row] : sv.offsets[row + 1]]
        np.testing.assert_allclose(found[:, 0], branches["SV_mass"][entry][own], rtol=1e-6)
        axis = float(jets.jet["jet_eta"][row])
        expected = (np.asarray(branches["SV_eta"][entry])[own] - axis) * (-1 if axis < 0 else 1)
        np.testing.assert_allclose(found[:, 1], expected, atol=1e-5)
        np.testing.assert_allclose(found[:, 2], 10 * np.asarray(branches["SV_dlen"][entry])[own], rtol=1e-6)
    assert int(sv.lengths.sum()) > 10


WANTED = ("mass", "deta", "dlen")


def vertices(events: list[Any], prefix: str, seed: int = 0) -> dict[str, Any]:
    """Vertices of events, and the table of the vertices of each jet, with -1 for those that are not stored."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 4, len(events))
    total = int(counts.sum())
    numbers = {"mass": rng.uniform(0, 5, total), "eta": rng.normal(0, 1, total), "dlen": rng.exponential(1, total)}
    branches = {f"SV_{name}": ak.unflatten(values.astype("f4"), counts) for name, values in numbers.items()}
    rows = [
        [(jet, int(rng.integers(-1, count))) for jet in range(len(event.jets[prefix])) for _ in range(2)]
        for event, count in zip(events, counts)
    ]
    for position, name in enumerate(("jetIdx", "sVIdx")):
        values = ak.Array([[row[position] for row in table] for table in rows])
        branches[f"{prefix}SVs_{name}"] = ak.values_astype(values, np.int32)
    return branches


def test_a_link_to_a_vertex_beyond_the_list_is_a_bad_jet(tmp_path: Path) -> None:
    events = random_events(6)
    branches = nano_branches(events) | vertices(events, "FatJet")
    number = branches["FatJetSVs_sVIdx"]
    entry = next(entry for entry, event in enumerate(events) if event.jets["FatJet"])
    changed = number.tolist()
    changed[entry][0] = 77
    branches["FatJetSVs_sVIdx"] = ak.values_astype(ak.Array(changed), np.int32)
    file = open_files([Source(str(write_events(tmp_path / "nano.root", branches)))])[0]
    request = Request(columns=("pt", "deta", "dphi"), collections=(CollectionRequest("SV", WANTED, 16),))
    with pytest.raises(DataError, match=f"elements of its SV are not stored in the file(.|\n)*entry {entry}"):
        read(file, request=request)
    assert len(read(file, request=Request(columns=("pt", "deta", "dphi")))) == file.entries  # SV are not asked for


@pytest.mark.skipif(not (SHARED / "pfnano.root").exists(), reason="the uncut file is not in the repository")
def test_vertices_of_a_real_file_lie_in_their_jets_and_are_displaced() -> None:
    file = open_files([Source(str(SHARED / "pfnano.root"))])[0]
    wanted = ("deta", "dphi", "dlen", "dlenSig", "ntracks", "costheta")
    sv = elements(file, Request(columns=("pt", "deta", "dphi"), collections=(CollectionRequest("SV", wanted, 16),)))
    assert (len(sv), len(sv.particles)) == (24, 32)
    assert float(torch.hypot(sv.column("deta"), sv.column("dphi")).max()) < 0.8
    assert float(sv.column("dlenSig").min()) > 3  # the selection of NanoAOD
    assert int(sv.column("ntracks").min()) == 2
    assert float(sv.column("costheta").min()) > 0.9


def test_inputs_choose_collections_and_record_their_definitions(tmp_path: Path) -> None:
    file = opened(write_collections(tmp_path / "jets.root"))
    assert chosen(file, "columns").collections == {}
    for inputs in (("columns", "collections"), ("pt", "deta", "dphi", "SV")):
        definition = chosen(file, *inputs).collections["SV"]
        assert tuple(definition.features) == FEATURES
        assert definition.most == 3
        assert definition.features["length"].unit == "mm"
    settings = chosen(file)
    assert requests_of(settings.collections) == (SV,)
    assert with_definitions(settings, [file]) == settings  # as when resumed
    share = "      share: {formula: sv_pt / (1000 * jet_pt)}\n"
    first = SCHEMA.replace(share, "").replace("    features:\n", f"    features:\n{share}")
    moved = opened(write_collections(tmp_path / "jets.root"), first)
    assert next(iter(chosen(moved).collections["SV"].features)) == "share"
    assert requests_of(with_definitions(settings, [moved]).collections) == (SV,)  # in the order of the weights
    other = opened(write_collections(tmp_path / "jets.root"), SCHEMA.replace("log1p", "sqrt"))
    with pytest.raises(UsageError, match=r"otherwise than the run(.|\n)*SV"):
        with_definitions(settings, [other])
    narrow = {"SV": settings.collections["SV"].model_copy(update={"most": 2})}
    assert joint_requests([settings.collections, {}]) == (SV,)
    assert joint_requests([narrow, settings.collections]) == (SV,)  # each encoder reads its own number of them


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("sv_pt, unit", "sv_pq, unit"), None),
        (("branch: sv_pt", "branch: jet_pt"), "the branch jet_pt does not hold a list of numbers"),
        (("absolute: true}", "absolute: true, target: true}"), "no target of decoders"),
        (("deta: {branch: sv_eta", "depth: {branch: sv_eta"), "absolute, which is for deta and dphi"),
        (("  SV:", "  deta:"), "cannot have the name deta"),
        (("  SV:", "  S-V:"), "cannot have the name S-V"),
        (("    most: 3", "    most: 0"), "most"),
        (("    most: 3", "    mots: 3"), "most"),
        (("    most: 3", "    events: {elements: [{pt: a}], link: {table: [b, c]}}"), "has no `events`"),
        (("sv_pt / (1000 * jet_pt)", "sv_pt +"), "not a formula"),
    ],
)
def test_a_wrong_schema_is_one_message(tmp_path: Path, change: tuple[str, str], message: str | None) -> None:
    path = write_collections(tmp_path / "jets.root")
    text = SCHEMA.replace(*change, 1)
    assert text != SCHEMA
    if message is None:  # a misspelt branch: the number is missing, as of a file that lacks it
        assert "pt" not in opened(path, text).collections["SV"].features
        return
    with pytest.raises((UsageError, DataError), match=message):
        opened(path, text)


def test_a_collection_that_no_file_has_is_one_message(tmp_path: Path) -> None:
    file = opened(write_collections(tmp_path / "jets.root"), SCHEMA.replace("sv_valid > 0", "vs_valid > 0"))
    with pytest.raises(UsageError, match=r"no file has the branches of this input(.|\n)*collections\.SV"):
        chosen(file)
    with pytest.raises(UsageError, match=r"no file has this input(.|\n)*SW"):
        chosen(opened(write_collections(tmp_path / "jets.root")), "columns", "SW")


def test_clustered_jets_have_no_collections(tmp_path: Path) -> None:
    (tmp_path / "lhco.yaml").write_text("extends: lhco\ncollections: {SV: {features: {pt: {branch: x}}}}\n")
    with pytest.raises(UsageError, match="clustered jets have no collections"):
        load_schema(tmp_path / "lhco.yaml")


def test_an_empty_collection_and_unlisted_categories_are_reported(tmp_path: Path) -> None:
    file = opened(write_collections(tmp_path / "jets.root"))
    settings, jets = chosen(file), read(file)
    lines = describe_inputs([jets], settings)
    assert len(lines) == 1
    assert "collection SV, ntracks" in lines[0]
    assert "have a category that is not listed" in lines[0]
    assert unlisted(jets, settings) == {"SV.ntracks": int((jets.collections["SV"].column("ntracks") == 2).sum())}
    nothing = np.zeros_like(padded_branches(40)["sv_valid"])
    empty = opened(write_collections(tmp_path / "empty.h5", sv_valid=nothing))
    assert elements(empty).lengths.tolist() == [0] * 40
    lines = describe_inputs([read(empty)], chosen(empty))
    assert lines == ["collection SV: empty for all jets, so the encoder learns nothing from it"]


def test_inspect_lists_collections_with_their_numbers(tmp_path: Path) -> None:
    file = write_collections(tmp_path / "jets.root")
    opened(file)
    (one,) = inspect_files([str(file)], {}, one_schema(tmp_path))
    text = files_as_text([one], columns=True)
    assert "collections:      SV (for model.inputs)" in text
    rows = {line.split()[0]: line.split() for line in text.splitlines()}
    assert rows["SV.length"][1] == "mm"
    assert float(rows["SV"][5]) == 3.0  # SV a jet: least, median, most


def one_schema(folder: Path) -> Any:
    from ssl_jets.config import DataSettings

    return DataSettings(format=str(folder / "mine.yaml"))
