"""Outputs as the user's system means them: permissions, links, and nothing left behind by a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ssl_jets.config import TrainSettings
from ssl_jets.data.write import write_jets
from ssl_jets.errors import SslJetsError, UsageError
from ssl_jets.jets import Jets
from ssl_jets.model_file import Model, load_model, save_model
from ssl_jets.protocols.anomaly_result import DistanceScores
from ssl_jets.protocols.cache import ResultCache
from ssl_jets.runtime.atomic import LOCK, WorkFolder, check_suffix, clear_left_behind, whole_file, write_text
from ssl_jets.training.run_folder import TrainingRun
from ssl_jets.zfile import ZWriter, read_z, z_columns
from support.small_models import tiny_encoder

COLUMNS = z_columns("jet", 2, labelled=False)
ROWS = {column.name: np.zeros((3, *column.shape), column.dtype) for column in COLUMNS}


@pytest.fixture(params=[0o022, 0o077, 0o007])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def write_z(path: Path, *, force: bool = False) -> None:
    with ZWriter(path, COLUMNS, {}, force=force) as writer:
        writer.write(ROWS)


def test_everything_written_has_the_permissions_of_the_umask(tmp_path: Path, batch: Jets, umask: int) -> None:
    for suffix in (".root", ".parquet", ".h5", ".npz"):
        write_z(tmp_path / f"z{suffix}")
    run = TrainingRun(tmp_path / "run")
    run.create(TrainSettings())
    run.log_message("hello")
    run.log_metrics({"step": 1})
    save_model(Model(tiny_encoder(batch)), run.model)
    cache = ResultCache(tmp_path / "pieces", {}, 1, lambda message: None)
    cache.get("one", {}, lambda: DistanceScores(scores=[]), DistanceScores)
    write_jets(tmp_path / "jets.root", [batch])
    written = [path for path in tmp_path.rglob("*") if path.name != LOCK]
    assert len(written) > 12
    for path in written:
        assert path.stat().st_mode & 0o777 == (0o777 if path.is_dir() else 0o666) & ~umask, path


@pytest.mark.parametrize("suffix", [".root", ".parquet", ".h5", ".npz"])
def test_a_link_to_a_file_is_written_through(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "disk").mkdir()
    link, target = tmp_path / f"z{suffix}", tmp_path / "disk" / f"real{suffix}"
    link.symlink_to(target)
    write_z(link)  # of which the file does not exist yet
    write_z(link, force=True)
    assert link.is_symlink()
    assert len(read_z(target)) == 3
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(["disk", link.name, target.name])


def test_links_to_folders_stay_and_their_targets_are_replaced(tmp_path: Path, batch: Jets) -> None:
    (tmp_path / "disk").mkdir()
    link, target = tmp_path / "run", tmp_path / "disk" / "run"
    link.symlink_to(target)
    run = TrainingRun(link)
    run.create(TrainSettings(lr=0.5))
    (target / "old.txt").write_text("old")
    del run
    TrainingRun(link).create(TrainSettings(lr=0.25), force=True)
    assert link.is_symlink()
    assert "lr: 0.25" in (target / "config.yaml").read_text()
    assert not (target / "old.txt").exists()
    (tmp_path / "disk" / "model").mkdir()
    (target / "model").symlink_to(tmp_path / "disk" / "model")
    save_model(Model(tiny_encoder(batch)), target / "model")
    assert (target / "model").is_symlink()
    load_model(tmp_path / "disk" / "model")
    assert sorted(path.name for path in (tmp_path / "disk").iterdir()) == ["model", "run"]


@pytest.mark.parametrize("name", [".lock", "log.txt", "metrics.jsonl"])
def test_a_lock_or_log_that_is_a_link_is_refused_and_its_target_untouched(tmp_path: Path, name: str) -> None:
    precious = tmp_path / "thesis.tex"
    precious.write_text("years of work")
    run = TrainingRun(tmp_path / "run")
    run.folder.mkdir()
    (run.folder / name).symlink_to(precious)
    act = {
        ".lock": run.lock,
        "log.txt": lambda: run.log_message("x"),
        "metrics.jsonl": lambda: run.log_metrics({"step": 1}),
    }[name]
    with pytest.raises(SslJetsError, match=rf"(?s)is a link.*{name}.*thesis\.tex.*rm "):
        act()
    assert precious.read_text() == "years of work"


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from ssl_jets.runtime.atomic import whole_file
from ssl_jets.zfile import ZWriter, z_columns

kind, path = sys.argv[1], Path(sys.argv[2])
if kind == "z":
    columns = z_columns("jet", 2, labelled=False)
    rows = {column.name: np.zeros((3, *column.shape), column.dtype) for column in columns}
    ZWriter(path, columns, {}, block_bytes=1).write(rows)
    os.kill(os.getpid(), signal.SIGKILL)
with whole_file(path, force=False) as fresh:
    fresh.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("kind", ["z", "file"])
def test_leftovers_of_a_killed_run_are_removed_by_the_next_of_the_same_output_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    path = tmp_path / "out.npz"
    done = subprocess.run([sys.executable, "-c", KILLED, kind, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    write_text(tmp_path / "other.npz", "")
    assert left.exists()  # another output
    write_z(path)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "other.npz", path]
    assert capsys.readouterr().err == f"removed what a run that was killed left behind: {left}\n"


def test_a_folder_in_use_and_folders_of_others_are_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "out.npz"
    in_use = WorkFolder(path)
    (tmp_path / ".out.npz.mynotes_").mkdir()  # no lock of ours in it
    (tmp_path / ".out.npz.12345678").symlink_to(tmp_path / ".out.npz.mynotes_")
    (tmp_path / ".out.npz.mynotes_" / "notes").write_text("mine")
    write_z(path)
    clear_left_behind(path)
    assert (in_use.path / LOCK).exists()
    assert (tmp_path / ".out.npz.mynotes_" / "notes").exists()
    in_use.remove()
    assert not in_use.path.exists()


def test_two_writers_of_one_output_do_not_remove_each_other(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    with whole_file(path, force=True) as first, whole_file(path, force=True) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"  # the outer ends last
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("path", "hint"), [("jets.txt", "--out jets.root"), (".", None), ("/", None)])
def test_an_output_of_another_suffix_is_refused_also_one_without_a_name(path: str, hint: str | None) -> None:
    assert check_suffix("jets.ROOT", ".root", "jets are ROOT") == Path("jets.ROOT")
    with pytest.raises(UsageError, match="jets are ROOT") as error:
        check_suffix(path, ".root", "jets are ROOT")
    assert error.value.hint == hint
