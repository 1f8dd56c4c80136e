"""A program of a test, started on several processes as users start theirs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ssl_jets.runtime.process_group import OWN_STORE


def torchrun(
    program: str | Path,
    *arguments: object,
    check: bool = True,
    seconds: float = 240,
    restarts: int = 0,
    options: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:
    """Run `program` on two processes that talk by gloo; what they print comes back.

    With `restarts`, both are started again so many times at most, if one fails; `options` are others of torchrun.

    Raises:
        CalledProcessError: a process failed, and `check` is true.
        TimeoutExpired: they took longer than `seconds`.
    """
    here = str(Path(__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([here, *sys.path]), "OMP_NUM_THREADS": "1"}
    environment |= {OWN_STORE: "1"} if restarts else {}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    launcher += ["--max-restarts", str(restarts), *options]
    command = [*launcher, str(program), *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=seconds)
    if check and done.returncode:
        print(done.stderr, file=sys.stderr)
        done.check_returncode()
    return done
