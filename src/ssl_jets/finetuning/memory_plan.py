"""Memory plan: measured peak memory and time per step of every mode, and the best mode that fits into a limit.

Each candidate takes real steps in a fresh process, which measures its own peak. The batches are drawn from the training
jets and include the heaviest of many. The memory of the stream of jets is measured once and added to each candidate.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from ssl_jets.config import RunSettings
from ssl_jets.data.loading.mixed import shares, together
from ssl_jets.errors import SslJetsError, UsageError
from ssl_jets.finetuning.dry_run import Cost, Job, save_batches
from ssl_jets.finetuning.particles import particle_targets
from ssl_jets.finetuning.settings import FinetuneSettings, check_mode_and_batch
from ssl_jets.finetuning.setup import count_targets, in_batches, open_labelled
from ssl_jets.jets import Jets, concatenate
from ssl_jets.runtime.console import Log
from ssl_jets.runtime.gpu import default_device
from ssl_jets.runtime.launcher import environment_alone
from ssl_jets.runtime.memory import available, format_bytes, parse_memory
from ssl_jets.runtime.terminal import plain_table
from ssl_jets.training.run_setup import statistics_sample

MODES_BY_REACH = ("full", "lora", "last-blocks", "head", "probe")
"""Modes that start from a pretrained model, in preference: the best one is the first that fits."""
THROUGH_BLOCKS = ("full", "lora", "last-blocks")
"""Modes that keep activations of blocks, which activation checkpointing saves."""
ACCUMULATE = 4
"""Number of batches that the alternative with gradient accumulation splits a batch into."""
DRAWN = 1000
"""Number of random batches to draw; some of them are taken, the heaviest included."""
STEPS = 3
"""Steps of a dry run; the optimizer has its moments from the second one on."""

FEWER_JETS = "--set data.buffer=10000"
"""Hint: the setting that bounds the jets in memory."""


@dataclass(frozen=True)
class Candidate:
    """Mode and memory settings of a finetuning. A step takes `batch_size` times `accumulate` jets."""

    mode: str
    batch_size: int
    accumulate: int
    checkpointing: bool

    def of(self, settings: RunSettings[FinetuneSettings]) -> RunSettings[FinetuneSettings]:
        """Return the settings with mode and memory settings of this candidate."""
        memory_settings = {name: value for name, value in asdict(self).items() if name != "mode"}
        train = settings.train.model_copy(update=memory_settings)
        return settings.model_copy(
            update={"train": train, "method": settings.method.model_copy(update={"mode": self.mode})}
        )


@dataclass(frozen=True)
class PlanRow:
    """A candidate and its cost, the stream of jets included."""

    candidate: Candidate
    cost: Cost

    def fits(self, memory: int) -> bool:
        """Return True if the measurement succeeded and stayed within `memory` bytes."""
        return not self.cost.failed and self.cost.peak <= memory


@dataclass(frozen=True)
class MemoryPlan:
    """Measured candidates.

    Attributes:
        rows: candidates and their costs.
        memory: memory limit in bytes.
        stream: bytes that the stream of jets keeps.
    """

    rows: list[PlanRow]
    memory: int
    stream: int

    def table(self) -> str:
        """Format the plan as a text table."""
        head = ("mode", "batch", "accumulate", "checkpointing", "weights that learn", "peak memory", "s / step", "fits")
        rows = [
            (
                row.candidate.mode,
                str(row.candidate.batch_size),
                str(row.candidate.accumulate),
                "yes" if row.candidate.checkpointing else "no",
                f"{row.cost.learning:,}",
                row.cost.failed or format_bytes(row.cost.peak),
                "" if row.cost.failed else f"{row.cost.seconds:.3g}",
                "yes" if row.fits(self.memory) else "no",
            )
            for row in self.rows
        ]
        return plain_table(head, rows)

    def as_json(self) -> str:
        """Format the plan as JSON."""
        rows = [asdict(row.candidate) | asdict(row.cost) | {"fits": row.fits(self.memory)} for row in self.rows]
        return json.dumps({"memory": self.memory, "stream": self.stream, "rows": rows}, indent=1)


def make_plan(settings: RunSettings[FinetuneSettings], log: Log = lambda line: None) -> MemoryPlan:
    """Measure all candidates.

    Args:
        settings: settings of the run; their mode is ignored.
        log: called with one line per measurement.
    """
    rows: list[PlanRow] = []
    with Planner(settings) as planner:
        for candidate in all_candidates(settings):
            rows.append(planner.measure(candidate))
            log(describe(rows[-1]))
        return MemoryPlan(rows, planner.memory, planner.stream.stays)


def best_that_fits(settings: RunSettings[FinetuneSettings], log: Log = lambda line: None) -> PlanRow:
    """Measure candidates in order of preference until one fits.

    Raises:
        SslJetsError: none fits.
    """
    with Planner(settings) as planner:
        for candidate in all_candidates(settings):
            row = planner.measure(candidate)
            log(describe(row))
            if row.fits(planner.memory):
                return row
        raise SslJetsError(
            "no mode fits into the memory",
            where="--memory",
            found=format_bytes(planner.memory),
            hint=f"a smaller --batch-size, or fewer jets in memory: {FEWER_JETS}",
        )


def all_candidates(settings: RunSettings[FinetuneSettings]) -> list[Candidate]:
    """Return the candidates of all modes, in order of preference."""
    return [candidate for mode in MODES_BY_REACH for candidate in candidates(mode, settings)]


def candidates(mode: str, settings: RunSettings[FinetuneSettings]) -> Iterator[Candidate]:
    """Yield the candidates of one mode, the fastest first. All take as many jets for a step, to rounding.

    Example: 128 jets -> 128 x 1, 32 x 4, and both again with activation checkpointing.
    """
    if mode == "lora" and importlib.util.find_spec("peft") is None:
        return
    if mode in ("lora", "last-blocks") and settings.model.architecture is not None:
        return
    size, accumulate = settings.train.batch_size, settings.train.accumulate
    smaller = max(1, size // ACCUMULATE)
    sizes = [(size, accumulate)] + ([(smaller, accumulate * size // smaller)] if smaller < size else [])
    saves = mode in THROUGH_BLOCKS and settings.model.architecture is None  # by activation checkpointing
    for checkpointing in (False, True) if saves else (False,):
        for jets, times in sizes:
            candidate = Candidate(mode, jets, times, checkpointing)
            try:
                check_mode_and_batch(candidate.of(settings))
            except UsageError:  # a probe of adapted z, or a batch too small for two domains
                continue
            yield candidate


def describe(row: PlanRow) -> str:
    """Format a row as one line."""
    chosen, cost = row.candidate, row.cost
    batch = f"batch {chosen.batch_size}" + (f" x {chosen.accumulate}" if chosen.accumulate > 1 else "")
    batch += ", checkpointing" if chosen.checkpointing else ""
    return f"{chosen.mode}, {batch}: " + (cost.failed or f"{format_bytes(cost.peak)}, {cost.seconds:.3g} s a step")


class Planner:
    """Measurement of candidates: holds batches on disk, the cost of the stream, and the memory limit."""

    def __init__(self, settings: RunSettings[FinetuneSettings]) -> None:
        self.settings = settings

    def __enter__(self) -> Planner:
        data, request, subset = open_labelled(self.settings)
        count_targets(self.settings, data, request, subset)
        self.labels, self.particles = list(data.label_names), particle_targets(self.settings, data)
        self.jets = subset if subset is not None else concatenate(list(statistics_sample(data, data.train, 0, request)))
        self.domain: Jets | None = None
        if unlabelled := in_batches(data, self.settings).unlabelled:
            self.domain = concatenate(list(statistics_sample(data, unlabelled, 0, request.inputs, blind=True)))
        self.target = sorted({part.file for part in data.unlabelled})
        device = default_device()
        limit = self.settings.method.memory
        self.memory = available(device) if limit is None else parse_memory(limit)
        cost = _in_a_process(self._job(self.settings, "probe"))
        if cost.failed:
            raise SslJetsError("the jets to shuffle do not fit into the memory", found=cost.failed, hint=FEWER_JETS)
        self.stream = Cost() if device.type == "cuda" else cost
        self.folder = tempfile.TemporaryDirectory(prefix="ssl-jets-plan-")
        return self

    def __exit__(self, *_: object) -> None:
        self.folder.cleanup()

    def measure(self, candidate: Candidate) -> PlanRow:
        """Take a few steps in a process of their own."""
        settings = candidate.of(self.settings)
        path = self._batches(candidate.batch_size, STEPS * candidate.accumulate)
        cost = _in_a_process(self._job(settings, candidate.mode, str(path)))
        total = max(cost.peak + self.stream.stays, self.stream.peak)
        return PlanRow(candidate, cost if cost.failed else replace(cost, peak=total, stays=self.stream.stays))

    def _job(self, settings: RunSettings[FinetuneSettings], mode: str, batches: str = "") -> Job:
        tree = settings.model_dump(mode="json")
        tree["method"] |= {"mode": mode, "unfreeze": 0.0}  # all blocks, as at the end of gradual unfreezing
        tree["train"] |= {"devices": 1}  # of all processes, each takes such a batch
        return Job(tree, self.labels, batches, self.target, [target._asdict() for target in self.particles])

    def _batches(self, size: int, number: int) -> Path:
        """Write `number` batches of `size` jets to a file, once."""
        path = Path(self.folder.name) / f"{number}x{size}.pt"
        if not path.is_file():
            save_batches(self._growing(size, number), path)
        return path

    def _growing(self, size: int, number: int) -> list[Jets]:
        """Make batches of labelled jets, with their share of jets of the target domain."""
        if self.domain is None:
            return growing_batches(self.jets, size, number)
        labelled_size, unlabelled_size = shares(size, self.settings.data.unlabelled_ratio)
        labelled = growing_batches(self.jets, labelled_size, number)
        unlabelled = growing_batches(self.domain, unlabelled_size, number)
        return [together(*batches) for batches in zip(labelled, unlabelled)]


def growing_batches(jets: Jets, size: int, number: int) -> list[Jets]:
    """Draw `DRAWN` random batches and take the lightest, some between, and the heaviest, in this order.

    No block that a batch has freed is then large enough for the next one, so the process grows in a few steps as much
    as it would in many. A token costs the activations of the linear layers, about 16 times the width, and a row of
    attention weights of each head, which is 32 wide: n tokens cost about n + n^2 / 512.
    """
    generator = torch.Generator().manual_seed(0)
    tokens = jets.lengths.double()
    cost = tokens + tokens.square() / 512
    drawn = torch.randint(len(jets), (DRAWN, size), generator=generator)
    order = cost[drawn].sum(1).argsort()
    taken = torch.linspace(0, DRAWN - 1, number).long()
    return [jets.select(rows) for rows in drawn[order[taken]]]


def _in_a_process(job: Job) -> Cost:
    process = subprocess.run(
        [sys.executable, "-m", "ssl_jets.finetuning.dry_run"],
        env=environment_alone(),
        input=json.dumps(asdict(job)),
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode < 0:
        return Cost(failed=f"ended by signal {-process.returncode}")
    if process.returncode:
        raise SslJetsError("a dry run failed", where=job.settings["method"]["mode"], found=process.stderr[-2000:])
    return Cost(**json.loads(process.stdout.splitlines()[-1]))
