"""Mode `probe`: z is computed once, then only heads are trained on it."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from ssl_jets.data.files import count
from ssl_jets.data.skipped import require_jets
from ssl_jets.embedding.encoding import embed_jets, embed_parts
from ssl_jets.errors import SslJetsError, UsageError
from ssl_jets.finetuning.modes.base import FEW_PARAMETERS_LR_SCALE, Mode, Work
from ssl_jets.finetuning.objective import Objective
from ssl_jets.jets import Jets, concatenate
from ssl_jets.nn.collectives import alone
from ssl_jets.nn.encoder import parameter_count
from ssl_jets.nn.task_weights import TaskWeights
from ssl_jets.nn.tasks import Tasks
from ssl_jets.runtime.console import Bar
from ssl_jets.training.loop import Fit


class ProbeMode(Mode):
    """Only the heads learn."""

    def prepare(self, objective: Objective) -> None:
        """Freeze the encoder. A pool that has weights would have to learn them, which cached z cannot do."""
        fresh = self.settings.method.pool == "attention"
        if fresh and objective.encoder.pool is not None:
            hint = "--mode head trains the attention and the heads"
            raise UsageError("mode probe trains heads only", where="method.pool", found="attention", hint=hint)
        objective.encoder.requires_grad_(False)

    def train(self, objective: Objective, work: Work) -> Fit:
        """Compute z once, then train the heads on it."""
        started, train = time.monotonic(), work.settings.train
        steps = train.steps or 1

        def note(step: int, loss: float) -> None:
            if step % train.log_every == 0 or step == steps:
                work.run.log({"step": step, "kind": "train", "loss": loss, "seconds": time.monotonic() - started})

        train_heads(objective, work, note)
        return Fit(steps, steps * train.batch_size, time.monotonic() - started)

    def dry_run(self, objective: Objective, batches: Sequence[Jets], fabric: Fabric) -> float:
        """Seconds of z of a batch, which is computed once for all steps, and a step of the heads on it."""
        seconds, train = [], self.settings.train
        for jets in batches:
            began = time.perf_counter()
            z = embed_jets(objective.encoder, jets, device=fabric.device, batch=len(jets), precision=train.precision)
            options: Any = {"steps": 1, "batch_size": len(jets), "seed": 0}
            fit_heads(z, jets, objective.tasks, objective.weights, lr=train.lr, **options)
            seconds.append(time.perf_counter() - began)
        return min(seconds[1:])


def heads_first(objective: Objective, work: Work) -> None:
    """LP-FT (arXiv:2202.10054): the heads on the frozen z first. A run that goes on has them in its checkpoint."""
    if work.settings.method.probe_first and not (work.resume and work.run.begun):
        train_heads(objective, work)


def train_heads(objective: Objective, work: Work, note: Callable[[int, float], None] = lambda step, loss: None) -> None:
    """Compute z once, then train the heads on it. Every rank does the same work: heads are trained in seconds."""
    train = work.settings.train
    steps = train.steps or 1
    z, targets = cached_z(objective, work)
    weighing = objective.source_weights
    jet_weights = None if weighing is None else weighing.ratio(z)
    learned = parameter_count(objective.tasks)
    work.run.say(f"probe: z of {len(z):,} jets computed; heads of {learned:,} parameters, {steps} steps")
    with Bar("finetune probe", steps, "steps", shown=work.run.writes) as bar:

        def progress(step: int, loss: float) -> None:
            bar.to(step, f"loss {loss:.4f}")
            note(step, loss)

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


def cached_z(objective: Objective, work: Work) -> tuple[Tensor, Jets]:
    """z `[jet, dim]` of the jets that have a target, and these jets without their particles."""
    train = work.settings.train
    options: Any = {"device": work.fabric.device, "precision": train.precision, "batch": train.batch_size}

    def batches() -> Iterator[tuple[Jets, Tensor]]:
        if work.subset is not None:
            yield work.subset, embed_jets(objective.encoder, work.subset, **options)
            return
        files, parts = work.data.files, work.data.train
        skipped: Counter[str] = Counter()
        with Bar("z for the probe", count(parts), "jets", shown=work.run.writes) as bar:
            more: Any = {"progress": bar.to_of, "skipped": skipped, **options}
            yield from embed_parts(objective.encoder, files, parts, work.request, **more)
        if skipped:
            work.run.log_left_out(0, skipped)

    found: list[tuple[Jets, Tensor]] = []
    for jets, z in batches():
        chosen = objective.tasks.has(jets).nonzero()[:, 0]
        bare = replace(jets, particles=jets.particles[:0], offsets=torch.zeros_like(jets.offsets))
        found.append((bare.select(chosen), z[chosen]))
    require_jets(sum(len(z) for _, z in found), "with a target to learn from")
    return torch.cat([z for _, z in found]), concatenate([jets for jets, _ in found])


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

    They are trained on standardised z; the standardisation is then folded into their first layers, so that they read z
    as the encoder gives it.

    Args:
        z: float `[jet, dim]`.
        jets: the same jets: their labels and targets; particles are not looked at.
        tasks: trained in place.
        weights: of the tasks, trained in place.
        steps: optimizer steps.
        batch_size: jets of a step.
        lr: peak learning rate.
        seed: of the batches.
        jet_weights: factor on the loss of each jet, `[jet]`.
        progress: called with the step and its loss.

    Returns:
        The loss of the last step.
    """
    mean, std = z.mean(0), z.std(0, correction=0).clamp(min=1e-6)
    optimizer = torch.optim.Adam([*tasks.parameters(), *weights.parameters()], lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(z), generator=generator)
    loss = torch.zeros(())
    for step in range(steps):
        if len(order) < min(batch_size, len(z)):
            order = torch.cat([order, torch.randperm(len(z), generator=generator)])
        rows, order = order[:batch_size], order[batch_size:]
        of_rows = None if jet_weights is None else jet_weights[rows]
        losses, _ = tasks((z[rows] - mean) / std, jets.select(rows), of_rows)
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
    """Let heads that were trained on (z - mean) / std read z."""
    for head in (tasks.head, tasks.regressor):
        if head is not None:
            first = head.layers[0]
            assert isinstance(first, nn.Linear)
            first.weight.copy_(first.weight / std)
            first.bias.copy_(first.bias - first.weight @ mean)
