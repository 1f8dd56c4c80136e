"""Settings: typed, frozen, resolved once, and refused with the nearest name where one is misspelt.

A settings class derives from `Settings`; each field has its default and its meaning in place, and a default is written
nowhere else. Layers (a recipe, the user's YAML file, `--set` and flags, in rising order) are merged by `resolve`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ssl_jets.errors import UsageError
from ssl_jets.runtime.precision import PrecisionSetting
from ssl_jets.runtime.reading import MOST_LEVELS, MOST_YAML_BYTES, load_yaml, read_text
from ssl_jets.setting_errors import explain, trees_of


class Settings(BaseModel):
    """Base of every settings class: frozen, unknown keys forbidden, field docs taken from the line under the field."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _change_nested_settings_key_by_key(cls, given: Any) -> Any:
        """Settings within settings keep the defaults of the field they stand in, not those of their own class."""
        if not isinstance(given, Mapping):
            return given
        defaults = {name: field.default for name, field in cls.model_fields.items()}
        nested = {name: default for name, default in defaults.items() if isinstance(default, Settings)}
        return {
            name: merge(nested[name].model_dump(), value) if name in nested and isinstance(value, Mapping) else value
            for name, value in given.items()
        }


class DataSettings(Settings):
    """How files become batches (`data.*`)."""

    sources: tuple[str, ...] = ()
    """Files, folders, globs, `@lists` or `file.root:tree` to train on; the bundled sample where none is given."""
    validation: tuple[str, ...] = ()
    """Files to validate on; by default a part of `sources` is held out."""
    validation_fraction: float = Field(default=0.1, gt=0, lt=1)
    """Share held out of training: whole files where a class has several, otherwise one block of entries per file."""
    split_seed: int = Field(default=0, ge=0)
    """Seed of that split, apart from `train.seed` so that runs with other seeds hold out the same jets."""
    buffer: int = Field(default=100_000, ge=1)
    """Jets shuffled together; about 2 kB of memory each, and two buffers are held (one in use, one being filled)."""
    workers: int = Field(default=1, ge=1)
    """Background threads that read files ahead of the training."""
    bad_jets: Literal["error", "skip"] = "error"
    """What to do with a jet without particles, or with values that are NaN, infinite or beyond any that a particle has:
    stop, or leave it out and count it."""
    bad_files: Literal["error", "skip"] = "error"
    """What to do with a file that cannot be read, or part of one: stop, or leave it out and count its jets."""
    proportions: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = {}
    """Share of each data set in the training, by its name as in `sources`; {A: 0.7, B: 0.3}. Without it, all jets of
    all files come equally often. Where there are no `sources`, they are these."""
    format: str | None = None
    """How the files name their columns: a YAML file (`--schema`) or the name of a known format; by default found."""
    labels: tuple[str, ...] | None = None
    """Label columns that make up the classes, in order; by default those the format declares."""
    weights: str | None = None
    """Jet column with the weight of each jet in the losses of labels and in every number of `evaluate`; by default all
    jets count the same. Weights are finite and not negative."""
    jets: str | None = None
    """Where an entry of a file is an event: which of its collections of jets; by default the format's first, such as
    the AK8 jets of CMS."""
    external: bool = False
    """Open other files that an HDF5 file takes datasets from (external links, virtual datasets, external storage)."""
    labelled: float | None = Field(default=None, gt=0)
    """Labelled jets to train on: a share (at most 1.0) or a number, stratified and nested; all by default. The others
    are used only as unlabelled ones, where `unlabelled_ratio` asks for them."""
    labelled_seed: int = Field(default=0, ge=0)
    """Seed of that subset."""
    unlabelled: tuple[str, ...] = ()
    """Files whose jets are used without labels; by default those of `sources`."""
    unlabelled_ratio: float = Field(default=0.0, ge=0)
    """Unlabelled jets for each labelled one in every batch."""


