"""The modes of finetuning: train a head on cached z, the whole network, or the same network from a random start."""

from __future__ import annotations

import math
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from pydantic import Field

from ssl_jets.allocator import keep_memory
from ssl_jets.config import MethodSettings, RunSettings, read_config, recipe, resolve
from ssl_jets.data.dataset import Dataset, open_dataset
from ssl_jets.data.files import count
from ssl_jets.data.stream import Request
from ssl_jets.data.subset import choose
from ssl_jets.embed import embed_jets, embed_parts
from ssl_jets.errors import DataError, UsageError
from ssl_jets.finetune.probe import fit_head
from ssl_jets.jets import Jets
from ssl_jets.methods.supervised import Supervised
from ssl_jets.model_file import Model, load_model
from ssl_jets.nn.encoder import parameter_count, random_like
from ssl_jets.nn.heads import ClassHead
from ssl_jets.pretrain import (
    check_run,
    explicit,
    finish,
    make_monitor,
    make_stream,
    open_run,
    training_facts,
)
from ssl_jets.progress import Bar
from ssl_jets.run import Run
from ssl_jets.train import Fit, fit, make_fabric


class FinetuneSettings(MethodSettings):
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
    head_hidden: int = Field(default=0, ge=0)
    """Width of the head's hidden layer; 0 for a linear head."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target probability spread over all classes."""
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


def finetune(settings: RunSettings[FinetuneSettings], out: Path, *, resume: bool = False, force: bool = False) -> Path:
    """Train a head, or head and encoder, on labelled jets, and write a run folder with the model.

    Args:
        settings: as `resolve_finetune` made them.
        out: the run folder.
        resume: go on with the run in `out`; where there is none, begin it.
        force: replace the run in `out`.

    Returns:
        `out`.
    """
    keep_memory()
    pretrained = load_model(settings.method.model)
    fabric = make_fabric(settings.train)
    settings = explicit(settings, fabric)
    run = check_run(settings, out, fabric, resume=resume, force=force)
    data = open_dataset(settings.data)
    if not data.label_names:
        raise DataError("finetuning needs labels, and these files have none", where=", ".join(data.names[:8]))
    subset = _subset(settings, data)
    open_run(run, settings, fabric, resume=resume, force=force)
    available = count(data.train)
    used = available if subset is None else len(subset)
    run.say(
        f"{settings.method.mode}: {used:,} of {available:,} labelled jets, {len(data.label_names)} classes, "
        f"{count(data.held_out):,} held out; model {settings.method.model} ({pretrained.method})"
    )
    torch.manual_seed(settings.train.seed)
    if settings.method.mode == "scratch":
        pretrained.encoder = random_like(pretrained.encoder, settings.train.seed)
    config = Supervised.Config(head_hidden=settings.method.head_hidden, label_smoothing=settings.method.label_smoothing)
    method = Supervised(config, pretrained.encoder, data.label_names)
    settings = _with_length(settings, used, fabric)
    train = _probe if settings.method.mode == "probe" else _fit
    done = train(method, subset, settings, data, run, fabric, resume)
    finish(run, method, data.label_names, _facts(pretrained, data, settings, done, used), fabric)
    return out


def _subset(settings: RunSettings[FinetuneSettings], data: Dataset) -> Jets | None:
    """The labelled jets to use, in memory; None for all of them."""
    labels = settings.method.labels
    if labels is None or labels == 1.0:
        return None
    request = Request(bad_jets=settings.data.bad_jets)
    return choose(data.files, data.train, labels, settings.method.subset_seed, request)


def _with_length(settings: RunSettings[FinetuneSettings], jets: int, fabric: Fabric) -> RunSettings[FinetuneSettings]:
    """The settings with the number of steps written out."""
    train = settings.train
    if train.steps is not None:
        return settings
    per_step = train.batch_size * train.accumulate * fabric.world_size
    steps = max(settings.method.min_steps, math.ceil((train.epochs or 1.0) * jets / per_step))
    return settings.model_copy(update={"train": train.model_copy(update={"steps": steps})})


def _fit(
    method: Supervised,
    subset: Jets | None,
    settings: RunSettings[FinetuneSettings],
    data: Dataset,
    run: Run,
    fabric: Fabric,
    resume: bool,
) -> Fit:
    """Train encoder and head with the loop of pretraining."""
    request = Request(bad_jets=settings.data.bad_jets)
    with closing(make_stream(data, settings, fabric, request, subset)) as stream:
        return fit(
            method,
            stream,
            run,
            settings.train,
            fabric=fabric,
            monitor=make_monitor(data, settings.train, request),
            file_names=data.names,
            resume=resume,
            title=f"finetune {settings.method.mode}",
        )


