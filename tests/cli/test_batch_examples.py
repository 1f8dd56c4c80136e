"""Scripts of `examples/slurm` and `examples/htcondor`, run as programs with a `ssl-jets` of a few lines."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "examples"


def install(folder: Path, lines: str) -> None:
    """Write a program `ssl-jets` to `folder/bin`."""
    program = folder / "bin" / "ssl-jets"
    program.parent.mkdir()
    program.write_text(f"#!/bin/bash\n{lines}\n")
    program.chmod(0o755)


def run(folder: Path, script: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(SCRIPTS / script), *words]
    environment["PATH"] = f"{folder / 'bin'}:{os.environ['PATH']}"
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """Folder of an array job with two files and a program `ssl-jets`."""
    install(tmp_path, 'printf "%s|" "$@"')
    (tmp_path / "files.txt").write_text("/data/a b.root\n/data/c.root:tree\n")
    return tmp_path


def embed_array(folder: Path, number: int, *options: str) -> subprocess.CompletedProcess[str]:
    return run(folder, "slurm/embed_array.sh", "runs/mae", *options, SLURM_ARRAY_TASK_ID=str(number))


@pytest.mark.parametrize(("number", "file", "name"), [(1, "/data/a b.root", "a b"), (2, "/data/c.root:tree", "c")])
def test_a_task_embeds_its_line_and_can_be_submitted_again(task: Path, number: int, file: str, name: str) -> None:
    words = ["embed", "--model", "runs/mae", "--data", file, "--out", f"z/{name}.root", "--resume"]
    assert embed_array(task, number).stdout.rstrip("|").split("|") == words
    options = ["--set", "data.bad_jets=skip"]
    assert embed_array(task, number, *options).stdout.rstrip("|").split("|") == words + options
    assert (task / "z").is_dir()


def test_a_task_beyond_the_list_names_its_line(task: Path) -> None:
    result = embed_array(task, 3)
    assert result.returncode != 0
    assert "files.txt has no line 3" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("program", "code"),
    [("exit 0", 0), ("exit 1", 1), ("trap 'exit 138' USR1; sleep 60", 85), ("kill -TERM $$", 143)],
)
def test_an_attempt_of_htcondor_is_repeated_after_a_checkpoint_only(tmp_path: Path, program: str, code: int) -> None:
    install(tmp_path, program)
    assert run(tmp_path, "htcondor/pretrain.sh", SECONDS_PER_ATTEMPT="0.2").returncode == code


def test_the_program_of_an_htcondor_job_is_found_from_the_folder_of_the_command() -> None:
    command = "condor_submit examples/htcondor/pretrain.sub"
    assert command in (SCRIPTS.parent / "docs" / "hpc.md").read_text()
    lines = (SCRIPTS / "htcondor" / "pretrain.sub").read_text().splitlines()
    program = next(line.split("=")[1].strip() for line in lines if line.startswith("executable"))
    assert (SCRIPTS.parent / program).is_file()
