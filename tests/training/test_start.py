"""A pretraining that goes on from a trained model: its weights, its history, and its resuming."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest
import torch

from ssl_jets.config import MethodSettings, RunSettings
from ssl_jets.data.files import JetFile
from ssl_jets.data.seen import Seen
from ssl_jets.embedding.inputs import trained_entries
from ssl_jets.errors import UsageError
from ssl_jets.finetuning import resolve_finetune
from ssl_jets.model_file import load_model
from ssl_jets.pretraining import pretrain, resolve_pretrain
from ssl_jets.runtime.signals import Interrupted
from ssl_jets.training.start import Start
from support.interrupting import raise_at
from support.overridden import overridden

SHORT = ["train.precision=32-true", "train.batch_size=8", "train.validation_jets=20", "train.steps=4"]


def settings_of(files: list[JetFile], method: str, *more: str) -> RunSettings[MethodSettings]:
    sources = {"data": {"sources": [str(file.source) for file in files]}}
    return resolve_pretrain(method, sources, overridden(SHORT, *more))


@pytest.fixture(scope="module")
def first(class_files: list[JetFile], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `mae` on the first file, with another size, split and pool than the defaults."""
    out = tmp_path_factory.mktemp("first") / "mae"
    more = ["model.size=tiny", "model.blocks=2", "model.pool=mean", "data.split_seed=5", "train.lr=1e-2"]
    return pretrain(settings_of(class_files[:1], "mae", *more), out)


def test_the_weights_of_the_model_are_those_that_the_training_begins_with(
    first: Path, class_files: list[JetFile], tmp_path: Path
) -> None:
    # A learning rate of next to nothing: the encoder of the new run is the one of the old run.
    settings = settings_of(class_files[1:2], "byol", f"train.model={first}", "train.lr=1e-12")
    run = pretrain(settings, tmp_path / "byol")
    before, after = load_model(first).encoder, load_model(run).encoder
    assert after.cfg == before.cfg
    assert settings.data.split_seed == 5
    for name, value in before.state_dict().items():
        torch.testing.assert_close(after.state_dict()[name], value, rtol=0, atol=1e-7, msg=name)
    log = (run / "log.txt").read_text()
    assert f"goes on from {first} (mae, sha256 {load_model(first).sha256[:12]}); with random weights begin: " in log


def test_parts_that_the_model_lacks_are_named(first: Path, class_files: list[JetFile], tmp_path: Path) -> None:
    more = [f"train.model={first}", "model.pair_bias=true", "train.steps=1"]
    run = pretrain(settings_of(class_files[1:2], "mae", *more), tmp_path / "run")
    begin = (run / "log.txt").read_text().split("with random weights begin: ")[1].splitlines()[0].split(", ")
    weights = load_model(run).encoder.state_dict().keys() - load_model(first).encoder.state_dict().keys()
    assert {name.removeprefix("encoder.") for name in begin if name.startswith("encoder.")} == weights
    assert weights
    shorter = [f"train.model={first}", "model.blocks=1", "train.steps=1"]
    log = (pretrain(settings_of(class_files[1:2], "mae", *shorter), tmp_path / "shorter") / "log.txt").read_text()
    assert "the encoder has no place for weights of the model: transformer.blocks.1\n" in log


def test_the_jets_of_both_trainings_count_as_seen(first: Path, class_files: list[JetFile], tmp_path: Path) -> None:
    run = pretrain(settings_of(class_files[1:2], "mae", f"train.model={first}"), tmp_path / "run")
    again = pretrain(settings_of(class_files[2:3], "byol", f"train.model={run}"), tmp_path / "again")
    facts = [load_model(path).facts["training"] for path in (first, run, again)]
    seen = [trained_entries(class_files[:4], Seen.of(one)) for one in facts]
    assert {index for index, *_ in seen[0]} == {0}
    assert {index for index, *_ in seen[1]} == {0, 1}
    assert {index for index, *_ in seen[2]} == {0, 1, 2}
    assert set(seen[0]) < set(seen[1]) < set(seen[2])  # the held-out jets of each stay held out
    history = facts[2]["pretrained"]
    assert (history["sha256"], history["method"]) == (load_model(run).sha256, "mae")
    assert history["pretrained"]["sha256"] == load_model(first).sha256


def test_columns_of_both_trainings_count_as_trained_and_those_of_the_last_one_are_recorded() -> None:
    seen = {"files": [], "held_out": []}
    start = Start("runs/mae", "0" * 64, "mae", {"columns": ["pt", "deta", "dphi", "charge"], **seen})
    facts = start.joined({"columns": ["pt", "deta", "dphi", "energy"], **seen})
    assert facts["columns"] == ["pt", "deta", "dphi", "energy", "charge"]
    assert facts["last_columns"] == ["pt", "deta", "dphi", "energy"]


def test_another_shape_is_one_message_and_leaves_nothing_behind(
    first: Path, class_files: list[JetFile], tmp_path: Path
) -> None:
    settings = settings_of(class_files[:1], "mae", f"train.model={first}", "model.size=small")
    with pytest.raises(UsageError, match=r"(?s)shape of the model.*model\.size=small.*in the model.*model\.size=tiny"):
        pretrain(settings, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_such_a_run_is_resumed_to_the_same_weights_without_the_model(
    first: Path, class_files: list[JetFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = shutil.copytree(first, tmp_path / "model")
    settings = settings_of(class_files[1:2], "byol", f"train.model={model}")
    whole = pretrain(settings, tmp_path / "whole")
    raise_at(monkeypatch, 2, signal.SIGTERM)
    with pytest.raises(Interrupted):
        pretrain(settings, tmp_path / "run")
    shutil.rmtree(model)
    stored = tmp_path / "run" / "config.yaml"
    run = pretrain(resolve_pretrain("byol", stored=stored), tmp_path / "run", resume=True)
    configs = [json.loads((path / "model" / "config.json").read_text()) for path in (whole, run)]
    assert configs[0]["weights_sha256"] == configs[1]["weights_sha256"]
    assert configs[0]["training"] | {"seconds": 0} == configs[1]["training"] | {"seconds": 0}


def test_a_finetuning_takes_its_model_from_its_own_option(first: Path) -> None:
    with pytest.raises(UsageError, match=r"(?s)belongs to pretraining.*train\.model"):
        resolve_finetune(first, {"train": {"model": str(first)}})
