"""What is printed can be shown by every terminal, and does nothing to it."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssl_jets.runtime.terminal import escaped
from ssl_jets.training.run_folder import TrainingRun

Write = Callable[..., Path]
BAD = "\x1b[31mred\x07\u202e"
SHOWN = "\\x1b[31mred\\x07\\u202e"


def run(*words: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "ssl_jets", *map(str, words)]
    return subprocess.run(command, capture_output=True, env=os.environ | environment, timeout=60, check=False)


@pytest.fixture
def path(write_jetclass: Write) -> Path:
    """A file with escapes in its name, and in that of a column."""
    return write_jetclass(f"QCD{BAD}.root", edit=lambda branches: branches.update({BAD: np.ones(50, np.float32)}))


def test_control_characters_are_shown_and_do_nothing(path: Path) -> None:
    done = run("inspect", path, "--columns")
    assert done.returncode == 0
    assert f"QCD{SHOWN}.root" in done.stdout.decode()
    assert f"  {SHOWN} " in done.stdout.decode()
    failed = run("embed", "--model", "none", "--out", f"{path}.txt")
    assert failed.returncode == 2
    assert SHOWN in failed.stderr.decode()
    for printed in (done.stdout, done.stderr, failed.stderr):
        assert not set(printed) & set(b"\x1b\x07")


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_characters_that_the_encoding_lacks_are_replaced(write_jetclass: Write, encoding: str) -> None:
    column = {"é–η": np.full(50, np.nan, np.float32)}
    path = write_jetclass("QCD_é.root", edit=lambda branches: branches.update(column))
    done = run("inspect", path, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode(encoding)
    assert "QCD_é.root" in text if encoding == "latin-1" else r"QCD_\xe9.root" in text
    line = next(line for line in text.splitlines() if "-\\u03b7" in line)
    assert line.split()[1:] == ["-", "-", "-", "0%", "50"]  # dashes of ASCII
    assert "@" in text  # the highest bar
    failed = run("inspect", f"{path}η.root", PYTHONIOENCODING=encoding)
    assert (failed.returncode, b"Traceback" in failed.stderr) == (1, False)


def test_the_log_of_a_run_shows_escapes_and_takes_names_that_are_no_text(tmp_path: Path, capfd: Any) -> None:
    TrainingRun(tmp_path).log_message(f"file left out: {BAD} \udce9")
    expected = f"file left out: {SHOWN} \\udce9\n"
    assert (tmp_path / "log.txt").read_text(encoding="utf-8") == expected
    assert capfd.readouterr().err == expected


PRINT_A_PATH = f"from pathlib import Path; from ssl_jets.cli.console import put; put(Path('a' + {BAD!r}))"


def test_a_path_is_exact_for_a_script_and_escaped_on_a_terminal() -> None:
    command = [sys.executable, "-c", PRINT_A_PATH]
    piped = subprocess.run(command, capture_output=True, timeout=60, check=True)
    assert piped.stdout.decode() == f"a{BAD}\n"
    ours, theirs = pty.openpty()
    subprocess.run(command, stdout=theirs, timeout=60, check=True)
    os.close(theirs)
    assert os.read(ours, 1000).decode().strip() == f"a{SHOWN}"
    os.close(ours)


def test_lines_and_tabs_stay() -> None:
    assert escaped("a\n\tb é▁") == "a\n\tb é▁"
    assert escaped("a\rb\x9b\x7f") == "a\\rb\\x9b\\x7f"
