"""Start of a pretraining from a trained model: its weights by name, and the history of its training."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ssl_jets.data.seen import after
from ssl_jets.errors import UsageError
from ssl_jets.jets import COLUMNS, Jets
from ssl_jets.methods._method import Method
from ssl_jets.model_file import Model, load_model
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.features import FEATURES, Features
from ssl_jets.training.ancestor import Ancestor
from ssl_jets.training.run_folder import TrainingRun

SETTING = "train.model"


@dataclass(frozen=True)
class Start(Ancestor):
    """Trained model that a pretraining goes on from."""

    FILE: ClassVar[str] = "start.json"
    LOST: ClassVar[str] = "the record of the model it went on from is gone"

    @classmethod
    def of(cls, path: str, model: Model) -> Start:
        """Describe a model."""
        return cls(path, model.sha256, model.method, model.facts["training"])

    @property
    def columns(self) -> tuple[str, ...]:
        """Particle columns that the encoder was trained with."""
        return tuple(self.training.get("columns", COLUMNS))

    @classmethod
    def read(cls, run: TrainingRun) -> Start:
        """Read the model of a resumed run."""
        return cls(**cls.read_record(run))

    def joined(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Return the training facts of a model that went on from this one: it has seen the jets of both trainings.

        `last_columns` belong to the last training, which alone has trained the parts that the method adds to the
        encoder.
        """
        names = dict.fromkeys((*self.columns, *facts["columns"]))
        columns = [*(name for name in COLUMNS if name in names), *(name for name in names if name not in COLUMNS)]
        joint = after(self.training, facts)
        return joint | {"columns": columns, "last_columns": facts["columns"], "pretrained": self.history}


def load_start(path: str, encoder: Encoder) -> tuple[Start, list[str], list[str]]:
    """Load the weights of a trained model into an encoder, by name.

    Statistics of features stay those that the weights were trained with; features that are new to the model keep the
    statistics of the encoder.

    Args:
        path: run folder or model folder.
        encoder: the encoder, with the statistics of the training jets; changed in place.

    Returns:
        The model, the names of weights of the encoder that it lacks, and of its weights that the encoder lacks.

    Raises:
        SslJetsError: there is no model, or it cannot be read.
        UsageError: a weight has another shape.
    """
    model = load_model(path)
    start = Start.of(path, model)
    mean, std = encoder.features.mean.clone(), encoder.features.std.clone()
    fresh, lost = _load(encoder, model.encoder.state_dict(), model.encoder.cfg.model_dump())
    new = _without_training(start.columns)
    encoder.features.mean[new], encoder.features.std[new] = mean[new], std[new]
    return start, fresh, lost


def fit_new_features(features: Features, batches: Iterable[Jets], trained: Collection[str]) -> None:
    """Fit mean and standard deviation of the features that need other columns than the `trained` ones."""
    fitted, new = Features(), _without_training(trained)
    fitted.fit_statistics(batches)
    features.mean[new], features.std[new] = fitted.mean[new], fitted.std[new]


def _without_training(columns: Collection[str]) -> Tensor:
    """Return a mask of the features that a training with these columns has never read, bool `[feature]`."""
    return torch.tensor([not set(feature.needs) <= set(columns) for feature in FEATURES])


def _load(encoder: Encoder, weights: Mapping[str, Tensor], before: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Load weights by name; return the names that only the encoder has, and those that only `weights` have."""
    own = encoder.state_dict()
    for name, value in own.items():
        if name in weights and weights[name].shape != value.shape:
            now = encoder.cfg.model_dump()
            changed = [key for key in now if before.get(key) != now[key]]
            raise UsageError(
                "the encoder does not have the shape of the model to go on from",
                where=", ".join(f"model.{key}={now[key]}" for key in changed) or name,
                found=f"{name} of shape {tuple(value.shape)}, in the model {tuple(weights[name].shape)}",
                allowed=[f"model.{key}={before[key]}" for key in changed if key in before],
                hint="without these settings the encoder has the shape of the model",
            )
    encoder.load_state_dict({name: weights.get(name, value) for name, value in own.items()})
    return [name for name in own if name not in weights], [name for name in weights if name not in own]


def fresh_parts(method: Method, encoder: Encoder, fresh: list[str]) -> list[str]:
    """Name the parts of a method that begin with random weights: modules of the method, weights of the encoder.

    A copy of the encoder, such as a teacher, has the weights of the model; a trained method that the method builds on
    has its own.
    """
    copies = {"encoder", "teacher", *method.requires}
    parts = [
        name
        for name, module in method.named_children()
        if name not in copies and module is not encoder and any(True for _ in module.parameters())
    ]
    return [*parts, *(f"encoder.{name}" for name in fresh)]
