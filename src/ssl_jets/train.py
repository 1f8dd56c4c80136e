"""fit(): one training loop for every method, on Lightning Fabric.

Devices, DDP, precision and launch are Fabric's. Ours are the schedule, clipping, metrics, checkpoints and the
signal that ends a batch job. Every step seeds torch's generators with (seed, step, rank), so that a resumed run draws
the numbers an uninterrupted one would have drawn, and nothing about them has to be saved.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.plugins import TorchCheckpointIO
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from torch import Tensor

from ssl_jets.config import TrainSettings
from ssl_jets.errors import SslJetsError, UsageError
from ssl_jets.jets import Jets
from ssl_jets.launch import join_srun
from ssl_jets.methods._method import Method
from ssl_jets.monitor import YOUNG, Monitor
from ssl_jets.nn.collapse import Verdict
from ssl_jets.nn.collectives import alone
from ssl_jets.nn.trunk import Trunk
from ssl_jets.optimizer import let_rest, make_optimizer, set_rates
from ssl_jets.output import real, sync
from ssl_jets.precision import resolve_precision
from ssl_jets.progress import Bar
from ssl_jets.ranks import Ranks, lost_another
from ssl_jets.run import Run
from ssl_jets.schedule import Schedule
from ssl_jets.signals import Interrupted, Watch
from ssl_jets.streams import Rates, Stream

EARLY = (8, 4, 2)
"""The first checks for a collapse come after the first of these shares of `validate_every`."""
ROLLBACKS = 3
"""Times that a training is rolled back before it is stopped."""
UNSAID = ("z_std_min", "z_mean_cosine", "z_uniformity")
"""Measures that are logged, but not said on the terminal."""


class StraightToDisk(TorchCheckpointIO):
    """Fabric writes a checkpoint to memory first, twice. Here it goes to a file that is renamed when it is whole."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write it."""
        torch.save(checkpoint, path)
        sync(Path(path))


@dataclass
class Fit:
    """What a finished training amounts to."""

    steps: int
    jets: int
    seconds: float


