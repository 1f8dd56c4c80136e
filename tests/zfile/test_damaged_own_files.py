"""Damaged files of ours: every read gives the written rows, or one message."""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
import uproot

from ssl_jets.config import TrainSettings, read_config
from ssl_jets.data.sources import sample_sources
from ssl_jets.errors import DataError, SslJetsError
from ssl_jets.jets import Jets
from ssl_jets.model_file import CONFIG, METHOD_WEIGHTS, WEIGHTS, Model, load_method, load_model, save_model
from ssl_jets.nn.heads import ClassHead
from ssl_jets.report.folders import read_run
from ssl_jets.training.run_folder import TrainingRun
from ssl_jets.zfile import ZFile, ZMetadata, ZWriter, iterate_z, read_z, z_columns
from ssl_jets.zfile.description import described_zfile
from ssl_jets.zfile.formats import SUFFIXES
from support.small_models import CLASSES, build_method, tiny_encoder

FORMATS = (".root", ".parquet", ".h5", ".npz")
DIM = 4
COLUMNS = z_columns("jet", DIM, labelled=True, kept=("jet_pt",))
METADATA = ZMetadata("ab12", "mae", DIM, "jet", ("a.root",), ("QCD", "Hbb"), ("jet_pt",), trained=((0, 0, 30),))


def write_z(path: Path, count: int = 60) -> dict[str, npt.NDArray[Any]]:
    rng = np.random.default_rng(0)
    rows = {column.name: rng.integers(0, 2, (count, *column.shape)).astype(column.dtype) for column in COLUMNS}
    rows["z"], rows["source_entry"] = rng.standard_normal((count, DIM)).astype("f4"), np.arange(count)
    with ZWriter(path, COLUMNS, METADATA, block_bytes=20 * sum(column.row_bytes for column in COLUMNS)) as writer:
        writer.write(rows)
    return rows


def flip_bit(data: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << chance.randrange(8))]) + data[place + 1 :]


def zero_60(data: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(data) - 60)
    return data[:place] + bytes(60) + data[place + 60 :]


def cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data))]


DAMAGE: tuple[Callable[[bytes, random.Random], bytes], ...] = (flip_bit, flip_bit, zero_60, cut)


