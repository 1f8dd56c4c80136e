"""Features of particles and context of jets, which a schema declares, from files to `Jets`."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ssl_jets.config import ModelSettings
from ssl_jets.data.chunks import read_chunk
from ssl_jets.data.files import JetFile, open_files, whole
from ssl_jets.data.inputs import check_definitions, columns_of, describe_inputs, unlisted, with_definitions
from ssl_jets.data.loading.in_memory import MemoryStream
from ssl_jets.data.loading.mixed import together
from ssl_jets.data.loading.stream import TrainStream, ordered
from ssl_jets.data.request import Request
from ssl_jets.data.schemas.schema import load_schema
from ssl_jets.data.sources import Source
from ssl_jets.errors import DataError, UsageError
from ssl_jets.jets import Jets, concatenate
from support.feature_files import SCHEMA, padded_branches, write_features

FEATURES = ("chi2", "hits", "depth", "ratio")
REQUEST = Request(columns=("pt", "deta", "dphi", *FEATURES), context=("jet_pt", "origin"))


def schema(folder: Path, text: str = SCHEMA) -> str:
    (folder / "mine.yaml").write_text(text)
    return str(folder / "mine.yaml")


def opened(path: Path, text: str = SCHEMA) -> JetFile:
    (file,) = open_files([Source(str(path))], schema=schema(path.parent, text))
    return file


def all_jets(file: JetFile, request: Request = REQUEST) -> Jets:
    return read_chunk(file, 0, 0, file.entries, request)[0]


@pytest.fixture
def file(tmp_path: Path) -> JetFile:
    return opened(write_features(tmp_path / "jets.h5"))


@pytest.mark.parametrize("suffix", [".h5", ".root"])
def test_features_and_context_are_read_with_units_categories_and_missing_values(tmp_path: Path, suffix: str) -> None:
    file = opened(write_features(tmp_path / f"jets{suffix}"))
    assert (file.features, file.context) == (FEATURES, ("jet_pt", "origin"))
    raw = padded_branches(40)
    there, jets = raw["part_pt"] > 0, all_jets(file)
    assert jets.columns == REQUEST.columns
    np.testing.assert_array_equal(jets.column("chi2"), raw["part_chi2"][there])
    index = {0: 0.0, 1: 1.0, 4: 2.0, 9: 3.0}  # 9 is not listed: the index behind the last category
    assert jets.column("hits").tolist() == [index[value] for value in raw["part_hits"][there].tolist()]
    depth = raw["part_depth"][there]
    np.testing.assert_array_equal(
        jets.column("depth"), np.where(depth == -1, np.float32(np.nan), depth * np.float32(10))
    )
    torch.testing.assert_close(jets.sum(jets.column("ratio")), torch.ones(40))
    np.testing.assert_allclose(jets.context["jet_pt"], raw["jet_pt"] / 1000, rtol=1e-6)
    assert jets.context["origin"].tolist() == [{2: 0.0, 7: 1.0}[value] for value in raw["jet_origin"].tolist()]


def test_without_being_asked_for_nothing_of_them_is_read(file: JetFile) -> None:
    assert file.columns == ("pt", "deta", "dphi", "charge")
    assert not {"part_chi2", "part_hits", "part_depth", "jet_pt", "jet_origin"} & set(file.decoder(Request()).branches)
    jets = all_jets(file, Request())
    assert jets.columns == file.columns
    assert not jets.context


def test_a_value_that_is_not_finite_is_missing_and_makes_no_bad_jet(tmp_path: Path) -> None:
    chi2 = padded_branches(40)["part_chi2"]
    chi2[:, 0], chi2[:, 1] = np.nan, np.inf
    jets = all_jets(opened(write_features(tmp_path / "jets.h5", part_chi2=chi2)))
    assert len(jets) == 40
    assert int(jets.column("chi2").isnan().sum()) == 40
    pt = padded_branches(40)["part_pt"]
    pt[3, 0] = np.inf
    with pytest.raises(DataError, match="part_pt is not finite"):
        all_jets(opened(write_features(tmp_path / "bad.h5", part_pt=pt)))


def test_a_file_that_lacks_a_feature_has_it_missing(tmp_path: Path) -> None:
    file = opened(write_features(tmp_path / "jets.h5", drop=("part_chi2", "jet_pt")))
    assert (file.features, file.context) == (FEATURES[1:], ("origin",))
    jets = all_jets(file)
    assert jets.columns == REQUEST.columns
    assert bool(jets.column("chi2").isnan().all())
    assert bool(jets.context["jet_pt"].isnan().all())
    assert not bool(jets.context["origin"].isnan().any())


def test_categories_of_jets_may_be_names(tmp_path: Path) -> None:
    text = SCHEMA.replace("categories: [2, 7]", "categories: [pp, ee]")
    names = np.array([b"ee", b"pp", b"PbPb", b"pp"])
    jets = all_jets(opened(write_features(tmp_path / "jets.h5", 4, jet_origin=names), text))
    assert jets.context["origin"].tolist() == [1.0, 0.0, 2.0, 0.0]


def test_a_missing_name_and_a_marked_number_are_no_unlisted_categories(tmp_path: Path) -> None:
    branches = {name: pa.array(list(values)) for name, values in padded_branches(4).items()}
    branches |= {"jet_origin": pa.array(["ee", None, "PbPb", "pp"]), "era": pa.array([1, -99.9, 7, None], pa.float32())}
    pq.write_table(pa.table(branches), tmp_path / "jets.parquet")
    text = SCHEMA.replace(
        "categories: [2, 7]}", "categories: [pp, ee]}\n  era: {branch: era, categories: [1], missing: -99.9}"
    )
    jets = all_jets(opened(tmp_path / "jets.parquet", text), Request(columns=("pt",), context=("origin", "era")))
    np.testing.assert_array_equal(jets.context["origin"], [1, np.nan, 2, 0])
    np.testing.assert_array_equal(jets.context["era"], [0, np.nan, 1, np.nan])


def same(one: Jets, other: Jets) -> None:
    assert one.columns == other.columns
    torch.testing.assert_close(one.particles, other.particles, rtol=0, atol=0, equal_nan=True)
    assert one.context.keys() == other.context.keys()
    for name, values in one.context.items():
        torch.testing.assert_close(values, other.context[name], rtol=0, atol=0, equal_nan=True)


def test_every_operation_of_jets_keeps_features_and_context(file: JetFile) -> None:
    jets = all_jets(file)
    cut = [jets.select(index) for index in torch.arange(40).split(7)]
    same(concatenate(cut), jets)
    same(pickle.loads(pickle.dumps(jets)), jets)
    same(jets.to("cpu"), jets)
    hardest = jets.keep(jets.rank_by_pt() == 0)
    assert torch.equal(hardest.context["jet_pt"], jets.context["jet_pt"])
    assert hardest.particles.shape == (40, 7)
    half = together(jets.select(torch.arange(20)), jets.select(torch.arange(20, 40)))
    same(half, jets)
    hidden = jets.without(["chi2", "origin"])
    assert hidden.columns == ("pt", "deta", "dphi", "hits", "depth", "ratio")
    assert list(hidden.context) == ["jet_pt"]
    assert torch.equal(hidden.column("hits"), jets.column("hits"))


def test_streams_give_the_features_of_their_jets(file: JetFile) -> None:
    jets = all_jets(file)
    known = {tuple(row[:3]): row for row in jets.particles.nan_to_num(-5).tolist()}
    with TrainStream([file], whole([file]), batch_size=16, buffer=16, seed=0, request=REQUEST) as stream:
        batches = [next(stream) for _ in range(5)]
    memory = MemoryStream(jets, batch_size=16, seed=0)
    for batch in (*batches, next(memory), *ordered([file], whole([file]), REQUEST)):
        assert batch.source is not None
        entries = batch.source[:, 1]
        assert torch.equal(batch.context["jet_pt"], jets.context["jet_pt"][entries])
        assert all(known[tuple(row[:3])] == row for row in batch.particles.nan_to_num(-5).tolist())


def test_inputs_are_chosen_by_name_and_bring_their_definitions(file: JetFile) -> None:
    chosen = with_definitions(ModelSettings(inputs=("dphi", "pt", "deta", "jet_pt", "chi2")), [file])
    assert columns_of(chosen, [file]) == ("pt", "deta", "dphi", "chi2")
    assert list(chosen.context) == ["jet_pt"]
    assert (chosen.features["chi2"].transform, chosen.features["chi2"].target) == ("log", True)
    assert chosen.context["jet_pt"].unit == "GeV"
    everything = with_definitions(ModelSettings(inputs=("columns", "features", "context")), [file])
    assert columns_of(everything, [file]) == (*file.columns, *FEATURES)
    assert list(everything.context) == ["jet_pt", "origin"]
    assert with_definitions(everything, [file]) == everything
    assert with_definitions(ModelSettings(), [file]) == ModelSettings()
    assert columns_of(ModelSettings(), [file]) is None


def test_definitions_of_trained_weights_keep_their_order_whatever_the_order_of_the_schema(tmp_path: Path) -> None:
    file = opened(write_features(tmp_path / "jets.h5"))
    lines = SCHEMA.splitlines(keepends=True)
    depth, origin = (next(at for at, line in enumerate(lines) if f"  {name}:" in line) for name in ("depth", "origin"))
    for first in (depth, origin - 1):  # depth and ratio, jet_pt and origin
        lines[first : first + 2] = reversed(lines[first : first + 2])
    trained = with_definitions(ModelSettings(inputs=("columns", "features", "context")), [file])
    other = opened(tmp_path / "jets.h5", "".join(lines))
    assert (other.features, other.context) == (("chi2", "hits", "ratio", "depth"), ("origin", "jet_pt"))
    again = with_definitions(trained, [other])
    assert (tuple(again.features), tuple(again.context)) == (FEATURES, ("jet_pt", "origin"))


def test_an_unknown_input_is_one_message_with_the_nearest(file: JetFile) -> None:
    with pytest.raises(UsageError) as caught:
        with_definitions(ModelSettings(inputs=("columns", "chi3")), [file])
    assert caught.value.message.startswith("no file has this input\n  where:   model.inputs\n  found:   chi3\n")
    assert caught.value.allowed is not None
    assert caught.value.allowed[0] == "chi2"
    with pytest.raises(UsageError, match="reads pt, deta and dphi"):
        with_definitions(ModelSettings(inputs=("pt", "chi2")), [file])


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("transform: log, target", "transform: ln, target", "not allowed"),
        ("categories: [0, 1, 4]", "categories: [0, 1, 0]", "named twice"),
        ("categories: [0, 1, 4]", "categories: [0], transform: log", "categories have no transform"),
        ("  chi2:", "  energy:", "which is taken"),
        ("  origin:", "  chi2:", "at once"),
        ("transform: log}", "target: true}", "context is no target"),
        ("branch: part_depth", "branch: part_depth, formula: part_depth", "exactly one of"),
    ],
)
def test_a_wrong_definition_is_one_message(tmp_path: Path, before: str, after: str, message: str) -> None:
    assert before in SCHEMA
    with pytest.raises(UsageError, match=message):
        load_schema(schema(tmp_path, SCHEMA.replace(before, after)))


def test_a_branch_of_another_type_is_refused(tmp_path: Path) -> None:
    path = write_features(tmp_path / "jets.h5")
    with pytest.raises(DataError, match="jet_pt does not hold a list"):
        opened(path, SCHEMA.replace("branch: part_chi2", "branch: jet_pt"))
    with pytest.raises(DataError, match="part_pt does not hold one number"):
        opened(path, SCHEMA.replace("origin: {branch: jet_origin, categories: [2, 7]}", "origin: {branch: part_pt}"))
    with pytest.raises(UsageError, match="for each particle where one for each jet"):
        opened(path, SCHEMA.replace("origin: {branch: jet_origin, categories: [2, 7]}", "origin: {formula: part_pt}"))


def test_features_without_information_are_named(tmp_path: Path) -> None:
    constant = np.full((40, 9), 3, dtype="f4")
    file = opened(write_features(tmp_path / "jets.h5", part_chi2=constant, part_depth=-np.ones((40, 9), dtype="f4")))
    settings = with_definitions(ModelSettings(inputs=("columns", "features", "context")), [file])
    jets = all_jets(file)
    lines = describe_inputs([jets.select(torch.arange(20)), jets.select(torch.arange(20, 40))], settings)
    hits = padded_branches(40)["part_hits"][padded_branches(40)["part_pt"] > 0]
    other, all_ = int((hits == 9).sum()), len(hits)
    assert lines == [
        "feature chi2: 3 for all particles of the sample, so the encoder learns nothing from it",
        f"feature hits: {other} of {all_} particles ({other / all_:.1%}) have a category that is not listed",
        "feature depth: missing for all particles of the sample, so the encoder learns nothing from it",
    ]
    assert unlisted(jets, settings) == {"hits": other}
    narrow = settings.model_copy(update={"features": {}, "context": {"origin": settings.context["origin"]}})
    seven = jets.select(torch.nonzero(jets.context["origin"] == 1).flatten())
    assert describe_inputs([seven], narrow) == ["context origin: no jet of the sample has the category 2"]


def test_files_that_lack_or_redefine_a_feature_are_named(tmp_path: Path) -> None:
    whole_file = opened(write_features(tmp_path / "whole.h5"))
    settings = with_definitions(ModelSettings(inputs=("columns", "features", "context")), [whole_file])
    poor = opened(write_features(tmp_path / "poor.h5", drop=("part_chi2", "jet_origin")))
    assert check_definitions(settings.features, settings.context, [whole_file, poor]) == [
        "files lack features that the encoder then reads as missing: chi2 (1 of 2 files)",
        "files lack context that the encoder then reads as missing: origin (1 of 2 files)",
    ]
    other = opened(tmp_path / "whole.h5", SCHEMA.replace("categories: [0, 1, 4]", "categories: [0, 4, 1]"))
    with pytest.raises(UsageError, match="hits is defined in two ways"):
        check_definitions(settings.features, settings.context, [other])
    with pytest.raises(UsageError, match="hits is defined in two ways"):
        with_definitions(ModelSettings(inputs=("columns", "hits")), [whole_file, other])
    with pytest.raises(UsageError, match="defines features otherwise than the run"):
        with_definitions(settings, [other])
