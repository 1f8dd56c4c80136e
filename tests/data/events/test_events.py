"""Files of events: every jet gets its own particles, in physical units, once, however the file is read."""

from __future__ import annotations

from collections import Counter
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

from ssl_jets.data.chunks import read_chunk
from ssl_jets.data.events import gather
from ssl_jets.data.events.gather import JetsOfEvents
from ssl_jets.data.events.nested import Nested
from ssl_jets.data.files import EntryRange, JetFile, open_files, whole
from ssl_jets.data.loading.stream import TrainStream, ordered
from ssl_jets.data.request import Request
from ssl_jets.data.sources import Source
from ssl_jets.data.split import split
from ssl_jets.errors import DataError, SslJetsError, UsageError
from ssl_jets.jets import Jets, concatenate
from support.event_files import Event, Values, expected_particles, nano_branches, random_events, write_events
from support.root_types import branch_types

EVENTS = 40


def open_one(path: Path, jets: str | None = None) -> JetFile:
    return open_files([Source(str(path))], jets=jets)[0]


def read(file: JetFile, start: int = 0, stop: int | None = None, request: Request = Request()) -> Jets:
    return read_chunk(file, 0, start, file.entries if stop is None else stop, request)[0]


def keys(batches: list[Jets]) -> Counter[tuple[int, ...]]:
    return Counter(tuple(row) for jets in batches if jets.source is not None for row in jets.source.tolist())


@pytest.fixture
def events() -> list[Event]:
    return random_events(EVENTS)


@pytest.fixture
def nano(tmp_path: Path, events: list[Event]) -> Path:
    return write_events(tmp_path / "nano.root", nano_branches(events))


@pytest.mark.parametrize("ntuple", [False, True])
@pytest.mark.parametrize(("collection", "name", "weighted"), [("AK8", "FatJet", True), ("AK4", "Jet", False)])
def test_every_jet_has_its_particles_with_units_axis_weights_and_kinds(
    tmp_path: Path,
    events: list[Event],
    monkeypatch: pytest.MonkeyPatch,
    ntuple: bool,
    collection: str,
    name: str,
    weighted: bool,
) -> None:
    monkeypatch.setattr(gather, "PIECE", 7)
    file = open_one(write_events(tmp_path / "nano.root", nano_branches(events), ntuple=ntuple), collection)
    jets = read(file, request=Request(jet_columns=("jet_eta", "jet_phi", f"{name}_pt", "event")))
    assert jets.source is not None
    assert jets.source[:, 1:].tolist() == [
        [e, n] for e, event in enumerate(events) for n in range(len(event.jets[name]))
    ]
    assert jets.jet["event"].tolist() == (jets.source[:, 1] + 1000).tolist()
    for row, (_, entry, number) in enumerate(jets.source.tolist()):
        axis = {key: float(jets.jet[f"jet_{key}"][row]) for key in ("eta", "phi")}
        expected = expected_particles(events[entry], events[entry].jets[name][number], axis, weighted=weighted)
        found = jets.particles[jets.offsets[row] : jets.offsets[row + 1]].numpy()
        order, other = np.argsort(found[:, 0]), np.argsort(expected["pt"])
        for place, column in enumerate(jets.columns):
            np.testing.assert_allclose(
                found[order, place], expected[column][other], rtol=2e-5, atol=2e-5, err_msg=column
            )


