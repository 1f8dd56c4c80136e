"""Threads: the cores that are allowed, waiting asleep, and several batches at once with the numbers of one thread."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from ssl_jets.evaluation.probes import classes
from ssl_jets.jets import Jets
from ssl_jets.model import embed_jets, encode
from ssl_jets.runtime import control_groups, threads
from support.small_models import made_jets, tiny_encoder


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A process with 8 cores, without a launcher, limits, and OMP_NUM_THREADS; a folder for control groups."""
    for name in ("SLURM_CPUS_PER_TASK", "RANK", "WORLD_SIZE", "LOCAL_RANK", "OMP_NUM_THREADS", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(control_groups, "ROOT", tmp_path)
    monkeypatch.setattr(control_groups, "OF_PROCESS", tmp_path / "own")
    return tmp_path


@pytest.fixture
def many_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Three threads for an operation, whatever the machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    yield
    torch.set_num_threads(before)


def test_cores_are_those_of_the_affinity(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert threads.allowed_cores() == 8
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 5, 6}, raising=False)
    assert threads.allowed_cores() == 3


@pytest.mark.parametrize(
    ("file", "text", "cores"),
    [
        ("cpu.max", "250000 100000", 3),
        ("cpu.max", "max 100000", 8),
        ("job/cpu.max", "100000 100000", 1),
        ("job/step/cpu.max", "50000 100000", 1),
    ],
)
def test_a_quota_of_the_group_of_the_process_or_of_one_around_it_counts(
    alone: Path, file: str, text: str, cores: int
) -> None:
    (alone / "job" / "step").mkdir(parents=True)
    (alone / "own").write_text("0::/job/step\n")
    (alone / file).write_text(text)
    assert threads.allowed_cores() == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1", 8), ("400000", 4)])
def test_a_quota_of_version_1_counts(alone: Path, quota: str, cores: int) -> None:
    (alone / "cpu").mkdir()
    (alone / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (alone / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert threads.allowed_cores() == cores


def test_a_task_of_slurm_has_its_own_cores(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "2")
    assert threads.allowed_cores() == 2


def test_processes_of_a_launch_share_the_cores_that_nobody_has_divided(
    alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 4, "MASTER_ADDR": "localhost", "MASTER_PORT": 1}
    for name, value in places.items():
        monkeypatch.setenv(name, str(value))
    assert threads.allowed_cores() == 2
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 5, 6}, raising=False)
    assert threads.allowed_cores() == 3


def test_the_number_of_the_user_takes_precedence(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 12)
    assert threads.allowed_threads() == 8
    monkeypatch.setenv("OMP_NUM_THREADS", "12")
    assert threads.allowed_threads() == 12


@pytest.mark.parametrize("mine", threads.WAITING)
def test_threads_sleep_while_they_wait_unless_the_user_has_set_it(monkeypatch: pytest.MonkeyPatch, mine: str) -> None:
    for name in threads.WAITING:
        monkeypatch.setenv(name, "")  # so that its value is restored
        monkeypatch.delenv(name)
    monkeypatch.setenv(mine, "7")
    threads.wait_passively()
    assert {name: os.environ[name] for name in threads.WAITING if name in os.environ} == {mine: "7"}
    monkeypatch.delenv(mine)
    threads.wait_passively()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


@pytest.mark.parametrize("use", ["from ssl_jets import load_model", "from ssl_jets.cli.app import main; main()"])
def test_the_policy_is_set_before_torch_is_loaded(use: str) -> None:
    program = f"""
import os, sys
class Finder:
    def find_spec(self, name, *rest):
        if name == "torch":
            sys.exit("set" if os.environ.get("OMP_WAIT_POLICY") == "PASSIVE" else "late")
sys.meta_path.insert(0, Finder())
sys.argv = ["ssl-jets", "inspect", "gone.root"]
{use}
"""
    environment = {name: value for name, value in os.environ.items() if name not in threads.WAITING}
    sources = [sys.executable, "-c", program]
    ended = subprocess.run(sources, env=environment, capture_output=True, text=True, check=False)
    assert ended.stderr.strip() == "set"


def test_results_come_in_order_and_few_inputs_are_taken_ahead(many_threads: None) -> None:
    taken: list[int] = []
    running: set[str] = set()

    def inputs() -> Iterator[int]:
        for number in range(20):
            taken.append(number)
            yield number

    def slow(number: int) -> tuple[int, int]:
        running.add(threading.current_thread().name)
        time.sleep(0.01 * (20 - number) / 20)
        return number, torch.get_num_threads()

    results = threads.map_in_order(slow, inputs())
    assert next(results) == (0, 1)
    assert len(taken) <= 4
    assert list(results) == [(number, 1) for number in range(1, 20)]
    assert len(running) == 3
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("taken", [0, 1])
def test_an_error_reaches_the_caller_and_the_threads_end(many_threads: None, taken: int) -> None:
    def fail(number: int) -> int:
        if number == 2:
            raise ValueError(number)
        return number

    results = threads.map_in_order(fail, iter(range(9)))
    assert [next(results) for _ in range(taken)] == list(range(taken))
    with pytest.raises(ValueError, match="2"):
        list(results)
    abandoned = threads.map_in_order(fail, iter(range(2)))
    next(abandoned)
    abandoned.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ssl-jets-encode")]
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_z_does_not_depend_on_the_number_of_threads(
    batch: Jets, monkeypatch: pytest.MonkeyPatch, many_threads: None, precision: str
) -> None:
    encoder = tiny_encoder(batch, pair_bias=True)
    several = embed_jets(encoder, batch, batch=10, precision=precision)  # type: ignore[arg-type]
    torch.set_num_threads(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert torch.equal(several, embed_jets(encoder, batch, batch=10, precision=precision))  # type: ignore[arg-type]


def test_gradients_can_be_computed_from_z_of_threads(many_threads: None) -> None:
    jets = made_jets([3, 5, 2, 4])
    encoder = tiny_encoder(jets)
    batches = [jets.select(torch.tensor([row])) for row in range(4)]
    encoded = list(encode(encoder, batches, "cpu", "32-true", batch=1, tokens=True))
    assert [len(each.tokens) for _, each in encoded] == [3, 5, 2, 4]
    weight = torch.ones(encoder.dim, requires_grad=True)
    (encoded[0][1].z @ weight).sum().backward()
    assert weight.grad is not None


def test_a_fit_of_trees_has_one_thread_and_the_others_their_number() -> None:
    def counted() -> set[int]:
        return {int(pool["num_threads"]) for pool in threadpool_info()}  # of OpenMP, and of OpenBLAS

    with threadpool_limits(2):
        before = counted()
        assert before == {2}
        assert threads.with_one_thread(counted)() == {1}
        assert counted() == before


def test_a_linear_probe_uses_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    found = set[int]()

    def strength(fit: classes.Labelled) -> float:
        found.update(int(pool["num_threads"]) for pool in threadpool_info())
        return 1.0

    monkeypatch.setattr(classes, "chosen_strength", strength)
    with threadpool_limits(2):
        classes.linear_reader(classes.Labelled.of(np.eye(4), np.array([0, 1, 0, 1])), 2)
    assert found == {1}
