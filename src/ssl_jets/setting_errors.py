"""What is wrong with settings, said for people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from ssl_jets.errors import UsageError, near


def explain(settings: type[BaseModel], error: ValidationError, under: str = "", file: Path | None = None) -> UsageError:
    """The first mistake as one message: an unknown setting and what is likely meant, or a value that is not allowed.

    With `file` the settings are keys of that file alone, and `--set` cannot mend them.
    """
    first = error.errors()[0]
    inside = [str(part) for part in first["loc"]]
    path = [*filter(None, under.split(".")), *inside]
    key = ".".join(path)
    where = key if file is None else f"{file}: {key}" if key else file
    what = "setting" if file is None else "key"
    if first["type"] == "extra_forbidden":
        there = _fields_at(settings, inside[:-1])
        top, leaf = path[: len(path) - len(inside)], path[-1]
        trees = {".".join([*top, tree]): fields for tree, fields in trees_of(settings).items()}
        elsewhere = [f"{tree}.{leaf}" for tree, fields in trees.items() if leaf in fields]
        here = [".".join([*path[:-1], name]) for name in near(leaf, _texts(there))]
        if not (here or elsewhere or isinstance(first["input"], Mapping)):
            homes = {name: f"{tree}.{name}" for tree, fields in trees.items() for name in fields}
            texts = {name: text for fields in trees.values() for name, text in _texts(fields).items()}
            elsewhere = [homes[name] for name in near(leaf, texts, likeness=0.8)]
        likely = [*elsewhere, *here]
        allowed = dict.fromkeys([*likely, *(".".join([*path[:-1], name]) for name in there)])
        hint = f"--set {likely[0]}{'.NAME' if likely[0] in trees else ''}=..." if likely and file is None else None
        return UsageError(f"there is no such {what}", where=where, allowed=allowed, hint=hint)
    plain = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ").partition(", unable")[0]
    if isinstance(first["input"], Mapping):  # of several keys together
        return UsageError(f"{what}s do not go together", where=where, found=plain)
    return UsageError(f"a {what} has a value that is not allowed", where=where, found=first["input"], allowed=[plain])


def _fields_at(settings: type[BaseModel], path: list[str]) -> dict[str, Any]:
    """The settings under the keys `path`; none where it leads through something that has other keys."""
    kind: Any = settings
    for name in path:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            kind = kind.model_fields[name].annotation
        else:  # the values of a dict, by its keys
            kind = get_args(kind)[-1] if get_args(kind) else None
        within = [option for option in get_args(kind) if isinstance(option, type) and issubclass(option, BaseModel)]
        if len(within) == 1 and type(None) in get_args(kind):
            kind = within[0]
    return dict(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else {}


def trees_of(settings: type[BaseModel]) -> dict[str, dict[str, Any]]:
    """The settings that hold settings, such as `train`, with the fields of each."""
    fields = {name: getattr(field.annotation, "model_fields", None) for name, field in settings.model_fields.items()}
    return {name: found for name, found in fields.items() if found}


def _texts(fields: Mapping[str, Any]) -> dict[str, str]:
    """What is said of each field."""
    return {name: field.description or "" for name, field in fields.items()}
