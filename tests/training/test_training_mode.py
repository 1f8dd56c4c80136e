"""Dropout is on in every step of a training, for every rank, and off in all that is frozen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ssl_jets.config import RunSettings, TrainSettings
from ssl_jets.diagnostics.monitor import Monitor
from ssl_jets.finetuning.modes import MODES
from ssl_jets.finetuning.objective import Objective
from ssl_jets.finetuning.settings import FinetuneSettings
from ssl_jets.jets import Jets
from ssl_jets.methods.supervised import Supervised
from ssl_jets.nn.ema import teacher_of
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.transformer import Block
from ssl_jets.runtime.signals import Interrupted
from ssl_jets.training.fabric import make_fabric
from ssl_jets.training.loop import fit
from ssl_jets.training.run_folder import TrainingRun
from ssl_jets.training.state import TrainingState
from support.batches import InOrder
from support.ranks import all_ranks
from support.small_models import CLASSES, made_jets, tiny_encoder

SETTINGS = TrainSettings(steps=4, batch_size=8, precision="32-true", log_every=1, checkpoint_minutes=0)


class Ending(InOrder):
    """A stream that ends after some batches, as a killed job does."""

    def __init__(self, jets: Jets, batch_size: int, most: int = 10**6) -> None:
        super().__init__(jets, batch_size)
        self.most = most * batch_size

    def __next__(self) -> Jets:
        if self.taken >= self.most:
            raise Interrupted(15)
        return super().__next__()

    def resume(self, states: Sequence[Mapping[str, int]]) -> None:
        super().resume(states)
        self.most = 10**6


def loaded_encoder(jets: Jets, **settings: Any) -> Encoder:
    """An encoder as `load_model` returns it: in evaluation mode."""
    return tiny_encoder(jets, blocks=2, dropout=0.3, drop_path=0.3, **settings).eval()


def supervised(jets: Jets) -> Supervised:
    encoder = loaded_encoder(jets)
    return Supervised(Supervised.Config(), encoder, CLASSES)


def weights_after(
    stream: InOrder, folder: Path, *, resume: bool = False, monitor: Monitor | None = None
) -> dict[str, Tensor]:
    run, method = TrainingRun(folder), supervised(stream.jets)
    if not resume:
        run.create(SETTINGS)
    with suppress(Interrupted):
        fit(method, stream, run, SETTINGS, fabric=make_fabric(SETTINGS), monitor=monitor, resume=resume)
    return method.state_dict()


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_resumed_run_with_dropout_is_the_uninterrupted_one(batch: Jets, tmp_path: Path) -> None:
    monitor = Monitor(batch.select(torch.arange(16)), 16, len(CLASSES))
    whole = weights_after(Ending(batch, 8), tmp_path / "whole", monitor=monitor)  # checked before its first step
    half = weights_after(Ending(batch, 8, most=2), tmp_path / "half", monitor=monitor)
    again = weights_after(Ending(batch, 8), tmp_path / "half", monitor=monitor, resume=True)  # not checked
    assert same(whole, again)
    assert not same(whole, half)


def test_a_validation_does_not_decide_on_dropout(batch: Jets, tmp_path: Path) -> None:
    monitor = Monitor(batch.select(torch.arange(16)), 16, len(CLASSES))
    with_check = weights_after(InOrder(batch, 8), tmp_path / "with", monitor=monitor)
    assert same(with_check, weights_after(InOrder(batch, 8), tmp_path / "without"))


def state_of(objective: Objective, jets: Jets, monitor: Monitor | None) -> TrainingState:
    run = TrainingRun(Path("/dev/null"), writes=False)
    return TrainingState(objective, InOrder(jets, 8), run, SETTINGS, make_fabric(SETTINGS), monitor, ())


@pytest.mark.parametrize(
    ("mode", "random_blocks"), [("head", []), ("last-blocks", [1]), ("lora", [0, 1]), ("full", [0, 1])]
)
def test_only_blocks_that_learn_are_random(mode: str, random_blocks: list[int], batch: Jets) -> None:
    if mode == "lora":
        pytest.importorskip("peft")
    cfg = FinetuneSettings(mode=mode, blocks=1)  # type: ignore[arg-type]
    objective = Objective(cfg, loaded_encoder(batch), CLASSES)
    MODES[mode](RunSettings(method=cfg)).prepare(objective)
    monitor = Monitor(batch.select(torch.arange(16)), 16, len(CLASSES))
    state = state_of(objective, batch, monitor)
    for _ in range(2):  # before and after a validation
        blocks = [number for number, block in enumerate(objective.encoder.transformer.blocks) if block.training]
        assert blocks == random_blocks
        torch.manual_seed(0)
        z = [objective.encoder(batch, z_only=True).z for _ in range(2)]
        assert torch.equal(*z) == (not random_blocks)
        monitor.check(objective, 0.0)
    assert state.placement.trained is objective


def test_a_validation_leaves_the_mode_of_every_module(batch: Jets) -> None:
    method = supervised(batch)
    method.tasks.train()
    before = [module.training for module in method.modules()]
    assert len(set(before)) == 2
    Monitor(batch.select(torch.arange(16)), 16, len(CLASSES)).check(method, 0.0)
    assert [module.training for module in method.modules()] == before


def test_a_teacher_stays_in_evaluation_mode(batch: Jets) -> None:
    teacher = teacher_of(tiny_encoder(batch, blocks=2, dropout=0.3)).train()
    assert not any(module.training for module in teacher.modules() if isinstance(module, Block))


def losses_on_rank(strategy: str, checked: bool, out: Path) -> None:
    """Save the first losses of this rank, and the modes of its blocks."""
    jets = made_jets([5] * 32)
    settings = SETTINGS.model_copy(update={"strategy": strategy, "steps": 3})
    fabric = make_fabric(settings)
    method = supervised(jets)
    run = TrainingRun(out / "run", writes=fabric.is_global_zero)
    if run.writes:
        run.create(settings)
    fabric.barrier()
    monitor = Monitor(jets.select(torch.arange(16)), 16, len(CLASSES))
    state = TrainingState(method, InOrder(jets, 8), run, settings, fabric, monitor, ())
    if checked:
        state.validate(whole=False)
    losses = [state.take_step()["loss"] for _ in range(2)]
    modes = [module.training for module in state.placement.trained.modules() if isinstance(module, Block)]
    torch.save((losses, modes), out / f"{fabric.global_rank}.pt")


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_all_ranks_train_with_dropout_whether_validated_or_not(strategy: str, tmp_path: Path) -> None:
    found = []
    for checked in (True, False):
        out = tmp_path / str(checked)
        out.mkdir()
        all_ranks(losses_on_rank, strategy, checked, out)
        found.append([torch.load(out / f"{rank}.pt") for rank in (0, 1)])
    assert all(modes == [True, True] for ranks in found for _, modes in ranks)
    assert found[0] == found[1]
    assert found[0][0][0] != found[0][1][0]  # the same jets on both ranks: only dropout differs
