"""Trees of settings: from files, assignments and dotted keys, laid over one another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from ssl_jets.errors import UsageError
from ssl_jets.runtime.reading import MOST_LEVELS, MOST_YAML_BYTES, load_yaml, read_text


def read_config(path: Path) -> dict[str, Any]:
    """Read the settings of a YAML file as a tree."""
    try:
        tree = load_yaml(read_text(path, MOST_YAML_BYTES))
    except OSError as error:
        raise UsageError("the YAML file cannot be read", where=path, found=error.strerror) from None
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError("the YAML file is not valid YAML", where=path, found=str(error).replace("\n", " ")) from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise UsageError("the YAML file is not a tree of settings", where=path, found=type(tree).__name__)
    return tree


def parse_set(assignments: Iterable[str]) -> dict[str, Any]:
    """Read assignments such as `train.lr=1e-4` as a tree of settings; the values are YAML.

    Example:
        >>> parse_set(["train.lr=1e-4", "data.sources=[a.root, b.root]"])
        {'train': {'lr': 0.0001}, 'data': {'sources': ['a.root', 'b.root']}}

    Raises:
        UsageError: no `KEY=VALUE`, a value that is not YAML, or a setting that is given twice.
    """
    pairs = []
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not _is_key(key):
            raise UsageError(
                "a setting is given as KEY=VALUE", where="--set", found=assignment, hint="--set train.lr=0.0005"
            )
        try:
            pairs.append((key, load_yaml(text)))
        except yaml.YAMLError as error:
            raise UsageError(
                "the value of a setting is not valid YAML",
                where="--set",
                found=assignment,
                allowed=[str(error).partition("\n")[0]],
            ) from None
    return _tree(pairs, where="--set")


def expand(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by dotted key as a tree; a tree stays as it is.

    Example:
        >>> expand({"train.lr": 5e-4, "train.clip": 2.0, "model": {"size": "tiny"}})
        {'train': {'lr': 0.0005, 'clip': 2.0}, 'model': {'size': 'tiny'}}

    Raises:
        UsageError: a key with an empty name, or a setting that is given twice.
    """
    for key in settings:
        if not _is_key(key):
            raise UsageError("a setting has a dotted key", where="settings", found=key, hint='{"train.lr": 0.0005}')
    return _tree(settings.items(), where="settings")


def _is_key(key: str) -> bool:
    names = key.split(".")
    return all(names) and len(names) <= MOST_LEVELS


def _tree(settings: Iterable[tuple[str, Any]], where: str) -> dict[str, Any]:
    """Return settings by dotted key as a tree; refuse a setting that is given twice."""
    tree: dict[str, Any] = {}
    for key, value in settings:
        branch = value
        for name in reversed(key.split(".")):
            branch = {name: branch}
        if twice := _shared_key(tree, branch):
            raise UsageError("this setting is given twice", where=where, found=twice, hint="give it once")
        tree = merge(tree, branch)
    return tree


def _shared_key(tree: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Return the first setting of both trees, such as `train.lr`; "" without one."""
    for key in set(tree) & set(other):
        both = isinstance(tree[key], Mapping) and isinstance(other[key], Mapping)
        if below := _shared_key(tree[key], other[key]) if both else key:
            return f"{key}.{below}" if both else key
    return ""


def merge(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one tree of settings over another, key by key.

    Example:
        >>> merge({"train": {"lr": 1e-3, "clip": 1.0}}, {"train": {"lr": 5e-4}})
        {'train': {'lr': 0.0005, 'clip': 1.0}}
    """
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged
