"""Printed text is shown by every terminal, and does nothing to it."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from ssl_jets import cli
from ssl_jets.runtime.terminal import escaped
from ssl_jets.training.run_folder import TrainingRun

Write = Callable[..., Path]
BAD = "\x1b[31mred\x07\u202e"
SHOWN = "\\x1b[31mred\\x07\\u202e"


class Done(NamedTuple):
    """Exit code of a command, and the bytes that it wrote to stdout and stderr."""

    code: int
    out: bytes
    err: bytes


def run(*words: object, encoding: str = "utf-8") -> Done:
    """Run a command in this process, with streams of an encoding."""
    streams = {name: io.TextIOWrapper(io.BytesIO(), encoding=encoding) for name in ("stdout", "stderr")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["ssl-jets", *map(str, words)])
        for name, stream in streams.items():
            patch.setattr(sys, name, stream)
        with pytest.raises(SystemExit) as stop:
            cli.main()
    out, err = (stream.buffer.getvalue() for stream in streams.values())  # type: ignore[attr-defined]
    return Done(int(stop.value.code or 0), out, err)


@pytest.fixture
def path(write_jetclass: Write) -> Path:
    """A file with escapes in its name, and in that of a column."""
    return write_jetclass(f"QCD{BAD}.root", edit=lambda branches: branches.update({BAD: np.ones(50, np.float32)}))


def test_control_characters_are_shown_and_do_nothing(path: Path) -> None:
    done = run("inspect", path, "--columns")
    assert done.code == 0
    assert f"QCD{SHOWN}.root" in done.out.decode()
    assert f"  {SHOWN} " in done.out.decode()
    failed = run("embed", "--model", "none", "--out", f"{path}.txt")
    assert failed.code == 2
    assert SHOWN in failed.err.decode()
    for printed in (done.out, done.err, failed.err):
        assert not set(printed) & set(b"\x1b\x07")


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_characters_that_the_encoding_lacks_are_replaced(write_jetclass: Write, encoding: str) -> None:
    column = {"é–η": np.full(50, np.nan, np.float32)}
    path = write_jetclass("QCD_é.root", edit=lambda branches: branches.update(column))
    done = run("inspect", path, encoding=encoding)
    assert done.code == 0, done.err
    text = done.out.decode(encoding)
    assert "QCD_é.root" in text if encoding == "latin-1" else r"QCD_\xe9.root" in text
    line = next(line for line in text.splitlines() if "-\\u03b7" in line)
    assert line.split()[1:] == ["-", "-", "-", "0%", "50"]  # dashes of ASCII
    assert "@" in text  # the highest bar
    failed = run("inspect", f"{path}η.root", encoding=encoding)
    assert (failed.code, b"Traceback" in failed.err) == (1, False)


def test_the_log_of_a_run_shows_escapes_and_takes_names_that_are_no_text(tmp_path: Path, capfd: Any) -> None:
    TrainingRun(tmp_path).log_message(f"file left out: {BAD} \udce9")
    expected = f"file left out: {SHOWN} \\udce9\n"
    assert (tmp_path / "log.txt").read_text(encoding="utf-8") == expected
    assert capfd.readouterr().err == expected


PRINT_A_PATH = f"""
from pathlib import Path
from ssl_jets.cli.console import print_result
print_result(Path('a' + {BAD!r}))
"""


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