def contents(file: ZFile) -> list[Any]:
    columns = {"z": file.z, **file.columns}
    arrays = [(name, str(values.dtype), values.shape, values.tobytes()) for name, values in sorted(columns.items())]
    return [arrays, file.metadata]


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_damaged_z_file_gives_the_written_rows_or_one_message(tmp_path: Path, suffix: str) -> None:
    good, bad, messages = tmp_path / f"good{suffix}", tmp_path / f"bad{suffix}", list[str]()
    write_z(good)
    written = contents(read_z(good))
    for seed in range(24 if suffix == ".root" else 60):
        chance = random.Random(seed)
        bad.write_bytes(DAMAGE[seed % len(DAMAGE)](good.read_bytes(), chance))
        try:
            assert contents(read_z(bad)) == written, seed
            blocks = list(iterate_z(bad, 7))
        except DataError as error:
            messages.append(str(error))
        else:
            z = np.concatenate([block["z"] for block in blocks])
            assert z.tobytes() == written[0][-1][-1], seed
    assert all(len(text) < 3000 for text in messages)
    assert len(messages) >= 5  # much of such small files of ROOT and HDF5 is empty


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_flipped_bit_of_a_number_is_reported_with_its_column_and_rows(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"z{suffix}"
    rows = write_z(path)
    rows["jet_pt"][45] = np.nextafter(rows["jet_pt"][45], np.float32(9))  # the last bit
    metadata = read_raw_metadata(path)
    write_rows_with(path, rows, metadata)
    with pytest.raises(DataError, match=r"(?s)damaged.*column jet_pt, rows 40 to 59"):
        read_z(path)
    blocks = iterate_z(path, 10)
    assert [len(next(blocks)["z"]) for _ in range(4)] == [10] * 4  # blocks before it are right
    with pytest.raises(DataError, match="damaged"):
        next(blocks)


def read_raw_metadata(path: Path) -> str:
    if path.suffix == ".root":
        with uproot.open(path) as file:
            return str(file["metadata"])
    if path.suffix == ".parquet":
        return str(pq.read_metadata(path).metadata[b"ssl_jets"].decode())
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            return str(file.attrs["ssl_jets"])
    return str(np.load(path)["metadata"])


def write_rows_with(path: Path, rows: dict[str, npt.NDArray[Any]], metadata: str) -> None:
    """The file as it would be with other rows behind the same metadata, with the columns in their order."""
    sink = SUFFIXES[path.suffix].sink(path, COLUMNS)
    for start in range(0, 60, 20):
        sink.write({column.name: rows[column.name][start : start + 20] for column in COLUMNS})
    sink.close(metadata)


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_description_of_a_damaged_z_file_names_the_damage(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"z{suffix}"
    rows = write_z(path)
    stored = read_raw_metadata(path)
    for changed, words in (
        (stored.replace('"mae"', '"jepa"'), "the z file is damaged"),
        (stored[:-200], "the metadata of the z file is not JSON"),
        (stored.replace('"format_version": 1', '"format_version": 9'), "written by a newer ssl-jets"),
    ):
        write_rows_with(path, rows, changed)
        with pytest.raises(DataError, match=words):
            described_zfile(path)
    write_rows_with(path, rows, '{"author": "another tool"}')
    assert described_zfile(path) is None
    path.write_bytes(path.read_bytes()[:100])  # the readers of jets have a message for it
    assert described_zfile(path) is None


def test_the_description_of_a_file_of_jets_opens_no_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    opened, open_key = [], uproot.ReadOnlyDirectory.__getitem__
    monkeypatch.setattr(
        uproot.ReadOnlyDirectory, "__getitem__", lambda file, key: opened.append(key) or open_key(file, key)
    )
    assert described_zfile(Path(sample_sources()[0].path)) is None
    assert opened == []


def test_metadata_that_is_a_python_object_are_of_another_tool(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "jets.npz", metadata=np.array({"author": "another tool"}, dtype=object))
    assert described_zfile(tmp_path / "jets.npz") is None


@pytest.mark.parametrize("suffix", FORMATS)
def test_metadata_without_checksums_is_read_as_before_and_changed_metadata_is_refused(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"z{suffix}"
    rows = write_z(path)
    stored = json.loads(read_raw_metadata(path))
    old = {name: value for name, value in stored.items() if name not in ("checksums", "crc32")}
    write_rows_with(path, rows, json.dumps(old))
    assert read_z(path).metadata == old
    for changed in (
        {**stored, "trained": []},
        {**stored, "checksums": {**stored["checksums"], "rows": 59}},
        {name: value for name, value in stored.items() if name != "checksums"},
        {name: value for name, value in stored.items() if name != "crc32"},
    ):
        write_rows_with(path, rows, json.dumps(changed))
        with pytest.raises(DataError, match="damaged"):
            read_z(path)


def test_checksums_are_those_of_zlib_so_that_anybody_can_check_them(tmp_path: Path) -> None:
    rows = write_z(tmp_path / "z.npz")
    stored = json.loads(read_raw_metadata(tmp_path / "z.npz"))["checksums"]
    assert (stored["block"], stored["rows"]) == (20, 60)
    begin = zlib.crc32(b"<f4[4]")
    assert stored["crc32"]["z"][1] == zlib.crc32(rows["z"][20:40].astype("<f4").tobytes(), begin)
    assert stored["crc32"]["label"][2] == zlib.crc32(rows["label"][40:].tobytes(), zlib.crc32(b"<i8[]"))


def test_a_table_that_another_tool_filtered_is_one_of_another_tool(tmp_path: Path) -> None:
    rows = write_z(tmp_path / "z.parquet")
    pq.write_table(pq.read_table(tmp_path / "z.parquet").slice(0, 30), tmp_path / "half.parquet")
    half = read_z(tmp_path / "half.parquet")
    assert half.z.tobytes() == rows["z"][:30].tobytes()
    assert half.metadata == {}


@pytest.fixture
def model(batch: Jets, tmp_path: Path) -> Path:
    method = build_method("mae", batch)
    encoder = method.exported()
    save_model(Model(encoder, ClassHead(encoder.dim, 10), CLASSES, {"method": "mae", "training": {}}), tmp_path / "m")
    return tmp_path / "m"


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_damaged_model_is_read_or_refused(model: Path, name: str) -> None:
    good, messages = (model / name).read_bytes(), list[str]()
    damaged = [DAMAGE[seed % len(DAMAGE)](good, random.Random(seed)) for seed in range(24)]
    damaged = [content for content in damaged if content != good]  # zeros may be written over zeros
    for content in damaged:
        (model / name).write_bytes(content)
        try:
            load_model(model)
        except SslJetsError as error:
            messages.append(str(error))
    assert len(messages) == len(damaged) >= 20 if name == WEIGHTS else messages
    assert all(len(text) < 3000 for text in messages)


@pytest.mark.parametrize(
    "path",
    [
        ("encoder", "z_tokens"),
        ("encoder", "z_width"),
        ("encoder", "registers"),
        ("settings", "most_particles"),
        ("settings", "decoder_blocks"),
        ("settings", "prior_width"),
    ],
)
@pytest.mark.parametrize("value", [212_299, 10**9, 10**30])
def test_a_model_that_asks_for_more_than_its_weights_is_refused_before_it_is_built(
    batch: Jets, tmp_path: Path, path: tuple[str, str], value: int
) -> None:
    whole = build_method("diffusion_ae", batch)
    save_model(Model(whole.exported(), facts={"method": "diffusion_ae"}), tmp_path / "m", whole)
    assert (tmp_path / "m" / METHOD_WEIGHTS).is_file()
    config = json.loads((tmp_path / "m" / CONFIG).read_text())
    config["whole"][path[0]][path[1]] = value
    if path[0] == "encoder":
        config["encoder"]["settings"][path[1]] = value
        (tmp_path / "m" / CONFIG).write_text(json.dumps(config))
        with pytest.raises(SslJetsError, match=r"does not fit|not allowed"):
            load_model(tmp_path / "m")
    (tmp_path / "m" / CONFIG).write_text(json.dumps(config))
    with pytest.raises(SslJetsError, match=r"does not fit|not allowed"):
        load_method(tmp_path / "m")


def test_a_description_that_is_nested_without_end_is_refused(batch: Jets, tmp_path: Path) -> None:
    save_model(Model(tiny_encoder(batch)), tmp_path / "m")
    (tmp_path / "m" / CONFIG).write_text("[" * 100_000)
    with pytest.raises(SslJetsError, match="nested too deeply"):
        load_model(tmp_path / "m")


@pytest.mark.parametrize("name", ["config.yaml", "metrics.jsonl"])
def test_a_damaged_run_folder_is_read_or_refused(tmp_path: Path, name: str) -> None:
    run = TrainingRun(tmp_path / "r")
    run.create(TrainSettings())
    for step in range(20):
        run.log_metrics({"step": step, "loss": 0.5})
    good, messages = (run.folder / name).read_bytes(), list[str]()
    for seed in range(60):
        (run.folder / name).write_bytes(DAMAGE[seed % len(DAMAGE)](good, random.Random(seed)))
        for read in (lambda: read_run(run.folder), lambda: read_config(run.folder / "config.yaml")):
            try:
                read()
            except SslJetsError as error:
                messages.append(str(error))
        run.drop_metrics_after(10)
    assert messages
    assert all(len(text) < 3000 for text in messages)
    (run.folder / name).write_bytes(b"\xff" * 60 + b"\n" + b"\xff" * 60)
    with pytest.raises(SslJetsError):
        read_run(run.folder)
