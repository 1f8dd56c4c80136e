"""Pretrain: files in, a run folder with a model out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from ssl_jets import methods
from ssl_jets.allocator import keep_memory
from ssl_jets.config import (
    DataSettings,
    MethodSettings,
    MethodT,
    RunSettings,
    TrainSettings,
    read_config,
    recipe,
    resolve,
)
from ssl_jets.data.files import JetFile, Part, count, open_files, shared_columns, split, whole
from ssl_jets.data.sources import resolve_sources, sample_sources
from ssl_jets.data.stream import Request, TrainStream, ordered
from ssl_jets.data.thin import thin
from ssl_jets.errors import DataError, UsageError
from ssl_jets.jets import Jets, concatenate
from ssl_jets.methods._method import Method
from ssl_jets.model_file import Model, load_method, load_model, save_model
from ssl_jets.monitor import Monitor
from ssl_jets.nn.encoder import Encoder, parameter_count
from ssl_jets.precision import resolve_precision
from ssl_jets.run import Run
from ssl_jets.train import Fit, fit, make_fabric

_STATISTICS_JETS = 10_000


@dataclass(frozen=True)
class Dataset:
    """Files, and which of their entries are for training and which are held out."""

    files: list[JetFile]
    train: list[Part]
    held_out: list[Part]

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the classes; empty where the jets have no labels."""
        return self.files[self.train[0].file].label_names

    @property
    def columns(self) -> tuple[str, ...]:
        """Particle columns of the files to train on."""
        return shared_columns([self.files[index] for index in sorted({part.file for part in self.train})])

    @property
    def names(self) -> list[str]:
        """How the user named each file."""
        return [str(file.source) for file in self.files]


def resolve_pretrain(method: str, *layers: dict[str, Any], stored: Path | None = None) -> RunSettings[MethodSettings]:
    """The settings of a pretraining run: the method's recipe (or the `stored` settings of a run), then `layers`."""
    cls = methods.find(method)
    base = recipe(method) if stored is None else read_config(stored)
    begun = base.get("method", {}).get("name", method)
    if begun != method:
        raise UsageError("the run was begun with another method", where="--method", found=method, allowed=[begun])
    return resolve(RunSettings[cls.Config], {"method": {"name": method}}, base, *layers)  # type: ignore[name-defined]


def open_dataset(settings: DataSettings) -> Dataset:
    """Open the files that the settings name (the bundled sample where none) and split them."""
    sources = resolve_sources(settings.sources) if settings.sources else sample_sources()
    files = open_files(sources, settings.labels)
    if settings.validation:
        held = open_files(resolve_sources(settings.validation), settings.labels)
        held_out = [Part(part.file + len(files), part.start, part.stop) for part in whole(held)]
        return _not_empty(Dataset([*files, *held], whole(files), held_out))
    train, held_out = split(files, settings.validation_fraction, settings.split_seed)
    return _not_empty(Dataset(files, train, held_out))


def _not_empty(data: Dataset) -> Dataset:
    if not count(data.train):
        raise DataError("there are no jets to train on", where=", ".join(data.names[:8]))
    return data


def pretrain(settings: RunSettings[MethodSettings], out: Path, *, resume: bool = False, force: bool = False) -> Path:
    """Pretrain an encoder and write a run folder.

    Args:
        settings: as `resolve_pretrain` made them.
        out: the run folder.
        resume: go on with the run in `out`; where there is none, begin it.
        force: replace the run in `out`.

    Returns:
        `out`.
    """
    keep_memory()
    fabric = make_fabric(settings.train)
    settings = explicit(settings, fabric)
    run = check_run(settings, out, fabric, resume=resume, force=force)
    data = open_dataset(settings.data)
    name = settings.method.name
    cls = methods.find(name)
    if cls.needs_labels and not data.label_names:
        raise DataError(f"method {name} needs labels, and these files have none", where=", ".join(data.names[:8]))
    parts = load_parts(cls, settings.method, data.columns)
    torch.manual_seed(settings.train.seed)
    encoder = Encoder(settings.model)
    request = Request(bad_jets=settings.data.bad_jets)
    if not (resume and run.checkpoint.is_file()):
        encoder.features.measure(ordered(data.files, thin(data.train, _STATISTICS_JETS, settings.train.seed), request))
    method = cls(settings.method, encoder, data.label_names, **parts)
    open_run(run, settings, fabric, resume=resume, force=force)
    announce(run, settings, data, method)
    with make_stream(data, settings, fabric, request) as stream:
        done = fit(
            method,
            stream,
            run,
            settings.train,
            fabric=fabric,
            monitor=make_monitor(data, settings.train, request),
            file_names=data.names,
            resume=resume,
            title=f"pretrain {name}",
        )
    facts = {"method": name, "training": training_facts(data, settings, done)}
    finish(run, method, data.label_names, facts, fabric)
    return out