def _probe(
    method: Supervised,
    subset: Jets | None,
    settings: RunSettings[FinetuneSettings],
    data: Dataset,
    run: Run,
    fabric: Fabric,
    resume: bool,
) -> Fit:
    """Compute z once, then train the head on it. Every rank does the same work: a head is trained in seconds."""
    started, train, steps = time.monotonic(), settings.train, settings.train.steps or 1
    run.forget_after(0)  # a resumed run trains its head again
    z, labels = _cached_z(method, subset, settings, data, run, fabric)
    head = ClassHead(method.encoder.dim, len(data.label_names), settings.method.head_hidden)
    run.say(f"probe: z of {len(z):,} jets computed; head of {parameter_count(head):,} parameters, {steps} steps")
    with Bar("finetune probe", steps, "steps", shown=run.writes) as bar:

        def note(step: int, loss: float) -> None:
            bar.to(step, f"loss {loss:.4f}")
            if step % train.log_every == 0 or step == steps:
                run.log({"step": step, "kind": "train", "loss": loss, "seconds": time.monotonic() - started})

        # z is standardised and a head is small: it wants a larger rate than a transformer, and no decay.
        fit_head(
            z, labels, head, steps=steps, batch_size=train.batch_size, lr=10 * train.lr, seed=train.seed, progress=note
        )
    assert method.head is not None
    method.head.load_state_dict(head.state_dict())
    return Fit(steps, steps * train.batch_size, time.monotonic() - started)


def _cached_z(
    method: Supervised,
    subset: Jets | None,
    settings: RunSettings[FinetuneSettings],
    data: Dataset,
    run: Run,
    fabric: Fabric,
) -> tuple[torch.Tensor, torch.Tensor]:
    """z and labels of the labelled jets, in memory (4 bytes a number)."""
    device, precision = fabric.device, settings.train.precision
    if subset is not None:
        assert subset.labels is not None
        return embed_jets(method.encoder, subset, device=device, precision=precision), subset.labels
    found: list[tuple[torch.Tensor, torch.Tensor]] = []
    with Bar("z for the probe", count(data.train), "jets", shown=run.writes) as bar:
        for jets, z in embed_parts(
            method.encoder,
            data.files,
            data.train,
            Request(bad_jets=settings.data.bad_jets),
            device=device,
            precision=precision,
            progress=bar.to_of,
        ):
            assert jets.labels is not None
            found.append((z[jets.labels >= 0], jets.labels[jets.labels >= 0]))
    return torch.cat([z for z, _ in found]), torch.cat([labels for _, labels in found])


def held_out_of_both(first: dict[str, Any], second: dict[str, Any]) -> list[list[Any]]:
    """Entries `[name, bytes, start, stop]` that neither of two trainings has seen, of the files that either has seen.

    Where both have seen a file, the entries that both held out; where one has, those that it held out.
    """
    ranges: set[tuple[Any, ...]] = set()
    for facts, other in ((first, second), (second, first)):
        shared = {tuple(file) for file in other["files"]}
        for name, size, start, stop in facts["held_out"]:
            if (name, size) not in shared:
                ranges.add((name, size, start, stop))
                continue
            for *file, low, high in other["held_out"]:
                if file == [name, size] and max(start, low) < min(stop, high):
                    ranges.add((name, size, max(start, low), min(stop, high)))
    return [list(row) for row in sorted(ranges)]


def _facts(
    pretrained: Model, data: Dataset, settings: RunSettings[FinetuneSettings], done: Fit, labelled: int
) -> dict[str, Any]:
    """Training facts of the finetuned model: the jets of both trainings count as seen."""
    facts = training_facts(data, settings, done)
    if settings.method.mode != "scratch":
        before = pretrained.facts["training"]
        facts["held_out"] = held_out_of_both(facts, before)
        facts["files"] = sorted(map(list, {tuple(file) for file in [*facts["files"], *before["files"]]}))
        facts["pretrained"] = {"sha256": pretrained.sha256, **before}
    facts |= {"mode": settings.method.mode, "labelled_jets": labelled}
    return {"method": pretrained.method if settings.method.mode != "scratch" else "scratch", "training": facts}
