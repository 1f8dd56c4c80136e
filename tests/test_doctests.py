"""The examples in docstrings run and print their output."""

from __future__ import annotations

import doctest
import pkgutil
from importlib import import_module

import pytest

import ssl_jets

LEAST_EXAMPLES = 30
"""Examples of the package; fewer are a module that is not found any more."""
WITH_EXAMPLES = (
    "ssl_jets.jets",
    "ssl_jets.model",
    "ssl_jets.model_file",
    "ssl_jets.errors",
)


@pytest.fixture(scope="module")
def results() -> dict[str, doctest.TestResults]:
    """The outcome of each module's examples; its report is on stdout."""
    modules = sorted(module.name for module in pkgutil.walk_packages(ssl_jets.__path__, "ssl_jets."))
    return {name: doctest.testmod(import_module(name)) for name in modules if "__main__" not in name}


def test_every_example_prints_its_output(results: dict[str, doctest.TestResults]) -> None:
    assert {name: result.failed for name, result in results.items() if result.failed} == {}


def test_there_are_examples(results: dict[str, doctest.TestResults]) -> None:
    assert [name for name in WITH_EXAMPLES if not results[name].attempted] == []
    assert sum(result.attempted for result in results.values()) >= LEAST_EXAMPLES
