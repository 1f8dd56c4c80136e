"""Scripts of `examples/slurm`, run as programs with a `ssl-jets` that prints its arguments."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "examples" / "slurm"


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """Folder of an array job with two files and a program `ssl-jets`."""
    program = tmp_path / "bin" / "ssl-jets"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    program.chmod(0o755)
    (tmp_path / "files.txt").write_text("/data/a b.root\n/data/c.root:tree\n")
    return tmp_path


def embed_array(folder: Path, number: int) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "SLURM_ARRAY_TASK_ID": str(number)}
    script = ["bash", str(SCRIPTS / "embed_array.sh"), "runs/mae"]
    return subprocess.run(script, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("number", "file", "name"), [(1, "/data/a b.root", "a b"), (2, "/data/c.root:tree", "c")])
def test_a_task_embeds_its_line_and_can_be_submitted_again(task: Path, number: int, file: str, name: str) -> None:
    words = ["embed", "--model", "runs/mae", "--data", file, "--out", f"z/{name}.root", "--resume"]
    assert embed_array(task, number).stdout.rstrip("|").split("|") == words
    assert (task / "z").is_dir()


def test_a_task_beyond_the_list_names_its_line(task: Path) -> None:
    result = embed_array(task, 3)
    assert result.returncode != 0
    assert "files.txt has no line 3" in result.stderr
    assert result.stdout == ""
