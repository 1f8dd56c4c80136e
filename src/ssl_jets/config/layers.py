"""Layers of settings, resolved into one checked tree."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from ssl_jets.config.base import Settings
from ssl_jets.runtime.reading import Dumper
from ssl_jets.setting_errors import explain, trees_of
from ssl_jets.setting_tree import merge

SettingsT = TypeVar("SettingsT", bound=Settings)


def resolve(
    settings: type[SettingsT], *layers: Mapping[str, Any], under: str = "", file: Path | None = None
) -> SettingsT:
    """Merge `layers` (later ones win, key by key) and check them against `settings`.

    Args:
        settings: the settings class.
        layers: trees of settings.
        under: for messages, the key of the tree that contains `settings`.
        file: for messages, the file that the settings are from, if they cannot be set elsewhere.

    Raises:
        UsageError: an unknown key (with the nearest names) or a value that is not allowed.

    Example:
        >>> from ssl_jets.config import TrainSettings
        >>> resolve(TrainSettings, {"lr": 1e-3, "epochs": 5}, {"lr": 2e-3, "steps": 10}).lr
        0.002
    """
    merged: dict[str, Any] = {}
    trees = trees_of(settings)
    for given in layers:
        # `train:` in a YAML file, with nothing under it, is None.
        layer = {name: {} if value is None and name in trees else value for name, value in given.items()}
        merged = merge(_without_length(merged, layer), layer)
    try:
        return settings.model_validate(merged)
    except ValidationError as error:
        raise explain(settings, error, under, file) from None


def to_yaml(settings: Settings) -> str:
    """Return settings as YAML, which `read_config` reads."""
    return yaml.dump(settings.model_dump(mode="json"), Dumper=Dumper, sort_keys=False)


def _without_length(base: dict[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` without `train.steps` and `train.epochs` if `top` has either: a length replaces a length."""
    lengths = {"steps", "epochs"}
    if not isinstance(top.get("train"), Mapping) or not lengths & set(top["train"]) or "train" not in base:
        return base
    return base | {"train": {key: value for key, value in base["train"].items() if key not in lengths}}
