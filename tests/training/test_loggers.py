"""Loggers: the numbers of metrics.jsonl arrive in TensorBoard, W&B and MLflow, also after a resume."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ssl_jets.errors import UsageError
from ssl_jets.training import loggers
from ssl_jets.training.loggers import Loggers, check_loggers
from ssl_jets.training.run_folder import TrainingRun

RECORDS: list[dict[str, Any]] = [
    {"step": 10, "kind": "train", "loss": 2.5, "lr": 1e-3, "grad_norm": float("nan")},
    {"step": 20, "kind": "validation", "loss": 2.25, "collapse": ["constant"]},
]


class Recorder:
    """Logger that keeps the numbers it receives."""

    def __init__(self, folder: Path, config: dict[str, Any], step: int) -> None:
        self.lines: list[tuple[int, dict[str, float]]] = []
        self.opened_at, self.closed, self.config = step, 0, config

    def log(self, step: int, numbers: dict[str, float]) -> None:
        self.lines.append((step, numbers))

    def close(self) -> None:
        self.closed += 1


def log_all(run: TrainingRun) -> None:
    for record in RECORDS:
        run.log_metrics(record)
    run.loggers.close()


def test_every_finite_number_is_passed_on_with_its_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Recorder] = []
    monkeypatch.setitem(loggers.LOGGERS, "wandb", lambda *words: opened.append(Recorder(*words)) or opened[-1])
    run = TrainingRun(tmp_path)
    run.loggers = Loggers(["wandb"], tmp_path, {"train.lr": 1e-3})
    log_all(run)
    (recorder,) = opened
    assert recorder.lines == [(10, {"train/loss": 2.5, "train/lr": 1e-3}), (20, {"validation/loss": 2.25})]
    assert (recorder.opened_at, recorder.closed, recorder.config) == (10, 1, {"train.lr": 1e-3})
    assert [json.loads(line)["step"] for line in run.metrics.read_text().splitlines()] == [10, 20]


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"ssl-jets\[mlflow\]"):
        check_loggers(["mlflow"])


def test_tensorboard_has_the_numbers(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for _ in range(2):  # a resumed run replaces the steps that it repeats
        run = TrainingRun(tmp_path)
        run.loggers = Loggers(["tensorboard"], tmp_path)
        log_all(run)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(one.step, one.value) for one in events.Scalars("train/loss")] == [(10, 2.5)]
    assert set(events.Tags()["scalars"]) == {"train/loss", "train/lr", "validation/loss"}


def test_wandb_writes_an_offline_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    run = TrainingRun(tmp_path)
    run.loggers = Loggers(["wandb"], tmp_path, {"train.lr": 1e-3})
    log_all(run)
    (written,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    for _ in range(300):  # its service writes after `finish` returned
        if b"validation/loss" in written.read_bytes():
            break
        time.sleep(0.1)
    else:
        pytest.fail("the number is not in the file")


def test_a_run_of_wandb_is_the_same_after_a_move_and_another_at_the_same_place_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    run = SimpleNamespace(log=lambda *_, **__: None, finish=lambda: None)
    init = SimpleNamespace(init=lambda **given: opened.append(given["id"]) or run, Settings=SimpleNamespace)
    monkeypatch.setitem(sys.modules, "wandb", init)

    def open_in(name: str) -> None:
        (tmp_path / name).mkdir(exist_ok=True)
        logger = Loggers(["wandb"], tmp_path / name)
        logger.log(RECORDS[0])
        logger.close()

    open_in("run")
    (tmp_path / "run").rename(tmp_path / "moved")
    open_in("moved")
    open_in("run")
    assert opened[0] == opened[1] != opened[2]


def test_mlflow_has_the_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = TrainingRun(tmp_path)
    run.loggers = Loggers(["mlflow"], tmp_path, {"train.lr": 1e-3})
    log_all(run)
    client = MlflowClient(tracking_uri=f"file:{tmp_path / 'mlruns'}")
    experiment = client.get_experiment_by_name("ssl-jets")
    assert experiment is not None
    (logged,) = client.search_runs([experiment.experiment_id])
    assert (logged.data.metrics["train/loss"], logged.data.params["train.lr"]) == (2.5, "0.001")
    assert logged.info.status == "FINISHED"
