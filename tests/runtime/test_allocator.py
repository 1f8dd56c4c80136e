"""What a process keeps in memory."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ssl_jets.runtime import allocator
from ssl_jets.runtime.precision import native_precision

NAMES = [name for names in allocator.CACHES for name in names]


@pytest.mark.parametrize("mine", NAMES)
def test_caches_of_kernels_are_bounded_unless_the_user_bounds_them(monkeypatch: pytest.MonkeyPatch, mine: str) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that what is set below is undone
        monkeypatch.delenv(name)
    monkeypatch.setenv(mine, "7")
    allocator.keep_few_kernels()
    found = {name: os.environ.get(name) for name in NAMES}
    assert found[mine] == "7"
    assert sorted(filter(None, found.values())) == [allocator.KERNELS, "7"]


@pytest.mark.skipif(native_precision("cpu") == "32-true", reason="grows where the processor computes in bfloat16")
def test_products_of_ever_new_shapes_do_not_fill_the_memory() -> None:
    """Without the bound the process grows by 0.2 GB."""
    program = """
import torch
from ssl_jets.runtime.allocator import tune_memory
from ssl_jets.runtime.memory import in_use
tune_memory()
weights = torch.zeros(128, 128, dtype=torch.bfloat16)
def multiply(sizes):
    for size in sizes:
        torch.zeros(size, 128, dtype=torch.bfloat16) @ weights
multiply(range(1000, 1100))
before = in_use()
multiply(range(1100, 1500))
print(in_use() - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 3e7
