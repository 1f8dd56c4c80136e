"""Labels of particles: declared in a schema, read with their particles, missing where a file has none."""

from __future__ import annotations

from pathlib import Path

import awkward as ak
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ssl_jets.data.chunks import read_chunk
from ssl_jets.data.dataset import Dataset
from ssl_jets.data.files import EntryRange, JetFile, open_files, whole
from ssl_jets.data.inspection import files_as_objects, files_as_text, inspect_files
from ssl_jets.data.loading.stream import TrainStream
from ssl_jets.data.request import Request
from ssl_jets.data.schemas.schema import load_schema
from ssl_jets.data.sources import Source
from ssl_jets.errors import DataError, UsageError
from ssl_jets.jets import Jets
from ssl_jets.nn.particles.heads import ParticleTarget
from support.jetclass_files import write_tree
from support.track_files import FROM_B, ORIGINS, PILEUP, PRIMARY, write_tracks

SCHEMA = """
particles:
  pt: {branch: part_pt, unit: GeV}
  deta: {branch: part_deta}
  dphi: {branch: part_dphi, unit: rad}
particle_cut: part_pt > 1
particle_labels:
  origin: {branch: part_origin, classes: {soft: 7, hard: [3, 5]}, missing: -1}
  share: {formula: "0.1 * part_share", unit: cm}
"""


def opened(path: Path, schema: str | None = None) -> JetFile:
    own = path.with_suffix(".yaml")
    if schema is not None:
        own.write_text(schema, encoding="utf-8")
    return open_files([Source(str(path))], schema=None if schema is None else str(own))[0]


def write_lists(path: Path, lengths: list[int], **more: ak.Array) -> dict[str, ak.Array]:
    """Write a ROOT file of lists, in which every label follows from the pt of its particle."""
    rng = np.random.default_rng(0)
    total = sum(lengths)
    flat = {"part_pt": rng.uniform(0.5, 40, total), "part_deta": rng.normal(0, 0.1, total)}
    flat["part_dphi"] = rng.normal(0, 0.1, total)
    code = np.where(flat["part_pt"] < 10, 7, np.where(flat["part_pt"] < 20, 3, 5))
    flat["part_origin"] = np.where(flat["part_pt"] > 35, -1, np.where(flat["part_pt"] > 30, 4, code)).astype("i4")
    flat["part_share"] = 2 * flat["part_pt"]
    branches = {name: ak.unflatten(values, lengths) for name, values in flat.items()} | more
    write_tree(path, {"tree": branches})
    return branches


def expected(pt: np.ndarray) -> np.ndarray:
    """Class index of a particle of this pt: 2 for a value of no class, NaN for a missing one."""
    return np.select([pt < 10, pt <= 30, pt <= 35], [0.0, 1.0, 2.0], np.nan)


def check_labels(jets: Jets) -> None:
    pt = jets.column("pt").numpy()
    np.testing.assert_array_equal(jets.column("truth:origin").numpy(), expected(pt))
    np.testing.assert_allclose(jets.column("truth:share").numpy(), 2 * pt, rtol=1e-5)


def test_labels_stay_with_their_particles_through_cuts_selection_and_shuffling(tmp_path: Path) -> None:
    """Also in a jet beyond the usual length, and with particles that the cut removes."""
    lengths = [3, 5, 400, 1, 7, 300] * 10
    write_lists(tmp_path / "jets.root", lengths)
    file = opened(tmp_path / "jets.root", SCHEMA)
    assert file.particle_labels == ("origin", "share")
    request = Request(particle_labels=("origin", "share"), bad_jets="skip")
    jets, _ = read_chunk(file, 0, 0, file.entries, request)
    assert jets.columns == ("pt", "deta", "dphi", "truth:origin", "truth:share")
    assert int(jets.lengths.max()) < 400  # the cut removed some
    check_labels(jets)
    check_labels(jets.select(torch.tensor([3, 0, 2])))
    check_labels(jets.keep(torch.arange(len(jets.particles)) % 3 == 0))
    stream = TrainStream([file], whole([file]), batch_size=7, seed=0, request=request, buffer=30)
    try:
        for _ in range(12):
            check_labels(next(stream))
    finally:
        stream.close()


