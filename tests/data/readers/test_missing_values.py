"""A value that a file lacks costs that value or its jet and no other; a column has one type in all files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import uproot

from ssl_jets.config import DataSettings, ModelSettings
from ssl_jets.data.chunks import read_chunk
from ssl_jets.data.dataset import open_dataset
from ssl_jets.data.files import EntryRange, JetFile, open_files
from ssl_jets.data.loading.shuffle_buffer import read_range
from ssl_jets.data.read import read_jets
from ssl_jets.data.request import Request
from ssl_jets.data.sources import Source
from ssl_jets.embedding.embed import embed
from ssl_jets.errors import DataError
from ssl_jets.model_file import Model, save_model
from ssl_jets.nn.encoder import Encoder
from ssl_jets.zfile import read_z
from support.event_files import nano_branches, random_events
from support.jetclass_files import jetclass_branches
from support.lhco_files import random_event, write_lhco
from support.root_types import branch_types

ENTRIES = 30
NULL = 7
"""The entry of which something is missing."""


def branches(**more: Any) -> dict[str, Any]:
    count = np.arange(ENTRIES)
    own = {"tracks": count.astype("i4"), "event": count + 2**40, "triggered": count % 2 == 0}
    return jetclass_branches(ENTRIES, seed=2) | own | more


def without(values: Any, *, inner: bool = False) -> ak.Array:
    """The same with None in place of the value, or the list, or the first number of the list, of one entry."""
    rows = ak.to_list(values)
    rows[NULL] = [None, *rows[NULL][1:]] if inner else None
    return ak.values_astype(ak.Array(rows), values.dtype if isinstance(values, np.ndarray) else np.float32)


def write(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    if path.suffix == ".parquet":
        table = {name: ak.to_arrow(ak.Array(values), extensionarray=False) for name, values in columns.items()}
        pq.write_table(pa.table(table), path, row_group_size=10, **options)
    else:
        with uproot.recreate(path) as file:
            file.mkrntuple("tree", columns)
    return path


def opened(*paths: Path, form: str | None = None) -> list[JetFile]:
    return open_files([Source(str(path)) for path in paths], schema=form)


@pytest.fixture(params=["jets.parquet", "jets.root"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A Parquet file, and a ROOT file with an RNTuple."""
    return tmp_path / str(request.param)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("run")
    save_model(Model(Encoder(ModelSettings(size="tiny", blocks=1)), facts={"method": "mae"}), folder / "model")
    return folder


@pytest.mark.parametrize("name", ["jet_sdmass", "tracks", "event", "triggered"])
def test_a_missing_number_of_a_jet_is_nan_and_the_others_are_as_they_are(path: Path, name: str) -> None:
    values = branches()[name]
    (file,) = opened(write(path, branches(**{name: without(values)})))
    for start, stop in ((0, ENTRIES), (10, 20)):  # the type is the same in a chunk that lacks nothing
        found = read_chunk(file, 0, start, stop, Request((name,)))[0].jet[name].numpy()
        assert found.dtype == (values.dtype if values.dtype.kind == "f" else np.float64)
        there = np.arange(start, stop) != NULL
        assert np.array_equal(found[there], values[start:stop][there])
        assert np.isnan(found[~there]).all()


@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("name", ["part_d0val", "part_isPhoton"])
def test_a_missing_list_or_number_makes_one_bad_jet(path: Path, name: str, inner: bool) -> None:
    columns = branches()
    (file,) = opened(write(path, columns | {name: without(columns[name], inner=inner)}))
    with pytest.raises(DataError, match=rf"a jet cannot be used[\s\S]*entry {NULL}\b"):
        read_chunk(file, 0, 0, ENTRIES, Request())
    jets, left_out = read_chunk(file, 0, 0, ENTRIES, Request(bad_jets="skip"))
    assert left_out.total() == 1
    assert jets.source is not None
    assert jets.source[:, 1].tolist() == [entry for entry in range(ENTRIES) if entry != NULL]
    assert jets.lengths.tolist() == [len(row) for entry, row in enumerate(columns["part_px"]) if entry != NULL]


@pytest.mark.parametrize("inner", [False, True])
def test_a_missing_list_or_number_of_a_feature_is_missing_and_costs_no_jet(
    path: Path, tmp_path: Path, inner: bool
) -> None:
    columns = branches()
    values = ak.values_astype(columns["part_px"], np.float32)
    schema = tmp_path / "mine.yaml"
    schema.write_text("extends: jetclass\nfeatures: {chi2: {branch: part_chi2}}\n")
    (file,) = opened(write(path, columns | {"part_chi2": without(values, inner=inner)}), form=str(schema))
    jets = read_chunk(file, 0, 0, ENTRIES, Request(columns=("pt", "deta", "dphi", "chi2")))[0]
    expected = np.concatenate([np.asarray(row) for row in values])
    first, last = jets.offsets[NULL : NULL + 2].tolist()
    expected[first : first + 1 if inner else last] = np.nan
    assert jets.lengths.tolist() == ak.num(values).tolist()
    np.testing.assert_array_equal(jets.column("chi2").numpy(), expected)


