"""Every public format of one jet a row gives the jets that were written, from other columns and units."""

from __future__ import annotations

from pathlib import Path

import awkward as ak
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from ssl_jets.data.chunks import read_chunk
from ssl_jets.data.files import JetFile, open_files
from ssl_jets.data.request import Request
from ssl_jets.data.sources import Source, sample_sources
from ssl_jets.errors import DataError
from ssl_jets.jets import COLUMNS, Jets
from support.format_files import WRITERS, sample_branches, write_jetclass2
from support.paths import FILES

ENTRIES = 60
KINEMATIC = ("pt", "deta", "dphi", "energy")
HAS = {
    "jetclass2": COLUMNS,
    "top_landscape": KINEMATIC,
    "aspen": COLUMNS,
    "jetnet": KINEMATIC,
    "energyflow": (*KINEMATIC, "charge", "kind"),
    "omnilearned": KINEMATIC,
    "atlas_top": KINEMATIC,
    "weaver_top": KINEMATIC,
    "weaver_qg": (*KINEMATIC, "charge", "kind"),
}
ASSUMED_MASSES = {
    "jetnet": torch.zeros(6),
    "energyflow": torch.tensor([0.13957, 0.497611, 0.0, 0.000511, 0.105658, 0.0]),
}
"""Masses by kind in formats that store no energy."""
_FOLDERS = [folder / "shared" / "data" / "real" for folder in Path(__file__).resolve().parents]
REAL = next((folder for folder in _FOLDERS if folder.is_dir()), _FOLDERS[0]) / "JetClassII_example.parquet"


def opened(path: Path) -> JetFile:
    return open_files([Source(str(path))])[0]


def read(file: JetFile, start: int = 0, stop: int | None = None, *jet_columns: str) -> Jets:
    return read_chunk(file, 0, start, file.entries if stop is None else stop, Request(jet_columns=jet_columns))[0]


@pytest.fixture(scope="module")
def source() -> str:
    return next(source.path for source in sample_sources() if "TTBar.root" in source.path)


@pytest.fixture(scope="module")
def raw(source: str) -> ak.Array:
    return sample_branches(source, ENTRIES)


@pytest.fixture(scope="module")
def expected(source: str) -> Jets:
    return read(open_files([Source(source)])[0], 0, ENTRIES)


@pytest.mark.parametrize("name", WRITERS)
def test_a_format_is_recognised_and_gives_the_jets_that_were_written(
    name: str, raw: ak.Array, expected: Jets, tmp_path: Path
) -> None:
    file_name, write = WRITERS[name]
    file = opened(write(raw, tmp_path / file_name))
    assert (file.schema.name, file.entries, file.columns) == (name, ENTRIES, HAS[name])
    jets = read(file)
    assert torch.equal(jets.lengths, expected.lengths)
    for column in file.columns:
        values = expected.column(column)
        if column == "energy" and name in ASSUMED_MASSES:
            mass = ASSUMED_MASSES[name][expected.column("kind").long()]
            momentum = torch.from_numpy(ak.to_numpy(ak.flatten(np.sqrt(sum(raw[f"part_p{k}"] ** 2 for k in "xyz")))))
            values = (momentum.double() ** 2 + mass.double() ** 2).sqrt().float()
        # The angles of the sample agree with its own momenta to 2e-5 only: those are float32.
        tolerance = 5e-5 if column in ("deta", "dphi", "energy") else 1e-6
        message = f"{column} of {name}"
        torch.testing.assert_close(jets.column(column), values, rtol=tolerance, atol=tolerance, msg=message)


@pytest.mark.parametrize("name", WRITERS)
def test_a_range_of_a_file_is_that_range_of_the_whole(name: str, raw: ak.Array, tmp_path: Path) -> None:
    file_name, write = WRITERS[name]
    file = opened(write(raw, tmp_path / file_name))
    jets = read(file)
    for start, stop in ((0, 7), (23, 41), (59, 60), (30, 30)):
        whole, some = jets.select(torch.arange(start, stop)), read(file, start, stop)
        assert torch.equal(some.particles, whole.particles)
        assert torch.equal(some.lengths, whole.lengths)
        assert some.labels is not None
        assert whole.labels is not None
        assert torch.equal(some.labels, whole.labels)


@pytest.mark.parametrize("name", ["top_landscape", "aspen", "jetnet", "energyflow", "atlas_top"])
def test_the_jet_columns_of_a_format_are_those_of_the_jets(name: str, raw: ak.Array, tmp_path: Path) -> None:
    file_name, write = WRITERS[name]
    file = opened(write(raw, tmp_path / file_name))
    there = [column for column in ("jet_pt", "jet_eta", "jet_phi", "jet_nparticles") if column in file.jet_columns]
    jets = read(file, 0, None, *there)
    for column in there:
        if (name, column) != ("aspen", "jet_nparticles"):
            np.testing.assert_allclose(jets.jet[column], ak.to_numpy(raw[column]), rtol=1e-4, atol=1e-5)


