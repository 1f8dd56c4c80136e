"""Settings of finetuning."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from ssl_jets.config import INPUT_GROUPS, SHAPE, ModelSettings, Recipe, RunSettings, Settings, resolve
from ssl_jets.data.inputs import chosen_definitions
from ssl_jets.data.loading.mixed import shares
from ssl_jets.errors import UsageError, nearest
from ssl_jets.finetuning.adaptation_settings import (
    ADAPTED_Z,
    CoralSettings,
    DannSettings,
    MmdSettings,
    ReweightSettings,
    SinkhornSettings,
)
from ssl_jets.jets import COLUMNS
from ssl_jets.methods._renamed import read_run_config
from ssl_jets.model_file import Model, load_model
from ssl_jets.nn.particles.tasks import ClassWeights
from ssl_jets.nn.tasks import LABEL, TaskSettings
from ssl_jets.training.run_setup import split_of

FIXED_Z = ("probe",)
"""Modes that keep z fixed."""


class LoraSettings(Settings):
    """Settings of low-rank updates (`method.lora.*`)."""

    rank: int = Field(default=8, ge=1)
    """Rank of the updates."""
    alpha: int = Field(default=16, ge=1)
    """Scale: an update is alpha / rank times the product of its two factors."""
    targets: tuple[Literal["qkv", "proj", "up", "down"], ...] = Field(
        default=("qkv", "proj", "up", "down"), min_length=1
    )
    """Matrices of a block with an update: attention in and out, MLP in and out."""
    dora: bool = False
    """Learn the lengths of the rows separately from their directions."""


class DistilSettings(Settings):
    """Settings of distillation (`method.distil.*`)."""

    temperature: float = Field(default=2.0, gt=0)
    """Temperature of the class probabilities of teacher and student."""
    outputs: float = Field(default=1.0, ge=0)
    """Weight of the loss on the teacher's outputs."""
    z: float = Field(default=1.0, ge=0)
    """Weight of the loss on the teacher's z."""


class FinetuneSettings(TaskSettings):
    """Settings of finetuning (`method.*`)."""

    targets: tuple[str, ...] = (LABEL,)
    """As in `supervised`; none, `[]`, with targets of particles alone, or in mode `distil` to learn z alone."""
    particle_targets: tuple[str, ...] = ()
    """Targets of particles, by the names of `particle_labels` of the schema: classes or numbers."""
    particle_class_weights: ClassWeights = None
    """Weights of the classes of particles in the loss: `balanced`, or by default all the same."""
    model: str = ""
    """The pretrained model, a run folder; `--model` sets it."""
    mode: Literal["probe", "head", "last-blocks", "lora", "full", "scratch", "distil", "auto"] = "full"
    """Trained part: `probe` heads on z, which is computed once; `head` attention over the tokens of the frozen encoder;
    `last-blocks` the last blocks; `lora` low-rank updates; `full` all weights; `scratch` all from random weights, the
    baseline; `distil` a student of `model.size` from a larger teacher; `auto` the best that fits into the memory."""
    memory: str | None = None
    """Memory for the run in the plan, such as `16GB`; by default the free memory."""
    pool: Literal["class", "mean", "attention"] | None = None
    """Pooling of tokens to z: class token, mean of the particle tokens, or attention over them; by default `attention`
    in mode `head`, otherwise the pool of the pretrained model."""
    blocks: int = Field(default=1, ge=1)
    """Number of blocks that mode `last-blocks` trains."""
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    """Factor on the learning rate from one block to the one below it, in mode `full`."""
    unfreeze: float = Field(default=0.0, ge=0, le=1)
    """Fraction of the steps over which blocks are unfrozen from top to bottom, in mode `full`."""
    probe_first: bool = False
    """Train the heads on the frozen z first (LP-FT), in modes `last-blocks`, `lora` and `full`."""
    lora: LoraSettings = LoraSettings()
    """Settings of low-rank updates."""
    distil: DistilSettings = DistilSettings()
    """Settings of distillation."""
    labels: float | None = Field(default=None, gt=0)
    """Labelled jets to use: a share (at most 1.0) or a number; all by default. The subset is stratified and nested."""
    subset_seed: int = Field(default=0, ge=0)
    """Seed of the subset."""
    adapt: Literal["none", "dann", "coral", "mmd", "sinkhorn", "reweight"] = "none"
    """Adaptation to the unlabelled jets of the target domain (`--domain`): `dann`, `coral`, `mmd` and `sinkhorn` align
    their z with the source; `reweight` weights the labelled source jets by the density ratio of target and source."""
    dann: DannSettings = DannSettings()
    """Settings of `dann`."""
    coral: CoralSettings = CoralSettings()
    """Settings of `coral`."""
    mmd: MmdSettings = MmdSettings()
    """Settings of `mmd`."""
    sinkhorn: SinkhornSettings = SinkhornSettings()
    """Settings of `sinkhorn`."""
    reweight: ReweightSettings = ReweightSettings()
    """Settings of `reweight`."""
    l2_sp: float = Field(default=0.0, ge=0)
    """Strength of the L2-SP penalty, which pulls the encoder's weights towards the pretrained ones; 0 for none. Used in
    modes `last-blocks` and `full`; new weights, as of another pool, are not pulled."""
    min_steps: int = Field(default=300, ge=1)
    """Smallest number of steps if `train.epochs` sets the length: few labels make short epochs."""

    @field_validator("particle_targets")
    @classmethod
    def _each_once(cls, targets: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(targets)) < len(targets):
            raise ValueError("each target is named once")
        return targets

    @model_validator(mode="after")
    def _learns_something(self) -> FinetuneSettings:
        if not self.targets and not self.particle_targets and not (self.mode == "distil" and self.distil.z):
            raise ValueError("there is a target, of jets (targets) or of particles (particle_targets)")
        if double := set(self.targets) & set(self.particle_targets):
            raise ValueError(f"{double.pop()} is a target of jets and of particles at once")
        return self

    @field_validator("observables_weight")
    @classmethod
    def _is_zero(cls, weight: float) -> float:
        if weight:
            raise ValueError("finetuning regresses no observables: name jet columns in method.targets")
        return weight


