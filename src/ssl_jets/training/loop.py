"""fit(): one training loop for every method, on Lightning Fabric.

Fabric handles devices, DDP, precision and launch; the loop handles the schedule, clipping, metrics, checkpoints and
the signal that ends a batch job. A step, a validation and a checkpoint are in `state.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace

import torch
import torch.distributed as dist
from lightning_fabric import Fabric

from ssl_jets.config import TrainSettings
from ssl_jets.data.loading.base import Stream
from ssl_jets.diagnostics.monitor import Monitor
from ssl_jets.diagnostics.results import joined
from ssl_jets.errors import DataError
from ssl_jets.methods._method import Method
from ssl_jets.runtime.console import Bar
from ssl_jets.runtime.signals import Interrupted, watched
from ssl_jets.training.resume import goes_on
from ssl_jets.training.run_folder import TrainingRun
from ssl_jets.training.state import FitResult, TrainingState

FIRST_CHECK_DIVISORS = (8, 4, 2)
"""The first collapse checks come at `validate_every` divided by these: 250 -> steps 31, 62, 125."""


def fit(
    method: Method,
    stream: Stream,
    run: TrainingRun,
    settings: TrainSettings,
    *,
    fabric: Fabric,
    monitor: Monitor | None = None,
    file_names: Sequence[str] = (),
    resume: bool = False,
    title: str = "training",
    snapshot: Callable[[FitResult], None] | None = None,
) -> FitResult:
    """Train `method` on `stream`; metrics and checkpoints go to `run`.

    Args:
        method: the method, on the CPU; Fabric moves it to the device.
        stream: endless stream of batches of this rank.
        run: an existing run folder.
        settings: length, schedule, optimizer.
        fabric: launched Fabric (`make_fabric`).
        monitor: validation on held-out jets; None for no validation.
        file_names: name of each source file, for messages.
        resume: continue from `run.checkpoint` if it exists.
        title: title of the progress bar.
        snapshot: called every `train.snapshot_minutes`; writes the model as it is.

    Raises:
        Interrupted: a signal came; the checkpoint is saved.
        SslJetsError: the loss or the gradient is not finite (in several steps in a row, if such steps are skipped), the
            representation has collapsed with `train.on_collapse=stop` (the checkpoint is saved), or the disk is full.
    """
    state = TrainingState(method, stream, run, settings, fabric, monitor, file_names)
    if goes_on(run, fabric, resume=resume):
        state.resume()
        if state.step == state.steps and state.has_to_stop:
            raise state.collapse_error()  # of the last validation: no step is left in which it could recover
    every = settings.validate_every
    early_checks = {every // divisor for divisor in FIRST_CHECK_DIVISORS if every >= 10 * divisor}
    if early_checks and not state.step:  # the reference of later checks
        state.validate(whole=False)
    started = time.monotonic() - state.seconds
    saved = snapped = time.monotonic()
    state.throughput.reset(state.jets)
    bar = Bar(title, state.steps, "steps", shown=run.writes)
    with watched() as watch, bar, closing(run.loggers), _suggesting_resume(state):
        watch.at_once = False
        while state.step < state.steps:
            parts = state.take_step()
            state.seconds = time.monotonic() - started
            done = state.step == state.steps
            if state.step % settings.log_every == 0 or done:
                _log_step(state, parts, bar)
            whole = state.step % every == 0 or done
            if whole or state.step in early_checks:
                state.stop_on_collapse(state.validate(whole=whole))
                state.throughput.reset(state.jets)
            now, snapshot_minutes = time.monotonic(), settings.snapshot_minutes
            checkpoint_due = now - saved >= 60 * settings.checkpoint_minutes
            snapshot_due = snapshot_minutes is not None and now - snapped >= 60 * snapshot_minutes
            signal, checkpoint_due, snapshot_due = _agree(fabric, watch.received, checkpoint_due, snapshot_due)
            if signal or checkpoint_due or done:
                state.save(run.checkpoint)
                saved = time.monotonic()
            if snapshot is not None and snapshot_due and not done:
                state.placement.gather()
                snapshot(state.result())
                snapped = time.monotonic()
            if signal and not done:
                step = f"step {state.step} of {state.steps}"
                run.log_message(f"stopped at {step}; --resume goes on from here")
                same_call = f"the same call with out={str(run.folder)!r}, resume=True"
                raise Interrupted(signal, f"{same_call} goes on from {step}")
    state.placement.gather()
    best = state.best.restore(method)
    if best is not None:
        run.log_message(
            f"the model is of step {best}, the best of all validations: {state.best.name} {state.best.value:.4g}"
        )
        run.log_message("note: the held-out jets chose these weights; jets of other files test them without bias")
    elif settings.keep == "best":
        name = state.best.name
        run.log_message(f"warning: no validation without a collapse has {name}: the model is of the last step")
    return replace(state.result(), best_step=best)


@contextmanager
def _suggesting_resume(state: TrainingState) -> Iterator[None]:
    """Add the step of the last checkpoint to the error of a file that has become unreadable."""
    try:
        yield
    except DataError as error:
        if state.saved:
            error.suggest(f"--resume goes on from step {state.saved} once the files are as they were")
        raise


def _log_step(state: TrainingState, parts: dict[str, float], bar: Bar) -> None:
    rates = state.throughput.rates(state.jets)
    epoch = state.jets / max(1, state.stream.jets_per_epoch)
    record = {"step": state.step, "kind": "train"}
    more = {"lr": state.lr, **rates, "epoch": epoch}
    if state.stream.skipped:
        more["skipped"] = sum(state.stream.skipped.values())
    if state.nonfinite.total:
        more["skipped_steps"] = state.nonfinite.total
    state.run.log_metrics(record | joined(parts, {**record, **more, "seconds": state.seconds}))
    if not (parts["loss"] or parts["grad_norm"] or state.idle):
        state.idle = True
        state.run.log_message(f"warning: step {state.step}: loss and gradient are 0, so nothing is learned")
    bar.to(state.step, f"loss {parts['loss']:.4f}  {rates['jets_per_second']:.0f} jets/s")


def _agree(fabric: Fabric, received: int, checkpoint_due: bool, snapshot_due: bool) -> tuple[int, bool, bool]:
    """Return the signal that any rank received, and whether a checkpoint or snapshot is due by the clock of rank 0.

    All ranks then stop and save at the same step. It is one exchange a step.
    """
    if fabric.world_size == 1:
        return received, checkpoint_due, snapshot_due
    first = fabric.is_global_zero
    numbers = torch.tensor([received, first and checkpoint_due, first and snapshot_due], device=fabric.device)
    dist.all_reduce(numbers, op=dist.ReduceOp.MAX)
    signal, checkpoint, snapshot = numbers.tolist()
    return signal, bool(checkpoint), bool(snapshot)
