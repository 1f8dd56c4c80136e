"""A schema with secondary vertices, from files to a model and its finetuning, without a line of Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ssl_jets
from ssl_jets.config import ModelSettings, resolve
from ssl_jets.errors import SslJetsError, UsageError
from ssl_jets.exporting.exporter import check_inputs
from ssl_jets.finetuning.dry_run import _fields, _jets
from ssl_jets.model_file import load_model
from ssl_jets.nn.encoder import Encoder
from ssl_jets.zfile import read_z
from support.collection_files import SCHEMA, write_collections

TINY = {"model.size": "tiny", "model.blocks": 1, "train.validate_every": 2, "model.inputs": ["columns", "collections"]}


@pytest.fixture
def schema(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(SCHEMA, encoding="utf-8")
    return path


def train(method: str, data: Path, schema: Path, out: Path, **settings: Any) -> Path:
    return ssl_jets.pretrain(
        method, data=str(data), schema=schema, steps=2, batch_size=16, settings=TINY | settings, out=out
    )


def embedded(run: Path, data: Path, schema: Path, out: Path) -> np.ndarray:
    settings = {"train.precision": "32-true"}
    ssl_jets.embed(run, data=str(data), schema=schema, out=out, settings=settings, force=True)
    return np.asarray(read_z(out).z)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["mae", "jepa"])
def test_from_files_to_a_finetuned_model(
    tmp_path: Path, schema: Path, method: str, capfd: pytest.CaptureFixture[str]
) -> None:
    data = write_collections(tmp_path / "jets.root", 300)
    run = train(method, data, schema, tmp_path / "run", **{"train.hide_features": 0.2})
    model = load_model(run)
    assert tuple(model.collections) == ("SV",)
    assert model.encoder.reads_collections
    config = json.loads((run / "model" / "config.json").read_text())
    assert config["training"]["collections"] == ["SV"]
    length = next(one for one in config["collections"] if one["name"] == "SV.length")
    assert (length["unit"], length["transform"], length["std"] > 0) == ("mm", "log1p", True)
    assert "SV.length" in (run / "model" / "README.md").read_text()

    z = embedded(run, data, schema, tmp_path / "z.npz")
    plain = write_collections(tmp_path / "plain.root", 300, drop="sv_")
    without = embedded(run, plain, schema, tmp_path / "plain.npz")
    assert not np.allclose(z, without, atol=1e-3)
    assert "files lack collections that the encoder then reads as missing: SV (1 of 1 files)" in capfd.readouterr().err
    jets = ssl_jets.read_jets(str(data), schema=schema)
    np.testing.assert_allclose(model.embed(jets, precision="32-true"), z, atol=1e-4)

    tuned = ssl_jets.finetune(run, data=str(data), schema=schema, steps=2, batch_size=16, out=tmp_path / "tuned")
    assert tuple(load_model(tuned).collections) == ("SV",)
    ssl_jets.predict(tuned, data=str(data), schema=schema, out=tmp_path / "scores.npz")
    result = ssl_jets.evaluate(tuned, data=str(data), schema=schema, out=tmp_path / "result")
    assert result is not None
    with pytest.raises(SslJetsError, match=r"(?s)cannot be exported.*SV"):
        check_inputs(load_model(tuned), tuned)


def test_a_model_that_never_saw_a_collection_reads_none_until_its_embedding_is_trained(
    tmp_path: Path, schema: Path
) -> None:
    data = write_collections(tmp_path / "jets.root", 120)
    run = train("simclr", data, schema, tmp_path / "run")
    model = load_model(run)
    assert not model.collections
    assert not model.encoder.reads_collections
    jets = ssl_jets.read_jets(str(data), schema=schema)
    z = model.embed(jets, precision="32-true")
    np.testing.assert_array_equal(model.embed(jets.without(["SV"]), precision="32-true"), z)
    options: dict[str, Any] = {"data": str(data), "schema": schema, "steps": 1, "batch_size": 16}
    full = ssl_jets.finetune(run, mode="full", out=tmp_path / "full", **options)
    assert tuple(load_model(full).collections) == ("SV",)
    probe = ssl_jets.finetune(run, mode="last-blocks", settings={"method.blocks": 1}, out=tmp_path / "last", **options)
    assert not load_model(probe).collections


def test_files_with_and_without_vertices_train_together_and_a_resumed_run_is_the_same(
    tmp_path: Path, schema: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    write_collections(folder / "a.root", 60)
    write_collections(folder / "b.root", 60, seed=1, drop="sv_")
    whole = train("mae", folder, schema, tmp_path / "whole")
    again = train("mae", folder, schema, tmp_path / "again")
    assert load_model(whole).sha256 == load_model(again).sha256
    (again / "model").rename(tmp_path / "gone")
    resumed = ssl_jets.pretrain(
        "mae", data=str(folder), schema=schema, steps=2, batch_size=16, settings=TINY, out=again, resume=True
    )
    assert load_model(resumed).sha256 == load_model(whole).sha256
    assert "reads as missing: SV (1 of 2 files)\n" in capfd.readouterr().err
    (again / "model").rename(tmp_path / "gone_too")
    schema.write_text(SCHEMA.replace("most: 3", "most: 2"), encoding="utf-8")
    with pytest.raises(UsageError, match="otherwise than the run"):
        ssl_jets.pretrain(out=again, resume=True)


def test_models_written_before_collections_load_as_they_were(tmp_path: Path) -> None:
    settings = ModelSettings(size="tiny").model_dump()
    del settings["collections"]
    assert Encoder(resolve(ModelSettings, settings)).collections is None


def test_batches_of_a_memory_plan_keep_collections_without_a_pickle(tmp_path: Path, schema: Path) -> None:
    import torch

    jets = ssl_jets.read_jets(str(write_collections(tmp_path / "jets.root", 20)), schema=schema)
    torch.save(_fields(jets), tmp_path / "batch.pt")
    again = _jets(torch.load(tmp_path / "batch.pt", weights_only=True))
    assert again.collections["SV"].columns == jets.collections["SV"].columns
    assert again.collections["SV"].offsets.equal(jets.collections["SV"].offsets)
    assert again.particles.equal(jets.particles)
