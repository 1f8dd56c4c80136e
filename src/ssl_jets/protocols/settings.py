"""Settings of the domain protocol. Imports no torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from ssl_jets.config import DataSettings, Settings
from ssl_jets.evaluation.settings import FigureSettings


class DomainSettings(Settings):
    """Comparison of the domain protocol (`protocol.*`)."""

    pretrain: tuple[str, ...] = Field(default=("mae",), min_length=1)
    """Methods to pretrain on the jets of the domain, without labels; used without a given model."""
    size: str = "small"
    """`model.size` of these."""
    pretrain_steps: int = Field(default=2000, ge=1)
    """Steps of these."""
    adapt: tuple[Literal["none", "dann", "coral", "mmd", "sinkhorn", "reweight"], ...] = Field(
        default=("none", "dann", "coral"), min_length=1
    )
    """Adaptations to compare."""
    supervised: bool = True
    """Start from random weights as well: supervised learning on the simulation alone."""
    seeds: int = Field(default=3, ge=1)
    """Finetunings of each: other subsets of labels, heads, batches."""
    mode: Literal["last-blocks", "lora", "full"] = "full"
    """Mode of `finetune` for a pretrained model."""
    labels: float | None = Field(default=None, gt=0)
    """Labelled jets of the simulation: a share (at most 1.0) or a number; all by default."""
    steps: int = Field(default=500, ge=1)
    """Steps of each finetuning."""
    batch_size: int = Field(default=128, ge=1)
    """Labelled jets of a step; adaptations that compare both domains add as many unlabelled ones."""
    test_jets: int = Field(default=10_000, ge=100)
    """Most test jets of each domain."""
    target: tuple[str, ...] = ()
    """Labelled jets of the other domain, only to test on; `--target` sets it."""
    trees: bool = False
    """Measure the gap in z with boosted trees as well as with a linear classifier."""


class DomainRun(Settings):
    """All settings of the domain protocol.

    `data.sources` are the labelled jets of the simulation, of which a part is held out and tested on, `data.unlabelled`
    the jets of the other domain.
    """

    protocol: DomainSettings = DomainSettings()
    data: DataSettings = DataSettings()
    figures: FigureSettings = FigureSettings()
    pretraining: dict[str, Any] = Field(default={})
    """Further settings of every pretraining: `pretraining.train.lr`."""
    finetuning: dict[str, Any] = Field(default={})
    """Further settings of every finetuning: `finetuning.method.coral.weight`."""
