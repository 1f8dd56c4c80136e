"""A finished run with an evaluation."""

from pathlib import Path

import pytest
from report_folders import write_evaluation, write_run


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_run(tmp_path_factory.mktemp("report") / "my-run")
    write_evaluation(folder / "evaluation")
    return folder
