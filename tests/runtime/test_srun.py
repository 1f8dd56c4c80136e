"""Tasks of `srun` are the processes of one launch. SLURM is not here: its variables are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from ssl_jets.config import TrainSettings
from ssl_jets.data.files import JetFile
from ssl_jets.errors import SslJetsError, UsageError
from ssl_jets.runtime import process_group
from ssl_jets.runtime.launcher import Launch, join, rank
from ssl_jets.training.fabric import make_fabric

TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
TORCHRUN_OF_TWO = dict(zip(TORCHRUN, ("1", "1", "2", "2", "localhost", "29500")))
STEP = {
    "SLURM_JOB_ID": "1234567",
    "SLURM_STEP_ID": "2",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
}


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A process of its own, without any variable of a launch."""
    for name in (*TORCHRUN, *STEP, "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.fixture
def step(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The variables of task 5 of 8; those that are set meanwhile are gone afterwards."""
    for name in TORCHRUN:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    for name, value in STEP.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def variables() -> list[str | None]:
    return [os.environ.get(name) for name in TORCHRUN]


def test_a_task_has_the_variables_of_a_process_of_torchrun(step: pytest.MonkeyPatch) -> None:
    join()
    assert variables() == ["5", "1", "8", "4", "gpu07", "20672"]


@pytest.mark.parametrize(
    ("nodes", "first"), [("a,b", "a"), ("n[3,7-9]", "n3"), ("one", "one"), ("r[1-2]n[04-05]-ib,x", "r1n04-ib")]
)
def test_the_first_machine_is_where_they_meet(step: pytest.MonkeyPatch, nodes: str, first: str) -> None:
    step.setenv("SLURM_STEP_NODELIST", nodes)
    join()
    assert os.environ["MASTER_ADDR"] == first


def test_one_task_is_alone_and_processes_of_torchrun_stay_its_own(step: pytest.MonkeyPatch) -> None:
    step.setenv("SLURM_STEP_NUM_TASKS", "1")
    join()
    assert variables() == [None] * len(TORCHRUN)
    step.setenv("SLURM_STEP_NUM_TASKS", "8")
    for name, value in TORCHRUN_OF_TWO.items():
        step.setenv(name, value)
    assert join() == Launch(rank=1, local_rank=1, world=2, local_world=2)
    assert variables() == list(TORCHRUN_OF_TWO.values())


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({"LOCAL_RANK": "1"}, "RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT"),
        ({"WORLD_SIZE": "2"}, "RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT"),
        ({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": ""}, "LOCAL_RANK, MASTER_ADDR, MASTER_PORT"),
        ({"SLURM_STEP_NUM_TASKS": "2"}, "SLURM_PROCID, SLURM_LOCALID"),
        ({"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"}, "SLURM_LOCALID"),
    ],
)
def test_variables_of_a_launch_that_are_not_all_there_are_one_message_with_their_names(
    alone: pytest.MonkeyPatch, given: dict[str, str], missing: str
) -> None:
    for name, value in given.items():
        alone.setenv(name, value)
    with pytest.raises(UsageError, match="incomplete") as caught:
        join()
    assert caught.value.where == f"{missing}: not set"


@pytest.mark.parametrize(
    ("name", "value"),
    [("RANK", "2"), ("RANK", "-1"), ("WORLD_SIZE", "two"), ("WORLD_SIZE", "0"), ("LOCAL_RANK", "2")],
)
def test_a_number_of_a_launch_that_cannot_be_is_named(alone: pytest.MonkeyPatch, name: str, value: str) -> None:
    for key, text in (TORCHRUN_OF_TWO | {name: value}).items():
        alone.setenv(key, text)
    with pytest.raises(UsageError, match="is wrong") as caught:
        join()
    assert (caught.value.where, caught.value.found) == (name, value)


def test_an_empty_variable_counts_as_unset(alone: pytest.MonkeyPatch) -> None:
    for name in (*TORCHRUN, *STEP):
        alone.setenv(name, "")
    assert join() is None
    assert "LOCAL_RANK" not in os.environ  # which Fabric would read


def test_machines_with_different_numbers_of_tasks_are_refused(step: pytest.MonkeyPatch) -> None:
    step.setenv("SLURM_STEP_TASKS_PER_NODE", "4,3")
    with pytest.raises(UsageError, match="ntasks-per-node"):
        join()
    step.setenv("SLURM_STEP_TASKS_PER_NODE", "4(x2)")
    step.setenv("SLURM_STEP_NUM_TASKS", "7")
    with pytest.raises(UsageError, match="ntasks-per-node"):
        join()


def test_a_first_machine_whose_name_does_not_resolve_is_named_after_a_time_limit(
    step: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    step.setenv("SLURM_STEP_NODELIST", "no-such-machine.invalid,b")
    step.setattr(process_group, "RESOLVE_TIMEOUT", timedelta(0))
    with pytest.raises(SslJetsError, match="does not resolve") as caught, process_group.launched():
        pass
    assert caught.value.where == "MASTER_ADDR=no-such-machine.invalid, MASTER_PORT=20672"
    with pytest.raises(SslJetsError, match="does not resolve"):
        make_fabric(TrainSettings())


def test_processes_that_do_not_meet_get_the_address(step: pytest.MonkeyPatch) -> None:
    step.setenv("SLURM_STEP_NODELIST", "localhost,b")
    step.setattr(process_group, "CONNECT_TIMEOUT", timedelta(seconds=1))
    with pytest.raises(SslJetsError, match="do not meet") as caught, process_group.launched():
        pass
    assert "MASTER_ADDR=localhost" in str(caught.value.where)


@pytest.mark.slow
def test_two_tasks_train_one_run_and_write_one_z_file(sample_files: list[JetFile], tmp_path: Path) -> None:
    data = str(sample_files[0].source)
    run, z = tmp_path / "run", tmp_path / "z.npz"
    settings = ["model.size=tiny", "train.steps=2", "train.batch_size=8", "train.log_every=1", "data.buffer=60"]
    words = [word for setting in [*settings, "train.validation_jets=20"] for word in ("--set", setting)]
    train = ["pretrain", "--method", "mae", "--data", data, "--out", str(run), *words]
    assert tasks(train, "41") == [f"{run}\n", ""]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "train"] == [1, 2]
    assert tasks(["embed", "--model", str(run), "--data", data, "--out", str(z)], "42") == [f"{z}\n", ""]


def tasks(words: list[str], job: str) -> list[str]:
    """What two tasks print on stdout."""
    two = STEP | {"SLURM_JOB_ID": job, "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "1"}
    two |= {"SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_STEP_NODELIST": "localhost", "OMP_NUM_THREADS": "1"}
    others = {name: value for name, value in os.environ.items() if name not in TORCHRUN}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "ssl_jets", *words],
            env=others | two | {"SLURM_PROCID": number, "SLURM_LOCALID": number},
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in "01"
    ]
    printed = [task.communicate(timeout=240)[0] for task in started]
    assert [task.returncode for task in started] == [0, 0]
    return printed


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, 0), ({"NODE_RANK": "0", "LOCAL_RANK": "1"}, 1), ({"RANK": "5", "LOCAL_RANK": "1"}, 5)],
)
def test_a_process_that_fabric_started_knows_its_number(
    alone: pytest.MonkeyPatch, given: dict[str, str], expected: int
) -> None:
    meeting = {"WORLD_SIZE": "8", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
    for name, value in (given and given | meeting).items():
        alone.setenv(name, value)
    assert rank() == expected
