"""Mode `probe`: heads trained on z, which is computed once."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, ClassVar

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from ssl_jets.data.files import count
from ssl_jets.data.skipped import require_jets
from ssl_jets.embedding.encoding import embed_parts
from ssl_jets.errors import SslJetsError, UsageError
from ssl_jets.finetuning.modes.base import FEW_PARAMETERS_LR_SCALE, Mode
from ssl_jets.finetuning.objective import Objective
from ssl_jets.finetuning.settings import FinetuneSettings
from ssl_jets.jets import Jets, concatenate
from ssl_jets.model import embed_jets
from ssl_jets.nn.collectives import alone
from ssl_jets.nn.encoder import parameter_count
from ssl_jets.nn.normalize import nonzero_std
from ssl_jets.nn.task_weights import TaskWeights
from ssl_jets.nn.tasks import Tasks
from ssl_jets.runtime.console import Bar
from ssl_jets.training.run_setup import TrainingInputs
from ssl_jets.training.state import FitResult


class ProbeMode(Mode):
    """Training of the heads only."""

    def prepare(self, objective: Objective) -> None:
        """Freeze the encoder. A new attention pool is refused: its weights cannot be trained on cached z."""
        fresh = self.settings.method.pool == "attention"
        if fresh and objective.encoder.pool is not None:
            hint = "--mode head trains the attention and the heads"
            raise UsageError("mode probe trains heads only", where="method.pool", found="attention", hint=hint)
        objective.encoder.requires_grad_(False)

    def train(self, objective: Objective, inputs: TrainingInputs[FinetuneSettings]) -> FitResult:
        """Compute z once, then train the heads on it."""
        started, train = time.monotonic(), inputs.settings.train
        steps = train.steps or 1

        def log_step(step: int, loss: float) -> None:
            if step % train.log_every == 0 or step == steps:
                inputs.run.log_metrics(
                    {"step": step, "kind": "train", "loss": loss, "seconds": time.monotonic() - started}
                )

        with closing(inputs.run.loggers):
            jets = train_heads(objective, inputs, log_step)
        return FitResult(steps, steps * jets, time.monotonic() - started)

    def dry_run(self, objective: Objective, batches: Sequence[Jets], fabric: Fabric) -> float:
        """Measure the seconds of computing z of a batch, once for all steps, plus one step of the heads on it."""
        seconds, train = [], self.settings.train
        for jets in batches:
            began = time.perf_counter()
            z = embed_jets(objective.encoder, jets, device=fabric.device, batch=len(jets), precision=train.precision)
            options: Any = {"steps": 1, "batch_size": len(jets), "seed": 0}
            fit_heads(z, jets, objective.tasks, objective.weights, lr=train.lr, **options)
            seconds.append(time.perf_counter() - began)
        return min(seconds[1:])


class EncoderMode(Mode):
    """Base of the modes that train weights of the encoder."""

    own_settings: ClassVar[tuple[str, ...]] = ("probe_first",)

    def train(self, objective: Objective, inputs: TrainingInputs[FinetuneSettings]) -> FitResult:
        """Train, with `method.probe_first` after the heads alone on the frozen z (LP-FT, arXiv:2202.10054)."""
        if inputs.settings.method.probe_first and inputs.begins:  # a resumed run has the heads in its checkpoint
            train_heads(objective, inputs)
        return super().train(objective, inputs)


def train_heads(
    objective: Objective,
    inputs: TrainingInputs[FinetuneSettings],
    log_step: Callable[[int, float], None] = lambda step, loss: None,
) -> int:
    """Compute z once, then train the heads on it; return the number of jets of a step.

    Every rank does all of the work, which takes seconds.
    """
    train = inputs.settings.train
    steps = train.steps or 1
    z, targets = cached_z(objective, inputs)
    source_weights = objective.source_weights
    jet_weights = None if source_weights is None else source_weights.ratio(z)
    trained = parameter_count(objective.tasks)
    inputs.run.log_message(f"probe: z of {len(z):,} jets computed; heads of {trained:,} parameters, {steps} steps")
    with Bar("finetune probe", steps, "steps", shown=inputs.run.writes) as bar:

        def progress(step: int, loss: float) -> None:
            bar.to(step, f"loss {loss:.4f}")
            log_step(step, loss)

        options: Any = {"steps": steps, "batch_size": train.batch_size, "seed": train.seed, "jet_weights": jet_weights}
        with alone():
            fit_heads(
                z,
                targets,
                objective.tasks,
                objective.weights,
                lr=FEW_PARAMETERS_LR_SCALE * train.lr,
                progress=progress,
                **options,
            )
    return min(train.batch_size, len(z))


def cached_z(objective: Objective, inputs: TrainingInputs[FinetuneSettings]) -> tuple[Tensor, Jets]:
    """Compute z `[jet, dim]` of the jets with a target; return it with these jets, without their particles."""
    train = inputs.settings.train
    options: Any = {"device": inputs.fabric.device, "precision": train.precision, "batch": train.batch_size}

    def batches() -> Iterator[tuple[Jets, Tensor]]:
        if inputs.subset is not None:
            yield inputs.subset, embed_jets(objective.encoder, inputs.subset, **options)
            return
        files, parts = inputs.data.files, inputs.data.train
        skipped: Counter[str] = Counter()
        with Bar("z for the probe", count(parts), "jets", shown=inputs.run.writes) as bar:
            reading: Any = {"progress": bar.to_of, "skipped": skipped, **options}
            yield from embed_parts(objective.encoder, files, parts, inputs.request, **reading)
        if skipped:
            inputs.run.log_skipped(0, skipped)

    all_jets: list[Jets] = []
    all_z: list[Tensor] = []
    for jets, z in batches():
        rows = objective.tasks.has(jets).nonzero()[:, 0]
        without_particles = replace(
            jets, particles=jets.particles[:0], offsets=torch.zeros_like(jets.offsets), collections={}
        )
        all_jets.append(without_particles.select(rows))
        all_z.append(z[rows])
    require_jets(sum(map(len, all_z)), "with a target to learn from")
    return torch.cat(all_z), concatenate(all_jets)


def fit_heads(
    z: Tensor,
    jets: Jets,
    tasks: Tasks,
    weights: TaskWeights,
    *,
    steps: int,
    batch_size: int,
    lr: float,
    seed: int,
    jet_weights: Tensor | None = None,
    progress: Callable[[int, float], None] = lambda step, loss: None,
) -> float:
    """Train the heads of `tasks` on z with Adam and a cosine schedule.

    They are trained on standardized z; mean and standard deviation are then folded into their first layers, so that
    they take z of the encoder as input.

    Args:
        z: representation, float `[jet, dim]`.
        jets: the same jets with their labels and targets; particles are not used.
        tasks: the heads, trained in place.
        weights: weights of the tasks, trained in place.
        steps: optimizer steps.
        batch_size: jets of a step.
        lr: peak learning rate of the heads; the uncertainties have it divided by `FEW_PARAMETERS_LR_SCALE`.
        seed: seed of the order of the batches.
        jet_weights: factor on the loss of each jet, `[jet]`.
        progress: called with the step and its loss.

    Returns:
        The loss of the last step.
    """
    mean, std = z.mean(0), nonzero_std(z)  # jets that differ in a constant number must not decide every score
    groups: list[dict[str, Any]] = [{"params": list(tasks.parameters())}]
    if uncertainties := list(weights.parameters()):
        groups.append({"params": uncertainties, "lr": lr / FEW_PARAMETERS_LR_SCALE})
    optimizer = torch.optim.Adam(groups, lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(z), generator=generator)
    loss = torch.zeros(())
    for step in range(steps):
        if len(order) < min(batch_size, len(z)):
            order = torch.cat([order, torch.randperm(len(z), generator=generator)])
        rows, order = order[:batch_size], order[batch_size:]
        batch_weights = None if jet_weights is None else jet_weights[rows]
        losses, _ = tasks((z[rows] - mean) / std, jets.select(rows), batch_weights)
        loss = weights(losses)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        weights.clamp()
        schedule.step()
        value = float(loss.detach())
        if not math.isfinite(value):
            hint = f"a smaller --set train.lr={lr / FEW_PARAMETERS_LR_SCALE / 4:g}"
            raise SslJetsError("the loss of the heads is not finite", where=f"step {step}", found=value, hint=hint)
        progress(step + 1, value)
    fold(tasks, mean, std)
    return float(loss.detach())


@torch.no_grad()
def fold(tasks: Tasks, mean: Tensor, std: Tensor) -> None:
    """Fold (z - mean) / std into the first layer of the heads: W (z - m) / s + b = (W / s) z + b - (W / s) m."""
    for head in (tasks.head, tasks.regressor):
        if head is not None:
            first = head.layers[0]
            assert isinstance(first, nn.Linear)
            first.weight.copy_(first.weight / std)
            first.bias.copy_(first.bias - first.weight @ mean)  # the new weight
