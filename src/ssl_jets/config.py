"""Settings: typed, frozen, resolved once; a misspelt one is an error with the nearest name.

A settings class derives from `Settings`. Each field has its default and its description in place, and a default is
written nowhere else. `resolve` merges layers: a recipe, the user's YAML file, `--set`, options, in rising order.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ssl_jets.errors import UsageError
from ssl_jets.runtime.precision import PrecisionSetting
from ssl_jets.runtime.reading import MOST_YAML_BYTES, load_yaml, read_text
from ssl_jets.setting_errors import explain, trees_of
from ssl_jets.setting_tree import expand, merge, parse_set

__all__ = [
    "DataSettings",
    "FileSettings",
    "FlattenSettings",
    "MethodSettings",
    "ModelSettings",
    "RunSettings",
    "Settings",
    "TrainSettings",
    "expand",
    "merge",
    "parse_set",
    "read_config",
    "resolve",
    "to_yaml",
]


class Settings(BaseModel):
    """Base of every settings class: frozen, unknown keys forbidden, field docs taken from the line under the field."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _merge_with_field_defaults(cls, values: Any) -> Any:
        """Fill nested settings with the defaults of their field, which may differ from the defaults of their class."""
        if not isinstance(values, Mapping):
            return values
        defaults = {name: field.default for name, field in cls.model_fields.items()}
        nested = {name: default for name, default in defaults.items() if isinstance(default, Settings)}
        return {
            name: merge(nested[name].model_dump(), value) if name in nested and isinstance(value, Mapping) else value
            for name, value in values.items()
        }


class FlattenSettings(Settings):
    """One spectrum for all classes (`data.flatten.*`)."""

    by: tuple[str, ...] = Field(min_length=1)
    """Jet columns, such as [jet_pt, jet_eta]."""
    bins: tuple[tuple[Annotated[float, Field(allow_inf_nan=False)], ...], ...]
    """Rising edges of the bins of each column, such as [[500, 600, 800, 1000], [-2, 0, 2]]."""
    to: str = "uniform"
    """Target: `uniform`, or the spectrum of a class or of a file."""
    how: Literal["weights", "resample"] = "weights"
    """Weights in the losses of labels, or jets that come several times or never, for every method."""
    classes: Literal["balanced", "as-is"] = "balanced"
    """Number of jets of each class: the same for all, or as in the files."""

    @model_validator(mode="after")
    def _edges_rise(self) -> FlattenSettings:
        rising = all(len(edges) > 1 and all(a < b for a, b in pairwise(edges)) for edges in self.bins)
        if len(self.bins) != len(self.by) or not rising:
            raise ValueError("each column needs a list of two or more rising edges")
        return self


class DataSettings(Settings):
    """How files become batches (`data.*`)."""

    sources: tuple[str, ...] = ()
    """Files, folders, globs, `@lists` or `file.root:tree` to train on; by default the bundled sample."""
    validation: tuple[str, ...] = ()
    """Files to validate on; by default a part of `sources` is held out."""
    validation_fraction: float = Field(default=0.1, gt=0, lt=1)
    """Share held out of training: whole files of a class with several, otherwise one block of entries per file."""
    folds: int | None = Field(default=None, ge=2)
    """Number of folds of a cross-validation: each file is cut into blocks, which are dealt to the folds in turn."""
    fold: int | None = Field(default=None, ge=0)
    """Fold that is held out, from 0; by default `finetune` trains a model for each fold."""
    split_seed: int = Field(default=0, ge=0)
    """Seed of that split, apart from `train.seed` so that runs with other seeds hold out the same jets."""
    buffer: int = Field(default=100_000, ge=1)
    """Jets shuffled together; about 2 kB of memory each, and two buffers are held (one in use, one being filled)."""
    workers: int = Field(default=1, ge=1)
    """Background threads that read files ahead of the training."""
    bad_jets: Literal["error", "skip"] = "error"
    """Policy for a jet without particles, or with NaN, infinite or unphysical values: stop, or skip and count it."""
    bad_files: Literal["error", "skip"] = "error"
    """Policy for a file that cannot be read, in whole or in part: stop, or skip and count its jets."""
    proportions: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = {}
    """Share of each data set in the training, by its name as in `sources`; {A: 0.7, B: 0.3}. By default all
    jets of all files are drawn equally often. Without `sources`, these are the files."""
    format: str | None = None
    """Schema of the files: a YAML file (`--schema`) or the name of a known format; by default detected."""
    labels: tuple[str, ...] | None = None
    """Label columns that make up the classes, in order; by default the columns that the format declares."""
    where: str | None = None
    """Selection of jets by a formula of jet columns, such as `jet_pt > 300 && abs(jet_eta) < 2`; by default all."""
    weights: str | None = None
    """Jet column with the weight of each jet in the losses of labels and in every number of `evaluate`; by default all
    jets count the same. Weights are finite and not negative."""
    flatten: FlattenSettings | None = None
    """One spectrum for all classes: {by: [jet_pt], bins: [[500, 600, 800, 1000]], how: resample}; see docs/data.md."""
    jets: str | None = None
    """Jet collection of files of events; by default the first of the format, such as the AK8 jets of CMS."""
    external: bool = False
    """Open other files that an HDF5 file takes datasets from (external links, virtual datasets, external storage)."""
    labelled: float | None = Field(default=None, gt=0)
    """Labelled jets to train on: a share (at most 1.0) or a number, stratified and nested; all by default. With
    `unlabelled_ratio` the others are used as unlabelled ones."""
    labelled_seed: int = Field(default=0, ge=0)
    """Seed of that subset."""
    unlabelled: tuple[str, ...] = ()
    """Files whose jets are used without labels; by default the jets of `sources`."""
    unlabelled_ratio: float = Field(default=0.0, ge=0)
    """Unlabelled jets for each labelled one in every batch."""


