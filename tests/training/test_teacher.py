"""A pretraining with a frozen teacher: its record, the jets that count as seen, and its resuming."""

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
from ssl_jets.errors import SslJetsError, UsageError
from ssl_jets.model_file import load_model
from ssl_jets.pretraining import pretrain, resolve_pretrain
from ssl_jets.runtime.signals import Interrupted
from ssl_jets.sharing.model_card import CARD
from support.interrupting import raise_at
from support.overridden import overridden

SHORT = ["train.precision=32-true", "train.batch_size=8", "train.validation_jets=20", "train.steps=4"]


def settings_of(files: list[JetFile], method: str, *more: str) -> RunSettings[MethodSettings]:
    sources = {"data": {"sources": [str(file.source) for file in files]}}
    return resolve_pretrain(method, sources, overridden(["model.size=tiny", "model.blocks=2", *SHORT], *more))


@pytest.fixture(scope="module")
def teacher(class_files: list[JetFile], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `mae` on the first file, with another width and split than the defaults."""
    more = ["model.width=96", "model.heads=6", "data.split_seed=5"]
    return pretrain(settings_of(class_files[:1], "mae", *more), tmp_path_factory.mktemp("teacher") / "mae")


def test_the_teacher_is_recorded_by_its_hash_and_its_jets_count_as_seen(
    teacher: Path, class_files: list[JetFile], tmp_path: Path
) -> None:
    settings = settings_of(class_files[1:2], "salt", f"method.teacher={teacher}")
    assert settings.data.split_seed == 5  # the same jets are held out from both trainings
    run = pretrain(settings, tmp_path / "salt")
    model, before = load_model(run), load_model(teacher)
    assert model.encoder.width != before.encoder.width
    facts = model.facts["training"]
    assert (facts["teacher"]["sha256"], facts["teacher"]["method"]) == (before.sha256, "mae")
    assert "labelled_jets" not in facts
    seen = [trained_entries(class_files[:3], Seen.of(one)) for one in (facts["teacher"], facts)]
    assert {index for index, *_ in seen[1]} == {0, 1}
    assert set(seen[0]) < set(seen[1])  # the jets that the teacher held out stay held out
    log = (run / "log.txt").read_text()
    assert f"teacher: {teacher} (mae, sha256 {before.sha256[:12]}), frozen" in log
    card = (run / "model" / CARD).read_text()
    assert "| teacher | 4 |" in card
    assert "| training | 4 |" in card


def test_such_a_run_is_resumed_to_the_same_weights_without_the_teacher(
    teacher: Path, class_files: list[JetFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(teacher, tmp_path / "copy")
    settings = settings_of(class_files[1:2], "salt", f"method.teacher={copy}")
    whole = pretrain(settings, tmp_path / "whole")
    raise_at(monkeypatch, 2, signal.SIGTERM)
    with pytest.raises(Interrupted):
        pretrain(settings, tmp_path / "run")
    shutil.rmtree(copy)
    stored = tmp_path / "run" / "config.yaml"
    run = pretrain(resolve_pretrain("salt", stored=stored), tmp_path / "run", resume=True)
    configs = [json.loads((path / "model" / "config.json").read_text()) for path in (whole, run)]
    assert configs[0]["weights_sha256"] == configs[1]["weights_sha256"]
    assert configs[0]["training"] | {"seconds": 0} == configs[1]["training"] | {"seconds": 0}


def test_labels_of_the_teacher_count(class_files: list[JetFile], tmp_path: Path) -> None:
    tagger = pretrain(settings_of(class_files[:2], "supervised"), tmp_path / "tagger")
    run = pretrain(settings_of(class_files[2:3], "salt", f"method.teacher={tagger}"), tmp_path / "salt")
    labels = [load_model(path).facts["training"]["labelled_jets"] for path in (tagger, run)]
    assert labels[0] == labels[1] > 0


def test_a_missing_or_unfit_teacher_is_one_message_and_leaves_nothing_behind(
    teacher: Path, class_files: list[JetFile], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"(?s)learns from a trained model.*method\.teacher.*--method mae"):
        pretrain(settings_of(class_files[:1], "salt"), tmp_path / "run")
    with pytest.raises(SslJetsError, match="no trained model"):
        settings_of(class_files[:1], "salt", f"method.teacher={tmp_path / 'gone'}")
    copy = shutil.copytree(teacher, tmp_path / "copy")
    config = json.loads((copy / "model" / "config.json").read_text())
    config["training"]["columns"].remove("d0")
    (copy / "model" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match=r"(?s)other particle columns.*not in both: d0"):
        pretrain(settings_of(class_files[:1], "salt", f"method.teacher={copy}"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_tokens_of_the_teacher_are_standardized_before_the_first_step(
    teacher: Path, class_files: list[JetFile], tmp_path: Path
) -> None:
    run = pretrain(settings_of(class_files[1:2], "salt", f"method.teacher={teacher}"), tmp_path / "salt")
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["method"]
    assert state["mean"].abs().max() > 0
    assert (state["std"] != 1).all()
    for name, value in load_model(teacher).encoder.state_dict().items():
        assert torch.equal(state[f"teacher.{name}"], value), name
