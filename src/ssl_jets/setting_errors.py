"""Error messages for wrong settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from ssl_jets.errors import UsageError, near

_KINDS = {"tuple_type": "a list: [A, B]", "dict_type": "names and values: {NAME: VALUE}"}
_KINDS["model_type"] = _KINDS["dict_type"]
"""Allowed values in the words of YAML, by the type of the error."""


def explain(settings: type[BaseModel], error: ValidationError, under: str = "", file: Path | None = None) -> UsageError:
    """Return all mistakes as one message: unknown settings with the nearest names, values that are not allowed.

    With `file` the settings are keys of that file alone, and no `--set` is suggested.
    """
    mistakes: dict[tuple[str, ...], UsageError] = {}
    for one in error.errors():
        # pydantic has an error for each type of a union: the first is reported.
        key = _path_of_field(settings, [str(part) for part in one["loc"]])
        mistakes.setdefault(key, _explain_one(settings, one, under, file))
    first, *more = mistakes.values()
    return first.with_more(more)


def _path_of_field(settings: type[BaseModel], path: list[str]) -> tuple[str, ...]:
    """Return the keys of `path` down to the field, without the keys inside its value."""
    for depth, name in enumerate(path):
        fields = _fields_at(settings, path[:depth])
        if name not in fields:
            return tuple(path[: depth + 1] if fields else path[:depth])
    return tuple(path)


def _explain_one(settings: type[BaseModel], first: Any, under: str, file: Path | None) -> UsageError:
    """Return one mistake as a message."""
    inside = [str(part) for part in first["loc"]]
    path = [*filter(None, under.split(".")), *inside]
    key = ".".join(path)
    where = key if file is None else f"{file}: {key}" if key else file
    thing = "setting" if file is None else "key"
    if first["type"] == "extra_forbidden":
        siblings = _fields_at(settings, inside[:-1])
        top, leaf = path[: len(path) - len(inside)], path[-1]
        trees = {".".join([*top, tree]): fields for tree, fields in trees_of(settings).items()}
        elsewhere = [f"{tree}.{leaf}" for tree, fields in trees.items() if leaf in fields]
        here = [".".join([*path[:-1], name]) for name in near(leaf, _texts(siblings))]
        if not (here or elsewhere or isinstance(first["input"], Mapping)):
            homes = {name: f"{tree}.{name}" for tree, fields in trees.items() for name in fields}
            texts = {name: text for fields in trees.values() for name, text in _texts(fields).items()}
            elsewhere = [homes[name] for name in near(leaf, texts, likeness=0.8)]
        likely = [*elsewhere, *here]
        allowed = dict.fromkeys([*likely, *(".".join([*path[:-1], name]) for name in siblings)])
        hint = f"--set {likely[0]}{'.NAME' if likely[0] in trees else ''}=..." if likely and file is None else None
        return UsageError(f"there is no such {thing}", where=where, allowed=allowed, hint=hint)
    if first["type"] == "missing":
        return _missing(settings, first["input"], inside, where, thing)
    plain = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ").partition(", unable")[0]
    plain = _KINDS.get(first["type"], plain)
    if isinstance(first["input"], Mapping):  # of several keys together
        return UsageError(f"{thing}s do not go together", where=where, found=plain)
    meaning = _meaning(settings, inside)
    message = f"a {thing} has a value that is not allowed" + (f" ({meaning})" if meaning else "")
    return UsageError(message, where=where, found=first["input"], allowed=[plain])


def _missing(settings: type[BaseModel], value: Any, inside: list[str], where: object, thing: str) -> UsageError:
    """Return the message about a key that is not given, or about a list with too few values."""
    is_list = not isinstance(value, Mapping)
    meaning = _meaning(settings, inside[:-1] if is_list else inside)
    message = (f"a {thing} has too few values" if is_list else f"a {thing} is missing") + (
        f" ({meaning})" if meaning else ""
    )
    return UsageError(message, where=where, found=value if is_list else None)


def _meaning(settings: type[BaseModel], path: list[str]) -> str:
    """Return the beginning of the text about a setting, up to the first colon, semicolon or stop; "" without a text."""
    field = _fields_at(settings, path[:-1]).get(path[-1]) if path else None
    return re.split(r"[:;.](?=\s|$)", getattr(field, "description", None) or "")[0].replace("\n", " ")


def _fields_at(settings: type[BaseModel], path: list[str]) -> dict[str, Any]:
    """Return the fields under the keys `path`; none if it leads through a value that is no settings class."""
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
    """Return the nested settings, such as `train`, with the fields of each."""
    fields = {name: getattr(field.annotation, "model_fields", None) for name, field in settings.model_fields.items()}
    return {name: nested for name, nested in fields.items() if nested}


def _texts(fields: Mapping[str, Any]) -> dict[str, str]:
    """Return the description of each field."""
    return {name: field.description or "" for name, field in fields.items()}
