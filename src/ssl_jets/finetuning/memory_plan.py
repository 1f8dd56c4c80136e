"""What fits: the peak memory and the time of a step of every mode, measured, and the best that fits into a limit.

Each candidate takes real steps in a fresh process, so that its peak is its own. The batches are drawn from the training
jets, with the heaviest of many among them. What the stream of jets keeps is measured once and added to each.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from ssl_jets.config import RunSettings
from ssl_jets.data.chunks import Request
from ssl_jets.data.loading.mixed import shares, together
from ssl_jets.errors import SslJetsError
from ssl_jets.finetuning.dry_run import Cost, Job, save_batches
from ssl_jets.finetuning.settings import ADAPTED_Z, FIXED_Z, FinetuneSettings
from ssl_jets.finetuning.start import labelled_jets, read_data, trained_on
from ssl_jets.jets import Jets, concatenate
from ssl_jets.runtime.launcher import environment_alone
from ssl_jets.runtime.memory import available, parse_memory, shown
from ssl_jets.training.run_setup import sample_of

MODES_BY_REACH = ("full", "lora", "last", "head", "probe")
"""The modes that start from a pretrained model, those that change most of it first: the best is the first that fits."""
THROUGH_BLOCKS = ("full", "lora", "last")
"""Those that keep activations of blocks, which checkpointing can save."""
SMALLER = 4
"""The other batch that is tried has this many times fewer jets, and its gradients are added up over as many."""
DRAWN = 1000
"""Random batches, of which some are taken, the heaviest among them."""
STEPS = 3
"""Steps of a dry run: moments of the optimizer are there from the second one on."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Candidate:
    """One way to finetune. `batch_size` times `accumulate` jets make a step."""

    mode: str
    batch_size: int
    accumulate: int
    checkpointing: bool

    def of(self, settings: RunSettings[FinetuneSettings]) -> RunSettings[FinetuneSettings]:
        """The settings with what is chosen here."""
        levers = {name: value for name, value in asdict(self).items() if name != "mode"}
        train = settings.train.model_copy(update=levers)
        return settings.model_copy(
            update={"train": train, "method": settings.method.model_copy(update={"mode": self.mode})}
        )


@dataclass(frozen=True)
class PlanRow:
    """A candidate and what it took, the stream of jets included."""

    candidate: Candidate
    cost: Cost

    def fits(self, memory: int) -> bool:
        """Whether it was measured and stays within `memory` bytes."""
        return not self.cost.failed and self.cost.peak <= memory


