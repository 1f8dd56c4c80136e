"""A reader that ends takes away messages, not the work."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys
from ssl_jets.runtime.terminal import ReaderEndedError, guarded_streams
with guarded_streams():
    for number in range(3):
        print("message", file=sys.stderr, flush=True)
    open(sys.argv[1], "w").write("done")
    try:
        print("result", flush=True)
        sys.stdout.flush()
    except ReaderEndedError:
        print("lost", file=sys.stderr, flush=True)
        sys.exit(141)
"""


def run(tmp: str, *closed: str) -> tuple[int, str, str]:
    """Run the program with pipes for stdout and stderr, of which the reading ends of those in `closed` are closed."""
    pipes = {name: os.pipe() for name in ("stdout", "stderr")}
    for name in closed:
        os.close(pipes[name][0])
    command = [sys.executable, "-c", PROGRAM, tmp]
    with subprocess.Popen(command, stdout=pipes["stdout"][1], stderr=pipes["stderr"][1]) as process:
        for _, write in pipes.values():
            os.close(write)
        code = process.wait(timeout=60)
    texts = []
    for name, (read, _) in pipes.items():
        texts.append("" if name in closed else os.fdopen(read).read())
    return code, texts[0], texts[1]


@pytest.mark.parametrize(
    ("closed", "expected"),
    [
        ((), (0, "result\n", "message\n" * 3)),
        (("stderr",), (0, "result\n", "")),
        (("stdout",), (141, "", "message\n" * 3 + "lost\n")),
        (("stdout", "stderr"), (141, "", "")),
    ],
)
def test_the_work_is_done_whoever_reads(
    closed: tuple[str, ...], expected: tuple[int, str, str], tmp_path: object
) -> None:
    assert run(f"{tmp_path}/file", *closed) == expected
    with open(f"{tmp_path}/file") as file:
        assert file.read() == "done"


def test_closed_streams_are_not_mistaken_for_the_output_file(tmp_path: object) -> None:
    command = f"exec {sys.executable} -c '{PROGRAM}' {tmp_path}/file <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], check=False, timeout=60).returncode == 0
    with open(f"{tmp_path}/file") as file:
        assert file.read() == "done"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_full_disk_under_stdout_is_named() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "ssl_jets", "methods"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (1, "error: No space left on device\n  where:   stdout\n")
