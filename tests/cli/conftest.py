"""Commands of the tool, run in the process of the test, and small files."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ssl_jets import cli
from ssl_jets.data.files import JetFile
from support.commands import Done
from support.jetclass_files import write_class_files


@pytest.fixture(scope="session")
def class_files(tmp_path_factory: pytest.TempPathFactory) -> list[JetFile]:
    """Three classes of 100 jets of few particles, which are read faster than the sample."""
    return write_class_files(tmp_path_factory.mktemp("class_files"), 100)


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