def test_labels_of_two_classes_and_of_an_index(raw: ak.Array, tmp_path: Path) -> None:
    tops = (raw["label_Tbqq"] != 0).to_list()
    classes = {"top": ("QCD", "top"), "quark": ("gluon", "quark")}
    formats = {"top_landscape": "top", "energyflow": "quark", "weaver_top": "top", "weaver_qg": "quark"}
    formats |= {"atlas_top": "top"}
    for name, names in ((name, classes[signal]) for name, signal in formats.items()):
        file_name, write = WRITERS[name]
        file = opened(write(raw, tmp_path / file_name))
        assert file.label_names == names
        labels = read(file).labels
        assert labels is not None
        assert labels.tolist() == tops
    file = opened(write_jetclass2(raw, tmp_path / "jets.parquet"))
    assert (len(file.label_names), file.label_names[187], file.boundaries) == (188, "QCD_light", (0, 25, 50, 60))
    labels = read(file).labels
    assert labels is not None
    assert labels.tolist() == list(range(ENTRIES))


def test_row_groups_without_rows_shift_no_jet(raw: ak.Array, tmp_path: Path) -> None:
    table = pq.read_table(write_jetclass2(raw, tmp_path / "jets.parquet"))
    whole = read(opened(tmp_path / "jets.parquet"))
    with pq.ParquetWriter(tmp_path / "filtered.parquet", table.schema) as writer:
        for start, stop in ((0, 0), (0, 20), (20, 40), (40, 40), (40, 60), (60, 60)):
            writer.write_table(table.slice(start, stop - start))
    file = opened(tmp_path / "filtered.parquet")
    assert file.boundaries == (0, 20, 40, 60)
    for start, stop in ((0, 60), (20, 40), (25, 35), (40, 60)):
        assert torch.equal(read(file, start, stop).particles, whole.select(torch.arange(start, stop)).particles)


def test_training_weights_of_atlas_are_weights_of_jets(raw: ak.Array, tmp_path: Path) -> None:
    file_name, write = WRITERS["atlas_top"]
    file = opened(write(raw, tmp_path / file_name))
    jets = read_chunk(file, 0, 0, ENTRIES, Request(weights="training_weights", context=("jet_pt", "jet_eta")))[0]
    assert jets.weights is not None
    np.testing.assert_allclose(jets.weights, np.linspace(0.5, 1.5, ENTRIES), rtol=1e-6)
    np.testing.assert_allclose(jets.context["jet_pt"], ak.to_numpy(raw["jet_pt"]), rtol=1e-5)
    np.testing.assert_allclose(jets.context["jet_eta"], abs(ak.to_numpy(raw["jet_eta"])), rtol=1e-5)


def test_a_label_without_a_class_is_named_with_its_entry(raw: ak.Array, tmp_path: Path) -> None:
    path = write_jetclass2(raw, tmp_path / "jets.parquet")
    table = pq.read_table(path)
    table = table.set_column(table.schema.get_field_index("jet_label"), "jet_label", [np.full(ENTRIES, 188, np.int32)])
    pq.write_table(table, path)
    with pytest.raises(DataError, match="belongs to no class") as caught:
        read(opened(path))
    assert "entry 0" in str(caught.value)
    assert "jet_label = 188; 60 of the 60" in str(caught.value)


@pytest.mark.parametrize("name", ["top_table_zlib", "top_fixed", "top_table_blosc"])
def test_files_of_pandas_are_read_in_both_of_its_layouts(name: str, source: str) -> None:
    file = opened(FILES / f"{name}.h5")
    assert (file.schema.name, file.tree, file.entries) == ("top_landscape", "table", 12)
    assert not any(column.startswith("PX") for column in file.jet_columns)
    if name == "top_table_blosc":
        pytest.importorskip("hdf5plugin")
    jets = read(file, 0, 6)
    labels = read(file).labels
    assert labels is not None
    assert labels.tolist() == [1] * 6 + [0] * 6
    tops = read(open_files([Source(source)])[0], 0, 6)
    hardest = torch.arange(len(tops.particles)) - tops.offsets[tops.jet_of_particle] < 40
    torch.testing.assert_close(jets.column("pt"), tops.keep(hardest).column("pt"), rtol=1e-6, atol=0)


def test_a_compression_that_cannot_be_read_says_what_to_install() -> None:
    try:
        import hdf5plugin  # noqa: F401
    except ImportError:
        with pytest.raises(DataError, match="compressed with blosc") as caught:
            read(opened(FILES / "top_table_blosc.h5"))
        assert "pip install hdf5plugin" in str(caught.value)


@pytest.mark.skipif(not REAL.exists(), reason="a real file of JetClass-II is not here")
def test_jets_of_a_real_file_of_jetclass2_add_up_to_its_jet_columns() -> None:
    file = opened(REAL)
    assert file.columns == COLUMNS
    jets = read(file, 0, None, "jet_pt", "jet_nparticles")
    assert torch.equal(jets.lengths, jets.jet["jet_nparticles"])
    pt, dphi = jets.column("pt").double(), jets.column("dphi").double()
    along, across = (jets.mean(pt * part(dphi)) * jets.lengths for part in (torch.cos, torch.sin))
    torch.testing.assert_close(torch.hypot(along, across), jets.jet["jet_pt"].double(), rtol=1e-5, atol=0)
    neutral = jets.column("charge") == 0
    assert not jets.column("d0")[neutral].any()
    assert neutral.any()


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_that_was_cut_off_is_one_error(name: str, raw: ak.Array, tmp_path: Path) -> None:
    file_name, write = WRITERS[name]
    path = write(raw, tmp_path / file_name)
    content = path.read_bytes()
    for share in (0.1, 0.5, 0.95):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(DataError, match=r"truncated|corrupt") as caught:
            read(opened(path))
        assert str(path) in str(caught.value)
