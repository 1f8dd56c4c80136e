"""Pretraining methods. `names()` lists them and `find(name)` loads one; a new file in this folder is a new method."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING

from ssl_jets.errors import UsageError, nearest

if TYPE_CHECKING:
    from ssl_jets.methods._method import Method


def names() -> list[str]:
    """Return the names of all methods, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def find(name: str) -> type[Method]:
    """Return the method class of the file `name`.

    Raises:
        UsageError: there is no such method (with the nearest names).
    """
    check(name)
    from ssl_jets.methods._method import Method

    module = import_module(f"{__name__}.{name}")
    classes = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Method)]
    (method,) = [value for value in classes if value.__module__ == module.__name__]  # without imported ones
    return method


def check(name: str) -> None:
    """Check that there is a method of this name.

    Raises:
        UsageError: there is no such method (with the nearest names).
    """
    if name not in names():
        raise UsageError(
            "there is no such method",
            where="--method",
            found=name,
            allowed=nearest(name, names()),
            hint="ssl-jets methods",
        )
