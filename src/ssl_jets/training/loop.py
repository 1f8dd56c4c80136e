"""fit(): one training loop for every method, on Lightning Fabric.

Devices, DDP, precision and launch are Fabric's. Ours are the schedule, clipping, metrics, checkpoints and the
signal that ends a batch job. Every step seeds torch's generators with (seed, step, rank), so that a resumed run draws
the numbers an uninterrupted one would have drawn, and nothing about them has to be saved.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from lightning_fabric import Fabric

from ssl_jets.config import TrainSettings
from ssl_jets.data.loading.base import Stream
from ssl_jets.diagnostics.collapse import ADVICE, Verdict
from ssl_jets.diagnostics.monitor import EARLY_STEPS, Monitor, in_words
from ssl_jets.errors import SslJetsError
from ssl_jets.methods._method import Method
from ssl_jets.nn.collectives import alone
from ssl_jets.nn.transformer import Transformer
from ssl_jets.runtime.console import Bar
from ssl_jets.runtime.process_group import Ranks
from ssl_jets.runtime.signals import Interrupted, watched
from ssl_jets.training import checkpoint
from ssl_jets.training.nonfinite import GRADIENT, LOSS, NonFinite
from ssl_jets.training.optimizer import load_optimizer, make_optimizer, set_rates, skip_frozen
from ssl_jets.training.run_folder import Run
from ssl_jets.training.schedule import Schedule
from ssl_jets.training.streams import Rates

FIRST_CHECK_DIVISORS = (8, 4, 2)
"""The first checks for a collapse come after the first of these shares of `validate_every`."""


MAX_ROLLBACKS = 3
"""Times that a training is rolled back before it is stopped."""


@dataclass
class Fit:
    """What a finished training amounts to."""

    steps: int
    jets: int
    seconds: float
    skipped_steps: int = 0


def total_steps(settings: TrainSettings, jets_per_epoch: int, world: int) -> int:
    """Optimizer steps that the settings ask for: `steps`, or `epochs` over the training jets."""
    if settings.steps is not None:
        return settings.steps
    per_step = settings.batch_size * settings.accumulate * world
    return max(1, math.ceil((settings.epochs or 1.0) * jets_per_epoch / per_step))


class Loop:
    """State of one training: kept together so that the functions of the loop stay short."""

    def __init__(
        self,
        method: Method,
        stream: Stream,
        run: Run,
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
        self.wrapped, self.optimizer = fabric.setup(method, make_optimizer(method, settings))
        self.step, self.jets, self.seconds, self.lr = 0, 0, 0.0, 0.0
        self.failed, self.lr_scale, self.rollbacks = False, 1.0, 0
        self.nonfinite = NonFinite(settings, file_names, self.ranks, fabric.device)
        self.window = Rates(stream)
        self.told = Counter[str]()

    def learning_rate(self) -> float:
        """Linear warm-up, then a cosine down to `final_lr`; halved by each rollback."""
        peak, step, steps = self.settings.lr * self.lr_scale, self.schedule.at(self.step), self.schedule.steps
        warmup = max(1, round(self.settings.warmup * steps))
        if step < warmup:
            return peak * min(1.0, (step + 1) / warmup)
        share = (step - warmup) / max(1, steps - warmup)
        final = self.settings.final_lr
        return peak * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * share)))

    def take_step(self) -> dict[str, float]:
        """One optimizer step; the loss and its parts, averaged over the accumulated batches."""
        settings, fabric = self.settings, self.fabric
        self.nonfinite.begin(self.method)
        seed_step(settings.seed, self.step, fabric.global_rank)
        progress = self.schedule.progress(self.step)
        self.lr = self.learning_rate()
        set_rates(self.optimizer, self.lr, self.method.lr_multipliers(progress))
        totals: dict[str, float] = {}
        for micro in range(settings.accumulate):
            jets = next(self.stream)
            moved = jets.to(fabric.device)
            with fabric.no_backward_sync(self.wrapped, enabled=micro < settings.accumulate - 1):
                parts = self.wrapped(moved, progress)
                self.nonfinite.check(parts["loss"], jets, LOSS)
                fabric.backward(parts["loss"] / settings.accumulate)
            for name, value in parts.items():
                totals[name] = totals.get(name, 0.0) + float(value.detach()) / settings.accumulate
            self.jets += len(jets) * fabric.world_size
        skip_frozen(self.optimizer)
        norm = fabric.clip_gradients(self.wrapped, self.optimizer, max_norm=settings.clip, error_if_nonfinite=False)
        self.nonfinite.check(norm, jets, GRADIENT)
        taken = self.nonfinite.decide(self.step, self.method, self.run)
        if taken:
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if taken:
            self.method.after_step(self.schedule.progress(self.step + 1))
        self.step += 1
        return totals | {"grad_norm": float(norm)}  # type: ignore[arg-type]

    def save(self, path: Path) -> None:
        """Write a checkpoint, by all ranks together."""
        streams, left_out = zip(*self.ranks.gather((self.stream.state_dict(), self.stream.skipped)), strict=True)
        self._tell_left_out(sum(left_out, Counter[str]()))
        if self.run.writes:
            state = {
                "method": self.method.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "streams": list(streams),
                "step": self.step,
                "schedule": asdict(self.schedule),
                "jets": self.jets,
                "seconds": self.seconds,
                "watch": {"failed": self.failed, "lr_scale": self.lr_scale, "rollbacks": self.rollbacks},
                "monitor": self.monitor.state_dict() if self.monitor is not None else {},
                "nonfinite": self.nonfinite.state_dict(),
            }
            checkpoint.write(path, state, self.settings.keep_checkpoints if path == self.run.checkpoint else 1)
        self.fabric.barrier()

    def _tell_left_out(self, left_out: Counter[str]) -> None:
        """What all ranks left out so far, said and logged where it has changed."""
        if left_out != self.told:
            self.told = left_out
            self.run.log_left_out(self.step, left_out)

    def take_up(self) -> None:
        """Go on from the newest checkpoint of the run that is not damaged."""
        for message in self.ranks.from_first(lambda: checkpoint.settle(self.run.checkpoint)):
            self.run.say(f"warning: {message}")
        self.load(self.run.checkpoint)
        self.run.forget_after(self.step)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint."""
        rest = checkpoint.read(path)
        with checkpoint.one_message(path):
            self.method.load_state_dict(rest["method"])
            load_optimizer(self.optimizer, rest["optimizer"])
            self.stream.resume(rest["streams"])
            self.step, self.jets, self.seconds = rest["step"], rest["jets"], rest["seconds"]
            watch = rest["watch"]
            self.failed, self.lr_scale, self.rollbacks = watch["failed"], watch["lr_scale"], watch["rollbacks"]
            if self.monitor is not None:
                self.monitor.load_state_dict(rest["monitor"])
            self.nonfinite.load_state_dict(rest.get("nonfinite", {}))  # absent before it could be skipped
            self.schedule = Schedule(**rest["schedule"])
        if len(rest["streams"]) != self.fabric.world_size:
            self._change_ranks(len(rest["streams"]))
        elif not self.schedule.since and self.schedule.last != self.steps:
            raise SslJetsError(
                "the run has another length than before",
                where=path,
                found=f"{self.schedule.last} then, {self.steps} now",
            )
        self.steps = self.schedule.last

    def _change_ranks(self, before: int) -> None:
        """Go on with another number of processes: as many steps, or with `epochs` as many as the rest of the jets need.

        The learning rate goes on from where it was, and comes to its end with the last step.
        """
        world, settings = self.fabric.world_size, self.settings
        if settings.steps is None:
            per_step = settings.batch_size * settings.accumulate * world
            rest = math.ceil((settings.epochs or 1.0) * self.stream.jets_per_epoch) - self.jets
            self.schedule = self.schedule.stretched(self.step, self.step + max(0, math.ceil(rest / per_step)))
        self.run.say(f"now {world} processes instead of {before}: {self.schedule.last - self.step} steps to go")

    def validate(self, *, whole: bool) -> list[Verdict]:
        """A look at held-out jets by rank 0, whole or a quick check, logged; the others wait. What all ranks know."""
        verdicts: list[Verdict] = []
        if self.monitor is not None and self.run.writes:
            progress, early = self.schedule.progress(self.step), self.step < EARLY_STEPS
            with self.fabric.autocast(), alone():
                if whole:
                    found = self.monitor.look(self.method, progress, early=early)
                else:
                    found = self.monitor.check(self.method, progress)
            verdicts = found.verdicts
            told = {"collapse": [verdict.name for verdict in verdicts]} if verdicts else {}
            self.run.log({"step": self.step, "kind": "validation" if whole else "check", **found.metrics, **told})
            self.run.say(f"step {self.step}: {in_words(found, self.method.exported().dim, early=early or not whole)}")
            for verdict in verdicts:
                self.run.say(f"warning: step {self.step}: {verdict.text}; try: {ADVICE[verdict.name]}")
        return self.fabric.broadcast(verdicts)

    def act(self, verdicts: list[Verdict]) -> None:
        """Stop or roll back at the second look in a row that found a collapse, where the settings say so."""
        again, self.failed = bool(verdicts) and self.failed, bool(verdicts)
        how = self.settings.on_collapse
        if how == "rollback" and not verdicts:
            self.save(self.run.healthy)
        if not again or how == "warn":
            return
        if how == "stop" or self.rollbacks == MAX_ROLLBACKS:
            self.save(self.run.checkpoint)
            raise SslJetsError(
                "the representation has collapsed",
                where=f"step {self.step} of {self.run.folder}",
                found="; ".join(verdict.text for verdict in verdicts),
                hint=f"a smaller --set train.lr={self.settings.lr * self.lr_scale / 4:g}; docs/collapse.md says more",
            )
        self.roll_back()

    def roll_back(self) -> None:
        """Go on from the last healthy look with half the learning rate. Its metrics are made again."""
        step, lr_scale, rollbacks = self.step, self.lr_scale, self.rollbacks
        self.load(self.run.healthy)
        self.lr_scale, self.rollbacks = lr_scale / 2, rollbacks + 1
        self.run.forget_after(self.step)
        self.run.log({"step": self.step, "kind": "rollback", "from": step, "lr_scale": self.lr_scale})
        self.run.say(
            f"rolled back from step {step} to {self.step}; learning rates are now {self.lr_scale:g} of the schedule"
        )
        self.save(self.run.checkpoint)