def test_any_range_of_jets_is_the_same_jets_as_in_the_whole(nano: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = open_one(nano)
    all_jets = read(file)
    monkeypatch.setattr(gather, "PIECE", 3)
    edges = [0, 1, 2, 13, 13, 14, file.entries - 1, file.entries]
    pieces = [read(file, start, stop) for start, stop in pairwise(edges)]
    assert [len(piece) for piece in pieces] == [stop - start for start, stop in pairwise(edges)]
    joined = concatenate([piece for piece in pieces if len(piece)])
    assert joined.particles.equal(all_jets.particles)
    assert joined.offsets.equal(all_jets.offsets)
    assert joined.source is not None
    assert joined.source.equal(all_jets.source)


def test_an_epoch_has_each_jet_once_on_any_number_of_ranks(nano: Path) -> None:
    file = open_one(nano)
    expected = keys([read(file)])
    for world in (1, 3):
        seen: Counter[tuple[int, ...]] = Counter()
        for rank in range(world):
            with TrainStream([file], whole([file]), batch_size=1, buffer=10, seed=1, rank=rank, world=world) as stream:
                batches = []
                while stream.epoch == 0:
                    batches.append(next(stream))
                seen += keys(batches)
        assert set(seen) == set(expected)
        assert max(seen.values()) == 1


def test_no_event_falls_on_both_sides_of_a_split(nano: Path) -> None:
    file = open_one(nano)
    for seed in range(5):
        sides = split([file], 0.3, seed)
        train, held = ({key[1] for key in keys(list(ordered([file], side)))} for side in sides)
        assert held
        assert not train & held
        assert train | held == {key[1] for key in keys([read(file)])}


def test_held_out_events_are_the_same_for_all_collections(nano: Path) -> None:
    fat, thin = open_one(nano, "AK8"), open_one(nano, "AK4")
    part = split([fat], 0.3, 0)[1][0]
    other = thin.jets_of(*fat.tree_entries(part.start, part.stop))
    entries = [
        {key[1] for key in keys([read(file, *side)])} for file, side in ((fat, (part.start, part.stop)), (thin, other))
    ]
    both = {key[1] for key in keys([read(fat)])} & {key[1] for key in keys([read(thin)])}
    assert entries[0] & both == entries[1] & both


def test_nanoaod_v15_has_charges_from_the_pdg_number_and_no_tracks(tmp_path: Path, events: list[Event]) -> None:
    path = write_events(tmp_path / "v15.root", nano_branches(events, "PFCand", "pfCandIdx"), edit=_drop_tracks)
    file = open_one(path)
    assert file.schema.name == "nanoaod"
    assert file.columns == ("pt", "deta", "dphi", "energy", "charge", "kind")
    jets = read(file)
    first = events[int(jets.source[0, 1])]  # type: ignore[index]
    expected = expected_particles(first, first.jets["FatJet"][0], {"eta": 0.0, "phi": 0.0}, weighted=False)
    found = jets.particles[: jets.offsets[1]].numpy()
    order, other = np.argsort(found[:, 0]), np.argsort(expected["pt"])
    for column in ("pt", "energy", "charge", "kind"):
        np.testing.assert_allclose(found[order, jets.columns.index(column)], expected[column][other], rtol=2e-5)


def _drop_tracks(branches: Values) -> None:
    for name in ("charge", "d0", "d0Err", "dz", "dzErr", "puppiWeight"):
        del branches[f"PFCand_{name}"]


def test_flavours_are_labels_where_the_file_has_them(tmp_path: Path, nano: Path, events: list[Event]) -> None:
    file = open_one(nano)
    assert file.label_names == ("light", "c", "b")
    jets = read(file, request=Request(jet_columns=("FatJet_hadronFlavour",)))
    assert jets.labels is not None
    assert jets.labels.tolist() == [
        {0: 0, 4: 1, 5: 2}[flavour] for flavour in jets.jet["FatJet_hadronFlavour"].tolist()
    ]
    data = write_events(tmp_path / "data.root", nano_branches(events), edit=lambda b: b.pop("FatJet_hadronFlavour"))
    assert open_one(data).label_names == ()


def _unlink(branches: Values) -> None:
    """The first jet's particles are no longer stored."""
    rows = branches["FatJetPFCands_pFCandsIdx"]
    index = ak.local_index(rows, axis=0) == ak.Array(np.arange(len(rows)))
    first = next(entry for entry, jets in enumerate(branches["FatJet_pt"]) if len(jets))
    gone = (branches["FatJetPFCands_jetIdx"] == 0) & index & (ak.Array(np.arange(len(rows)) == first))
    branches["FatJetPFCands_pFCandsIdx"] = ak.values_astype(ak.where(gone, 10_000, rows), np.int32)


def test_a_jet_whose_particles_are_not_stored_is_an_error_or_counted_never_empty(
    tmp_path: Path, events: list[Event]
) -> None:
    file = open_one(write_events(tmp_path / "nano.root", nano_branches(events), edit=_unlink))
    with pytest.raises(DataError, match=r"not stored in the file[\s\S]*entry"):
        read(file)
    jets, skipped = read_chunk(file, 0, 0, file.entries, Request(bad_jets="skip"))
    assert skipped == {"particles of it are not stored in the file": 1}
    assert len(jets) == file.entries - 1
    assert int(jets.lengths.min()) > 0


def _break(name: str, value: Any) -> Any:
    def edit(branches: Values) -> None:
        branches[name] = value(branches[name])

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_break("FatJetPFCands_jetIdx", lambda rows: ak.values_astype(rows + 100, np.int32)), "does not have"),
        (_break("FatJet_eta", lambda values: values[:, ::2]), "FatJet_eta does not have as many values"),
        (_break("PFCands_eta", lambda values: values[:, 1:]), "PFCands_eta does not have as many values"),
    ],
)
def test_inconsistent_branches_are_one_error_with_the_entry(
    tmp_path: Path, events: list[Event], edit: Any, message: str
) -> None:
    branches = nano_branches(events)
    edit(branches)
    path = tmp_path / "broken.root"
    with uproot.recreate(path) as out:
        out.mktree("Events", branch_types(branches)).extend(branches)  # each branch with a counter of its own
    with pytest.raises(DataError, match=message) as caught:
        read(open_one(path))
    assert "entry" in str(caught.value)