def resolve_finetune(model: Path, *layers: dict[str, Any], stored: Path | None = None) -> RunSettings[FinetuneSettings]:
    """Resolve the settings of a finetuning run; the split of the pretraining is the default.

    The encoder has the settings of the pretrained model: `model.*` can be set only for the student of mode `distil`,
    which by default has the tasks of its teacher.

    Args:
        model: run folder or model folder of the pretrained model.
        layers: settings in increasing precedence.
        stored: `config.yaml` of a run, instead of the defaults.

    Raises:
        UsageError: a setting is wrong or has no meaning in finetuning.
    """
    pretrained = load_model(model)
    split, encoder = split_of(pretrained.facts["training"]), pretrained.encoder.cfg
    base = [Recipe().layer(), {"data": split}] if stored is None else [read_run_config(stored)]
    methods = [layer["method"] for layer in layers if isinstance(layer.get("method"), dict)]
    if any(method.get("adapt", "none") != "none" for method in methods) and stored is None:
        base.append({"data": {"unlabelled_ratio": 1.0}})
    named: dict[str, Any] = {"method": {"name": "finetune", "model": str(model)}}
    mode = [method["mode"] for method in methods if "mode" in method][-1:]
    if stored is not None and mode == ["auto"]:
        layers = tuple(_without_choice(layer) for layer in layers)
    # A student does not inherit the architecture of its teacher, nor, with another size, the width.
    sized = any("size" in layer["model"] for layer in layers if isinstance(layer.get("model"), dict))
    not_inherited = {*(SHAPE if sized else ()), *(("architecture", "options") if mode == ["distil"] else ())}
    inherited = encoder.model_dump(exclude=not_inherited)
    all_layers: list[dict[str, Any]] = [{"model": inherited}, *base, named, *layers]
    settings = resolve(RunSettings[FinetuneSettings], *all_layers)
    if settings.method.mode == "distil" and stored is None:
        targets = {"method": {"targets": targets_of(pretrained)}}
        settings = resolve(RunSettings[FinetuneSettings], targets, *all_layers)
    if settings.method.mode == "distil":
        settings = settings.model_copy(update={"model": student_inputs(settings.model, encoder)})
    _check_settings(settings, encoder)
    check_mode_and_batch(settings)
    return settings


def student_inputs(student: ModelSettings, teacher: ModelSettings) -> ModelSettings:
    """Return the settings of a student with the definitions of the inputs that its `model.inputs` chooses.

    Raises:
        UsageError: an input that its teacher does not have.
    """
    if student.inputs == teacher.inputs:
        return student
    chosen = student.inputs or ("columns",)
    groups = {name: getattr(teacher, name) for name in INPUT_GROUPS[1:]}
    known = [*COLUMNS, "columns", *(name for name, own in groups.items() if own)]
    known += [name for own in groups.values() for name in own]
    if unknown := [name for name in chosen if name not in known]:
        raise UsageError(
            "the teacher does not have this input",
            where="model.inputs",
            found=unknown[0],
            allowed=nearest(unknown[0], known),
        )
    return student.model_copy(update=chosen_definitions(chosen, groups))


