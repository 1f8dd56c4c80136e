"""The contract of a mode."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from lightning_fabric import Fabric

from ssl_jets.config import RunSettings
from ssl_jets.data.dataset import Dataset
from ssl_jets.data.loading.stream import Request
from ssl_jets.finetuning.objective import Objective, Term
from ssl_jets.finetuning.settings import FinetuneSettings
from ssl_jets.jets import Jets
from ssl_jets.model_file import Model
from ssl_jets.nn.encoder import Encoder, Pool
from ssl_jets.training.loop import Fit, Loop, fit
from ssl_jets.training.run_folder import Run
from ssl_jets.training.run_setup import make_monitor
from ssl_jets.training.streams import make_stream

FEW_PARAMETERS_LR_SCALE = 10.0
"""Times `train.lr`, which is a rate for all weights of a transformer: where few of them learn, or heads alone, a larger
one is needed to get as far in as many steps (measured: `benchmarks/results/2026-11-25-finetune-modes.md`)."""


@dataclass(frozen=True)
class Work:
    """One finetuning run: what it reads, where it writes.

    Attributes:
        settings: everything that was set, with the number of steps.
        data: the files.
        request: columns to read.
        subset: the labelled jets to use, in memory; None for all.
        run: the run folder.
        fabric: devices.
        resume: go on from the run's checkpoint, where there is one.
    """

    settings: RunSettings[FinetuneSettings]
    data: Dataset
    request: Request
    subset: Jets | None
    run: Run
    fabric: Fabric
    resume: bool


class BatchList:
    """These batches, once: a stream for a dry run."""

    wait_seconds = 0.0

    def __init__(self, batches: Sequence[Jets]) -> None:
        self.jets_per_epoch = sum(map(len, batches))
        self.skipped: Counter[str] = Counter()
        self._batches = iter(batches)

    def __next__(self) -> Jets:
        return next(self._batches)

    def state_dict(self) -> dict[str, Any]:
        """Nothing is saved in a dry run."""
        return {}

    def resume(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Nothing is loaded either."""


class Mode:
    """How a pretrained model becomes a finetuned one. A mode changes what it must of these steps, in this order.

    Args:
        settings: of the run.

    Attributes:
        pool: where heads read z unless `method.pool` says; None for where the pretrained model has it.
        starts_anew: whether nothing of the pretrained model's training enters.
    """

    pool: ClassVar[Pool | None] = None
    starts_anew: ClassVar[bool] = False

    def __init__(self, settings: RunSettings[FinetuneSettings]) -> None:
        self.settings = settings

    def encoder(self, pretrained: Model) -> Encoder:
        """The encoder to start from."""
        return pretrained.encoder

    def terms(self, pretrained: Model, encoder: Encoder) -> dict[str, Term]:
        """Losses beside those of the tasks, by name."""
        return {}

    def prepare(self, objective: Objective) -> None:
        """Choose what learns."""

    def train(self, objective: Objective, work: Work) -> Fit:
        """Train, by default with the loop of pretraining."""
        settings, data = work.settings, work.data
        with closing(make_stream(data, settings, work.fabric, work.request, work.subset)) as stream:
            return fit(
                objective,
                stream,
                work.run,
                settings.train,
                fabric=work.fabric,
                monitor=make_monitor(data, settings.train, work.request, work.run.say),
                file_names=data.names,
                resume=work.resume,
                title=f"finetune {settings.method.mode}",
            )

    def dry_run(self, objective: Objective, batches: Sequence[Jets], fabric: Fabric) -> float:
        """Take steps on `batches`, in their order, as `train` would; seconds of the fastest after the first."""
        steps = len(batches) // self.settings.train.accumulate
        settings = self.settings.train.model_copy(update={"steps": steps})
        stream = BatchList(batches)
        loop = Loop(objective, stream, Run(Path(os.devnull), writes=False), settings, fabric, None, ())
        seconds = []
        for _ in range(steps):
            began = time.perf_counter()
            loop.take_step()
            seconds.append(time.perf_counter() - began)
        return min(seconds[1:])

    def finish(self, objective: Objective) -> None:
        """Leave an encoder of plain weights, all of which could be trained again."""
        objective.requires_grad_(True)


def scale_lr(objective: Objective) -> None:
    """Let all that learns do so at `FEW_LEARN` times the rate."""
    objective.rates_at = lambda progress: {"": FEW_PARAMETERS_LR_SCALE}
