"""Fabric of a training: the numbers of the jets, processes, timeouts, GPUs that cannot be used."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ssl_jets.config import TrainSettings
from ssl_jets.errors import SslJetsError, UsageError
from ssl_jets.jets import Jets
from ssl_jets.runtime.gpu import count_gpus
from ssl_jets.runtime.process_group import COLLECTIVE_TIMEOUT
from ssl_jets.training import fabric as module
from ssl_jets.training.fabric import make_fabric
from support.small_models import made_jets


class Reader(nn.Module):
    """A module that keeps the jets it gets, and a product of them."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(1, 1)

    def forward(self, jets: Jets) -> Tensor:
        self.read, self.product = jets, self.linear(jets.column("pt").unsqueeze(1))
        total: Tensor = self.product.sum()
        return total


@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
def test_a_training_reads_jets_targets_and_weights_as_they_are(precision: Any) -> None:
    made = made_jets([1, 2])
    jets = replace(
        made,
        jet={"jet_sdmass": torch.tensor([83.7, 128.3])},
        context={"jet_eta": torch.tensor([0.301, 1.7])},
        weights=torch.tensor([0.1, 0.7]),
        collections={"SV": Jets(torch.tensor([[256.0], [257.0]]), torch.tensor([0, 1, 2]), ("truth:vertex",))},
    )
    fabric = make_fabric(TrainSettings(precision=precision))
    reader = Reader()
    fabric.setup_module(reader)(jets)
    assert torch.equal(reader.read.particles, jets.particles)
    assert reader.read.jet["jet_sdmass"].tolist() == pytest.approx([83.7, 128.3])  # in bfloat16 83.5 and 128
    assert reader.read.context["jet_eta"].tolist() == pytest.approx([0.301, 1.7])
    assert reader.read.weights is not None
    assert reader.read.weights.tolist() == pytest.approx([0.1, 0.7])
    assert reader.read.collections["SV"].particles.tolist() == [[256.0], [257.0]]
    assert reader.product.dtype == (torch.bfloat16 if precision == "bf16-mixed" else torch.float32)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Function of the number of GPUs and settings that returns the arguments of Fabric; nothing is launched."""
    arguments: dict[str, Any] = {}

    class Recorded:
        def __init__(self, **options: Any) -> None:
            arguments.update(options)

        def launch(self) -> None:
            """Start nothing."""

    monkeypatch.setattr(module, "Fabric", Recorded)

    def ask(gpus: int, **settings: Any) -> dict[str, Any]:
        monkeypatch.setattr(module, "count_gpus", lambda: gpus)
        make_fabric(TrainSettings(**{"precision": "32-true", **settings}))
        return arguments

    return ask


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.parametrize("gpus", [0, 4])
def test_processes_wait_for_each_other_as_long_as_it_takes(
    asked: Callable[..., dict[str, Any]], strategy: str, gpus: int
) -> None:
    options = asked(gpus, strategy=strategy, devices=2)
    assert (options["accelerator"], options["devices"]) == ("cuda" if gpus else "cpu", 2)
    assert options["strategy"]._timeout == COLLECTIVE_TIMEOUT


def test_all_gpus_are_used_but_one_in_a_notebook(
    asked: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert asked(4)["devices"] == 4
    assert asked(0)["devices"] == 1
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    options = asked(4, strategy="fsdp")
    assert (options["devices"], options["strategy"]) == (1, "auto")
    with pytest.raises(UsageError, match=r"a notebook trains in one process[^\n]*\n.*train\.devices"):
        asked(4, devices=2)


def test_more_processes_than_gpus_are_refused(asked: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(UsageError, match=r"(?s)fewer GPUs than.*found: +2.*--devices"):
        asked(2, devices=3)


def test_processes_that_fabric_started_end_with_the_first_one(
    asked: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(module, "end_with_parent", lambda: calls.append("end"))
    for name, value in {"NODE_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    for local_rank, gpus in (("0", 2), ("1", 2), ("1", 0)):  # on CPUs gloo notices the lost connection
        monkeypatch.setenv("LOCAL_RANK", local_rank)
        asked(gpus, devices=2)
    assert calls == ["end"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")
def test_a_process_ends_with_its_parent() -> None:
    child = "import time; from ssl_jets.runtime.launcher import end_with_parent; end_with_parent()\n"
    child += "print('on', flush=True); time.sleep(60)"
    parent = "import os, subprocess, sys; process = subprocess.Popen([sys.executable, '-c', sys.argv[1]], "
    parent += "stdout=subprocess.PIPE); print(process.stdout.read(2) == b'on', process.pid, flush=True); os._exit(1)"
    with subprocess.Popen([sys.executable, "-c", parent, child], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        began, pid = process.stdout.readline().split()
    assert began == "True"
    ended = False
    for _ in range(100):
        status = Path(f"/proc/{pid}/stat")  # a process that nobody waited for is a zombie, Z
        ended = not status.is_file() or ") Z " in status.read_text()
        if ended:
            break
        time.sleep(0.1)
    assert ended


def test_a_driver_that_is_too_old_is_named_and_the_way_to_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert count_gpus() == torch.cuda.device_count()

    def fail() -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 12020).\nUpdate it.")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "init", fail)
    with pytest.raises(SslJetsError, match=r"(?s)too old \(found version 12020\)\..*CUDA_VISIBLE_DEVICES="):
        count_gpus()
