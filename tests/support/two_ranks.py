"""Two optimizer steps of each method, on one rank's share of every batch: the r-th part is rank r's."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ssl_jets import methods
from ssl_jets.config import TrainSettings
from ssl_jets.data.loading.in_memory import MemoryStream
from ssl_jets.jets import Jets
from ssl_jets.methods._method import Method
from ssl_jets.runtime.signals import Interrupted
from ssl_jets.training import state
from ssl_jets.training.fabric import make_fabric
from ssl_jets.training.loop import fit
from ssl_jets.training.placement import Placement
from ssl_jets.training.run_folder import TrainingRun
from support.content_masks import chance_by_content
from support.small_models import build_method

State = dict[str, Tensor]
STEPS, JETS, BLOCKS = 2, 16, 2
SHARDED = ("byol", "dino", "mae", "supervised", "tokenizer")
"""Methods that are trained sharded as well: teachers, prototypes, decoders, heads, codes."""
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


def fit_and_see_shards(method: Method, stream: Any, run: TrainingRun, settings: TrainSettings, fabric: Fabric) -> bool:
    """Train a method; True if this rank held parts of its weights only."""
    placements = []

    class Seen(Placement):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            placements.append(self)

    state.Placement = Seen  # type: ignore[misc]
    fit(method, stream, run, settings, fabric=fabric, resume=True)
    state.Placement = Placement  # type: ignore[misc]
    whole = sum(weight.numel() for weight in method.parameters())
    kept = [w.to_local() if isinstance(w, DTensor) else w for w in placements[0].trained.parameters()]
    return sum(weight.numel() for weight in kept) < 0.6 * whole


def train_all(batches: list[Jets], world: int, strategy: Literal["ddp", "fsdp"] = "ddp") -> dict[str, State]:
    """The state of every method after training on `batches`, cut over the ranks of this launch."""
    state.make_optimizer = plain_descent  # type: ignore[assignment]
    state.seed_step = seed_step
    settings = TrainSettings(
        steps=STEPS,
        batch_size=JETS // world,
        lr=0.5,
        clip=1e9,
        warmup=0,
        precision="32-true",
        log_every=1,
        strategy=strategy,
    )
    fabric = make_fabric(settings)
    assert fabric.world_size == world
    trained = {}
    for name in SHARDED if strategy == "fsdp" else methods.names():
        method = build_method(name, batches[0], blocks=BLOCKS, **GENTLE.get(name, {}))
        with tempfile.TemporaryDirectory() as folder:
            run = TrainingRun(Path(folder), writes=fabric.is_global_zero)
            run.checkpoint.parent.mkdir()
            with chance_by_content():
                sharded = fit_and_see_shards(method, Batches(batches, fabric.global_rank, world), run, settings, fabric)
        assert sharded == (strategy == "fsdp")
        trained[name] = {key: value.clone() for key, value in method.state_dict().items()}
    return trained


def train_on_rank(batches: Path, out: Path) -> None:
    """Save the state of every method after training on this rank's share of each batch as `out`/RANK.pt."""
    jets = torch.load(batches, weights_only=False)
    states: dict[str, Any] = {strategy: train_all(jets, 2, strategy) for strategy in ("ddp", "fsdp")}
    states["resumed"] = resume_either_way(jets[0], out)
    torch.save(states, out / f"{torch.distributed.get_rank()}.pt")


class Interrupting(MemoryStream):
    """A stream that ends like a killed training, after some batches."""

    def __init__(self, jets: Jets, most: int) -> None:
        super().__init__(jets, batch_size=JETS // 2, seed=0, rank=torch.distributed.get_rank(), world=2)
        self.left = most

    def __next__(self) -> Jets:
        if not self.left:
            raise Interrupted(15)
        self.left -= 1
        return super().__next__()


def heavy_ball(method: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """Descent with moments, which checkpoints hold."""
    weights = [parameter for parameter in method.parameters() if parameter.requires_grad]
    return torch.optim.SGD(weights, lr=settings.lr, momentum=0.9)


def resume_either_way(jets: Jets, out: Path) -> dict[str, dict[str, Any]]:
    """Four steps of BYOL by pairs of strategies, two steps each: the checkpoint between them, and the last one."""
    state.make_optimizer = heavy_ball  # type: ignore[assignment]
    checkpoints = {}
    for first, second in (("ddp", "ddp"), ("ddp", "fsdp"), ("fsdp", "ddp"), ("fsdp", "fsdp")):
        run = TrainingRun(out / f"{first}-{second}", writes=torch.distributed.get_rank() == 0)
        run.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        torch.distributed.barrier()
        halves = []
        for strategy, most in ((first, 2), (second, 4)):
            settings = TrainSettings(
                steps=4, batch_size=JETS // 2, lr=0.1, precision="32-true", checkpoint_minutes=0, strategy=strategy
            )
            method, stream = build_method("byol", jets, blocks=BLOCKS), Interrupting(jets, most)
            with suppress(Interrupted):
                fit_and_see_shards(method, stream, run, settings, make_fabric(settings))
            halves.append(torch.load(run.checkpoint))
            torch.distributed.barrier()
        checkpoints[f"{first}-{second}"] = {"half": halves[0], "whole": halves[1]}
    return checkpoints
