"""A run that was stopped and resumed is the run that was never stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from ssl_jets.config import MethodSettings, RunSettings
from ssl_jets.data.files import JetFile, open_files
from ssl_jets.data.sources import Source
from ssl_jets.errors import SslJetsError, UsageError
from ssl_jets.model_file import save_model
from ssl_jets.pretraining import pretrain, resolve_pretrain
from ssl_jets.runtime.signals import Interrupted, watched
from ssl_jets.training import run_setup
from support.interrupting import raise_at
from support.overridden import last_of, overridden

TIMES = {"seconds", "jets_per_second", "data_wait"}
SETTINGS = [
    "model.size=tiny", "model.blocks=1", "train.precision=32-true", "train.steps=8", "train.batch_size=8",
    "train.log_every=1", "train.validate_every=4", "train.validation_jets=20", "data.buffer=40", "train.seed=3",
]  # fmt: skip
"""Batches of 8 from buffers of 40 jets: after 7 steps the run stops inside the second buffer."""


OF_METHOD = {
    "semi_supervised": ["data.labelled=0.2", "data.unlabelled_ratio=1", "method.targets=[label,jet_sdmass]"],
    "dino": ["method.particle_weight=1", "method.prototypes=8", "train.optimizer=muon"],
}
"""Two streams, labels of a few jets in memory, statistics of targets and learned weights, teachers, the centres of jets
and particles, the states of both optimizers: all are to be resumed."""


def settings_of(files: list[JetFile], method: str, *more: str) -> RunSettings[MethodSettings]:
    sources = {"data": {"sources": [str(file.source) for file in files]}}
    return resolve_pretrain(method, sources, overridden(SETTINGS, *OF_METHOD.get(method, []), *more))


def metrics(folder: Path) -> list[dict[str, Any]]:
    """Lines of `metrics.jsonl` without the times."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in TIMES} for line in found]


def digest(folder: Path) -> str:
    return str(json.loads((folder / "model" / "config.json").read_text())["weights_sha256"])


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Sums on several threads are rounded differently from those on one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Uninterrupted(dict[str, Path]):
    """One run of each method that nothing stopped, trained when it is first asked for."""

    def __init__(self, files: list[JetFile], folder: Path) -> None:
        super().__init__()
        self.files, self.folder = files, folder

    def __missing__(self, method: str) -> Path:
        self[method] = pretrain(settings_of(self.files, method), self.folder / method)
        return self[method]


@pytest.fixture(scope="module")
def uninterrupted(class_files: list[JetFile], tmp_path_factory: pytest.TempPathFactory) -> Uninterrupted:
    return Uninterrupted(class_files, tmp_path_factory.mktemp("uninterrupted"))


@pytest.mark.parametrize(
    ("method", "number", "batch"),
    [
        ("mae", signal.SIGTERM, 7),
        ("supervised", signal.SIGINT, 1),
        ("semi_supervised", signal.SIGUSR1, 7),
        pytest.param("mar", signal.SIGTERM, 7, marks=pytest.mark.slow),
        pytest.param("nepa", signal.SIGTERM, 7, marks=pytest.mark.slow),
        ("dino", signal.SIGTERM, 7),
    ],
)
def test_a_run_stopped_by_a_signal_goes_on_to_the_same_losses_and_weights(
    class_files: list[JetFile],
    uninterrupted: Uninterrupted,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    method: str,
    number: signal.Signals,
    batch: int,
) -> None:
    settings, out = settings_of(class_files, method), tmp_path / "run"
    raise_at(monkeypatch, batch, number)
    with pytest.raises(Interrupted) as caught:
        pretrain(settings, out)
    assert caught.value.signal == number
    assert caught.value.message == f"stopped by {number.name}"
    assert f"with out={str(out)!r}, resume=True goes on from step {batch} of 8" in str(caught.value)
    assert f"stopped at step {batch} of 8; --resume" in capsys.readouterr().err
    assert not (out / "model").exists()
    assert [line["step"] for line in metrics(out) if line["kind"] == "train"] == list(range(1, batch + 1))
    pretrain(settings, out, resume=True)
    assert f"resumed at step {batch} of 8" in capsys.readouterr().err
    assert metrics(out) == metrics(uninterrupted[method])
    assert [line["step"] for line in metrics(out) if line["kind"] == "train"] == list(range(1, 9))
    assert [line["step"] for line in metrics(out) if line["kind"] == "validation"] == [4, 8]
    assert digest(out) == digest(uninterrupted[method])


