"""The scripts beside the package keep up with it: each can be imported, and says how it is called."""

from __future__ import annotations

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
    assert "Failed" not in page
    assert " passed" in page
    assert all(f"\n| {name} | " in page for name in methods.names())
    for line in page.splitlines():
        if line.startswith("| ") and "float32 |" in line:
            assert float(line.split("|")[3]) < 1e-4, line
    assert "| tiny | training |" in page
    assert "| tiny | embedding |" in page
    assert "aten::" in page