def test_plain_nanoaod_is_refused_with_a_hint_to_pfnano(tmp_path: Path, events: list[Event]) -> None:
    def plain(branches: Values) -> None:
        for name in [name for name in branches if "PFCands" in name]:
            del branches[name]
        branches["luminosityBlock"] = branches["run"]

    with pytest.raises(SslJetsError, match="PF candidates") as caught:
        open_one(write_events(tmp_path / "plain.root", nano_branches(events), edit=plain))
    assert "PFNano" in str(caught.value)


NTUPLE = """
events:
  collections: {AK8: {}}
  jets: {jet_pt: "{jets}_pt", jet_eta: "{jets}_eta", jet_phi: "{jets}_phi"}
  prefix: "{jets}_"
  particles: [{pt: AK8_pf_pt, eta: AK8_pf_eta, phi: AK8_pf_phi}]
  link: {index: AK8_pf_jet}
particles:
  pt: {branch: pt, unit: GeV}
  deta: {branch: eta, absolute: true}
  dphi: {branch: phi, absolute: true}
axis: {eta: jet_eta, phi: jet_phi}
jets: {weight: {formula: abs(gen)}, mass: {branch: AK8_mass}}
"""


def ntuple(folder: Path, index: list[list[int]], schema: str = NTUPLE) -> JetFile:
    """Open three events of 2, 0 and 1 jets, whose particles have the number of their jet."""
    jets = {f"AK8_{name}": _lists([[500.0, 400.0], [], [300.0]]) for name in ("pt", "mass")}
    jets |= {f"AK8_{name}": _lists([[0.5, -0.5], [], [1.0]]) for name in ("eta", "phi")}
    particles = {f"AK8_pf_{name}": _lists([[1.0, 2.0, 3.0], [9.0], [4.0, 5.0]]) for name in ("pt", "eta", "phi", "x")}
    numbers = {"AK8_pf_jet": _lists(index, np.int32), "AK8_pf_no": _lists([[0, 1, 2], [0], [0, 1]], np.int32)}
    branches = jets | particles | numbers | {"gen": np.array([-2, 1, 3], np.float32)}
    with uproot.recreate(folder / "own.root") as out:
        out.mktree("tree", branch_types(branches)).extend(branches)
    (folder / "own.yaml").write_text(schema)
    return open_files([Source(str(folder / "own.root"))], schema=str(folder / "own.yaml"))[0]


