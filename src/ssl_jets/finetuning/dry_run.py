"""A few real training steps in a process of their own, to see what they take: `python -m ssl_jets.finetuning.dry_run`.

Reads a `Job` as JSON on standard input and writes a `Cost` as JSON, the last line of standard output. The process is
as a training run is, but for the stream of jets, which a job of its own measures: every candidate would read the same.
"""

from __future__ import annotations

import json
import resource
import sys
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from ssl_jets.config import RunSettings
from ssl_jets.diagnostics.monitor import Monitor
from ssl_jets.finetuning.adaptation import attach
from ssl_jets.finetuning.modes import MODES
from ssl_jets.finetuning.settings import FinetuneSettings
from ssl_jets.finetuning.start import build_objective, read_data, trained_on
from ssl_jets.jets import Jets
from ssl_jets.model_file import load_model
from ssl_jets.nn.encoder import parameter_count
from ssl_jets.runtime.allocator import is_shortage, tune_memory
from ssl_jets.runtime.memory import available, in_use, peak
from ssl_jets.training.fabric import make_fabric
from ssl_jets.training.run_setup import make_monitor
from ssl_jets.training.streams import make_stream


@dataclass(frozen=True)
class Job:
    """What to measure.

    Attributes:
        settings: of the run, as a tree.
        labels: names of the classes.
        batches: file of the batches to train on; empty to measure the stream of jets instead.
        target: files of the target domain, by index.
    """

    settings: dict[str, Any]
    labels: list[str]
    batches: str
    target: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Cost:
    """What it took.

    Attributes:
        peak: bytes.
        stays: of the stream of jets, the bytes it keeps; the rest of its peak is free again for the training.
        seconds: of one optimizer step; 0 for the stream.
        learning: number of weights that learn.
        failed: why it could not be measured; empty where it was.
    """

    peak: int = 0
    stays: int = 0
    seconds: float = 0.0
    learning: int = 0
    failed: str = ""


def measure(job: Job) -> Cost:
    """Do the job in this process."""
    settings = RunSettings[FinetuneSettings].model_validate(job.settings)
    fabric = make_fabric(settings.train)
    if not job.batches:
        before = in_use()
        data, request, subset = read_data(settings)
        data = trained_on(data, settings)
        with closing(make_stream(data, settings, fabric, request, subset)) as stream:
            make_monitor(data, settings.train, request)
            # As far as the second window of jets, where there are several: from then on two are in memory.
            windows = 1 if stream.jets_per_epoch <= settings.data.buffer else settings.data.buffer
            for _ in range(0, windows, settings.train.batch_size):
                next(stream)
            stays = in_use() - before
        return Cost(peak(fabric.device), max(0, stays))
    batches = [Jets(**fields) for fields in torch.load(job.batches)]
    objective = build_objective(settings, load_model(settings.method.model), tuple(job.labels))
    attach(objective, settings.method, job.target)
    learning = parameter_count(objective)
    objective.fit_statistics(batches)
    seconds = MODES[settings.method.mode](settings).dry_run(objective, batches, fabric)
    Monitor(batches[0], settings.train.batch_size, len(job.labels)).check(objective, 0.0)
    return Cost(peak(fabric.device), 0, seconds, learning)


def save_batches(batches: list[Jets], path: Path) -> None:
    """Write batches for jobs to read."""
    fields = ("particles", "offsets", "columns", "jet", "labels", "weights", "source")
    torch.save([{name: getattr(jets, name) for name in fields} for jets in batches], path)


def main() -> None:
    """Measure what standard input asks for."""
    tune_memory()
    if not torch.cuda.is_available() and sys.platform.startswith("linux"):
        # Beyond what is free the machine would swap, or end some other process.
        cpu = torch.device("cpu")
        limit = available(cpu) + peak(cpu)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    try:
        cost = measure(Job(**json.load(sys.stdin)))
    except (MemoryError, torch.OutOfMemoryError, RuntimeError) as error:
        if not is_shortage(error):
            raise
        cost = Cost(failed="more memory than there is")
    print(json.dumps(asdict(cost)))


if __name__ == "__main__":
    main()
