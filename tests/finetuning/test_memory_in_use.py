"""Amounts of memory: read, written, measured, and told when they end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ssl_jets.errors import SslJetsError, UsageError
from ssl_jets.runtime import control_groups
from ssl_jets.runtime.allocator import explain_shortage
from ssl_jets.runtime.memory import available, format_bytes, parse_memory, peak

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("text", "size"), [("16GB", 16e9), ("4 GiB", 4 * 2**30), ("1.5gb", 1.5e9), ("800MB", 8e8), ("2TiB", 2**41)]
)
def test_amounts_are_read_in_powers_of_ten_and_of_two(text: str, size: float) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["16", "GB", "-1GB", "16 apples", "0GB", ""])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not an amount of memory"):
        parse_memory(text)


def test_an_amount_is_shown_with_the_unit_of_its_size() -> None:
    assert (format_bytes(1.234e9), format_bytes(6.4e8)) == ("1.23 GB", "640 MB")


def test_the_peak_is_that_of_the_process_itself_and_stays_when_memory_is_freed() -> None:
    program = """
import numpy as np
import torch
from ssl_jets.runtime.memory import peak
cpu = torch.device("cpu")
before = peak(cpu)
block = torch.ones(50_000_000)
del block
after = peak(cpu)
print(before, after)
"""
    held = torch.ones(100_000_000)  # 400 MB that a child would inherit in ru_maxrss
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    del held
    before, after = map(int, done.stdout.split())
    assert 1.9e8 < after - before < 2.3e8
    assert before < peak(CPU)


def test_a_limit_of_the_group_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = available(CPU)
    assert free > 10**8
    monkeypatch.setattr(control_groups, "ROOT", tmp_path)
    monkeypatch.setattr(control_groups, "OF_PROCESS", tmp_path / "group")
    (tmp_path / "group").write_text("4:memory:/old\n0::/job/step\n")
    step = tmp_path / "job" / "step"
    step.mkdir(parents=True)
    for group, limit, cached in ((tmp_path, "max", 0), (tmp_path / "job", "9000000", 1_000_000), (step, "max", 0)):
        (group / "memory.max").write_text(f"{limit}\n")
        (group / "memory.current").write_text("5000000\n")
        (group / "memory.stat").write_text(f"anon 7\ninactive_file {cached}\n")
    assert available(CPU) == 5_000_000
    (tmp_path / "job" / "memory.max").write_text("max\n")
    assert available(CPU) > 10**8
    (step / "memory.max").write_text("8000000\n")
    assert available(CPU) == 3_000_000


def test_a_limit_of_a_group_of_version_1_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_groups, "ROOT", tmp_path)
    monkeypatch.setattr(control_groups, "OF_PROCESS", tmp_path / "group")
    (tmp_path / "group").write_text("9:memory:/slurm/job_7/step_0\n3:cpu,cpuacct:/elsewhere\n")
    job = tmp_path / "memory" / "slurm" / "job_7"
    (job / "step_0").mkdir(parents=True)
    for group, limit in ((job, 9_000_000), (job / "step_0", 2**63 - 4096)):  # the step has no limit of its own
        (group / "memory.limit_in_bytes").write_text(f"{limit}\n")
        (group / "memory.usage_in_bytes").write_text("5000000\n")
        (group / "memory.stat").write_text("inactive_file 7\ntotal_inactive_file 1000000\n")
    assert available(CPU) == 5_000_000


def test_a_shortage_becomes_one_message_and_other_errors_stay() -> None:
    shortages: list[Callable[[], object]] = [
        lambda: torch.empty(2**60),
        lambda: np.empty(2**55),
        lambda: _raise(MemoryError()),
        lambda: _raise(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")),
    ]
    for shortage in shortages:
        with pytest.raises(SslJetsError, match="not enough memory") as caught, explain_shortage("--batch-size 8"):
            shortage()
        assert caught.value.hint == "--batch-size 8"
        assert caught.value.found
    with pytest.raises(RuntimeError, match="shape"), explain_shortage(""):
        raise RuntimeError("a shape is wrong")


def _raise(error: Exception) -> None:
    raise error
