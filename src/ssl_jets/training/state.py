"""State of a training: its step, validation and checkpoint.

Every step seeds torch's generators with (seed, step, rank), so that a resumed run draws the same random numbers as an
uninterrupted one, and no generator state has to be saved.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from lightning_fabric import Fabric

from ssl_jets.config import TrainSettings
from ssl_jets.data.loading.base import Stream
from ssl_jets.diagnostics.collapse import ADVICE, Verdict
from ssl_jets.diagnostics.monitor import EARLY_STEPS, Monitor, summary_line
from ssl_jets.diagnostics.results import joined
from ssl_jets.errors import SslJetsError
from ssl_jets.jets import Jets
from ssl_jets.methods._method import Method
from ssl_jets.nn.collectives import alone
from ssl_jets.nn.task_weights import Mean, mean_of_batches
from ssl_jets.nn.transformer import Transformer
from ssl_jets.runtime.process_group import Ranks
from ssl_jets.training import checkpoint
from ssl_jets.training.best import Best
from ssl_jets.training.nonfinite import GRADIENT, LOSS, NonFinite
from ssl_jets.training.optimizer import make_optimizer, set_rates, skip_frozen
from ssl_jets.training.placement import Placement, full
from ssl_jets.training.run_folder import TrainingRun
from ssl_jets.training.schedule import Schedule
from ssl_jets.training.streams import Throughput


@dataclass
class FitResult:
    """Length of a finished training.

    Attributes:
        steps: optimizer steps, skipped ones included.
        jets: jets of all batches of all ranks.
        seconds: wall time, of all parts of a resumed run together.
        skipped_steps: steps with a loss or gradient that was not finite.
        best_step: step of the weights with `train.keep=best`; None for the last one.
    """

    steps: int
    jets: int
    seconds: float
    skipped_steps: int = 0
    best_step: int | None = None


def total_steps(settings: TrainSettings, jets_per_epoch: int, world: int) -> int:
    """Return the number of optimizer steps: `steps`, or `epochs` over the training jets.

    >>> total_steps(TrainSettings(epochs=2, batch_size=10), jets_per_epoch=101, world=2)
    11
    """
    if settings.steps is not None:
        return settings.steps
    per_step = settings.batch_size * settings.accumulate * world
    return max(1, math.ceil((settings.epochs or 1.0) * jets_per_epoch / per_step))


class TrainingState:
    """State of one training: method, optimizer, stream, and the steps taken; arguments as in `fit`."""

    def __init__(
        self,
        method: Method,
        stream: Stream,
        run: TrainingRun,
        settings: TrainSettings,
        fabric: Fabric,
        monitor: Monitor | None,
        file_names: Sequence[str],
    ) -> None:
        self.method, self.stream, self.run, self.settings, self.fabric = method, stream, run, settings, fabric
        self.monitor, self.file_names = monitor, file_names
        self.ranks = Ranks(fabric.global_rank, fabric.world_size)
        self.steps = total_steps(settings, stream.jets_per_epoch, fabric.world_size)
        self.schedule = Schedule(self.steps)
        for module in method.modules():
            if isinstance(module, Transformer):
                module.checkpointing = settings.checkpointing
        self.placement = Placement(method, lambda module: make_optimizer(module, settings), fabric, settings.strategy)
        self.placement.trained.train()  # a loaded encoder is in evaluation mode
        self.wrapped, self.optimizer = self.placement.wrapped, self.placement.optimizer
        self.step, self.jets, self.saved = 0, 0, 0
        self.seconds, self.lr = 0.0, 0.0
        self.collapses = 0  # validations in a row, up to the last one, that found a collapse
        self.idle = False  # there was a warning about a step without loss and gradient
        self.best = Best(settings)
        self.nonfinite = NonFinite(settings, file_names, self.ranks, fabric.device)
        self.throughput = Throughput(stream)
        self.logged_skipped = Counter[str]()

    def learning_rate(self) -> float:
        """Return the learning rate of this step: linear warm-up, then a cosine down to `final_lr`."""
        step, steps = self.schedule.at(self.step), self.schedule.steps
        warmup = max(1, round(self.settings.warmup * steps))
        if step < warmup:
            return self.settings.lr * min(1.0, (step + 1) / warmup)
        share = (step - warmup) / max(1, steps - warmup)
        final = self.settings.final_lr
        return self.settings.lr * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * share)))

    def take_step(self) -> dict[str, float]:
        """Take one optimizer step; return the loss and its parts, each the mean over the jets that have it.

        A part that no jet of the accumulated batches has is left out; the loss is then 0.
        """
        settings, fabric = self.settings, self.fabric
        self.nonfinite.begin(self.placement.trained)
        seed_step(settings.seed, self.step, fabric.global_rank)
        progress = self.schedule.progress(self.step)
        self.lr = self.learning_rate()
        set_rates(self.optimizer, self.lr, self.method.lr_multipliers(progress))
        batches, parts_of_batches = list[Jets](), list[dict[str, list[Mean]]]()
        for micro in range(settings.accumulate):
            jets = next(self.stream)
            with fabric.no_backward_sync(self.wrapped, enabled=micro < settings.accumulate - 1):
                parts = self.wrapped(jets.to(fabric.device), progress, settings.hide_features)
                self.nonfinite.check(parts["loss"], [jets], LOSS)
                fabric.backward(parts["loss"] / settings.accumulate)
            batches.append(jets)
            parts_of_batches.append(self.placement.trained.last)
            self.jets += len(jets) * fabric.world_size
        skip_frozen(self.optimizer)
        clipped = fabric.clip_gradients(self.wrapped, self.optimizer, max_norm=settings.clip, error_if_nonfinite=False)
        norm = full(clipped)  # type: ignore[arg-type]
        self.nonfinite.check(norm, batches, GRADIENT)
        taken = self.nonfinite.decide(self.step, self.placement.trained, self.run)
        if taken:
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if taken:
            self.placement.trained.after_step(self.schedule.progress(self.step + 1))
        self.step += 1
        return joined({"loss": 0.0} | mean_of_batches(parts_of_batches), {"grad_norm": float(norm)})

    def save(self, path: Path) -> None:
        """Write a checkpoint. All ranks call this; rank 0 writes the states of all streams."""
        streams, skipped = zip(*self.ranks.gather((self.stream.state_dict(), self.stream.skipped)), strict=True)
        self._log_skipped(sum(skipped, Counter[str]()))
        weights = self.placement.state_dict()
        if self.run.writes:
            state = {
                **weights,
                "streams": list(streams),
                "step": self.step,
                "schedule": asdict(self.schedule),
                "jets": self.jets,
                "seconds": self.seconds,
                "watch": {"failed": self.collapses},
                "monitor": self.monitor.state_dict() if self.monitor is not None else {},
                "nonfinite": self.nonfinite.state_dict(),
                "best": self.best.state_dict(),
            }
            checkpoint.write(path, state, self.settings.keep_checkpoints)
        self.saved = self.step
        self.fabric.barrier()

    def _log_skipped(self, skipped: Counter[str]) -> None:
        """Log the jets that all ranks skipped so far, if the number has changed."""
        if skipped != self.logged_skipped:
            self.logged_skipped = skipped
            self.run.log_skipped(self.step, skipped)

    def resume(self) -> None:
        """Continue from the newest undamaged checkpoint of the run."""
        for message in self.ranks.from_first(lambda: checkpoint.settle(self.run.checkpoint)):
            self.run.log_message(f"warning: {message}")
        checkpoint.require_same(self.run.checkpoint, self.ranks)
        self.load(self.run.checkpoint)
        self.run.drop_metrics_after(self.step)
        self.saved = self.step
        self.run.log_message(f"resumed at step {self.step} of {self.steps}")

    def load(self, path: Path) -> None:
        """Load a checkpoint, also one of another number of ranks."""
        state = checkpoint.read(path)
        with checkpoint.one_message(path):
            self.placement.load_state_dict(state)
            self.stream.resume(state["streams"])
            self.step, self.jets, self.seconds = state["step"], state["jets"], state["seconds"]
            self.collapses = int(state["watch"]["failed"])
            if self.monitor is not None:
                self.monitor.load_state_dict(state["monitor"])
            self.nonfinite.load_state_dict(state.get("nonfinite", {}))  # missing in checkpoints of older versions
            self.best.load_state_dict(state.get("best", {}))
            self.schedule = Schedule(**state["schedule"])
        if len(state["streams"]) != self.fabric.world_size:
            self._change_ranks(len(state["streams"]))
        elif not self.schedule.since and self.schedule.last != self.steps:
            raise SslJetsError(
                "the run has another length than before",
                where=path,
                found=f"{self.schedule.last} then, {self.steps} now",
            )
        self.steps = self.schedule.last

    def _change_ranks(self, before: int) -> None:
        """Adapt the schedule to another number of processes.

        With `steps` the number of steps stays; with `epochs` it follows from the jets that are left, or from the share
        of the training that is left if the settings have the steps of these epochs (finetuning). The learning rate
        continues at its value and reaches its final one with the last step.
        """
        world, settings, step = self.fabric.world_size, self.settings, self.step
        if settings.steps is None:
            per_step = settings.batch_size * settings.accumulate * world
            jets_left = math.ceil((settings.epochs or 1.0) * self.stream.jets_per_epoch) - self.jets
            self.schedule = self.schedule.stretched(step, step + max(0, math.ceil(jets_left / per_step)))
        elif self.steps != self.schedule.steps or self.schedule.since:
            left = round((1 - self.schedule.progress(step)) * self.steps)
            self.schedule = self.schedule.stretched(step, step + left)
        steps_left = self.schedule.last - self.step
        self.run.log_message(f"now {world} processes instead of {before}: {steps_left} steps to go")

    def validate(self, *, whole: bool) -> list[Verdict]:
        """Validate on rank 0, in full or by the quick check, and return the verdicts on all ranks."""
        verdicts: list[Verdict] = []
        if self.monitor is not None:
            self.placement.gather()
        if self.monitor is not None and self.run.writes:
            progress, early = self.schedule.progress(self.step), self.step < EARLY_STEPS
            with self.fabric.autocast(), alone():
                if whole:
                    diagnosis = self.monitor.validate(self.method, progress, early=early)
                    self.best.update(self.method, self.step, diagnosis)
                else:
                    diagnosis = self.monitor.check(self.method, progress)
            verdicts = diagnosis.verdicts
            record = {"step": self.step, "kind": "validation" if whole else "check"}
            collapse = {"collapse": [verdict.name for verdict in verdicts]} if verdicts else {}
            self.run.log_metrics(record | joined(diagnosis.metrics, record | collapse))
            # Few directions are enough for targets, and no sign of youth.
            early = (early or not whole) and not self.method.learns_targets
            line = summary_line(diagnosis, self.method.exported().dim, early=early)
            self.run.log_message(f"step {self.step}: {line}")
            for verdict in verdicts:
                self.run.log_message(f"warning: step {self.step}: {verdict.text}; try: {ADVICE[verdict.name]}")
        return self.fabric.broadcast(verdicts)

    def result(self) -> FitResult:
        """Return the length of the training so far."""
        return FitResult(self.step, self.jets, self.seconds, self.nonfinite.total)

    def stop_on_collapse(self, verdicts: list[Verdict]) -> None:
        """Stop with `train.on_collapse=stop` at the second validation in a row that found a collapse.

        Raises:
            SslJetsError: the representation has collapsed; the checkpoint is saved.
        """
        self.collapses = self.collapses + 1 if verdicts else 0
        if self.has_to_stop:
            self.save(self.run.checkpoint)
            raise self.collapse_error("; ".join(verdict.text for verdict in verdicts))

    @property
    def has_to_stop(self) -> bool:
        """True if the last two validations found a collapse, and such a training is to stop."""
        return self.collapses > 1 and self.settings.on_collapse == "stop"

    def collapse_error(self, found: str | None = None) -> SslJetsError:
        """Return the error of a training that has to stop."""
        return SslJetsError(
            "the representation has collapsed",
            where=f"step {self.step} of {self.run.folder}",
            found=found,
            hint=f"a smaller --set train.lr={self.settings.lr / 4:g}; more in docs/collapse.md",
        )


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed torch's generators for one step of one rank."""
    torch.manual_seed(hash((seed, step, rank)) % 2**63)
