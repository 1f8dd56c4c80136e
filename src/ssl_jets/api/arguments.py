"""Arguments that several verbs share, and the settings that they name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ssl_jets.errors import UsageError, check_name, nearest
from ssl_jets.setting_tree import expand, merge

Names = str | Path | Sequence[str | Path]
"""One name of files, or several."""
SettingTree = Mapping[str, Any]
"""Settings by dotted key (`{"train.lr": 5e-4}`) or as a tree (`{"train": {"lr": 5e-4}}`)."""


def names_of(value: Names) -> tuple[str, ...]:
    """Return one or several names as a tuple of text.

    Raises:
        UsageError: an object in memory, such as `Jets` or a `Model`, in the place of a name.

    Example:
        >>> names_of("a.root"), names_of([Path("a.root"), "b.root"]), names_of([])
        (('a.root',), ('a.root', 'b.root'), ())
    """
    if isinstance(value, str | os.PathLike) or not isinstance(value, Iterable):
        value = (value,)
    return tuple(str(check_name(name)) for name in value)


def tree_of(
    settings: SettingTree | None, schema: str | Path | None = None, where: str | None = None, **evaluate: object
) -> dict[str, Any]:
    """Return settings as a tree, with schema, selection and arguments that are settings of `evaluate.*` laid over them.

    Example:
        >>> tree_of({"train.lr": 5e-4}, "mine.yaml", seed=2)
        {'train': {'lr': 0.0005}, 'data': {'format': 'mine.yaml'}, 'evaluate': {'seed': 2}}
    """
    data = given(format=None if schema is None else str(schema), where=where)
    named = {"data": data, "evaluate": given(**evaluate)}
    return merge(expand(settings or {}), {name: tree for name, tree in named.items() if tree})


def given(**arguments: object) -> dict[str, Any]:
    """Return the arguments that are neither None nor empty.

    Example:
        >>> given(steps=100, epochs=None, sources=())
        {'steps': 100}
    """
    return {name: value for name, value in arguments.items() if value is not None and value != ()}


def check_choice(option: str, value: str, choices: Sequence[str]) -> None:
    """Check that an argument is one of its choices.

    Raises:
        UsageError: it is not.
    """
    if value not in choices:
        raise UsageError("there is no such choice", where=option, found=value, allowed=nearest(value, choices))


def path_of(path: str | Path | None) -> Path | None:
    """Return a path argument as a `Path`."""
    return None if path is None else Path(path)


def model_of(model: str | Path) -> Path:
    """Return the local path of a model, which is copied to the cache from a server or the hub."""
    from ssl_jets.sharing.location import locate

    return locate(model)
