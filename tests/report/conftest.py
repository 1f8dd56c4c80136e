"""A finished run with an evaluation, and its report."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from ssl_jets.report import album, write_run_report
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


@pytest.fixture(autouse=True)
def not_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere pictures are empty: to draw, to paint and to save them takes nearly all of the time of a report."""
    monkeypatch.setattr(album, "_saved", lambda figure, kind, metadata: b"")


@pytest.fixture
def drawn(not_saved: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """For figures that are in no other test: they are drawn once, and not saved."""

    def draw(figure: Figure, kind: str, metadata: dict[str, None]) -> bytes:
        if kind == "png":
            figure.draw_without_rendering()
        return b""

    monkeypatch.setattr(album, "_saved", draw)
