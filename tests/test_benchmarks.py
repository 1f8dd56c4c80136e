"""The scripts beside the package keep up with it: each can be imported, and says how it is called."""

from __future__ import annotations

import argparse
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from ssl_jets import methods

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted([*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "docs" / "figures").glob("*.py")])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_finds_all_that_it_imports(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(script.parent))  # as for a script that is run
    assert runpy.run_path(str(script), run_name="imported")["__doc__"]


def assert_measured(page: str, names: list[str]) -> None:
    """Assert that the page has attention and these methods as on a CPU, rates, and operations."""
    assert "Failed" not in page
    assert all(f"\n| {name} | " in page for name in names)
    for line in page.splitlines():
        if line.startswith("| ") and "float32 |" in line:
            assert float(line.split("|")[3]) < 1e-4, line
    assert "| tiny | training |" in page
    assert "| tiny | embedding |" in page
    assert "aten::" in page


def test_the_parts_of_the_measurements_of_a_gpu_run_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, of two methods; the script itself, with its tests and every method, is the slow test."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    gpu = runpy.run_path(str(ROOT / "benchmarks" / "gpu.py"), run_name="imported")
    names = ["mae", "supervised"]
    monkeypatch.setattr(methods, "names", lambda: names)
    run = gpu["Run"](argparse.Namespace(device="cpu", dry_run=True, out=tmp_path / "gpu.md", minutes=8))
    run.batch, run.rounds = 4, 1
    for part in ("attention", "numerics", "throughput", "profile"):
        run.part(part, gpu[part])
    assert not run.failed
    assert_measured(run.out.read_text(), names)


@pytest.mark.slow
def test_the_measurements_of_a_gpu_run_on_a_cpu(tmp_path: Path) -> None:
    out = tmp_path / "gpu.md"
    words = ["--device", "cpu", "--dry-run", "--out", str(out)]
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), *words],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    page = out.read_text()
    assert " passed" in page
    assert_measured(page, methods.names())
