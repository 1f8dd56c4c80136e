"""Settings of a run: the four trees `data.*`, `model.*`, `method.*`, `train.*`, and recipes."""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from pydantic import Field

from ssl_jets.config.base import Settings
from ssl_jets.config.data import DataSettings
from ssl_jets.config.model import ModelSettings
from ssl_jets.runtime.precision import PrecisionSetting


class MethodSettings(Settings):
    """Base of the settings of a method (`method.*`)."""

    name: str = ""
    """The method; `--method` sets it."""
    observables_weight: float = Field(default=0.0, ge=0)
    """Weight of an auxiliary regression of jet observables (`nn/observables.py`) from a linear map of z; 0 for none."""


class TrainSettings(Settings):
    """The training loop (`train.*`)."""

    steps: int | None = Field(default=None, ge=1)
    """Optimizer steps; by default as many as `epochs` takes."""
    epochs: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Passes over the training jets; one by default."""
    model: str | None = None
    """Trained model that a pretraining continues from (`--model`); by default the weights are random."""
    batch_size: int = Field(default=256, ge=1)
    """Jets of one forward pass on one device."""
    accumulate: int = Field(default=1, ge=1)
    """Forward passes whose gradients are added up before one optimizer step."""
    lr: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    """Peak learning rate."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """`adamw`, or `muon` for the matrices of the blocks (all other weights keep AdamW)."""
    warmup: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps in which the learning rate rises linearly."""
    final_lr: float = Field(default=0.01, ge=0, le=1)
    """Learning rate at the end of the cosine, as a share of `lr`."""
    weight_decay: float = Field(default=0.05, ge=0)
    """Weight decay on matrices (never on biases, norms and tokens)."""
    clip: float = Field(default=1.0, gt=0)
    """Largest norm of the gradient."""
    on_nonfinite: Literal["stop", "skip"] = "stop"
    """Policy for a step with a loss or gradient that is not finite: stop with exit code 1, or leave the weights as they
    are, count the step and continue with the next batch."""
    max_nonfinite: int = Field(default=10, ge=1)
    """With `on_nonfinite=skip`, skipped steps in a row after which the training stops."""
    checkpointing: bool = False
    """Activation checkpointing: keep only the tokens between blocks and recompute the rest in the backward pass. Less
    memory for more time, the same gradients."""
    seed: int = Field(default=0, ge=0)
    """Seed of the weights, the shuffling and every random choice."""
    precision: PrecisionSetting = "auto"
    """`auto` is bf16-mixed on devices with bf16 arithmetic and 32-true elsewhere; `config.yaml` records it."""
    devices: int | None = Field(default=None, ge=1)
    """Devices of this machine to use; by default all GPUs, or one CPU process."""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """Several processes: `ddp` keeps all weights in each, `fsdp` shards weights, gradients and moments over them. The
    same training and the same checkpoints, to rounding."""
    log_every: int = Field(default=10, ge=1)
    """Steps between two lines of `metrics.jsonl`."""
    log: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ()
    """Loggers that also receive these lines, in the run folder; each is an extra of its name."""
    validate_every: int = Field(default=250, ge=1)
    """Steps between two validations (held-out loss, probe, collapse of z); the first checks of z are earlier."""
    validation_jets: int = Field(default=2000, ge=2)
    """Held-out jets of a validation; fewer than 50 for each file come from some of the files only."""
    on_collapse: Literal["warn", "stop"] = "warn"
    """Action when two validations in a row find a collapse of z: warn, or stop with exit code 1 and a checkpoint."""
    keep: Literal["last", "best"] = "last"
    """Weights of the model: after the last step, or at the best validation by `best_by`. The held-out jets that chose
    the weights then give too good a result in tests."""
    best_by: Literal["loss", "rankme", "lidar", "probe"] = "loss"
    """Smallest held-out loss, largest RankMe or LiDAR of z, or largest accuracy of a probe of z (needs labels)."""
    snapshot_minutes: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Minutes between two models that a pretraining writes to `snapshots/`; by default none are written."""
    hide_features: float = Field(default=0.0, ge=0, le=1)
    """Probability, for each batch and each group of inputs, to hide the group: the track columns, charge and kind, the
    features, the context, each collection. Prepares a model for files that lack them."""
    checkpoint_minutes: float = Field(default=10.0, ge=0)
    """Minutes between two checkpoints; a signal and the end always write one."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """Checkpoints on disk: the newest, and older ones that `--resume` takes if the newest is damaged."""


class FileSettings(Settings):
    """Settings of commands that only read files."""

    data: DataSettings = DataSettings()


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