@dataclass(frozen=True)
class MemoryPlan:
    """All rows, and the memory [bytes] they are held against."""

    rows: list[PlanRow]
    memory: int
    stream: int

    def table(self) -> str:
        """For a terminal."""
        head = ("mode", "batch", "accumulate", "checkpointing", "weights that learn", "peak memory", "s / step", "fits")
        lines = [head] + [
            (
                row.candidate.mode,
                str(row.candidate.batch_size),
                str(row.candidate.accumulate),
                "yes" if row.candidate.checkpointing else "no",
                f"{row.cost.learning:,}",
                row.cost.failed or shown(row.cost.peak),
                "" if row.cost.failed else f"{row.cost.seconds:.3g}",
                "yes" if row.fits(self.memory) else "no",
            )
            for row in self.rows
        ]
        widths = [max(map(len, column)) for column in zip(*lines)]
        return "\n".join("  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths)).rstrip() for line in lines)

    def as_json(self) -> str:
        """The same for a program."""
        rows = [asdict(row.candidate) | asdict(row.cost) | {"fits": row.fits(self.memory)} for row in self.rows]
        return json.dumps({"memory": self.memory, "stream": self.stream, "rows": rows}, indent=1)


def make_plan(
    settings: RunSettings[FinetuneSettings], say: Say = lambda text: None, among: Iterable[Candidate] | None = None
) -> MemoryPlan:
    """Measure candidates.

    Args:
        settings: of the run; their mode does not matter.
        say: told what is being measured.
        among: the candidates; by default all.
    """
    rows: list[PlanRow] = []
    with Planner(settings) as bench:
        for candidate in among or all_candidates(settings):
            rows.append(bench.measure(candidate))
            say(describe(rows[-1]))
        return MemoryPlan(rows, bench.memory, bench.stream.stays)


def best_that_fits(settings: RunSettings[FinetuneSettings], say: Say = lambda text: None) -> PlanRow:
    """The first candidate that fits: of the modes the one that changes most, of its levers those that cost least time.

    Raises:
        SslJetsError: none fits.
    """
    with Planner(settings) as bench:
        for candidate in all_candidates(settings):
            row = bench.measure(candidate)
            say(describe(row))
            if row.fits(bench.memory):
                return row
        raise SslJetsError(
            "no mode fits into the memory",
            where="--memory",
            found=shown(bench.memory),
            hint="a smaller --batch-size, or fewer jets in memory: --set data.buffer=10000",
        )


def all_candidates(settings: RunSettings[FinetuneSettings]) -> list[Candidate]:
    """Every way to finetune a pretrained model, the best first."""
    return [candidate for mode in MODES_BY_REACH for candidate in candidates(mode, settings)]


def candidates(mode: str, settings: RunSettings[FinetuneSettings]) -> Iterator[Candidate]:
    """The ways to finetune by one mode, the fastest first. All take as many jets for a step, to rounding."""
    if mode == "lora" and importlib.util.find_spec("peft") is None:
        return
    if mode in FIXED_Z and settings.method.adapt in ADAPTED_Z:
        return
    size, accumulate = settings.train.batch_size, settings.train.accumulate
    smaller = max(1, size // SMALLER)
    sizes = [(size, accumulate)] + ([(smaller, accumulate * size // smaller)] if smaller < size else [])
    for checkpointing in (False, True) if mode in THROUGH_BLOCKS else (False,):
        for jets, times in sizes:
            yield Candidate(mode, jets, times, checkpointing)


def describe(row: PlanRow) -> str:
    """One line on a row."""
    chosen, cost = row.candidate, row.cost
    levers = f"batch {chosen.batch_size}" + (f" x {chosen.accumulate}" if chosen.accumulate > 1 else "")
    levers += ", checkpointing" if chosen.checkpointing else ""
    return f"{chosen.mode}, {levers}: " + (cost.failed or f"{shown(cost.peak)}, {cost.seconds:.3g} s a step")


class Planner:
    """A place to measure candidates: batches on disk, the cost of the stream, the memory there is."""

    def __init__(self, settings: RunSettings[FinetuneSettings]) -> None:
        self.settings = settings

    def __enter__(self) -> Planner:
        data, request, subset = read_data(self.settings)
        labelled_jets(self.settings, data, request, subset)
        self.labels = list(data.label_names)
        self.jets = subset if subset is not None else concatenate(list(sample_of(data.files, data.train, 0, request)))
        target, without_columns = trained_on(data, self.settings).unlabelled, Request.of(self.settings.data)
        self.domain = concatenate(list(sample_of(data.blind, target, 0, without_columns))) if target else None
        self.target = sorted({part.file for part in data.unlabelled})
        self.folder = tempfile.TemporaryDirectory(prefix="ssl-jets-plan-")
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        limit = self.settings.method.memory
        self.memory = available(device) if limit is None else parse_memory(limit)
        cost = _in_a_process(self._job(self.settings, "probe"))
        self.stream = Cost() if device.type == "cuda" else cost
        return self

    def __exit__(self, *_: object) -> None:
        self.folder.cleanup()

    def measure(self, candidate: Candidate) -> PlanRow:
        """Take a few steps."""
        settings = candidate.of(self.settings)
        path = self._batches(candidate.batch_size, STEPS * candidate.accumulate)
        cost = _in_a_process(self._job(settings, candidate.mode, str(path)))
        most = max(cost.peak + self.stream.stays, self.stream.peak)
        return PlanRow(candidate, cost if cost.failed else replace(cost, peak=most, stays=self.stream.stays))

    def _job(self, settings: RunSettings[FinetuneSettings], mode: str, batches: str = "") -> Job:
        """What a process is to measure; nothing rests, as at the end of a training that unfreezes block by block."""
        tree = settings.model_dump(mode="json")
        tree["method"] |= {"mode": mode, "unfreeze": 0.0}
        return Job(tree, self.labels, batches, self.target)

    def _batches(self, size: int, number: int) -> Path:
        """A file of `number` batches of `size` jets."""
        path = Path(self.folder.name) / f"{number}x{size}.pt"
        if not path.is_file():
            save_batches(self._growing(size, number), path)
        return path

    def _growing(self, size: int, number: int) -> list[Jets]:
        """Batches of labelled jets, with those of the target domain that come along."""
        if self.domain is None:
            return growing_batches(self.jets, size, number)
        few, others = shares(size, self.settings.data.unlabelled_ratio)
        both = (growing_batches(jets, share, number) for jets, share in ((self.jets, few), (self.domain, others)))
        return [together(*batches) for batches in zip(*both)]


def growing_batches(jets: Jets, size: int, number: int) -> list[Jets]:
    """From `DRAWN` random batches the lightest, some between, and the heaviest, in this order.

    So no block that a batch has freed is large enough for the next one, and the process grows in a few steps as it
    would in many. A token costs the activations of the linear layers, some 16 times the width, and a row of attention
    weights of each head, which is 32 wide: n tokens cost about n + n^2 / 512.
    """
    generator = torch.Generator().manual_seed(0)
    tokens = jets.lengths.double()
    cost = tokens + tokens.square() / 512
    drawn = torch.randint(len(jets), (DRAWN, size), generator=generator)
    order = cost[drawn].sum(1).argsort()
    taken = torch.linspace(0, DRAWN - 1, number).long()
    return [jets.select(rows) for rows in drawn[order[taken]]]


def _in_a_process(job: Job) -> Cost:
    done = subprocess.run(
        [sys.executable, "-m", "ssl_jets.finetuning.dry_run"],
        env=environment_alone(),
        input=json.dumps(asdict(job)),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode < 0:
        return Cost(failed=f"ended by signal {-done.returncode}")
    if done.returncode:
        raise SslJetsError("a dry run failed", where=job.settings["method"]["mode"], found=done.stderr[-2000:])
    return Cost(**json.loads(done.stdout.splitlines()[-1]))
