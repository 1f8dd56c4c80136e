"""The settings of a finetuning run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ssl_jets.config import RunSettings, read_config, recipe, resolve
from ssl_jets.errors import UsageError
from ssl_jets.finetune.domain.settings import CoralSettings, DannSettings, MmdSettings, ReweightSettings
from ssl_jets.model_file import load_model
from ssl_jets.nn.tasks import TaskSettings

FIXED_Z = ("probe",)
"""Modes in which z does not learn."""

ADAPTED_Z = ("dann", "coral", "mmd")
"""Adaptations that bring z of the domains together, and so need jets of both in a batch."""


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
    adapt: Literal["none", "dann", "coral", "mmd", "reweight"] = "none"
    """What is done with the unlabelled jets of the target domain (`--domain`): `dann`, `coral` and `mmd` bring their z
    to that of the source; `reweight` weighs the labelled jets of the source as the target has them."""
    dann: DannSettings = DannSettings()
    """Settings of `dann`."""
    coral: CoralSettings = CoralSettings()
    """Settings of `coral`."""
    mmd: MmdSettings = MmdSettings()
    """Settings of `mmd`."""
    reweight: ReweightSettings = ReweightSettings()
    """Settings of `reweight`."""
    l2_sp: float = Field(default=0.0, ge=0)
    """Strength of the pull of the encoder's weights towards the pretrained ones (L2-SP); 0 for none."""
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
    if any(layer.get("method", {}).get("adapt", "none") != "none" for layer in layers) and stored is None:
        base.append({"data": {"unlabelled_ratio": 1.0}})
    named: dict[str, Any] = {"method": {"name": "finetune", "model": str(model)}}
    settings = resolve(RunSettings[FinetuneSettings], {"model": encoder.model_dump()}, *base, named, *layers)
    if settings.data.labelled is not None:
        hint = "finetune --labels takes a part of the labels"
        raise UsageError("this setting is one of pretraining", where="data.labelled", hint=hint)
    _check_domain(settings)
    if settings.model != encoder:
        raise UsageError(
            "the encoder is that of the pretrained model", where="model.*", found=settings.model, allowed=[encoder]
        )
    return settings


def _check_domain(settings: RunSettings[FinetuneSettings]) -> None:
    """Jets of a target domain and what is done with them: both or none."""
    adapt, mode = settings.method.adapt, settings.method.mode
    if adapt == "none" and settings.data.unlabelled:
        raise UsageError("nothing would be done with the jets of the domain", where="--domain", hint="--adapt dann")
    if adapt == "none" and settings.data.unlabelled_ratio:
        raise UsageError("this setting is one of pretraining", where="data.unlabelled_ratio", hint="--adapt dann")
    if adapt != "none" and not settings.data.unlabelled:
        hint = "--domain SRC names them"
        raise UsageError("this needs unlabelled jets of the target domain", where=f"--adapt {adapt}", hint=hint)
    if adapt in ADAPTED_Z and mode in FIXED_Z:
        raise UsageError(
            "z is fixed in this mode, so nothing can bring the domains together in it",
            where=f"--adapt {adapt}",
            found=f"--mode {mode}",
            hint="--mode full, or --adapt reweight",
        )
