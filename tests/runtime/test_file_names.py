"""File names that have a meaning for a library are names, for every file that is opened or written."""

from __future__ import annotations

from pathlib import Path

import awkward as ak
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from ssl_jets.config import read_config
from ssl_jets.data.files import open_files, whole
from ssl_jets.data.loading.stream import ordered
from ssl_jets.data.sources import resolve_sources
from ssl_jets.data.write import write_jets
from ssl_jets.jets import Jets, concatenate
from ssl_jets.model_file import Model, load_model, save_model
from ssl_jets.zfile import read_z, z_columns
from ssl_jets.zfile.writer import ZWriter
from support.jetclass_files import jetclass_branches
from support.paths import NAMES_OF_LIBRARIES
from support.small_models import tiny_encoder


@pytest.fixture(params=NAMES_OF_LIBRARIES)
def name(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A name, in an empty working folder: relative, as a user types it."""
    monkeypatch.chdir(tmp_path)
    return str(request.param)


@pytest.mark.parametrize("suffix", [".root", ".parquet", ".h5", ".npz"])
def test_z_files(name: str, suffix: str) -> None:
    path = Path(name + suffix)
    rows = {"z": np.ones((4, 3), np.float32), "source_entry": np.arange(4), "source_file": np.zeros(4, np.int32)}
    columns = z_columns("jet", 3, labelled=False)
    values = {column.name: rows.get(column.name, np.zeros(4)).astype(column.dtype) for column in columns}
    with ZWriter(path, columns, {}) as writer:
        writer.write(values)
    assert read_z(path).columns["source_entry"].tolist() == [0, 1, 2, 3]
    assert [entry.name for entry in Path().iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".root", ".parquet"])
def test_files_of_jets(name: str, suffix: str, batch: Jets) -> None:
    path = Path(name + suffix)
    if suffix == ".root":
        write_jets(path, [batch])
    else:
        branches = jetclass_branches(64, label="QCD", seed=0)
        pq.write_table(ak.to_arrow_table(ak.zip(branches, depth_limit=1), extensionarray=False), path.absolute())
    files = open_files(resolve_sources([str(path)]))
    assert len(concatenate(list(ordered(files, whole(files))))) == 64


def test_model_folders_and_settings_files(name: str, batch: Jets) -> None:
    model = Model(tiny_encoder(batch), facts={"method": "mae", "training": {}})
    save_model(model, Path(name) / "model")
    found = load_model(name)
    weights = model.encoder.state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in found.encoder.state_dict().items())
    Path(f"{name}.yaml").write_text("train: {lr: 0.5}")
    assert read_config(Path(f"{name}.yaml")) == {"train": {"lr": 0.5}}