def test_particles_may_have_the_number_of_their_jet(tmp_path: Path) -> None:
    jets = read(ntuple(tmp_path, [[1, 0, -1], [-1], [0, 0]]))
    assert jets.lengths.tolist() == [1, 1, 2]
    assert jets.column("pt").tolist() == [2, 1, 4, 5]
    assert jets.column("deta").tolist() == [1.5, -1.5, 3, 4]  # times the sign of the jet's eta
    with pytest.raises(DataError, match=r"no particles[\s\S]*1 of the 3 jets read here"):  # of 3 events
        read(ntuple(tmp_path, [[0, 0, -1], [-1], [0, 0]]))
    with pytest.raises(DataError, match="does not have as many values"):
        read(ntuple(tmp_path, [[1, 0], [-1], [0, 0]]))
    with pytest.raises(DataError, match="jet that the event does not have"):
        read(ntuple(tmp_path, [[1, 0, 2], [-1], [0, 0]]))


def test_formulas_of_events_see_their_numbers_and_every_list_of_jets(tmp_path: Path) -> None:
    schema = NTUPLE.replace("index: AK8_pf_jet", "table: [AK8_pf_jet, AK8_pf_no]")
    file = ntuple(tmp_path, [[1, 0, -1], [-1], [0, 0]], schema)
    assert sorted({*file.jet_columns} & {"weight", "mass", "gen", "AK8_mass"}) == ["AK8_mass", "gen", "mass", "weight"]
    assert not any(name.startswith("AK8_pf") for name in file.jet_columns)  # lists of particles
    jets = read(file, request=Request(jet_columns=("weight", "mass", "gen")))
    assert jets.jet["weight"].tolist() == [2, 2, 3]
    assert jets.jet["mass"].tolist() == [500, 400, 300]
    assert jets.jet["gen"].tolist() == [-2, -2, 3]


OWN = """
particles:
  pt: {branch: part_pt, unit: GeV}
  deta: {branch: part_eta}
  dphi: {branch: part_phi}
"""


@pytest.mark.parametrize("marks", [(), ("run", "luminosityBlock")])
def test_an_ntuple_of_ones_own_is_not_refused_for_its_names(tmp_path: Path, marks: tuple[str, ...]) -> None:
    lists = {f"part_{name}": _lists([[1.0, 2.0], [3.0]]) for name in ("pt", "eta", "phi")}
    jets = {f"Jet_{name}": np.ones(2, np.float32) for name in ("pt", "eta", "phi")}
    branches = lists | jets | dict.fromkeys((*marks, "nJet"), np.ones(2, np.int32))
    path = tmp_path / "own.root"
    with uproot.recreate(path) as out:
        out.mktree("tree", branch_types(branches)).extend(branches)
    (tmp_path / "own.yaml").write_text(OWN)
    (tmp_path / "wrong.yaml").write_text(OWN.replace("part_eta", "part_etta"))
    assert open_files([Source(str(path))], schema=str(tmp_path / "own.yaml"))[0].entries == 2
    with pytest.raises(DataError, match=r"lacks the branch part_etta[\s\S]*part_eta"):
        open_files([Source(str(path))], schema=str(tmp_path / "wrong.yaml"))
    with pytest.raises(DataError, match="CMS NanoAOD" if marks else r"known format|looks like") as caught:
        open_one(path)
    assert "--schema" in str(caught.value)


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("charge: {branch: charge,", "charge: {branch: chrge,", r"lacks the branch chrge[\s\S]*like chrge are: charge"),
        ("PFCands_eta", "PFCands_etta", r"lacks the branch PFCands_etta[\s\S]*like PFCands_etta are: PFCands_eta"),
        ("{jets}_phi", "{jets}_fhi", r"lacks the branch FatJet_fhi[\s\S]*like FatJet_fhi are: FatJet_phi"),
    ],
)
def test_a_misspelt_branch_in_a_schema_of_events_is_named_with_the_nearest(
    tmp_path: Path, nano: Path, right: str, wrong: str, message: str
) -> None:
    text = (resources.files("ssl_jets") / "data" / "schemas" / "formats" / "pfnano.yaml").read_text(encoding="utf-8")
    (tmp_path / "own.yaml").write_text(text.replace(right, wrong))
    with pytest.raises(DataError, match=message):
        open_files([Source(str(nano))], schema=str(tmp_path / "own.yaml"))