class ModelSettings(Settings):
    """The encoder (`model.*`)."""

    size: Literal["tiny", "small", "base", "large"] = "small"
    """Width x blocks: tiny 64x4, small 128x8, base 256x8, large 512x12."""
    registers: int = Field(default=8, ge=0)
    """Register tokens: they take what attention must dump somewhere and are discarded."""
    z_tokens: int = Field(default=1, ge=1)
    """Class tokens; z is all of them, end to end."""
    z_width: int = Field(default=0, ge=0)
    """Numbers of z from each class token, by a linear map: a bottleneck. 0 keeps the width of the encoder."""
    pool: Literal["class", "mean", "attention"] = "class"
    """Where z is read: the class token, the mean of the particle tokens, or a block of attention over them."""
    pair_bias: bool = False
    """Add a learned bias from ln dR, ln kT, ln z, ln m^2 of each pair of particles to the attention."""


class MethodSettings(Settings):
    """Base of the settings of a method (`method.*`)."""

    name: str = ""
    """The method; `--method` sets it."""


class TrainSettings(Settings):
    """The training loop (`train.*`)."""

    steps: int | None = Field(default=None, ge=1)
    """Optimizer steps; where none are given, `epochs` is the length."""
    epochs: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Passes over the training jets; one where nothing else is given."""
    batch_size: int = Field(default=256, ge=1)
    """Jets of one forward pass on one device."""
    accumulate: int = Field(default=1, ge=1)
    """Forward passes whose gradients are added up before one optimizer step."""
    lr: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    """Peak learning rate of AdamW."""
    warmup: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps in which the learning rate rises linearly."""
    final_lr: float = Field(default=0.01, ge=0, le=1)
    """Learning rate at the end of the cosine, as a share of `lr`."""
    weight_decay: float = Field(default=0.05, ge=0)
    """AdamW weight decay on matrices (never on biases, norms and tokens)."""
    clip: float = Field(default=1.0, gt=0)
    """Largest norm of the gradient."""
    on_nonfinite: Literal["stop", "skip"] = "stop"
    """What to do at a step whose loss or gradient is not finite: stop with exit code 1, or leave the weights as they
    are, count the step and go on with the next batch."""
    max_nonfinite: int = Field(default=10, ge=1)
    """With `on_nonfinite=skip`, steps in a row that are skipped before the training stops."""
    checkpointing: bool = False
    """Keep only the tokens between blocks and compute what is inside a block again on the way back: less memory for
    more time, the same gradients."""
    seed: int = Field(default=0, ge=0)
    """Seed of the weights, the shuffling and every random choice."""
    precision: PrecisionSetting = "auto"
    """`auto` is bf16-mixed where the device computes in bf16 and 32-true elsewhere; `config.yaml` records which."""
    devices: int | None = Field(default=None, ge=1)
    """Devices of this machine to use; by default all GPUs, or one CPU process."""
    log_every: int = Field(default=10, ge=1)
    """Steps between two lines of `metrics.jsonl`."""
    validate_every: int = Field(default=250, ge=1)
    """Steps between two looks at held-out jets (loss, probe, collapse of z); the first checks of z come earlier."""
    validation_jets: int = Field(default=2000, ge=2)
    """Held-out jets of such a look."""
    on_collapse: Literal["warn", "stop", "rollback"] = "warn"
    """What to do where two looks in a row find z collapsed: say so, stop with exit code 1 and a checkpoint, or go back
    to the last healthy look with half the learning rate (three times, then stop)."""
    checkpoint_minutes: float = Field(default=10.0, ge=0)
    """Minutes between two checkpoints; a signal and the end always write one."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """Checkpoints on disk: the newest, and those before it, which `--resume` takes where the newest is damaged."""


class FileSettings(Settings):
    """What is set where files are only read."""

    data: DataSettings = DataSettings()


MethodT = TypeVar("MethodT", bound=MethodSettings, covariant=True)


class RunSettings(Settings, Generic[MethodT]):
    """Everything a training run is made from: four trees of settings."""

    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    method: MethodT
    train: TrainSettings = TrainSettings()


class Recipe(Settings):
    """Settings that a method, or finetuning, was tested with; those set explicitly replace the defaults of a run."""

    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    train: TrainSettings = TrainSettings(epochs=5, batch_size=128, lr=5e-4)

    def layer(self) -> dict[str, dict[str, Any]]:
        """Return the settings that the recipe sets, as a layer of `resolve`."""
        trees = {name: tree.model_dump(exclude_unset=True) for name, tree in self}
        return {name: tree for name, tree in trees.items() if tree}


SettingsT = TypeVar("SettingsT", bound=Settings)


def resolve(
    settings: type[SettingsT], *layers: Mapping[str, Any], under: str = "", file: Path | None = None
) -> SettingsT:
    """Merge `layers` (later ones win, key by key) and check them against `settings`.

    For messages, `under` is the key of a tree within which `settings` stand, and `file` the one that they are from, if
    they cannot be set elsewhere.

    Raises:
        UsageError: an unknown key (with the nearest names) or a value that is not allowed.
    """
    merged: dict[str, Any] = {}
    for given in layers:
        # A tree without settings in a YAML file: `train:` and nothing under it.
        layer = {name: {} if value is None and name in trees_of(settings) else value for name, value in given.items()}
        merged = merge(_without_length(merged, layer), layer)
    try:
        return settings.model_validate(merged)
    except ValidationError as error:
        raise explain(settings, error, under, file) from None


def parse_set(assignments: Iterable[str]) -> dict[str, Any]:
    """`["train.lr=1e-4"]` to `{"train": {"lr": 1e-4}}`; values are read as YAML; a setting given twice is refused."""
    tree: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        names = key.split(".")
        if not equals or not all(names) or len(names) > MOST_LEVELS:
            raise UsageError(
                "a setting is given as KEY=VALUE", where="--set", found=assignment, hint="--set train.lr=0.0005"
            )
        try:
            value: Any = _number(load_yaml(text))
        except yaml.YAMLError as error:
            raise UsageError(
                "the value of a setting is not valid YAML",
                where="--set",
                found=assignment,
                allowed=[str(error).partition("\n")[0]],
            ) from None
        for name in reversed(names):
            value = {name: value}
        if twice := _shared_key(tree, value):
            raise UsageError("this setting is given twice", where="--set", found=twice, hint="give it once")
        tree = merge(tree, value)
    return tree


def _shared_key(tree: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Return the first setting of both trees, such as `train.lr`; "" without one."""
    for key in set(tree) & set(other):
        both = isinstance(tree[key], Mapping) and isinstance(other[key], Mapping)
        if below := _shared_key(tree[key], other[key]) if both else key:
            return f"{key}.{below}" if both else key
    return ""


def read_config(path: Path) -> dict[str, Any]:
    """The settings of a YAML file, as a nested dict."""
    try:
        tree = load_yaml(read_text(path, MOST_YAML_BYTES))
    except OSError as error:
        raise UsageError("the settings file cannot be read", where=path, found=error.strerror) from None
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(
            "the settings file is not valid YAML", where=path, found=str(error).replace("\n", " ")
        ) from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise UsageError("the settings file is not a tree of settings", where=path, found=type(tree).__name__)
    return tree


def to_yaml(settings: Settings) -> str:
    """The resolved settings as YAML, readable by `read_config`."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)


def merge(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one tree of settings over another, key by key."""
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def _without_length(base: dict[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """`base` without its `train.steps` and `train.epochs` where `top` gives either: a length replaces a length."""
    lengths = {"steps", "epochs"}
    if not isinstance(top.get("train"), Mapping) or not lengths & set(top["train"]) or "train" not in base:
        return base
    return base | {"train": {key: value for key, value in base["train"].items() if key not in lengths}}


def _number(value: Any) -> Any:
    """YAML 1.1 reads 1e-4 (no point) as text; a user means a number."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value