def load_parts(cls: type[Method], settings: MethodSettings, columns: tuple[str, ...]) -> dict[str, Method]:
    """The trained methods that a method starts from, by name, from the runs that its settings name.

    Raises:
        UsageError: no run is named, it is of another method, or its jets had other particle columns.
        SslJetsError: there is no trained model.
    """
    parts = {}
    for name in cls.parts:
        key, run = f"method.{name}", getattr(settings, name)
        if not run:
            hint = f"ssl-jets pretrain --method {name} --out RUN, then --set {key}=RUN"
            raise UsageError(f"method {settings.name} starts from a run of method {name}", where=key, hint=hint)
        model = load_model(run)
        if model.method != name:
            raise UsageError(f"the run is not a {name}", where=f"{key}={run}", found=model.method, allowed=[name])
        trained = model.facts["training"].get("columns", [])
        if set(trained) != set(columns):
            raise UsageError(
                f"the {name} was trained on jets with other particle columns",
                where=f"{key}={run}",
                found=f"not in both: {', '.join(sorted(set(trained) ^ set(columns)))}",
            )
        parts[name] = load_method(run)
    return parts


def explicit(settings: RunSettings[MethodT], fabric: Fabric) -> RunSettings[MethodT]:
    """The settings with the precision that `auto` means here."""
    precision = resolve_precision(settings.train.precision, fabric.device)
    return settings.model_copy(update={"train": settings.train.model_copy(update={"precision": precision})})


def check_run(settings: RunSettings[MethodSettings], out: Path, fabric: Fabric, *, resume: bool, force: bool) -> Run:
    """The run, where `out` may be written; settings that changed since it was begun are refused. Writes nothing."""
    run = Run(out, writes=fabric.is_global_zero)
    stored = out / "config.yaml"
    if resume and stored.is_file():
        before, now = read_config(stored), settings.model_dump(mode="json")
        changed = [
            f"{tree}.{key}" for tree in now for key in now[tree] if before.get(tree, {}).get(key) != now[tree][key]
        ]
        if changed:
            raise UsageError(
                "the run was begun with other settings",
                where=stored,
                found=", ".join(changed),
                hint="--resume without other options goes on with the settings of the run",
            )
    else:
        run.refuse_existing(force=force)
    return run


def open_run(run: Run, settings: RunSettings[MethodSettings], fabric: Fabric, *, resume: bool, force: bool) -> None:
    """Create the run folder, or take it up again. Called when the inputs are known to be good, as `force` removes."""
    if not (resume and (run.folder / "config.yaml").is_file()):
        run.create(settings, force=force)
    fabric.barrier()


def announce(run: Run, settings: RunSettings[MethodSettings], data: Dataset, method: Method) -> None:
    """Say what is about to be trained, on what."""
    if not settings.data.sources:
        run.say("no --data: training on the sample that comes with ssl-jets (10 classes of simulated jets)")
    classes = f", {len(data.label_names)} classes" if data.label_names else ", no labels"
    run.say(f"data: {count(data.train):,} jets to train on, {count(data.held_out):,} held out{classes}")
    encoder = method.exported()
    run.say(
        f"encoder: {settings.model.size}, {parameter_count(encoder):,} parameters, z of {encoder.dim} numbers; "
        f"trained together: {parameter_count(method):,} parameters, {settings.train.precision}"
    )


def make_stream(data: Dataset, settings: RunSettings[MethodSettings], fabric: Fabric, request: Request) -> TrainStream:
    """The training stream of this rank."""
    return TrainStream(
        data.files,
        data.train,
        batch_size=settings.train.batch_size,
        buffer=settings.data.buffer,
        seed=settings.train.seed,
        rank=fabric.global_rank,
        world=fabric.world_size,
        workers=settings.data.workers,
        request=request,
    )


def make_monitor(data: Dataset, settings: TrainSettings, request: Request) -> Monitor | None:
    """A monitor on a sample of the held-out jets; None where none are held out."""
    jets = read_all(data.files, thin(data.held_out, settings.validation_jets, seed=0), request)
    return None if jets is None else Monitor(jets, settings.batch_size, len(data.label_names))


def read_all(files: Sequence[JetFile], parts: Sequence[Part], request: Request) -> Jets | None:
    """All jets of `parts` in memory; None where there are none."""
    batches = list(ordered(files, parts, request))
    return concatenate(batches) if batches else None


def training_facts(data: Dataset, settings: RunSettings[MethodSettings], done: Fit) -> dict[str, Any]:
    """What a model remembers of its training: above all which jets it has seen."""
    seen = sorted({part.file for part in data.train})
    return {
        "files": [list(data.files[index].identity) for index in seen],
        "columns": list(data.columns),
        "held_out": [[*data.files[part.file].identity, part.start, part.stop] for part in data.held_out],
        "validation_fraction": None if settings.data.validation else settings.data.validation_fraction,
        "split_seed": settings.data.split_seed,
        "jets_per_epoch": count(data.train),
        "steps": done.steps,
        "jets": done.jets,
        "seconds": round(done.seconds, 1),
        "seed": settings.train.seed,
        "precision": settings.train.precision,
    }


def finish(run: Run, method: Method, labels: tuple[str, ...], facts: dict[str, Any], fabric: Fabric) -> None:
    """Write the trained model."""
    if run.writes:
        model = Model(method.exported(), method.exported_head(), labels, facts)  # type: ignore[arg-type]
        digest = save_model(model, run.model, method if method.whole else None)
        run.say(f"model: {run.model} (sha256 {digest[:12]})")
    fabric.barrier()