def test_columns_behind_a_map_and_a_record_are_found(tmp_path: Path) -> None:
    table = {name: ak.to_arrow(ak.Array(values), extensionarray=False) for name, values in branches().items()}
    kind, pairs = pa.map_(pa.string(), pa.float64()), [("up", 1.0), ("down", 2.0)]
    weights = pa.array([pairs] * ENTRIES, kind)
    record = pa.array([{"weights": pairs, "run": 5}] * ENTRIES, pa.struct([("weights", kind), ("run", pa.int64())]))
    pq.write_table(pa.table({"weights": weights, "record": record, **table}), tmp_path / "jets.parquet")
    (file,) = opened(tmp_path / "jets.parquet")
    jets = read_chunk(file, 0, 0, ENTRIES, Request(("event", "record.run")))[0]
    assert jets.jet["event"].tolist() == branches()["event"].tolist()
    assert jets.jet["record.run"].tolist() == [5] * ENTRIES


def test_a_column_without_statistics_is_searched_for_missing_values(tmp_path: Path) -> None:
    columns = branches(tracks=without(branches()["tracks"]))
    (file,) = opened(write(tmp_path / "jets.parquet", columns, write_statistics=False))
    found = read_chunk(file, 0, 0, ENTRIES, Request(("tracks", "event")))[0].jet
    assert (found["tracks"].dtype, found["event"].dtype) == (torch.float64, torch.int64)


@pytest.mark.parametrize(
    "labels", ["label_index: {branch: flavour, names: [g, q]}", "labels: {g: flavour == 0, q: flavour != 0}"]
)
def test_a_jet_whose_label_is_missing_belongs_to_no_class(path: Path, tmp_path: Path, labels: str) -> None:
    schema = tmp_path / "mine.yaml"
    schema.write_text(f"extends: jetclass\n{'labels: {}' if 'index' in labels else ''}\n{labels}\n")
    (file,) = opened(write(path, branches(flavour=without(np.arange(ENTRIES) % 2))), form=str(schema))
    with pytest.raises(DataError, match=rf"no class, or to several[\s\S]*entry {NULL}\b"):
        read_chunk(file, 0, 0, ENTRIES, Request())
    assert len(read_chunk(file, 0, 0, ENTRIES, Request(bad_jets="skip"))[0]) == ENTRIES - 1


def test_a_jet_whose_weight_is_missing_is_a_bad_jet(path: Path) -> None:
    (file,) = opened(write(path, branches(w=without(np.ones(ENTRIES, "f4")))))
    _, left_out = read_chunk(file, 0, 0, ENTRIES, Request(bad_jets="skip", weights="w"))
    assert left_out == {"its weight is not finite": 1}


def test_embed_writes_nan_for_a_missing_number(path: Path, tmp_path: Path, model: Path) -> None:
    columns = branches()
    write(path, columns | {name: without(columns[name]) for name in ("jet_sdmass", "tracks")})
    embed(model, [str(path)], tmp_path / "z.h5", keep=["jet_sdmass", "tracks"], log=lambda _: None)
    table = read_z(tmp_path / "z.h5")
    assert np.isfinite(table.z).all()
    for name in ("jet_sdmass", "tracks"):
        assert np.flatnonzero(np.isnan(table.columns[name])).tolist() == [NULL]


def test_files_of_other_types_give_the_common_type(tmp_path: Path, model: Path) -> None:
    mass = branches()["jet_sdmass"]
    first = write(tmp_path / "a.parquet", branches())
    second = write(tmp_path / "b.parquet", branches(jet_sdmass=mass.astype("f8"), tracks=mass, triggered=mass))
    embed(model, [str(first), str(second)], tmp_path / "z.h5", keep=["jet_sdmass", "tracks"], log=lambda _: None)
    table = read_z(tmp_path / "z.h5")
    assert {table.columns[name].dtype for name in ("jet_sdmass", "tracks")} == {np.dtype("f8")}
    assert table.columns["jet_sdmass"].tolist() == [*mass.tolist(), *mass.tolist()]
    assert table.columns["tracks"].tolist() == [*map(float, range(ENTRIES)), *mass.tolist()]
    jets = read_jets([str(first), str(second)], keep=["tracks", "event", "triggered"], log=lambda _: None)
    assert [jets.jet[name].dtype for name in ("tracks", "event")] == [torch.float64, torch.int64]
    assert jets.jet["triggered"][:2].tolist() == [1.0, 0.0]


@pytest.mark.parametrize("other", ["null", "float"])
def test_whole_numbers_that_are_not_exact_in_the_common_type_are_refused_before_any_jet(
    tmp_path: Path, model: Path, other: str
) -> None:
    large = np.arange(ENTRIES) + 2**60
    paths = [write(tmp_path / "a.parquet", branches(event=without(large) if other == "null" else large))]
    if other == "float":
        paths.append(write(tmp_path / "b.parquet", branches(event=large.astype("f4"))))
    with pytest.raises(DataError, match=r"too large for floating point[\s\S]*a\.parquet, column event"):
        embed(model, [str(path) for path in paths], tmp_path / "z.h5", keep=["event"], log=lambda _: None)
    assert list(tmp_path.glob("z*")) == []