def fit(
    method: Method,
    stream: Stream,
    run: Run,
    settings: TrainSettings,
    *,
    fabric: Fabric,
    monitor: Monitor | None = None,
    file_names: Sequence[str] = (),
    resume: bool = False,
    title: str = "training",
) -> Fit:
    """Train `method` on `stream` and leave metrics and checkpoints in `run`.

    Args:
        method: what is trained, on the CPU; Fabric moves it.
        stream: endless stream of batches of this rank.
        run: an existing run folder.
        settings: length, schedule, optimizer.
        fabric: launched Fabric (`make_fabric`).
        monitor: held-out jets to look at; None for no validation.
        file_names: name of each source file, for messages.
        resume: go on from `run.checkpoint` where there is one.
        title: shown beside the progress.

    Raises:
        Interrupted: a signal came; the checkpoint is saved.
        SslJetsError: the loss or the gradient is not finite (in several steps in a row, if such steps are skipped), the
            representation has collapsed and the settings say to stop (the
            checkpoint is saved), or the disk is full.
    """
    loop = Loop(method, stream, run, settings, fabric, monitor, file_names)
    if resume and run.begun:
        loop.take_up()
        run.say(f"resumed at step {loop.step} of {loop.steps}")
    early = {
        settings.validate_every // share for share in FIRST_CHECK_DIVISORS if settings.validate_every >= 10 * share
    }
    if early and not loop.step:  # what later checks compare with
        loop.validate(whole=False)
    if settings.on_collapse == "rollback" and not run.healthy.is_file():
        loop.save(run.healthy)
    started = time.monotonic() - loop.seconds
    saved = time.monotonic()
    loop.window.reset(loop.jets)
    with watched() as watch, Bar(title, loop.steps, "steps", shown=run.writes) as bar:
        watch.at_once = False
        while loop.step < loop.steps:
            parts = loop.take_step()
            loop.seconds = time.monotonic() - started
            done = loop.step == loop.steps
            if loop.step % settings.log_every == 0 or done:
                _log(loop, parts, bar)
            whole = loop.step % settings.validate_every == 0 or done
            if whole or loop.step in early:
                loop.act(loop.validate(whole=whole))
                loop.window.reset(loop.jets)
                done = loop.step == loop.steps
            signal = _any_signal(watch.received, fabric)
            late = fabric.broadcast(time.monotonic() - saved >= 60 * settings.checkpoint_minutes)
            if signal or late or done:
                loop.save(run.checkpoint)
                saved = time.monotonic()
            if signal and not done:
                run.say(f"stopped at step {loop.step} of {loop.steps}; --resume goes on from here")
                raise Interrupted(signal)
    return Fit(loop.step, loop.jets, loop.seconds, loop.nonfinite.total)


def _log(loop: Loop, parts: dict[str, float], bar: Bar) -> None:
    rates = loop.window.rates(loop.jets)
    record = {"step": loop.step, "kind": "train", **parts, "lr": loop.lr, **rates}
    epoch = loop.jets / max(1, loop.stream.jets_per_epoch)
    skipped = {"skipped": sum(loop.stream.skipped.values())} if loop.stream.skipped else {}
    if loop.nonfinite.total:
        skipped["skipped_steps"] = loop.nonfinite.total
    loop.run.log({**record, "epoch": epoch, **skipped, "seconds": loop.seconds})
    bar.to(loop.step, f"loss {parts['loss']:.4f}  {rates['jets_per_second']:.0f} jets/s")


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed torch's generators for one step of one rank."""
    torch.manual_seed(hash((seed, step, rank)) % 2**63)


def _any_signal(received: int, fabric: Fabric) -> int:
    """The signal that any rank received, so that all ranks stop at the same step."""
    if fabric.world_size == 1:
        return received
    number = torch.tensor(received, device=fabric.device)
    dist.all_reduce(number, op=dist.ReduceOp.MAX)
    return int(number)
