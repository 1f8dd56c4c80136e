"""Boosted trees of few iterations, for tests of the jets that probes are fitted and tested on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ssl_jets.evaluation import roles
from ssl_jets.evaluation.probes import classes, physics


@contextmanager
def few_trees() -> Iterator[None]:
    """Fit boosted trees of 10 iterations instead of 100."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (classes, physics, roles):
            patch.setattr(module, "ITERATIONS", 10)
        yield