def skipping(path: Path, **settings: Any) -> tuple[list[int], int]:
    """The entries that are read, and the number of jets that are left out."""
    (file,) = opened(path)
    chunk = read_range([file], EntryRange(0, 0, file.entries), Request(**settings))
    assert chunk.jets is not None
    assert chunk.jets.source is not None
    return chunk.jets.source[:, 1].tolist(), chunk.skipped.total()


def test_an_event_that_does_not_fit_together_costs_its_own_jets(tmp_path: Path) -> None:
    events = random_events(12)
    columns = nano_branches(events)
    table = "FatJetPFCands_jetIdx"
    rows = ak.to_list(columns[table])
    wrong = next(entry for entry in range(3, 12) if rows[entry])
    rows[wrong][0] = 99
    columns[table] = ak.values_astype(ak.Array(rows), np.int32)
    path = tmp_path / "nano.root"
    with uproot.recreate(path) as file:
        file.mktree("Events", branch_types(columns)).extend(columns)
    found, left_out = skipping(path, bad_files="skip")
    jets = ak.num(columns["FatJet_pt"]).to_list()
    assert found == [entry for entry, number in enumerate(jets) for _ in range(number) if entry != wrong]
    assert left_out == jets[wrong]


def test_what_is_skipped_is_not_read_for_a_check_of_a_column(tmp_path: Path, model: Path) -> None:
    """Jet columns are read with the branches of the cut, which differ in length in one entry of each file."""
    schema = tmp_path / "mine.yaml"
    schema.write_text("extends: jetclass\nparticle_cut: hypot(part_px, part_py) > 0\n")
    numbers = np.arange(ENTRIES)
    for name, wrong, shift in ("first.parquet", 3, 0), ("second.parquet", 5, 0), ("other.parquet", 5, 1):
        columns = branches(event=without(numbers), event_id=numbers + shift)
        rows = ak.to_list(columns["part_px"])
        rows[wrong].append(1.0)
        write(tmp_path / name, columns | {"part_px": ak.values_astype(ak.Array(rows), np.float32)})
    first, second, other = (str(tmp_path / f"{name}.parquet") for name in ("first", "second", "other"))
    settings = DataSettings(sources=(first,), pairs={first: second}, format=str(schema), bad_files="skip")
    embed(model, [first], tmp_path / "z.parquet", keep=["event"], data=settings, log=lambda message: None)
    kept = read_z(tmp_path / "z.parquet").columns["event"]
    assert np.flatnonzero(np.isnan(kept)).tolist() == [3, NULL]
    assert open_dataset(settings).files[0].second is not None
    with pytest.raises(DataError, match="event_id 0 and 1 in row 0"):
        open_dataset(settings.model_copy(update={"pairs": {first: other}}))
    with pytest.raises(DataError, match=r"(?s)different numbers of particles.*entry 3"):
        open_dataset(settings.model_copy(update={"bad_files": "error"}))


def test_an_event_with_a_particle_that_is_not_finite_costs_its_own_jets(tmp_path: Path) -> None:
    pytest.importorskip("fastjet")
    rng = np.random.default_rng(3)
    events = [random_event(rng, 2) for _ in range(5)]
    events[2][1, 2] = np.nan
    path = write_lhco(tmp_path / "events.h5", events, None)
    with pytest.raises(DataError, match=r"entry 2[\s\S]*data\.bad_jets=skip"):
        skipping(path)
    assert skipping(path, bad_jets="skip") == ([0, 0, 1, 1, 3, 3, 4, 4], 2)


def test_half_a_float_and_the_other_byte_order_have_their_type(tmp_path: Path) -> None:
    """The types that a file declares are those that it gives."""
    with h5py.File(tmp_path / "jets.h5", "w") as file:
        file["pt"], file["eta"], file["phi"] = np.ones((3, 3, 4), "f4")
        file["a"], file["b"], file["c"] = np.ones(3, ">f8"), np.ones(3, "f2"), np.ones(3, ">u2")
    (tmp_path / "mine.yaml").write_text(
        "particles: {pt: {branch: pt, unit: GeV}, deta: {branch: eta}, dphi: {branch: phi}}\n"
        "jets: {scaled: {branch: c, unit: MeV}}\n"
    )
    (file_,) = opened(tmp_path / "jets.h5", form=str(tmp_path / "mine.yaml"))
    found = read_chunk(file_, 0, 0, 3, Request(("a", "b", "c", "scaled")))[0].jet
    kinds = {name: values.dtype for name, values in found.items()}
    assert kinds == {"a": torch.float64, "b": torch.float16, "c": torch.int64, "scaled": torch.float64}
