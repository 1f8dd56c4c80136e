"""Memory and time of a few training steps, in a process of its own: `python -m ssl_jets.finetuning.dry_run`.

Reads a `Job` as JSON from standard input and writes a `Cost` as JSON, the last line of standard output. The process
runs the steps of a training without its stream of jets, which is the same for all candidates: a separate job measures
it.
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
from lightning_fabric import Fabric

from ssl_jets.config import RunSettings
from ssl_jets.diagnostics.monitor import Monitor
from ssl_jets.finetuning.adaptation import attach
from ssl_jets.finetuning.modes import MODES
from ssl_jets.finetuning.settings import FinetuneSettings
from ssl_jets.finetuning.setup import build_objective, in_batches, open_labelled
from ssl_jets.jets import Jets
from ssl_jets.model_file import load_model
from ssl_jets.nn.encoder import parameter_count
from ssl_jets.nn.particles.heads import ParticleTarget
from ssl_jets.runtime.allocator import SHORTAGE, is_shortage, tune_memory
from ssl_jets.runtime.gpu import count_gpus
from ssl_jets.runtime.memory import available, in_use, peak
from ssl_jets.training.fabric import make_fabric
from ssl_jets.training.run_setup import make_monitor
from ssl_jets.training.streams import make_stream


@dataclass(frozen=True)
class Job:
    """Training steps to measure.

    Attributes:
        settings: settings of the run, as a tree.
        labels: names of the classes.
        batches: file of the batches to train on; empty to measure the stream of jets instead.
        target: files of the target domain, by index.
        particles: the targets of particles, as the fields of `ParticleTarget`.
    """

    settings: dict[str, Any]
    labels: list[str]
    batches: str
    target: list[int] = field(default_factory=list)
    particles: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Cost:
    """Memory and time of a job.

    Attributes:
        peak: peak memory in bytes.
        stays: bytes that the stream of jets keeps; the rest of its peak is free again for the training.
        seconds: seconds of one optimizer step; 0 for the stream.
        learning: number of trainable weights.
        failed: reason of a failure; empty if there was none.
    """

    peak: int = 0
    stays: int = 0
    seconds: float = 0.0
    learning: int = 0
    failed: str = ""


def measure(job: Job) -> Cost:
    """Measure the stream of jets, or training steps on the batches of the job, in this process."""
    settings = RunSettings[FinetuneSettings].model_validate(job.settings)
    fabric = make_fabric(settings.train)
    if not job.batches:
        return _measure_stream(settings, fabric)
    batches = [_jets(fields) for fields in torch.load(job.batches)]
    particles = [ParticleTarget(**{**one, "classes": tuple(one["classes"])}) for one in job.particles]
    objective = build_objective(settings, load_model(settings.method.model), tuple(job.labels), particles)
    attach(objective, settings.method, job.target)
    learning = parameter_count(objective)
    seconds = MODES[settings.method.mode](settings).dry_run(objective, batches, fabric)
    Monitor(batches[0], settings.train.batch_size, len(job.labels)).check(objective, 0.0)
    return Cost(peak(fabric.device), 0, seconds, learning)


def _measure_stream(settings: RunSettings[FinetuneSettings], fabric: Fabric) -> Cost:
    before = in_use()
    data, request, subset = open_labelled(settings)
    data = in_batches(data, settings)
    with closing(make_stream(data, settings, fabric, request, subset)) as stream:
        make_monitor(data, settings.train, request)
        # Read until the second shuffle buffer begins, if there are several: from then on two are in memory.
        jets = 1 if stream.jets_per_epoch <= settings.data.buffer else settings.data.buffer
        for _ in range(0, jets, settings.train.batch_size):
            next(stream)
        stays = in_use() - before
    return Cost(peak(fabric.device), max(0, stays))


def save_batches(batches: list[Jets], path: Path) -> None:
    """Write batches to a file for jobs."""
    torch.save([_fields(jets) for jets in batches], path)


def _fields(jets: Jets) -> dict[str, Any]:
    """Return the fields of jets as tensors and plain objects, which are read without executing a pickle."""
    names = ("particles", "offsets", "columns", "jet", "context", "labels", "weights", "source")
    collections = {name: _fields(elements) for name, elements in jets.collections.items()}
    return {**{name: getattr(jets, name) for name in names}, "collections": collections}


def _jets(fields: dict[str, Any]) -> Jets:
    """Build jets from their fields."""
    collections = {name: _jets(elements) for name, elements in fields["collections"].items()}
    return Jets(**{**fields, "collections": collections})


def main() -> None:
    """Measure the job on standard input."""
    tune_memory()
    if not count_gpus() and sys.platform.startswith("linux"):
        # Beyond the free memory the machine would swap, or kill some other process.
        cpu, hard = torch.device("cpu"), resource.getrlimit(resource.RLIMIT_DATA)[1]
        limit = available(cpu) + peak(cpu)
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    try:
        cost = measure(Job(**json.load(sys.stdin)))
    except (MemoryError, torch.OutOfMemoryError, RuntimeError) as error:
        if not is_shortage(error):
            raise
        cost = Cost(failed=SHORTAGE)
    print(json.dumps(asdict(cost)))


if __name__ == "__main__":
    main()
