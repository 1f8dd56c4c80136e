"""Base class of the finetuning modes."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from lightning_fabric import Fabric

from ssl_jets.config import RunSettings
from ssl_jets.diagnostics.monitor import Diagnosis
from ssl_jets.finetuning.objective import Objective, Term
from ssl_jets.finetuning.settings import FinetuneSettings
from ssl_jets.jets import Jets
from ssl_jets.model_file import Model
from ssl_jets.nn.encoder import BaseEncoder, Pool
from ssl_jets.training.run_folder import TrainingRun
from ssl_jets.training.run_setup import TrainingInputs, train
from ssl_jets.training.state import FitResult, TrainingState

FEW_PARAMETERS_LR_SCALE = 10.0
"""Factor on `train.lr`, which suits a training of all weights: few weights trained for the same number of steps
need a larger one (measured: `benchmarks/results/2026-11-25-finetune-modes.md`)."""

OTHER_MODES = "--mode probe, head, full, scratch or distil"
"""Modes that train encoders of any architecture."""


class BatchList:
    """Stream of given batches, each once, for a dry run."""

    wait_seconds = 0.0

    def __init__(self, batches: Sequence[Jets]) -> None:
        self.jets_per_epoch = sum(map(len, batches))
        self.skipped: Counter[str] = Counter()
        self._batches = iter(batches)

    def __next__(self) -> Jets:
        return next(self._batches)

    def state_dict(self) -> dict[str, Any]:
        """Return no state: a dry run has no checkpoints."""
        return {}

    def resume(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Do nothing."""


class Mode:
    """Steps from a pretrained to a finetuned model, in their order; a mode overrides some of them.

    Attributes:
        pool: default of `method.pool`; None for the pool of the pretrained model.
        starts_anew: the finetuned model does not depend on the jets of the pretraining.
        trains_inputs: the embedding of features and context is trained.
        own_settings: settings of `method.*` that this mode reads, and not every other one.
    """

    pool: ClassVar[Pool | None] = None
    starts_anew: ClassVar[bool] = False
    trains_inputs: ClassVar[bool] = False
    own_settings: ClassVar[tuple[str, ...]] = ()

    def __init__(self, settings: RunSettings[FinetuneSettings]) -> None:
        self.settings = settings

    def encoder(self, pretrained: Model) -> BaseEncoder:
        """Return the encoder to start from."""
        return pretrained.encoder

    def terms(self, pretrained: Model, encoder: BaseEncoder) -> dict[str, Term]:
        """Return additional loss terms by name."""
        return {}

    def prepare(self, objective: Objective) -> None:
        """Freeze weights that are not trained, and set multipliers of the learning rate."""

    def train(self, objective: Objective, inputs: TrainingInputs[FinetuneSettings]) -> FitResult:
        """Train, by default with the loop of pretraining."""
        return train(objective, inputs, f"finetune {inputs.settings.method.mode}")

    def dry_run(self, objective: Objective, batches: Sequence[Jets], fabric: Fabric) -> float:
        """Take the steps of `train` on `batches`, in their order; return the seconds of the fastest after the first."""
        steps = len(batches) // self.settings.train.accumulate
        settings = self.settings.train.model_copy(update={"steps": steps})
        stream = BatchList(batches)
        run = TrainingRun(Path(os.devnull), writes=False)
        state = TrainingState(objective, stream, run, settings, fabric, None, ())
        # With `train.keep=best` a copy of the weights is in memory from the first validation on.
        state.best.update(objective, 0, Diagnosis({state.best.name: 0.0}, []))
        seconds = []
        for _ in range(steps):
            began = time.perf_counter()
            state.take_step()
            seconds.append(time.perf_counter() - began)
        return min(seconds[1:])

    def finish(self, objective: Objective) -> None:
        """Restore an encoder of plain, trainable weights."""
        objective.requires_grad_(True)


def scale_lr(objective: Objective) -> None:
    """Multiply the learning rate of all trained weights by `FEW_PARAMETERS_LR_SCALE`, but not of the uncertainties.

    The rate of the uncertainties s is made for `train.lr` (`RATE` of `nn/task_weights.py`).
    """
    objective.multipliers_at = lambda progress: {"": FEW_PARAMETERS_LR_SCALE, "weights.": 1.0}
