"""Trainings on two processes of torchrun: killed, resumed by another number, and with a bad file on one of them."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from ssl_jets import cli
from ssl_jets.config import DataSettings, parse_set
from ssl_jets.data.dataset import open_dataset
from ssl_jets.data.files import open_files
from ssl_jets.data.loading.stream import TrainStream
from ssl_jets.data.sources import Source
from ssl_jets.jets import Jets
from ssl_jets.pretraining import pretrain, resolve_pretrain
from ssl_jets.runtime.signals import Interrupted
from support import on_ranks
from support.faulty_files import spoil_basket
from support.on_ranks import Key, keys_of, taken
from support.torchrun import torchrun

Write = Callable[..., Path]

PROGRAM = on_ranks.__file__
BATCH = 8
SETTINGS = [
    "model.size=tiny", "model.blocks=1", "train.precision=32-true", "train.epochs=1", f"train.batch_size={BATCH}",
    "train.log_every=1", "train.validate_every=1000", "train.validation_jets=20", "data.buffer=40",
    "train.checkpoint_minutes=0",
]  # fmt: skip
"""A checkpoint after every step; some windows of 40 jets for each process."""


@pytest.fixture
def folder(tmp_path: Path, write_jetclass: Write) -> Path:
    """Four files of 50 jets."""
    for number in range(4):
        write_jetclass(f"jets/{'QCD' if number < 2 else 'Tbl'}_{number}.root", seed=number)
    return tmp_path / "jets"


def words(data: Path | str, out: Path, *more: str) -> list[str]:
    """The command line of a training; a setting in `more` takes the place of the one in `SETTINGS`."""
    settings = {word.partition("=")[0]: word for word in [*SETTINGS, *more]}
    options = [word for setting in settings.values() for word in ("--set", setting)]
    return ["pretrain", "--method", "mae", "--data", str(data), "--out", str(out), *options]


def here(data: Path, out: Path, monkeypatch: pytest.MonkeyPatch, most: int | None = None) -> Counter[Key]:
    """Train in this process, or go on with what is in `out`; the jets taken until the end, or in `most` steps."""
    seen: Counter[Key] = Counter()
    take, batches = TrainStream.__next__, iter(range(most or 10**6))

    def write_down(stream: TrainStream) -> Jets:
        if next(batches, None) is None:
            raise Interrupted(15)
        jets = take(stream)
        seen.update(keys_of(jets))
        return jets

    settings = resolve_pretrain("mae", {"data": {"sources": [str(data)]}}, parse_set(SETTINGS))
    with monkeypatch.context() as patch:
        patch.setattr(TrainStream, "__next__", write_down)
        try:
            pretrain(settings, out, resume=True)
        except Interrupted:
            assert most is not None
    return seen


def steps_done(out: Path) -> int:
    """Steps of the checkpoint that a killed run left."""
    return int(torch.load(out / "checkpoints" / "last.ckpt", weights_only=False)["step"])


def metrics(out: Path, kind: str = "train") -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def assert_one_epoch(seen: Counter[Key], data: Path, slack: int) -> None:
    """Every jet once; at most `slack` are missing, or have come again in the epoch after it, as batches are full."""
    parts = open_dataset(DataSettings(sources=(str(data),))).train
    epoch = {(part.file, entry) for part in parts for entry in range(part.start, part.stop)}
    assert set(seen) <= epoch
    assert len(epoch - set(seen)) <= slack
    assert sum(times - 1 for times in seen.values()) <= slack
    assert max(seen.values()) <= 2


@pytest.mark.slow
def test_a_rank_that_is_killed_ends_the_launch_and_one_process_goes_on_with_the_jets_that_are_left(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, keys = tmp_path / "run", tmp_path / "keys"
    done = torchrun(PROGRAM, keys, "1:6", *words(folder, out), check=False)  # gloo alone would wait for half an hour
    assert done.returncode == 1
    assert "Signal 9 (SIGKILL)" in done.stderr
    steps = steps_done(out)
    assert 4 <= steps <= 5
    seen = taken(keys, 0, steps) + taken(keys, 1, steps)
    assert max(seen.values()) == 1
    seen += here(folder, out, monkeypatch)
    assert "now 1 processes instead of 2" in capsys.readouterr().err
    assert_one_epoch(seen, folder, BATCH - 1)
    lines = metrics(out)
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    assert all(math.isfinite(line["loss"]) for line in lines)
    assert lines[-1]["epoch"] == pytest.approx(1, abs=BATCH / 180)
    assert lines[-1]["lr"] < lines[steps - 1]["lr"]


@pytest.mark.slow
def test_a_rank_that_is_killed_is_started_again_and_the_run_goes_on_without_a_hand(
    folder: Path, tmp_path: Path
) -> None:
    out, keys, steps = tmp_path / "run", tmp_path / "keys", 11  # 172 jets in batches of 16
    # In its second life the rank takes fewer than 8 batches, so that it is not killed again.
    done = torchrun(PROGRAM, keys, "1:8", *words(folder, out), "--resume", restarts=1)
    (resumed,) = map(int, re.findall(rf"resumed at step (\d+) of {steps}", done.stderr))
    assert resumed in (6, 7)
    seen: Counter[Key] = Counter()
    for rank in range(2):
        lines = (keys / f"{rank}.jsonl").read_text().splitlines()
        batches = [*lines[:resumed], *lines[resumed - steps :]]
        seen.update((file, entry) for line in batches for file, entry in json.loads(line))
    assert_one_epoch(seen, folder, 2 * BATCH)
    assert [line["step"] for line in metrics(out)] == list(range(1, steps + 1))
    assert (out / "model" / "config.json").is_file()


@pytest.mark.slow
def test_the_signal_of_a_batch_system_reaches_the_training_through_torchrun(folder: Path, tmp_path: Path) -> None:
    out, keys, rare = tmp_path / "run", tmp_path / "keys", "train.checkpoint_minutes=1000"
    options = ["--signals-to-handle", "SIGTERM,SIGINT,SIGUSR1"]
    done = torchrun(PROGRAM, keys, "1:4:USR1", *words(folder, out, rare), check=False, options=options)
    assert done.returncode == 1
    (stopped,) = map(int, re.findall(r"stopped at step (\d+) of 11; --resume", done.stderr))
    assert steps_done(out) == stopped < 11
    resumed = torchrun(PROGRAM, keys, "-", *words(folder, out, rare), "--resume")
    assert f"resumed at step {stopped} of 11" in resumed.stderr
    assert_one_epoch(taken(keys, 0) + taken(keys, 1), folder, 2 * BATCH)


@pytest.mark.slow
def test_two_processes_go_on_with_the_jets_that_one_left(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, keys = tmp_path / "run", tmp_path / "keys"
    seen = here(folder, out, monkeypatch, most=9)
    assert steps_done(out) == 9
    done = torchrun(PROGRAM, keys, "-", *words(folder, out), "--resume")
    assert "now 2 processes instead of 1" in done.stderr
    assert_one_epoch(seen + taken(keys, 0) + taken(keys, 1), folder, 2 * BATCH)
    assert all(math.isfinite(line["loss"]) for line in metrics(out))


BASKET = 20
"""Entries of a basket."""


@dataclass
class BadCopy:
    """Files of which the second rank has a damaged copy that looks like the sound one when it is opened.

    Attributes:
        data: pattern of the files of a rank.
        held_out: a setting.
        entries: damaged entries of file 1.
    """

    data: str
    held_out: str
    entries: range


@pytest.fixture
def bad_copy(tmp_path: Path, write_jetclass: Write) -> BadCopy:
    """The same files for both ranks; in the second one's copy of one file a basket is corrupt."""
    for rank in range(2):
        for number in range(3):
            write_jetclass(f"node{rank}/QCD_{number}.root", seed=number, cluster=BASKET)
    path = tmp_path / "node1" / "QCD_1.root"
    sound, digest = path.read_bytes(), digest_of_file(path)
    for number in range(3):  # a digest reads some baskets only
        spoil_basket(path, "part_isPhoton", number)  # compressed: it cannot be unpacked
        if digest_of_file(path) == digest:
            break
        path.write_bytes(sound)
    assert path.read_bytes() != sound
    entries = range(number * BASKET, min(50, (number + 1) * BASKET))
    held_out = f"data.validation=[{tmp_path}/node0/QCD_2.root]"
    return BadCopy(f"{tmp_path}/node{{rank}}/QCD_[01].root", held_out, entries)


