"""Arguments of `simulate`, its parts, and the message without the extra."""

from __future__ import annotations

import errno
import fcntl
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import ssl_jets
from ssl_jets.cli.simulate import PROCESSES as NAMES_OF_THE_COMMAND
from ssl_jets.errors import UsageError
from ssl_jets.runtime.signals import WATCHED
from ssl_jets.simulation import generator, request, workers
from ssl_jets.simulation.columns import LABELS
from ssl_jets.simulation.processes import CLASSES, MIXTURE, PROCESSES
from ssl_jets.simulation.request import parts_of, request_of
from ssl_jets.simulation.storage import PartFolder


def test_the_command_names_every_process() -> None:
    assert NAMES_OF_THE_COMMAND.split("|") == [*PROCESSES, MIXTURE]
    assert tuple(PROCESSES[name].label for name in CLASSES) == LABELS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"process": "hb"}, "no such choice"),
        ({"tune": "perugia"}, "no such choice"),
        ({"jets": 0}, "too small"),
        ({"seed": -1}, "too small"),
        ({"shower": "vincia", "tune": "a14"}, "Vincia"),
        ({"pairs": "showers", "tune": "a14"}, "Vincia"),
        ({"pairs": "showers", "shower": "simple"}, "both choices of --shower"),
        ({"pairs": "detectors", "detector": "shifted"}, "both choices of --detector"),
    ],
)
def test_wrong_arguments_are_one_message(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        request_of(**{"process": "hbb", "jets": 10} | arguments)


def test_a_mixture_has_its_shares_in_every_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request, "PART_JETS", 500)
    parts = parts_of(request_of(process="mixture", jets=7000))
    assert [part.number for part in parts] == list(range(len(parts)))
    assert sum(part.jets for part in parts) == 7000
    for group, jets in ((0, 5000), (1, 2000)):
        counts: Counter[str] = Counter()
        for part in parts:
            counts[part.process] += part.jets * (part.group == group)
        assert counts.pop("dijets") == 0.6 * jets
        assert set(counts.values()) == {0.04 * jets}


def test_without_the_extra_one_message_names_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(generator, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"ssl-jets\[sim\]"):
        ssl_jets.simulate("hbb", jets=10, out=tmp_path / "jets.root")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_command_prints_only_the_file_on_stdout(tmp_path: Path) -> None:
    pytest.importorskip("pythia8mc")
    out = tmp_path / "jets.root"
    words = [sys.executable, "-m", "ssl_jets", "simulate", "--process", "qcd", "--jets", "5", "--out", str(out)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{out}\n"
    assert "5 jets of" in done.stderr
    again = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert (again.returncode, again.stdout) == (2, "")


def test_a_disk_without_locks_is_not_taken_for_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    PartFolder(tmp_path / "jets.root", {}, force=False).release()


def test_workers_leave_it_to_the_first_process_to_stop() -> None:
    before = {number: signal.getsignal(number) for number in WATCHED}
    try:
        workers._begin_worker(None, None)
        assert {signal.getsignal(number) for number in WATCHED} == {signal.SIG_IGN}
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_workers_end_with_a_killed_parent() -> None:
    words = [sys.executable, "-c", _PARENT]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as parent:
        worker = int(parent.stdout.readline())
        assert _runs(worker)
        parent.kill()
    end = time.monotonic() + 20
    while _runs(worker) and time.monotonic() < end:
        time.sleep(0.1)
    assert not _runs(worker)


_PARENT = """
import multiprocessing, os, time
from concurrent.futures import ProcessPoolExecutor
from ssl_jets.simulation import workers

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, workers._begin_worker, (None, None)) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        time.sleep(60)
"""


def _runs(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
