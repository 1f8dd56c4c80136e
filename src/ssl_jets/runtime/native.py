"""Output of C++ libraries, which write to the file descriptor of stdout: there are results on it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def native_stdout_to(descriptor: int) -> Iterator[None]:
    """Redirect the output of C++ from stdout to another open descriptor, such as 2 of stderr."""
    sys.stdout.flush()
    saved = os.dup(1)
    try:
        os.dup2(descriptor, 1)
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)