def test_another_seed_is_another_run(class_files: list[JetFile], uninterrupted: Uninterrupted, tmp_path: Path) -> None:
    pretrain(settings_of(class_files, "supervised", "train.seed=4"), tmp_path / "r")
    assert digest(tmp_path / "r") != digest(uninterrupted["supervised"])


def test_resuming_a_finished_run_changes_nothing(
    class_files: list[JetFile],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = settings_of(class_files, "supervised", "train.steps=2")
    out = pretrain(settings, tmp_path / "r")
    before = (metrics(out), digest(out))
    monkeypatch.setattr("ssl_jets.pretraining.open_on_all_ranks", None)  # it answers before any file is opened
    capsys.readouterr()
    assert pretrain(settings, out, resume=True) == out
    assert capsys.readouterr().err == f"the run is finished, nothing is left to do: {out / 'model'}\n"
    assert (metrics(out), digest(out)) == before


def test_resuming_where_there_is_no_run_begins_one(class_files: list[JetFile], tmp_path: Path) -> None:
    out = pretrain(settings_of(class_files, "supervised", "train.steps=2"), tmp_path / "r", resume=True)
    assert [line["step"] for line in metrics(out) if line["kind"] == "train"] == [1, 2]


def test_a_run_killed_before_its_first_checkpoint_begins_again_with_each_step_once(
    class_files: list[JetFile], uninterrupted: Uninterrupted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, out = settings_of(class_files, "supervised"), tmp_path / "r"
    raise_at(monkeypatch, 5, signal.SIGTERM)
    with pytest.raises(Interrupted):
        pretrain(settings, out)
    (out / "checkpoints" / "last.ckpt").unlink()
    pretrain(settings, out, resume=True)
    assert metrics(out) == metrics(uninterrupted["supervised"])
    assert digest(out) == digest(uninterrupted["supervised"])


@pytest.mark.parametrize(
    "setting", ["train.batch_size=16", "method.mask_ratio=0.6", "model.registers=2", "data.buffer=70"]
)
def test_resuming_with_another_setting_is_refused_by_its_name(
    class_files: list[JetFile], uninterrupted: Uninterrupted, setting: str
) -> None:
    out = uninterrupted["mae"]
    before = (out / "config.yaml").read_text()
    with pytest.raises(UsageError, match="other settings") as caught:
        pretrain(settings_of(class_files, "mae", setting), out, resume=True)
    assert caught.value.found == setting.partition("=")[0]
    assert (out / "config.yaml").read_text() == before


def test_epochs_beside_steps_decide_nothing(class_files: list[JetFile], tmp_path: Path) -> None:
    """A run of `--steps 2 --epochs 1` is resumed by `--steps 2`."""
    both = settings_of(class_files, "mae", "train.steps=2", "train.epochs=1")
    pretrain(both, tmp_path / "run")
    alone = settings_of(class_files, "mae", "train.steps=2")
    assert (both.train.epochs, alone.train.epochs) == (1, None)
    assert pretrain(alone, tmp_path / "run", resume=True) == tmp_path / "run"
    with pytest.raises(UsageError) as caught:
        pretrain(settings_of(class_files, "mae", "train.steps=3"), tmp_path / "run", resume=True)
    assert "train.steps" in str(caught.value.found)


def test_resuming_with_other_jets_in_a_file_is_refused_by_its_name(write_jetclass: Any, tmp_path: Path) -> None:
    files = [open_files([Source(str(write_jetclass("QCD.root", 80, seed=1)))])[0]]
    settings = settings_of(files, "mae", "train.steps=2")
    out = pretrain(settings, tmp_path / "r")
    shutil.rmtree(out / "model")  # a finished run answers before any file is opened
    before = metrics(out)
    write_jetclass("QCD.root", 80, seed=2)  # as many jets, which the checkpoint cannot tell from those it has seen
    with pytest.raises(UsageError, match="not those that the run began with") as caught:
        pretrain(settings, out, resume=True)
    assert "QCD.root" in str(caught.value.found)
    assert metrics(out) == before


def test_a_stopped_run_goes_on_with_its_files_in_another_folder_and_with_no_others(
    write_jetclass: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def named(path: Path) -> RunSettings[MethodSettings]:
        return settings_of(open_files([Source(str(path))]), "mae")

    first = write_jetclass("QCD.root", 80, seed=1)
    straight, out = pretrain(named(first), tmp_path / "straight"), tmp_path / "run"
    raise_at(monkeypatch, 3, signal.SIGTERM)
    with pytest.raises(Interrupted):
        pretrain(named(first), out)
    moved, other = tmp_path / "moved" / "QCD.root", tmp_path / "other" / "QCD.root"
    for file in (moved, other):
        file.parent.mkdir()
    shutil.move(first, moved)
    shutil.move(write_jetclass("QCD.root", 80, seed=2), other)
    config = (out / "config.yaml").read_text()
    with pytest.raises(UsageError, match="not those that the run began with"):
        pretrain(named(other), out, resume=True)
    assert (out / "config.yaml").read_text() == config
    pretrain(named(moved), out, resume=True)
    assert digest(out) == digest(straight)
    assert str(moved) in (out / "config.yaml").read_text()
    with pytest.raises(UsageError, match="other settings"):  # a finished run reads no files
        pretrain(named(other), out, resume=True)


def test_settings_newer_than_the_run_have_their_defaults_and_are_logged(
    class_files: list[JetFile], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = settings_of(class_files, "supervised", "train.steps=2")
    out = pretrain(settings, tmp_path / "r")
    config = yaml.safe_load((out / "config.yaml").read_text())
    del config["train"]["accumulate"], config["model"]["z_tokens"]
    config["method"]["summary_weight"] = config["method"].pop("observables_weight")  # its earlier name
    (out / "config.yaml").write_text(yaml.safe_dump(config))
    pretrain(settings, out, resume=True)
    assert "newer than the run have their defaults: model.z_tokens, train.accumulate" in capsys.readouterr().err
    other = settings_of(class_files, "supervised", "train.steps=2", "train.accumulate=2")
    with pytest.raises(UsageError, match="other settings") as caught:
        pretrain(other, out, resume=True)
    assert caught.value.found == "train.accumulate"


def command(files: list[JetFile], out: Path, *more: str) -> list[str]:
    options = ["--method", "mae", "--out", str(out)]
    for file in files:
        options += ["--data", str(file.source)]
    for assignment in last_of(SETTINGS, *more):
        options += ["--set", assignment]
    return [sys.executable, "-c", "from ssl_jets.cli import main; main()", "pretrain", *options]


def wait_for_steps(out: Path, steps: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300  # on a busy machine a start takes a minute
    while time.monotonic() < deadline and process.poll() is None:
        if (out / "metrics.jsonl").is_file() and len(metrics(out)) >= steps:
            return
        time.sleep(0.01)
    raise AssertionError(f"no {steps} steps were logged: {process.communicate()[1]}")


@pytest.mark.slow
def test_a_real_job_ends_with_143_at_sigterm_and_survives_sigkill(class_files: list[JetFile], tmp_path: Path) -> None:
    more = ("train.steps=80", "train.validate_every=1000", "train.checkpoint_minutes=0.001")
    environment, out = os.environ | {"OMP_NUM_THREADS": "1"}, tmp_path / "out"
    job = command(class_files, out, *more)
    with subprocess.Popen(job, env=environment, stdout=-1, stderr=-1, text=True) as process:
        wait_for_steps(out, 5, process)
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 143, stderr
    assert stdout == ""
    assert "stopped at step" in stderr
    assert "Traceback" not in stderr
    stopped = len(metrics(out))
    with subprocess.Popen([*job, "--resume"], env=environment, stdout=-1, stderr=-1, text=True) as process:
        wait_for_steps(out, stopped + 10, process)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    settings = settings_of(class_files, "mae", *more)
    pretrain(settings, out, resume=True)
    whole = pretrain(settings, tmp_path / "whole")
    assert metrics(out) == metrics(whole)
    assert digest(out) == digest(whole)


def test_a_damaged_checkpoint_is_one_error(class_files: list[JetFile], tmp_path: Path) -> None:
    settings = settings_of(class_files, "mae", "train.steps=1")
    run = pretrain(settings, tmp_path / "run")
    path = run / "checkpoints" / "last.ckpt"
    path.write_bytes(path.read_bytes()[:100_000])
    shutil.rmtree(run / "model")  # else the run is finished, and needs no checkpoint
    with pytest.raises(SslJetsError, match=r"(?s)checkpoint cannot be read.*last\.ckpt"):
        pretrain(settings, run, resume=True)


def test_a_damaged_checkpoint_gives_way_to_the_one_before_it_and_the_run_stays_the_same(
    class_files: list[JetFile],
    uninterrupted: Uninterrupted,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings, out = settings_of(class_files, "supervised", "train.checkpoint_minutes=0"), tmp_path / "run"
    raise_at(monkeypatch, 6, signal.SIGTERM)
    with pytest.raises(Interrupted):
        pretrain(settings, out)
    path = out / "checkpoints" / "last.ckpt"
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    pretrain(settings, out, resume=True)
    messages = capsys.readouterr().err
    assert "last.ckpt is damaged" in messages
    assert "going on from the older last-1.ckpt" in messages
    assert "resumed at step 5 of 8" in messages
    assert metrics(out) == metrics(uninterrupted["supervised"])
    assert digest(out) == digest(uninterrupted["supervised"])


def test_resume_may_change_how_the_rest_is_trained_and_writes_it_down(
    class_files: list[JetFile], uninterrupted: Uninterrupted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    raise_at(monkeypatch, 5, signal.SIGTERM)
    with pytest.raises(Interrupted):
        pretrain(settings_of(class_files, "supervised"), out)
    changed = ("train.lr=0.00025", "train.weight_decay=0.2", "train.clip=0.5", "train.on_nonfinite=skip")
    pretrain(settings_of(class_files, "supervised", *changed), out, resume=True)
    train = yaml.safe_load((out / "config.yaml").read_text())["train"]
    assert [train[name] for name in ("lr", "weight_decay", "clip", "on_nonfinite")] == [0.00025, 0.2, 0.5, "skip"]
    log = (out / "log.txt").read_text()
    assert "changed with this --resume: train.lr from 0.0005 to 0.00025\n" in log
    assert "changed with this --resume: train.on_nonfinite from stop to skip\n" in log
    rates, before = (
        [line["lr"] for line in metrics(folder) if line["kind"] == "train"]
        for folder in (out, uninterrupted["supervised"])
    )
    assert rates[:5] == before[:5]
    assert rates[5:] == pytest.approx([rate / 2 for rate in before[5:]], rel=1e-5)
    groups = torch.load(out / "checkpoints" / "last.ckpt", weights_only=True)["optimizer"]["param_groups"]
    assert {group["weight_decay"] for group in groups} == {0.0, 0.2}


def test_a_signal_in_the_last_step_or_after_it_stops_nothing_and_is_passed_on(
    class_files: list[JetFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    received: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: received.append(number))
    try:
        raise_at(monkeypatch, 2, signal.SIGUSR1)
        settings = settings_of(class_files, "supervised", "train.steps=2")
        out = pretrain(settings, tmp_path / "a")
        assert (out / "model" / "config.json").is_file()
        assert received == [signal.SIGUSR1]
        with watched(pass_on=False), monkeypatch.context() as patch:
            patch.setattr(run_setup, "save_model", lambda *a: signal.raise_signal(signal.SIGUSR1) or save_model(*a))
            out = pretrain(settings, tmp_path / "b")
        assert (out / "model" / "config.json").is_file()
        assert received == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize(
    "work", ["pretraining.open_on_all_ranks", "pretraining.statistics_sample", "training.run_setup.make_monitor"]
)
def test_a_signal_while_a_training_is_prepared_stops_it_at_once(
    class_files: list[JetFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: str
) -> None:
    monkeypatch.setattr(f"ssl_jets.{work}", lambda *_, **__: signal.raise_signal(signal.SIGUSR1))
    with pytest.raises(Interrupted) as caught:
        pretrain(settings_of(class_files, "supervised"), tmp_path / "run")
    assert caught.value.signal == signal.SIGUSR1
    assert not (tmp_path / "run" / "model").exists()
