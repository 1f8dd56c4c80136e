"""Run folders: contents, refusals, and nothing half-written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ssl_jets.config import TrainSettings, read_config
from ssl_jets.data.identity import FileId
from ssl_jets.errors import SslJetsError, UsageError
from ssl_jets.runtime.atomic import free_folder, whole_file
from ssl_jets.training.run_folder import TrainingRun

SETTINGS = TrainSettings(lr=0.25)


def lines(run: TrainingRun) -> list[dict[str, object]]:
    return [json.loads(line) for line in run.metrics.read_text().splitlines()]


def test_a_new_run_has_its_settings_in_it(tmp_path: Path) -> None:
    run = TrainingRun(tmp_path / "a" / "b")
    run.create(SETTINGS)
    assert read_config(run.folder / "config.yaml")["lr"] == 0.25
    assert run.checkpoint.parent.is_dir()


def test_a_run_that_another_process_is_training_is_neither_taken_up_nor_replaced(tmp_path: Path) -> None:
    run = TrainingRun(tmp_path / "r")
    run.create(SETTINGS)
    run.lock()  # its own lock is no hindrance
    holding = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, 2); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", holding, str(run.folder / ".lock")]
    del run  # and with it the lock
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        for act in (TrainingRun.lock, lambda run: run.create(SETTINGS, force=True)):
            with pytest.raises(SslJetsError, match="another process is training"):
                act(TrainingRun(tmp_path / "r"))
        assert (tmp_path / "r" / "config.yaml").is_file()
        assert [path.name for path in tmp_path.iterdir()] == ["r"]  # no hidden folder is left
        other.kill()
    TrainingRun(tmp_path / "r").create(SETTINGS, force=True)


def test_a_run_goes_on_only_with_the_files_that_it_began_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = TrainingRun(tmp_path / "r")
    run.create(SETTINGS)
    files = [FileId("out.h5", 7, "a" * 32), FileId("out.h5", 7, "b" * 32)]
    run.record_or_check_files(files[:1])
    run.record_or_check_files(files)  # killed before its first checkpoint, it begins again
    run.checkpoint.touch()
    run.record_or_check_files(files[::-1])
    for changed in ([files[0], files[0]], files[:1], [files[0], files[1]._replace(name="other.h5")]):
        with pytest.raises(UsageError, match="not those that the run began with") as caught:
            run.record_or_check_files(changed)
        assert "other names or contents: o" in str(caught.value)
    assert capsys.readouterr().err == ""
    (run.checkpoint.parent / "files.json").unlink()
    run.record_or_check_files(files)
    assert "recorded no files" in capsys.readouterr().err


def test_an_existing_run_is_refused_and_force_replaces_it_whole(tmp_path: Path) -> None:
    run = TrainingRun(tmp_path / "r")
    run.create(SETTINGS)
    (run.folder / "old.txt").write_text("old")
    with pytest.raises(UsageError, match="the run exists") as caught:
        run.create(SETTINGS)
    assert "--force" in str(caught.value.hint)
    assert "--resume" in str(caught.value.hint)
    assert (run.folder / "old.txt").exists()
    run.create(SETTINGS, force=True)
    assert not (run.folder / "old.txt").exists()


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_or_file_that_is_no_run_is_never_replaced(tmp_path: Path, force: bool) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    (tmp_path / "file").write_text("data")
    for name in ("mine", "file"):
        with pytest.raises(UsageError, match="not a run folder"):
            TrainingRun(tmp_path / name).create(SETTINGS, force=force)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"
    assert (tmp_path / "file").read_text() == "data"


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    TrainingRun(tmp_path / "r").create(SETTINGS)
    assert (tmp_path / "r" / "config.yaml").is_file()


def test_a_folder_left_by_a_kill_before_its_settings_were_written_is_taken(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / ".config.yaml.123.tmp").write_text("data:")
    TrainingRun(tmp_path / "r").create(SETTINGS)
    assert (tmp_path / "r" / "config.yaml").is_file()


def test_the_working_folder_may_be_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    TrainingRun(Path()).create(SETTINGS)
    assert (tmp_path / "config.yaml").is_file()


def test_a_place_that_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SslJetsError, match="cannot be written"):
        TrainingRun(tmp_path / "file" / "r").create(SETTINGS)


def test_other_ranks_write_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = TrainingRun(tmp_path / "r", writes=False)
    run.create(SETTINGS)
    run.log_metrics({"step": 1})
    run.log_message("hello")
    run.drop_metrics_after(0)
    assert not run.folder.exists()
    assert capsys.readouterr() == ("", "")


def test_metrics_have_seven_digits_and_no_nan(tmp_path: Path) -> None:
    run = TrainingRun(tmp_path)
    run.log_metrics({"step": 1, "loss": 1 / 3, "bad": float("nan"), "worse": float("-inf"), "kind": "train"})
    assert lines(run) == [{"step": 1, "loss": 0.3333333, "bad": None, "worse": None, "kind": "train"}]


def test_forgetting_drops_later_steps_and_a_half_written_line(tmp_path: Path) -> None:
    run = TrainingRun(tmp_path)
    for step in (5, 10, 10, 15):
        run.log_metrics({"step": step, "loss": 0.1})
    with run.metrics.open("a") as file:
        file.write('{"step": 20, "lo')
    run.drop_metrics_after(10)
    assert [line["step"] for line in lines(run)] == [5, 10, 10]
    run.log_metrics({"step": 15})
    assert [line["step"] for line in lines(run)] == [5, 10, 10, 15]


def test_messages_go_to_stderr_and_to_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    TrainingRun(tmp_path).log_message("one")
    TrainingRun(tmp_path).log_message("two")
    out, err = capsys.readouterr()
    assert (out, err) == ("", "one\ntwo\n")
    assert (tmp_path / "log.txt").read_text() == "one\ntwo\n"


def test_a_log_that_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(SslJetsError, match="cannot be written"):
        TrainingRun(tmp_path / "gone").log_metrics({"step": 1})


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def write() -> None:
        with whole_file(path, force=True) as fresh:
            fresh.write_text("new but ha")
            raise OSError(28, "No space left on device")

    with pytest.raises(SslJetsError, match="No space left"):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_free_folder_is_the_first_name_that_does_not_exist(tmp_path: Path) -> None:
    assert free_folder(tmp_path, "mae") == tmp_path / "mae"
    (tmp_path / "mae").mkdir()
    (tmp_path / "mae-2").mkdir()
    assert free_folder(tmp_path, "mae") == tmp_path / "mae-3"
