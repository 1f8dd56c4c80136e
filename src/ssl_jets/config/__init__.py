"""Settings: typed, frozen, resolved once; a misspelt one is an error with the nearest name.

A settings class derives from `Settings`. Each field has its default and its description in place, and a default is
written nowhere else. `resolve` merges layers: a recipe, the user's YAML file, `--set`, options, in rising order.
"""

from ssl_jets.config.base import Settings
from ssl_jets.config.data import DataSettings, FlattenSettings
from ssl_jets.config.layers import resolve, to_yaml
from ssl_jets.config.model import (
    HEAD_WIDTH,
    INPUT_GROUPS,
    SHAPE,
    SIZES,
    CollectionSettings,
    FeatureSettings,
    ModelSettings,
    Transform,
)
from ssl_jets.config.trees import (
    FileSettings,
    MethodSettings,
    MethodT,
    Recipe,
    RunSettings,
    TrainSettings,
)
from ssl_jets.setting_tree import expand, merge, parse_set, read_config

__all__ = [
    "HEAD_WIDTH",
    "INPUT_GROUPS",
    "SHAPE",
    "SIZES",
    "CollectionSettings",
    "DataSettings",
    "FeatureSettings",
    "FileSettings",
    "FlattenSettings",
    "MethodSettings",
    "MethodT",
    "ModelSettings",
    "Recipe",
    "RunSettings",
    "Settings",
    "TrainSettings",
    "Transform",
    "expand",
    "merge",
    "parse_set",
    "read_config",
    "resolve",
    "to_yaml",
]
