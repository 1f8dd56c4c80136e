"""Commands of the tool, run in the process of the test."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ssl_jets import cli
from support.commands import Done


@pytest.fixture
def ssl_jets(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Done]:
    """Run a command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> Done:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["ssl-jets", *map(str, words)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Done(code, *capfd.readouterr())

    return run
