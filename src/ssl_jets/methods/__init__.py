"""Pretraining methods. `names()` lists them and `find(name)` loads one; a new file in this folder is a new method.

The environment variable `SSL_JETS_METHODS` names further folders of such files, separated as in `PATH`. A method of
this package hides a file of the same name.
"""

from __future__ import annotations

import os
import pkgutil
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from ssl_jets.errors import SslJetsError, UsageError, nearest

if TYPE_CHECKING:
    from ssl_jets.methods._method import Method


VARIABLE = "SSL_JETS_METHODS"
"""Environment variable of folders of further methods."""
__path__ += [os.path.abspath(folder) for folder in os.environ.get(VARIABLE, "").split(os.pathsep) if folder]


def names() -> list[str]:
    """Return the names of all methods, sorted."""
    return sorted({module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")})


def find(name: str) -> type[Method]:
    """Return the method class of the file `name`.

    Raises:
        UsageError: there is no such method (with the nearest names).
        SslJetsError: its file cannot be imported, has no class derived from `Method` or several, or no `Config`.
    """
    check(name)
    from ssl_jets.methods._method import Method

    try:
        module = import_module(f"{__name__}.{name}")
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
        raise SslJetsError("the file of the method cannot be imported", where=file_of(name), found=found) from error
    classes = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Method)]
    own = [value for value in classes if value.__module__ == module.__name__]  # without imported ones
    if len(own) != 1:
        found = ", ".join(value.__name__ for value in own) or "none"
        raise SslJetsError("a method is one class derived from Method", where=module.__file__, found=found)
    if not hasattr(own[0], "Config"):
        raise SslJetsError("a method has a class Config, derived from MethodSettings", where=module.__file__)
    return own[0]


def with_property(name: str) -> list[str]:
    """Return the methods with a class attribute that is true, such as `can_generate`; without files that fail."""
    found = []
    for method in names():
        with suppress(SslJetsError):
            if getattr(find(method), name):
                found.append(method)
    return found


def file_of(name: str) -> str | None:
    """Return the file of a method, without importing it."""
    spec = find_spec(f"{__name__}.{name}")
    return None if spec is None else spec.origin


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
            hint=f"ssl-jets methods lists them; {VARIABLE}=FOLDER adds methods of yours",
        )