def make_fabric(settings: TrainSettings) -> Fabric:
    """Fabric for these settings; under torchrun or srun it joins the processes already launched."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    devices: int | str = settings.devices or ("auto" if device == "cuda" else 1)
    nodes = 1
    join_srun()
    joins = "RANK" in os.environ  # Fabric sets none in the processes that it starts
    if joins:
        world = int(os.environ["WORLD_SIZE"])
        devices = int(os.environ.get("LOCAL_WORLD_SIZE", world))
        nodes = world // devices
        if device == "cuda" and torch.cuda.device_count() < devices:
            hint = "srun --gpus-per-node=N --gpu-bind=none"
            raise UsageError("a process sees fewer GPUs than its machine has processes", hint=hint)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # what it is using is in config.yaml
    fabric = Fabric(
        accelerator=device,
        devices=devices,
        num_nodes=nodes,
        precision=resolve_precision(settings.precision, device),
        # Named, since Fabric's own for SLURM refuses several devices in one task, and several tasks in some jobs.
        plugins=[StraightToDisk(), TorchElasticEnvironment() if joins else LightningEnvironment()],
    )
    fabric.launch()
    return fabric


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
            if isinstance(module, Trunk):
                module.checkpointing = settings.checkpointing
        self.wrapped, self.optimizer = fabric.setup(method, make_optimizer(method, settings))
        self.step, self.jets, self.seconds, self.lr = 0, 0, 0.0, 0.0
        self.failed, self.lr_scale, self.rollbacks = False, 1.0, 0
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
        seed_step(settings.seed, self.step, fabric.global_rank)
        progress = self.schedule.progress(self.step)
        self.lr = self.learning_rate()
        set_rates(self.optimizer, self.lr, self.method.rates(progress))
        totals: dict[str, float] = {}
        for micro in range(settings.accumulate):
            jets = next(self.stream)
            moved = jets.to(fabric.device)
            with fabric.no_backward_sync(self.wrapped, enabled=micro < settings.accumulate - 1):
                parts = self.wrapped(moved, progress)
                self._refuse_nan(parts["loss"], jets, "the loss is not finite")
                fabric.backward(parts["loss"] / settings.accumulate)
            for name, value in parts.items():
                totals[name] = totals.get(name, 0.0) + float(value.detach()) / settings.accumulate
            self.jets += len(jets) * fabric.world_size
        let_rest(self.optimizer)
        norm = fabric.clip_gradients(self.wrapped, self.optimizer, max_norm=settings.clip, error_if_nonfinite=False)
        self._refuse_nan(norm, jets, "the gradient is not finite")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.method.after_step(self.schedule.progress(self.step + 1))
        self.step += 1
        return totals | {"grad_norm": float(norm)}  # type: ignore[arg-type]

    def _refuse_nan(self, value: Tensor | None, jets: Jets, what: str) -> None:
        if value is None or bool(torch.isfinite(value).all()):
            return
        rows = [] if jets.source is None else jets.source[:, 0].unique().tolist()
        names = ", ".join(self.file_names[row] for row in rows[:8])
        raise SslJetsError(
            what,
            where=f"step {self.step}, in a batch of jets from {names or 'unknown files'}",
            found=float(value.detach().float().mean()),
            hint=f"a smaller --set train.lr={self.settings.lr / 4:g}, or --set train.precision=32-true",
        )

    def save(self, path: Path) -> None:
        """Write a checkpoint, by all ranks together."""
        streams, left_out = zip(*self.ranks.gather((self.stream.state_dict(), self.stream.skipped)), strict=True)
        self._tell_left_out(sum(left_out, Counter[str]()))
        state = {
            "method": self.wrapped,
            "optimizer": self.optimizer,
            "streams": list(streams),
            "step": self.step,
            "schedule": asdict(self.schedule),
            "jets": self.jets,
            "seconds": self.seconds,
            "watch": {"failed": self.failed, "lr_scale": self.lr_scale, "rollbacks": self.rollbacks},
            "monitor": self.monitor.state_dict() if self.monitor is not None else {},
        }
        fresh = real(path).with_name(f".{path.name}.tmp")
        try:
            self.fabric.save(fresh, state)
        except (OSError, RuntimeError) as error:
            fresh.unlink(missing_ok=True)
            left = shutil.disk_usage(path.parent).free  # torch does not say that this is why
            said = [] if left < 1e6 else [str(error).partition("\n")[0]]
            found = "; ".join([*said, f"{left / 1e6:.0f} MB are left on the disk"])
            raise SslJetsError("the checkpoint cannot be written", where=path, found=found) from None
        self.fabric.barrier()
        if self.run.writes:
            os.replace(fresh, real(path))

    def _tell_left_out(self, left_out: Counter[str]) -> None:
        """What all ranks left out so far, said and logged where it has changed."""
        if left_out != self.told:
            self.told = left_out
            self.run.log_left_out(self.step, left_out)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint."""
        state: dict[str, Any] = {"method": self.wrapped, "optimizer": self.optimizer}
        try:
            rest = self.fabric.load(path, state)
        except (OSError, RuntimeError, EOFError, KeyError, UnpicklingError) as error:
            if isinstance(error, torch.OutOfMemoryError) or (isinstance(error, RuntimeError) and lost_another(error)):
                raise
            damaged = path == self.run.checkpoint and not isinstance(error, OSError)
            raise SslJetsError(
                "the checkpoint cannot be read, or is not one of this run",
                where=path,
                found=str(error).partition("\n")[0].partition(". ")[0],
                hint=f"rm {path}, after which --resume begins the run anew" if damaged else None,
            ) from error
        self.stream.resume(rest["streams"])
        self.step, self.jets, self.seconds = rest["step"], rest["jets"], rest["seconds"]
        watch = rest["watch"]
        self.failed, self.lr_scale, self.rollbacks = watch["failed"], watch["lr_scale"], watch["rollbacks"]
        if self.monitor is not None:
            self.monitor.load_state_dict(rest["monitor"])
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
            progress = self.schedule.progress(self.step)
            with self.fabric.autocast(), alone():
                if whole:
                    found = self.monitor.look(self.method, progress, young=self.step < YOUNG)
                else:
                    found = self.monitor.check(self.method, progress)
            verdicts = found.verdicts
            told = {"collapse": [verdict.name for verdict in verdicts]} if verdicts else {}
            self.run.log({"step": self.step, "kind": "validation" if whole else "check", **found.metrics, **told})
            said = (f"{name} {value:.4g}" for name, value in found.metrics.items() if name not in UNSAID)
            self.run.say(f"step {self.step}: held-out " + ", ".join(said))
            for verdict in verdicts:
                self.run.say(f"warning: step {self.step}: {verdict.text}")
        return self.fabric.broadcast(verdicts)

    def act(self, verdicts: list[Verdict]) -> None:
        """Stop or roll back at the second look in a row that found a collapse, where the settings say so."""
        again, self.failed = bool(verdicts) and self.failed, bool(verdicts)
        how = self.settings.on_collapse
        if how == "rollback" and not verdicts:
            self.save(self.run.healthy)
        if not again or how == "warn":
            return
        if how == "stop" or self.rollbacks == ROLLBACKS:
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
        SslJetsError: the loss or the gradient is not finite, the representation has collapsed and the settings say to
            stop (the checkpoint is saved), or the disk is full.
    """
    loop = Loop(method, stream, run, settings, fabric, monitor, file_names)
    if resume and run.checkpoint.is_file():
        loop.load(run.checkpoint)
        run.forget_after(loop.step)
        run.say(f"resumed at step {loop.step} of {loop.steps}")
    early = {settings.validate_every // share for share in EARLY if settings.validate_every >= 10 * share}
    if early and not loop.step:  # what later checks compare with
        loop.validate(whole=False)
    if settings.on_collapse == "rollback" and not run.healthy.is_file():
        loop.save(run.healthy)
    started = time.monotonic() - loop.seconds
    saved = time.monotonic()
    loop.window.reset(loop.jets)
    with Watch() as watch, Bar(title, loop.steps, "steps", shown=run.writes) as bar:
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
    return Fit(loop.step, loop.jets, loop.seconds)


def _log(loop: Loop, parts: dict[str, float], bar: Bar) -> None:
    rates = loop.window.rates(loop.jets)
    record = {"step": loop.step, "kind": "train", **parts, "lr": loop.lr, **rates}
    epoch = loop.jets / max(1, loop.stream.jets_per_epoch)
    skipped = {"skipped": sum(loop.stream.skipped.values())} if loop.stream.skipped else {}
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
