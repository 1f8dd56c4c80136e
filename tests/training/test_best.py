"""`train.keep=best` and snapshots: the model of a run is the one of the step that was asked for."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ssl_jets.config import MethodSettings, RunSettings, TrainSettings
from ssl_jets.data.files import JetFile
from ssl_jets.data.loading.in_memory import MemoryStream
from ssl_jets.diagnostics.collapse import Verdict
from ssl_jets.diagnostics.monitor import Diagnosis
from ssl_jets.errors import SslJetsError, UsageError
from ssl_jets.finetuning import resolve_finetune
from ssl_jets.jets import Jets
from ssl_jets.methods._method import Method
from ssl_jets.model_file import load_model
from ssl_jets.pretraining import pretrain, resolve_pretrain
from ssl_jets.runtime.signals import Interrupted
from ssl_jets.sharing.location import bundled_models
from ssl_jets.training.fabric import make_fabric
from ssl_jets.training.loop import fit
from ssl_jets.training.run_folder import TrainingRun
from support.interrupting import raise_at
from support.overridden import overridden
from support.small_models import build_method

SHORT = [
    "model.size=tiny", "model.blocks=2", "train.precision=32-true", "train.batch_size=8", "train.validation_jets=20",
    "train.steps=6", "train.validate_every=1", "train.lr=0.003", "train.keep=best", "train.best_by=rankme",
]  # fmt: skip
"""RankMe falls in the first steps, when z leaves its random start."""


class Measured:
    """A monitor whose validations have the values that are given, and which remembers the weights at each."""

    def __init__(self, metrics: list[dict[str, float]], collapsed: tuple[int, ...] = ()) -> None:
        self.metrics, self.collapsed, self.weights = metrics, collapsed, list[dict[str, Tensor]]()

    def validate(self, method: Method, progress: float, *, early: bool = False) -> Diagnosis:
        number = len(self.weights)
        self.weights.append({name: value.clone() for name, value in method.state_dict().items()})
        verdicts = [Verdict("constant", "all z are the same")] if number in self.collapsed else []
        return Diagnosis(self.metrics[number], verdicts)

    def check(self, method: Method, progress: float) -> Diagnosis:
        return Diagnosis({}, [])

    def state_dict(self) -> dict[str, float]:
        return {}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        return


@pytest.mark.parametrize(
    ("best_by", "metrics", "collapsed", "expected"),
    [
        ("loss", [{"loss": 3.0}, {"loss": 1.0}, {"loss": 2.0}, {"loss": 1.0}], (), 1),
        ("loss", [{"loss": 3.0}, {"loss": 0.1}, {"loss": 2.0}, {"loss": float("nan")}], (1,), 2),
        ("rankme", [{"rankme": 3.0, "loss": 0.0}, {"rankme": 9.0}, {"rankme": 4.0}, {"rankme": 5.0}], (), 1),
        ("probe", [{"probe_accuracy": 0.1}, {"probe_accuracy": 0.2}, {"probe_accuracy": 0.2}, {}], (), 1),
        ("rankme", [{}, {}, {}, {}], (), 3),
    ],
)
def test_the_weights_are_those_of_the_best_validation(
    batch: Jets, tmp_path: Path, best_by: str, metrics: list, collapsed: tuple, expected: int
) -> None:
    monitor = Measured(metrics, collapsed)
    method = build_method("mae", batch, blocks=2)
    settings = TrainSettings(
        steps=4, batch_size=8, validate_every=1, keep="best", best_by=best_by, precision="32-true", lr=0.01
    )
    run = TrainingRun(tmp_path / "run")
    run.create(settings)
    stream = MemoryStream(batch, batch_size=8, seed=0)
    result = fit(method, stream, run, settings, fabric=make_fabric(settings), monitor=monitor)
    assert result.steps == 4
    assert result.best_step == (expected + 1 if any(metrics) else None)
    for name, value in method.state_dict().items():
        assert torch.equal(value, monitor.weights[expected][name]), name
    messages = (run.folder / "log.txt").read_text()
    assert ("note: the held-out jets chose these weights" in messages) == any(metrics)
    assert ("no validation without a collapse has rankme: the model is of the last step" in messages) != any(metrics)


def settings_of(files: list[JetFile], *more: str) -> RunSettings[MethodSettings]:
    sources = {"data": {"sources": [str(file.source) for file in files[:1]]}}
    return resolve_pretrain("mae", sources, overridden(SHORT, *more))


def facts_of(run: Path) -> dict:
    config = json.loads((run / "model" / "config.json").read_text())
    return {"sha256": config["weights_sha256"], "best": config["training"]["best_step"]}


def test_a_resumed_run_keeps_the_same_weights_and_snapshots_are_models_of_their_step(
    sample_files: list[JetFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pretrain(settings_of(sample_files, "train.snapshot_minutes=1e-9"), tmp_path / "whole")
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    healthy = [line for line in lines if line["kind"] == "validation" and "collapse" not in line]
    best = max(healthy, key=lambda line: line["rankme"])["step"]
    assert facts_of(whole)["best"] == best < 5
    # Snapshots: one after each step but the last; the one of the best step is the model.
    assert {path.name for path in (whole / "snapshots").iterdir()} == {f"step-{step}" for step in range(1, 6)}
    snapshot = load_model(f"{whole}@step-{best}")
    assert snapshot.facts["training"]["steps"] == best
    assert snapshot.sha256 == facts_of(whole)["sha256"] != load_model(f"{whole}@step-5").sha256
    with pytest.raises(SslJetsError, match=r"(?s)no such snapshot.*step-9.*step-1, step-2"):
        load_model(f"{whole}@step-9")
    # Stopped after the best step, and resumed.
    raise_at(monkeypatch, best + 1, signal.SIGTERM)
    with pytest.raises(Interrupted):
        pretrain(settings_of(sample_files), tmp_path / "run")
    run = pretrain(settings_of(sample_files), tmp_path / "run", resume=True)
    assert facts_of(run) == facts_of(whole)


def test_settings_that_would_do_nothing_are_refused(tmp_path: Path, write_jetclass: Callable[..., Path]) -> None:
    unlabelled = {"data": {"sources": [str(write_jetclass(label=None))]}}
    settings = resolve_pretrain("mae", unlabelled, overridden(SHORT, "train.best_by=probe"))
    with pytest.raises(UsageError, match="no labels to probe z with"):
        pretrain(settings, tmp_path / "run")
    for settings, message in (
        ({"keep": "best"}, "has no validations"),
        ({"snapshot_minutes": 1}, "belongs to pretraining"),
    ):
        with pytest.raises(UsageError, match=message):
            resolve_finetune(bundled_models()["tiny-ssl"], {"method": {"mode": "probe"}, "train": settings})
