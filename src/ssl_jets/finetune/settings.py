"""The settings of a finetuning run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ssl_jets.config import RunSettings, read_config, recipe, resolve
from ssl_jets.errors import UsageError
from ssl_jets.model_file import load_model
from ssl_jets.nn.tasks import TaskSettings


class FinetuneSettings(TaskSettings):
    """Settings of finetuning (`method.*`)."""

    model: str = ""
    """The pretrained model, a run folder; `--model` sets it."""
    mode: Literal["probe", "full", "scratch"] = "full"
    """`probe` trains a head on z, which is computed once; `full` trains encoder and head; `scratch` trains the same
    network from a random start: the baseline."""
    labels: float | None = Field(default=None, gt=0)
    """Labelled jets to use: a share (at most 1.0) or a number; all by default. The subset is stratified and nested."""
    subset_seed: int = 0
    """Seed of the subset."""
    min_steps: int = Field(default=300, ge=1)
    """Steps to take at least where `train.epochs` gives the length: few labels make short epochs."""


def resolve_finetune(model: Path, *layers: dict[str, Any], stored: Path | None = None) -> RunSettings[FinetuneSettings]:
    """The settings of a finetuning run; the same jets are held out as in the pretraining, unless set otherwise.

    The encoder is that of the pretrained model: `model.*` cannot be set.
    """
    pretrained = load_model(model)
    training = pretrained.facts["training"]
    split = {key: training[key] for key in ("validation_fraction", "split_seed") if training.get(key) is not None}
    encoder = pretrained.encoder.cfg
    base = [recipe("finetune"), {"data": split}] if stored is None else [read_config(stored)]
    named: dict[str, Any] = {"method": {"name": "finetune", "model": str(model)}}
    settings = resolve(RunSettings[FinetuneSettings], {"model": encoder.model_dump()}, *base, named, *layers)
    few = [key for key in ("labelled", "unlabelled", "unlabelled_ratio") if getattr(settings.data, key)]
    if few:
        hint = "finetune --labels takes a part of the labels"
        raise UsageError("this setting is one of pretraining", where=f"data.{few[0]}", hint=hint)
    if settings.model != encoder:
        raise UsageError(
            "the encoder is that of the pretrained model", where="model.*", found=settings.model, allowed=[encoder]
        )
    return settings