def _check_settings(settings: RunSettings[FinetuneSettings], encoder: ModelSettings) -> None:
    """Check that the settings have a meaning in finetuning, and leave the encoder as it is, except for a student.

    Raises:
        UsageError: they do not.
    """
    data, train, method = settings.data, settings.train, settings.method
    for where, value, hint in (
        ("data.labelled", data.labelled, "finetune --labels takes a part of the labels"),
        ("train.model", train.model, "finetune --model RUN"),
        ("train.snapshot_minutes", train.snapshot_minutes, None),
    ):
        if value is not None:
            raise UsageError("this setting belongs to pretraining", where=where, hint=hint)
    if train.strategy == "fsdp" and method.l2_sp:
        hint = "train.strategy=ddp"
        raise UsageError("L2-SP compares whole weights, which no process has", where="method.l2_sp", hint=hint)
    if data.folds is not None and not method.targets:
        hint = "method.targets=[label]"
        raise UsageError("out-of-fold scores are of jets", where="method.targets", found="none", hint=hint)
    _check_domain(settings)
    if settings.model != encoder and method.mode != "distil":
        changed = [key for key, value in encoder if getattr(settings.model, key) != value]
        raise UsageError(
            "the encoder is taken from the pretrained model",
            where=f"model.{changed[0]}",
            found=getattr(settings.model, changed[0]),
            allowed=[getattr(encoder, changed[0])],
            hint="--set method.pool=..." if changed == ["pool"] else "--mode distil trains another one",
        )


def check_mode_and_batch(settings: RunSettings[FinetuneSettings]) -> None:
    """Check that the mode, and a batch of this size, can do what the settings ask; mode `auto` may choose any.

    Raises:
        UsageError: the mode computes z once, or the batch has too few jets of a domain.
    """
    method, flatten = settings.method, settings.data.flatten
    fixed = method.mode in FIXED_Z
    if method.particle_targets and (fixed or method.probe_first):
        raise UsageError(
            "targets of particles need the tokens of each step, and heads on z alone have none",
            where="method.particle_targets",
            found="method.probe_first" if method.probe_first else f"--mode {method.mode}",
            hint="--mode head trains heads on the frozen encoder",
        )
    if fixed and flatten is not None and flatten.how == "resample":
        hint = "data.flatten.how=weights"
        raise UsageError("mode probe reads each jet once", where="data.flatten.how", found="resample", hint=hint)
    if fixed and settings.train.keep == "best":
        hint = "--mode head"
        raise UsageError("mode probe has no validations", where="train.keep", found="best", hint=hint)
    if fixed and method.adapt in ADAPTED_Z:
        raise UsageError(
            "z is fixed in this mode, so nothing can bring the domains together in it",
            where=f"--adapt {method.adapt}",
            found=f"--mode {method.mode}",
            hint="--mode full, or --adapt reweight",
        )
    if method.adapt in ADAPTED_Z:
        sizes = shares(settings.train.batch_size, settings.data.unlabelled_ratio)
        if method.adapt != "dann" and min(sizes) < 2:
            raise UsageError(
                "spreads of z need two jets of each domain in a batch",
                where="data.unlabelled_ratio",
                found=f"{settings.data.unlabelled_ratio:g}, with {settings.train.batch_size} jets in a batch",
                hint="a larger --batch-size",
            )


def _without_choice(layer: dict[str, Any]) -> dict[str, Any]:
    """Return a layer without the settings that mode `auto` chose when the run began, which a resumed run keeps."""
    kept = dict(layer)
    for tree, chosen in (("method", ("mode",)), ("train", ("batch_size", "accumulate", "checkpointing"))):
        if isinstance(layer.get(tree), dict):
            kept[tree] = {key: value for key, value in layer[tree].items() if key not in chosen}
    return kept


def targets_of(teacher: Model) -> list[str]:
    """Return the targets of a finetuned model: `label` and regressed columns; none without heads of jets."""
    return [LABEL] * (teacher.head is not None) + list(teacher.regressor.names if teacher.regressor else ())


def _check_domain(settings: RunSettings[FinetuneSettings]) -> None:
    """Check that jets of a target domain and an adaptation are set together.

    Raises:
        UsageError: one of them is missing.
    """
    adapt = settings.method.adapt
    if adapt == "none" and settings.data.unlabelled:
        raise UsageError("the jets of the domain would not be used", where="--domain", hint="--adapt dann")
    if adapt == "none" and settings.data.unlabelled_ratio:
        raise UsageError("this setting belongs to pretraining", where="data.unlabelled_ratio", hint="--adapt dann")
    if adapt != "none" and not settings.data.unlabelled:
        hint = "--domain SRC names them"
        raise UsageError("this needs unlabelled jets of the target domain", where=f"--adapt {adapt}", hint=hint)