class ModelSettings(Settings):
    """The encoder (`model.*`)."""

    size: Literal["tiny", "small", "base", "large"] = "small"
    """Width x blocks: tiny 64x4, small 128x8, base 256x8, large 512x12."""
    registers: int = Field(default=8, ge=0)
    """Register tokens: sinks of attention, which are discarded."""
    z_tokens: int = Field(default=1, ge=1)
    """Class tokens; z is their concatenation."""
    z_width: int = Field(default=0, ge=0)
    """Numbers of z from each class token, by a linear map: a bottleneck. 0 keeps the width of the encoder."""
    pool: Literal["class", "mean", "attention"] = "class"
    """Source of z: the class token, the mean of the particle tokens, or a block of attention over them."""
    pair_bias: bool = False
    """Add a learned bias from ln dR, ln kT, ln z, ln m^2 of each pair of particles to the attention."""


class MethodSettings(Settings):
    """Base of the settings of a method (`method.*`)."""

    name: str = ""
    """The method; `--method` sets it."""


class TrainSettings(Settings):
    """The training loop (`train.*`)."""

    steps: int | None = Field(default=None, ge=1)
    """Optimizer steps; by default as many as `epochs` takes."""
    epochs: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Passes over the training jets; one by default."""
    model: str | None = None
    """Trained model that a pretraining goes on from (`--model`); by default the weights are random."""
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
    """Policy for a step with a loss or gradient that is not finite: stop with exit code 1, or leave the weights as they
    are, count the step and continue with the next batch."""
    max_nonfinite: int = Field(default=10, ge=1)
    """With `on_nonfinite=skip`, steps in a row that are skipped before the training stops."""
    checkpointing: bool = False
    """Activation checkpointing: keep only the tokens between blocks and recompute the rest in the backward pass. Less
    memory for more time, the same gradients."""
    seed: int = Field(default=0, ge=0)
    """Seed of the weights, the shuffling and every random choice."""
    precision: PrecisionSetting = "auto"
    """`auto` is bf16-mixed on devices with bf16 arithmetic and 32-true elsewhere; `config.yaml` records it."""
    devices: int | None = Field(default=None, ge=1)
    """Devices of this machine to use; by default all GPUs, or one CPU process."""
    log_every: int = Field(default=10, ge=1)
    """Steps between two lines of `metrics.jsonl`."""
    validate_every: int = Field(default=250, ge=1)
    """Steps between two validations (held-out loss, probe, collapse of z); the first checks of z are earlier."""
    validation_jets: int = Field(default=2000, ge=2)
    """Held-out jets of a validation."""
    on_collapse: Literal["warn", "stop"] = "warn"
    """Action when two validations in a row find a collapse of z: warn, or stop with exit code 1 and a checkpoint."""
    keep: Literal["last", "best"] = "last"
    """Weights of the model: those of the last step, or of the best validation by `best_by`."""
    best_by: Literal["loss", "rankme", "lidar", "probe"] = "loss"
    """Smallest held-out loss, largest RankMe or LiDAR of z, or largest accuracy of a probe of z (needs labels)."""
    snapshot_minutes: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Minutes between two models that a pretraining writes to `snapshots/`; by default none are written."""
    checkpoint_minutes: float = Field(default=10.0, ge=0)
    """Minutes between two checkpoints; a signal and the end always write one."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """Checkpoints on disk: the newest, and older ones that `--resume` takes if the newest is damaged."""


class FileSettings(Settings):
    """Settings of commands that only read files."""

    data: DataSettings = DataSettings()


SettingsT = TypeVar("SettingsT", bound=Settings)
MethodT = TypeVar("MethodT", bound=MethodSettings, covariant=True)


class RunSettings(Settings, Generic[MethodT]):
    """All settings of a training run: four trees."""

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


def read_config(path: Path) -> dict[str, Any]:
    """Read the settings of a YAML file as a tree."""
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
    """Return settings as YAML, which `read_config` reads."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)


def _without_length(base: dict[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` without `train.steps` and `train.epochs` if `top` has either: a length replaces a length."""
    lengths = {"steps", "epochs"}
    if not isinstance(top.get("train"), Mapping) or not lengths & set(top["train"]) or "train" not in base:
        return base
    return base | {"train": {key: value for key, value in base["train"].items() if key not in lengths}}