def digest_of_file(path: Path) -> str:
    return open_files([Source(str(path))])[0].identity.digest


@pytest.mark.slow
def test_a_file_that_only_one_rank_cannot_read_stops_both_with_its_message(bad_copy: BadCopy, tmp_path: Path) -> None:
    command = words(bad_copy.data, tmp_path / "run", bad_copy.held_out, "train.epochs=3")
    done = torchrun(PROGRAM, tmp_path / "keys", "-", *command, check=False)
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len([line for line in errors if "another process of this launch failed" not in line]) == 1, done.stderr
    assert "node1/QCD_1.root" in done.stderr
    assert "[rank" not in done.stderr, done.stderr  # torch begins each line of a traceback with it


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:13718."),
        torch.distributed.DistBackendError("NCCL communicator was aborted on rank 0."),
    ],
)
def test_a_broken_connection_is_one_message_and_other_errors_of_torch_are_not(
    error: RuntimeError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raised = [error, RuntimeError("mat1 and mat2 shapes cannot be multiplied")]

    def broken(*_: object, **__: object) -> None:
        raise raised.pop(0)

    monkeypatch.setattr("ssl_jets.pretraining.pretrain", broken)
    monkeypatch.setattr("sys.argv", ["ssl-jets", *words(tmp_path, tmp_path / "run")])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 1
    assert capsys.readouterr().err.startswith("error: another process of this launch failed\n  where:   rank 0\n")
    with pytest.raises(RuntimeError, match="mat1"):
        cli.main()


@pytest.mark.slow
def test_jets_that_any_rank_leaves_out_are_counted_over_all(bad_copy: BadCopy, tmp_path: Path) -> None:
    out, more = tmp_path / "run", (bad_copy.held_out, "data.bad_files=skip", "train.epochs=3")
    torchrun(PROGRAM, tmp_path / "keys", "-", *words(bad_copy.data, out, *more))
    record = metrics(out, "left_out")[-1]
    assert record["all"] == sum(record["jets"].values()) > 0
    assert all("node1/QCD_1.root" in reason for reason in record["jets"])
    assert "skipped" not in metrics(out)[-1]  # the first process met no bad file
    damaged = {(1, entry) for entry in bad_copy.entries}
    assert not damaged & set(taken(tmp_path / "keys", 1))
    assert damaged & set(taken(tmp_path / "keys", 0))


@pytest.mark.slow
def test_a_step_that_is_not_finite_on_one_rank_is_skipped_by_both(tmp_path: Path) -> None:
    program, out = Path(on_ranks.__file__).with_name("skipping.py"), tmp_path / "run"
    printed = sorted(torchrun(program, "skip", out).stdout.split("\n"))[-2:]
    (_, *first), (_, *second) = (line.split() for line in printed)
    assert first[0] == "1"
    assert first == second
    assert math.isfinite(float(first[1]))
    assert [(line["step"], line["files"]) for line in metrics(out, "nonfinite")] == [(2, ["rank1.root"])]
    assert [line["step"] for line in metrics(out)] == [1, 2, 3, 4]
