"""Programs of ROOT, which run in this Python or in the one that ROOT_PYTHON names (`pip install root` in an environment
of its own)."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

PYTHON = os.environ.get("ROOT_PYTHON") or (sys.executable if importlib.util.find_spec("ROOT") else "")


def needs_root(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test with such programs."""
    reason = "ROOT is not importable; ROOT_PYTHON names a Python with it"
    marked: Callable[..., None] = pytest.mark.root(pytest.mark.skipif(not PYTHON, reason=reason)(test))
    return marked


def in_root(program: str, *arguments: Any) -> Any:
    """Run a program with ROOT; it prints its result as JSON."""
    text = "import json, sys, warnings\nwarnings.simplefilter('ignore')\nimport ROOT\n" + program
    done = subprocess.run(
        [PYTHON, "-c", text, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])
