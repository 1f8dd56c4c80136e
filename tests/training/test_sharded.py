"""Whole commands with `train.strategy=fsdp` give the models of `ddp`, on two ranks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from ssl_jets.model_file import load_model
from support import sharded_commands
from support.jetclass_files import write_class_files
from support.ranks import all_ranks

NAMES = [*sharded_commands.PRETRAININGS, *sharded_commands.FINETUNINGS]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the runs of all commands with both strategies."""
    folder = tmp_path_factory.mktemp("sharded")
    write_class_files(folder, 60)
    (folder / "Tbl.root").rename(folder / "target.root")
    all_ranks(sharded_commands.train_both_ways, f"{folder}/[QH]*.root", f"{folder}/target.root", folder, seconds=900)
    return folder


def assert_close(found: nn.Module, expected: nn.Module) -> None:
    weights = found.state_dict()
    for key, value in expected.state_dict().items():
        torch.testing.assert_close(weights[key], value, atol=1e-4, rtol=1e-3, msg=lambda text, key=key: key + text)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_command_gives_the_same_model_sharded(name: str, runs: Path) -> None:
    for rank in range(2):
        errors = torch.load(runs / f"errors-{rank}.pt")
        assert not {run: error for run, error in errors.items() if run.startswith(f"{name}-")}
    replicated, sharded = (load_model(runs / f"{name}-{strategy}") for strategy in ("ddp", "fsdp"))
    assert replicated.facts["training"]["best_step"] == sharded.facts["training"]["best_step"]
    parts = [(replicated.encoder, sharded.encoder)]
    if replicated.head is not None:
        parts.append((replicated.head, sharded.head))
    for one, other in parts:
        assert_close(other, one)


@pytest.mark.slow
def test_snapshots_are_the_same_sharded(runs: Path) -> None:
    names = sorted(folder.name for folder in (runs / "mae-ddp" / "snapshots").iterdir())
    assert names == ["step-1", "step-2"]
    for name in names:
        one, other = (load_model(runs / f"mae-{strategy}" / "snapshots" / name) for strategy in ("ddp", "fsdp"))
        assert_close(other.encoder, one.encoder)
