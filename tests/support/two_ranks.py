"""Two optimizer steps of each method, on one rank's share of every batch: the r-th part is rank r's."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ssl_jets import methods
from ssl_jets.config import TrainSettings
from ssl_jets.jets import Jets
from ssl_jets.training import state
from ssl_jets.training.fabric import make_fabric
from ssl_jets.training.loop import fit
from ssl_jets.training.run_folder import TrainingRun
from support.content_masks import chance_by_content
from support.small_models import build_method

State = dict[str, Tensor]
STEPS, JETS = 2, 16
GENTLE = {"vicreg": {"invariance": 1.0, "variance": 1.0, "covariance": 0.04}}
"""The ratios of the defaults, a 25th of their size: steps of plain descent as long as theirs would blow up rounding."""


class Batches:
    """The given batches in turn, cut to the share of one rank."""

    def __init__(self, batches: list[Jets], rank: int, world: int) -> None:
        self.shares = iter([batch.select(torch.arange(len(batch)).chunk(world)[rank]) for batch in batches])
        self.jets_per_epoch, self.wait_seconds, self.skipped = JETS, 0.0, Counter[str]()

    def __next__(self) -> Jets:
        return next(self.shares)

    def state_dict(self) -> dict[str, int]:
        return {}

    def resume(self, states: Sequence[Mapping[str, int]]) -> None:
        raise NotImplementedError


def plain_descent(method: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """In the place of AdamW, which would hide a gradient of wrong size and blow up rounding of zero gradients."""
    return torch.optim.SGD([parameter for parameter in method.parameters() if parameter.requires_grad], lr=settings.lr)


def seed_step(seed: int, step: int, rank: int) -> None:
    """In the place of `state.seed_step`: all ranks draw by content with the same salts."""
    torch.manual_seed(1000 * seed + step)


def train_all(batches: list[Jets], world: int) -> dict[str, State]:
    """The state of every method after training on `batches`, cut over the ranks of this launch."""
    state.make_optimizer = plain_descent  # type: ignore[assignment]
    state.seed_step = seed_step
    settings = TrainSettings(
        steps=STEPS, batch_size=JETS // world, lr=0.5, clip=1e9, warmup=0, precision="32-true", log_every=1
    )
    fabric = make_fabric(settings)
    assert fabric.world_size == world
    trained = {}
    for name in methods.names():
        method = build_method(name, batches[0], **GENTLE.get(name, {}))
        with tempfile.TemporaryDirectory() as folder:
            run = TrainingRun(Path(folder), writes=fabric.is_global_zero)
            run.checkpoint.parent.mkdir()
            with chance_by_content():
                fit(method, Batches(batches, fabric.global_rank, world), run, settings, fabric=fabric)
        trained[name] = {key: value.clone() for key, value in method.state_dict().items()}
    return trained


def train_on_rank(batches: Path, out: Path) -> None:
    """Save the state of every method after training on this rank's share of each batch as `out`/RANK.pt."""
    states = train_all(torch.load(batches, weights_only=False), world=2)
    torch.save(states, out / f"{torch.distributed.get_rank()}.pt")
