"""Two optimizer steps of each method, on one rank's share of every batch: the r-th part is rank r's."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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
from ssl_jets.errors import SslJetsError
from ssl_jets.jets import Jets
from ssl_jets.methods._method import Method
from ssl_jets.runtime.signals import Interrupted
from ssl_jets.training import checkpoint, state
from ssl_jets.training.fabric import make_fabric
from ssl_jets.training.loop import fit
from ssl_jets.training.placement import Placement
from ssl_jets.training.run_folder import TrainingRun
from support.content_masks import chance_by_content
from support.small_models import build_method

State = dict[str, Tensor]
STEPS, JETS, BLOCKS = 2, 16, 2
SHARDED = ("byol", "supcon", "tokenizer")
"""Methods that the quick launch trains sharded: a moving teacher, jets compared over the ranks, codes. A slow launch
trains all others."""
GENTLE = {"vicreg": {"invariance": 1.0, "variance": 1.0, "covariance": 0.04}}
"""The ratios of the defaults, a 25th of their size: steps of plain descent as long as theirs would blow up rounding."""


class Batches:
    """The given batches in turn, cut to the share of one rank, each share in `accumulate` parts."""

    def __init__(self, batches: list[Jets], rank: int, world: int, accumulate: int = 1) -> None:
        shares = [torch.arange(len(batch)).chunk(world)[rank].chunk(accumulate) for batch in batches]
        self.shares = iter([batch.select(part) for batch, parts in zip(batches, shares) for part in parts])
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


def train_all(
    names: Iterable[str], batches: list[Jets], world: int, strategy: Literal["ddp", "fsdp"] = "ddp", **more: Any
) -> dict[str, State]:
    """The state of these methods after training on `batches`, cut over the ranks of this launch."""
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
        **more,
    )
    fabric = make_fabric(settings)
    assert fabric.world_size == world
    trained = {}
    for name in names:
        # Other weights on the second rank: all train those of the first.
        method = build_method(name, batches[0], fabric.global_rank, blocks=BLOCKS, **GENTLE.get(name, {}))
        with tempfile.TemporaryDirectory() as folder:
            run = TrainingRun(Path(folder), writes=fabric.is_global_zero)
            run.checkpoint.parent.mkdir()
            stream = Batches(batches, fabric.global_rank, world, settings.accumulate)
            with chance_by_content():
                sharded = fit_and_see_shards(method, stream, run, settings, fabric)
        assert sharded == (strategy == "fsdp")
        trained[name] = {key: value.clone() for key, value in method.state_dict().items()}
    return trained


def train_on_rank(batches: Path, out: Path) -> None:
    """Save the state of every method after training on this rank's share of each batch as `out`/RANK.pt."""
    jets = torch.load(batches, weights_only=False)
    states: dict[str, Any] = {"ddp": train_all(methods.names(), jets, 2), "fsdp": train_all(SHARDED, jets, 2, "fsdp")}
    states["resumed"] = resume_either_way(jets[0], out)
    states["apart"] = resume_apart(jets[0], out)
    torch.save(states, out / f"{torch.distributed.get_rank()}.pt")


def train_others_on_rank(batches: Path, out: Path) -> None:
    """Save the states of all other methods trained sharded, and of one with both strategies and accumulated batches."""
    jets = torch.load(batches, weights_only=False)
    others = [name for name in methods.names() if name not in SHARDED]
    states: dict[str, Any] = {"fsdp": train_all(others, jets, 2, "fsdp")}
    for strategy in ("ddp", "fsdp"):
        long = {"accumulate": 2, "checkpointing": strategy == "fsdp"}
        states[f"accumulated {strategy}"] = train_all(["mae"], jets, 2, strategy, **long)  # type: ignore[arg-type]
    torch.save(states, out / f"{torch.distributed.get_rank()}.pt")


def resume_apart(jets: Jets, out: Path) -> str:
    """The message of a training that goes on where the second machine does not have the folder of the first."""
    checkpoint.VISIBLE_WITHIN = 0.0
    first = torch.distributed.get_rank() == 0
    run = TrainingRun(out / "ddp-ddp" if first else out / "elsewhere", writes=first)
    settings = TrainSettings(steps=5, batch_size=JETS // 2, precision="32-true")
    method, stream = build_method("byol", jets, blocks=BLOCKS), Interrupting(jets, 0)
    try:
        fit(method, stream, run, settings, fabric=make_fabric(settings), resume=True)
    except SslJetsError as error:
        return str(error)
    return "no error"


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
