"""A finished run with an evaluation, and its report."""

from pathlib import Path

import pytest

from ssl_jets.report import write_run_report
from support.report_folders import write_evaluation, write_run


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_run(tmp_path_factory.mktemp("report") / "my-run")
    write_evaluation(folder / "evaluation", full=True)
    return folder


@pytest.fixture(scope="session")
def run_report(run: Path) -> Path:
    """The one report whose figures are saved as pictures."""
    return write_run_report(run)