def test_a_target_reads_classes_and_masks_missing_and_unlisted_values(tmp_path: Path) -> None:
    write_lists(tmp_path / "jets.root", [30, 20])
    file = opened(tmp_path / "jets.root", SCHEMA)
    jets, _ = read_chunk(file, 0, 0, 2, Request(particle_labels=("origin",)))
    label = file.schema.particle_labels["origin"]
    assert label.names == ("soft", "hard")
    labels = ParticleTarget("origin", label.names).labels(jets).numpy()
    index = expected(jets.column("pt").numpy())
    np.testing.assert_array_equal(labels, np.where(index < 2, index, -1))
    assert {-1, 0, 1} == set(labels.tolist())


def test_origins_of_tracks_are_found_by_both_names_and_padding_is_left_out(tmp_path: Path) -> None:
    for stem, names, key in (
        ("new", ("ftagTruthOriginLabel", "ftagTruthVertexIndex"), "origin"),
        ("old", ("truthOriginLabel", "truthVertexIndex"), "truth_origin"),
    ):
        arrays = write_tracks(tmp_path / f"{stem}.h5", 50, names=names)
        file = opened(tmp_path / f"{stem}.h5")
        assert key in file.particle_labels
        jets, _ = read_chunk(file, 0, 0, 50, Request(particle_labels=(key,)))
        np.testing.assert_array_equal(jets.column(f"truth:{key}").numpy(), arrays["origin"][arrays["valid"]])
        assert file.schema.particle_labels[key].names == ORIGINS
    assert (ORIGINS[PILEUP], ORIGINS[PRIMARY], ORIGINS[FROM_B]) == ("pileup", "primary", "fromB")


def test_a_file_without_labels_and_a_blind_dataset_have_them_missing(tmp_path: Path) -> None:
    write_tracks(tmp_path / "with.h5", 20)
    write_tracks(tmp_path / "without.h5", 20, names=None)
    request = Request(particle_labels=("origin",))
    without = opened(tmp_path / "without.h5")
    assert without.particle_labels == ()
    data = Dataset([opened(tmp_path / "with.h5")], [EntryRange(0, 0, 20)], [])
    for file in (without, data.blind[0]):
        jets, _ = read_chunk(file, 0, 0, 20, request)
        assert bool(jets.column("truth:origin").isnan().all())


def test_a_label_of_another_length_or_of_jets_is_one_message(tmp_path: Path) -> None:
    lists = {name: values.tolist() for name, values in write_lists(tmp_path / "jets.root", [3, 1]).items()}
    pq.write_table(pa.table(lists | {"part_origin": [[7, 7], [7]]}), tmp_path / "short.parquet")
    file = opened(tmp_path / "short.parquet", SCHEMA)
    with pytest.raises(DataError, match="part_origin"):
        read_chunk(file, 0, 0, 2, Request(particle_labels=("origin",)))
    write_lists(tmp_path / "flat.root", [3, 1], part_origin=np.array([7, 7]))
    with pytest.raises(DataError, match="part_origin does not hold a list of numbers"):
        opened(tmp_path / "flat.root", SCHEMA)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("origin: {branch: a, classes: [one]}", "two classes or more"),
        ("origin: {branch: a, classes: {x: [1, 2], y: 2}}", "each value belongs to one class"),
        ("origin: {branch: a, classes: [x, y, x]}", "each class is named once"),
        ("origin: {branch: a, unit: MeV, classes: [x, y]}", "classes and groups have no unit"),
        ("origin: {branch: a, formula: b}", "exactly one of: branch, formula"),
        ("my-origin: {branch: a}", "letters, digits and _ only"),
    ],
)
def test_a_wrong_declaration_is_refused(tmp_path: Path, label: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"extends: jetclass\nparticle_labels:\n  {label}\n", encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        load_schema(path)


def test_inspect_lists_the_labels(tmp_path: Path) -> None:
    write_tracks(tmp_path / "tracks.h5", 20)
    inspected = inspect_files([str(tmp_path / "tracks.h5")], {})
    assert "particle labels:  origin, vertex (for method.particle_targets)" in files_as_text(inspected)
    assert list(files_as_objects(inspected, {})[0]["particle_labels"]) == ["origin", "vertex"]
    assert "truth:origin" in files_as_text(inspected)