def test_a_collection_that_is_not_there_is_refused_with_those_that_are(nano: Path, write_jetclass: Any) -> None:
    with pytest.raises(UsageError, match="AK8, AK4"):
        open_one(nano, "AK15")
    with pytest.raises(UsageError, match=r"data\.jets"):
        open_one(write_jetclass(), "AK8")


def test_edm4hep_jets_have_the_particles_of_their_range(tmp_path: Path) -> None:
    particles = {
        "momentum.x": [[3.0, 0, 1, 0], [1, 2]],
        "momentum.y": [[4.0, 1, 1, 2], [0, 0]],
        "momentum.z": [[0.0] * 4, [1, 1]],
    }
    particles |= {"energy": [[5.0, 1, 2, 2], [2, 3]], "charge": [[1.0, 0, 0, -1], [-1, 0]]}
    particles |= {"mass": [[0.1396, 0, 0, 0.000511], [0.1057, 0]], "type": [[0, 22, 130, 0], [0, 0]]}
    branches = {f"ReconstructedParticles.{name}": _lists(values) for name, values in particles.items()}
    branches |= {f"Jet.momentum.{axis}": _lists([[1.0, 1], [1]]) for axis in "xyz"}
    ranges = {"Jet.particles_begin": [[1, 0], [0]], "Jet.particles_end": [[4, 1], [2]]}
    ranges |= {"Jet#2.index": [[2, 3, 1, 0], [1, 0]], "Jet#2.collectionID": [[7, 7, 7, 7], [7, 7]]}
    branches |= {name: _lists(values, np.int32) for name, values in ranges.items()}
    branches["ReconstructedParticles.type"] = _lists(particles["type"], np.int32)
    path = tmp_path / "fcc.root"
    with uproot.recreate(path) as out:
        out.mktree("events", branch_types(branches)).extend(branches)
    file = open_one(path)
    jets = read(file)
    assert file.columns == ("pt", "deta", "dphi", "energy", "charge", "kind")
    assert jets.source is not None
    assert jets.source.tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 0]]
    assert jets.column("pt").tolist() == pytest.approx([2, 1, 5, 2**0.5, 2, 1])
    assert jets.column("kind").tolist() == [3, 2, 0, 1, 5, 4]
    assert jets.offsets.tolist() == [0, 3, 4, 6]
    # The second event lists particles of another collection, which are not in the file, wherever a read begins.
    branches["Jet#2.collectionID"] = _lists([[7, 7, 7, 7], [8, 8]], np.int32)
    with uproot.recreate(path) as out:
        out.mktree("events", branch_types(branches)).extend(branches)
    file = open_one(path)
    for start in (0, 2):
        with pytest.raises(DataError, match="particles of it are not stored"):
            read(file, start)


def _lists(values: Any, kind: Any = np.float32) -> ak.Array:
    return ak.values_astype(ak.Array(values), kind)


def test_a_part_of_a_file_without_jets_is_empty(tmp_path: Path) -> None:
    events = random_events(6)
    for event in events[:3]:
        event.jets["FatJet"] = []
    file = open_one(write_events(tmp_path / "few.root", nano_branches(events)))
    assert file.entries == sum(len(event.jets["FatJet"]) for event in events)
    assert {key[1] for key in keys(list(ordered([file], [EntryRange(0, 0, file.entries)])))} <= {3, 4, 5}


def test_a_file_may_have_more_jets_than_int32_holds() -> None:
    events = JetsOfEvents.count(Nested(), np.array([2**31, 5]))
    assert events.jets(1, 2) == (2**31, 2**31 + 5)
    assert events.entries(2**31 + 1, 2**31 + 2) == (1, 2)
