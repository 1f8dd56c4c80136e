"""Fixtures of all tests: the bundled sample, a batch of real jets, and a writer of small JetClass files."""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

import pytest
import torch
from matplotlib.figure import Figure

from ssl_jets.data.files import EntryRange, JetFile, open_files
from ssl_jets.data.loading.stream import ordered
from ssl_jets.data.request import Request
from ssl_jets.data.sources import sample_sources
from ssl_jets.jets import Jets, concatenate
from support.jetclass_files import jetclass_branches, write_tree
from support.small_models import few_particles

torch.set_num_threads(1)  # the batches are small: more threads cost more than they save
gc.disable()  # until all tests are imported, which leaves no garbage

TESTS = Path(__file__).parent
SHARED_FIXTURES = ("exporting", "finetuning", "report")
"""Folders whose test files share a fixture that takes long."""
LONGEST = (
    "ranks", "finetuning", "exporting", "report", "embedding/test_predict.py", "evaluation/test_evaluation.py",
    "cli/test_cli.py", "training/test_resume.py", "cli/test_convert.py", "test_devices.py",
    "evaluation/test_generated.py", "test_nothing_left.py", "simulation/test_simulated_files.py", "cli/test_startup.py",
)  # fmt: skip
"""Groups that take longest: they begin first, so that none of them is left over for one process."""


@functools.cache
def group_of_file(name: str) -> str:
    """`ranks` for files that fork ranks: `support.ranks` imports torch once for each process of pytest-xdist."""
    path = TESTS.parent / name if Path(name).parts[0] == "tests" else TESTS / name
    if path.is_file() and "from support.ranks import" in path.read_text(encoding="utf-8"):
        return "ranks"
    path = path.relative_to(TESTS)
    return path.parts[0] if path.parts[0] in SHARED_FIXTURES else path.as_posix()


def group_of(test: str) -> str:
    """The file of a test, such as `cli/test_cli.py`, or its folder where that has shared fixtures, or `ranks`."""
    return group_of_file(test.partition("::")[0])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each group to one process, in the order of the tests: the markers of pytest-xdist fail with pytest 9."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    config.option.loadscopereorder = False
    return Groups(config, log)


def pytest_collection_finish() -> None:
    """Collect garbage from now on, without the modules and the tests: each full pass over them takes half a second."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest groups first."""
    place = {group: number for number, group in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(group_of(item.nodeid), len(place)))


JET_COLUMNS = ("jet_pt", "jet_eta", "jet_sdmass", "jet_tau1", "jet_tau2")


class WriteJetClass(Protocol):
    """Type of the fixture `write_jetclass`."""

    def __call__(
        self,
        name: str = "QCD_000.root",
        entries: int = 50,
        *,
        label: str | None = "QCD",
        seed: int = 0,
        cluster: int = 20,
        tree: str = "tree",
        drop: Iterable[str] = (),
        edit: Callable[[dict[str, Any]], None] | None = None,
        counter: str | None = "npart",
    ) -> Path: ...


@pytest.fixture(scope="session")
def sample_files() -> list[JetFile]:
    """The ten files of the bundled sample."""
    return open_files(sample_sources())


@pytest.fixture(scope="session")
def sample_jets(sample_files: list[JetFile]) -> Jets:
    """500 real jets of the sample, 50 of each class and the classes in turn, with labels and jet columns."""
    parts = [EntryRange(index, 0, 50) for index in range(len(sample_files))]
    jets = concatenate(list(ordered(sample_files, parts, Request(jet_columns=JET_COLUMNS))))
    return jets.select(torch.arange(500).view(10, 50).T.reshape(-1))


@pytest.fixture
def batch(sample_jets: Jets) -> Jets:
    """64 real jets of all classes with few particles, with labels and jet columns."""
    return few_particles(sample_jets.select(torch.arange(64)))


def save_empty(figure: Figure, file: object, **settings: object) -> None:
    """Write an empty file, or nothing to a stream."""
    if isinstance(file, Path):
        file.touch()


@pytest.fixture(autouse=True)
def empty_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save figures of reports as empty files: drawing and saving takes nearly all of the time of a report.

    Fixtures of a module or of the session save pictures, as `run_report` does, whose pictures are tested.
    """
    monkeypatch.setattr(Figure, "savefig", save_empty)


@pytest.fixture
def drawn(empty_pictures: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw each figure once, and save it as an empty file: for figures that no other test draws."""

    def draw(figure: Figure, file: object, **settings: object) -> None:
        if settings["format"] == "png":
            figure.draw_without_rendering()
        save_empty(figure, file)

    monkeypatch.setattr(Figure, "savefig", draw)


@pytest.fixture
def write_jetclass(tmp_path: Path) -> WriteJetClass:
    """A writer of small JetClass files into `tmp_path`.

    `label` None leaves the label branches out, `drop` leaves out branches, `edit` changes the dict of branches in
    place, `counter` None gives each list branch a counter of its own (so that their lengths may differ).
    """

    def write(
        name: str = "QCD_000.root",
        entries: int = 50,
        *,
        label: str | None = "QCD",
        seed: int = 0,
        cluster: int = 20,
        tree: str = "tree",
        drop: Iterable[str] = (),
        edit: Callable[[dict[str, Any]], None] | None = None,
        counter: str | None = "npart",
    ) -> Path:
        branches = jetclass_branches(entries, label=label, seed=seed)
        for branch in drop:
            del branches[branch]
        if edit is not None:
            edit(branches)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_tree(path, {tree: branches}, cluster=cluster, counter=counter)

    return write
