"""Pretrain: files in, a run folder with a model out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from ssl_jets import methods
from ssl_jets.allocator import LESS_TO_TRAIN, explain_shortage, tune_memory
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
from ssl_jets.data.dataset import Dataset
from ssl_jets.data.files import JetFile, Part, count
from ssl_jets.data.left_out import BAD_AMONG, of_files, of_jets, require_jets
from ssl_jets.data.stream import Request, ordered
from ssl_jets.data.subset import choose, count_labelled
from ssl_jets.data.survey import suspicions_of
from ssl_jets.data.thin import thin
from ssl_jets.errors import DataError, UsageError
from ssl_jets.jets import Jets, concatenate
from ssl_jets.methods._method import Method
from ssl_jets.model_file import Model, load_method, load_model, save_model
from ssl_jets.monitor import Monitor
from ssl_jets.nn.encoder import Encoder, parameter_count
from ssl_jets.nn.tasks import LABEL, TaskSettings, weights_of
from ssl_jets.precision import resolve_precision
from ssl_jets.run import Run, Say
from ssl_jets.streams import make_stream, open_for
from ssl_jets.train import Fit, fit, make_fabric

_STATISTICS_JETS = 10_000

_MAY_CHANGE = {"train.devices", "data.workers", "train.checkpoint_minutes"}
"""Settings that another launch of the same run may change: they do not change what is trained."""


def resolve_pretrain(method: str, *layers: dict[str, Any], stored: Path | None = None) -> RunSettings[MethodSettings]:
    """The settings of a pretraining run: the method's recipe (or the `stored` settings of a run), then `layers`."""
    cls = methods.find(method)
    base = recipe(method) if stored is None else read_config(stored)
    begun = base.get("method", {}).get("name", method)
    if begun != method:
        raise UsageError("the run was begun with another method", where="--method", found=method, allowed=[begun])
    return resolve(RunSettings[cls.Config], {"method": {"name": method}}, base, *layers)  # type: ignore[name-defined]


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
    tune_memory()
    fabric = make_fabric(settings.train)
    settings = explicit(settings, fabric)
    run = check_run(settings, out, fabric, resume=resume, force=force)
    data = open_for(settings.data, fabric)
    name = settings.method.name
    cls = methods.find(name)
    needs_labels = cls.needs_labels(settings.method) or settings.data.labelled is not None
    if needs_labels and not data.label_names:
        raise DataError(f"method {name} needs labels, and these files have none", where=", ".join(data.names[:8]))
    weighted = isinstance(settings.method, TaskSettings)
    if settings.data.weights and not weighted:
        raise UsageError(f"method {name} has no labels to weigh", where="data.weights", found=settings.data.weights)
    request = Request.of(settings.data, cls.jet_columns(settings.method), weighted=weighted)
    subset = labelled_subset(data, settings.data, request)
    if isinstance(settings.method, TaskSettings):
        count_labelled(data.files, data.train, request, subset, classes=LABEL in settings.method.targets)
    parts = load_parts(cls, settings.method, data.columns)
    seed = settings.train.seed
    torch.manual_seed(seed)
    encoder = Encoder(settings.model)
    begins = not (resume and run.checkpoint.is_file())
    if begins:
        encoder.features.measure(sample_of(data.blind, data.all_train, seed, Request.of(settings.data)))
    method = cls(settings.method, encoder, data.label_names, **parts)
    if begins:
        method.measure([subset] if subset is not None else sample_of(data.files, data.train, seed, request))
    open_run(run, settings, fabric, resume=resume, force=force)
    announce(run, settings, data, method, subset)
    opened = make_stream(data, settings, fabric, request, subset)
    with explain_shortage(LESS_TO_TRAIN), closing(opened) as stream:
        done = fit(
            method,
            stream,
            run,
            settings.train,
            fabric=fabric,
            monitor=make_monitor(data, settings.train, request, run.say),
            file_names=data.names,
            resume=resume,
            title=f"pretrain {name}",
        )
    facts = {"method": name, "training": training_facts(data, settings, done)}
    finish(run, method, data.label_names, facts, fabric)
    return out


def labelled_subset(data: Dataset, settings: DataSettings, request: Request) -> Jets | None:
    """The labelled jets to train on, in memory; None for all of them."""
    if settings.labelled is None or settings.labelled == 1.0:
        return None
    wanted, skipped = (settings.labelled, settings.labelled_seed), data.jets_left_out
    return choose(data.files, data.train, *wanted, request, "data.labelled", skipped)


def sample_of(files: Sequence[JetFile], parts: Sequence[Part], seed: int, request: Request) -> Iterator[Jets]:
    """A sample of training jets, to measure means and spreads on."""
    return ordered(files, thin(parts, _STATISTICS_JETS, seed), request)


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
    """The run, where `out` may be written; settings that changed since it was begun are refused. Nothing is replaced.

    A setting that came into ssl-jets after the run was begun had its default before as well.
    """
    run = Run(out, writes=fabric.is_global_zero)
    stored = out / "config.yaml"
    if resume and stored.is_file():
        begun, now = read_config(stored), _flat(settings.model_dump(mode="json"))
        before = _flat(resolve(type(settings), begun).model_dump(mode="json"))
        changed = [key for key in now if before[key] != now[key] and key not in _MAY_CHANGE]
        if changed:
            raise UsageError(
                "the run was begun with other settings",
                where=stored,
                found=", ".join(changed),
                hint="--resume without other options goes on with the settings of the run",
            )
        if newer := sorted(set(now) - set(_flat(begun))):
            run.say(f"settings that are newer than the run have their defaults: {', '.join(newer)}")
    else:
        run.refuse_existing(force=force)
    return run


def _flat(tree: dict[str, Any]) -> dict[str, Any]:
    """`{"train": {"lr": 1e-3}}` as `{"train.lr": 1e-3}`."""
    return {f"{name}.{key}": value for name, settings in tree.items() for key, value in settings.items()}


def open_run(run: Run, settings: RunSettings[MethodSettings], fabric: Fabric, *, resume: bool, force: bool) -> None:
    """Create the run folder, or take it up again. Called when the inputs are known to be good, as `force` removes."""
    if not (resume and (run.folder / "config.yaml").is_file()):
        run.create(settings, force=force)
    else:
        run.take()
        if not run.checkpoint.is_file():  # killed before its first one, it begins again
            run.forget_after(-1)
            if run.writes:
                run.healthy.unlink(missing_ok=True)
    fabric.barrier()


def announce(
    run: Run, settings: RunSettings[MethodSettings], data: Dataset, method: Method, subset: Jets | None
) -> None:
    """Say what is about to be trained, on what."""
    if not (settings.data.sources or settings.data.proportions):
        run.say("no --data: training on the sample that comes with ssl-jets (10 classes of simulated jets)")
    tell_of_files(run, data)
    classes = f", {len(data.label_names)} classes" if data.label_names else ", no labels"
    classes += f", weights {settings.data.weights}" if settings.data.weights else ""
    of_events = " ".join(sorted({file.collection for file in data.files} - {""}))
    jets = f"{of_events} jets" if of_events else "jets"
    jets += " to train on" + BAD_AMONG * (settings.data.bad_jets == "skip")
    run.say(f"data: {count(data.train):,} {jets}, {count(data.held_out):,} held out{classes}")
    if subset is not None:
        run.say(f"labels of {len(subset):,} jets")
    if data.unlabelled:
        ratio = settings.data.unlabelled_ratio
        run.say(f"unlabelled: {count(data.unlabelled):,} jets, {ratio:g} in a batch for each labelled one")
    encoder = method.exported()
    run.say(
        f"encoder: {settings.model.size}, {parameter_count(encoder):,} parameters, z of {encoder.dim} numbers; "
        f"trained together: {parameter_count(method):,} parameters, {settings.train.precision}"
    )


def tell_of_files(run: Run, data: Dataset) -> None:
    """Say what looks wrong in the files, and say and log which could not be opened, and which jets not be used."""
    for line in (*of_files(data.left_out), *(suspicions_of(data.files) if run.writes else ())):
        run.say(line)
    logged = run.checkpoint.is_file()  # when the run began
    if data.left_out and not logged:
        run.log({"step": 0, "kind": "left_out", "files": data.left_out, "all": len(data.left_out)})
    if data.jets_left_out and logged:
        run.say(of_jets(data.jets_left_out))
    elif data.jets_left_out:
        run.log_left_out(0, data.jets_left_out)


def make_monitor(data: Dataset, settings: TrainSettings, request: Request, say: Say | None = None) -> Monitor | None:
    """A monitor on a sample of the held-out jets; None where none are held out."""
    left_out: Counter[str] = Counter()
    jets = read_all(data.files, thin(data.held_out, settings.validation_jets, seed=0), request, left_out)
    if say is not None and left_out:
        say(f"held-out {of_jets(left_out)}")
    if jets is not None:
        weighed, zero = int((weights_of(jets) > 0).sum()), {"weight 0": len(jets)}
        require_jets(weighed, "to validate on", where=f"column {request.weights}", left_out=zero)
    return None if jets is None else Monitor(jets, settings.batch_size, len(data.label_names))


def read_all(
    files: Sequence[JetFile], parts: Sequence[Part], request: Request, left_out: Counter[str] | None = None
) -> Jets | None:
    """All jets of `parts` in memory; None where there are none. Those left out are counted, by reason."""
    batches = list(ordered(files, parts, request, skipped=left_out))
    return concatenate(batches) if batches else None


def training_facts(data: Dataset, settings: RunSettings[MethodSettings], done: Fit) -> dict[str, Any]:
    """What a model remembers of its training: above all which jets it has seen."""
    seen = sorted({part.file for part in data.all_train})
    held_out = (*data.held_out, *data.unlabelled_held_out)
    return {
        "files": [list(data.files[index].identity) for index in seen],
        "columns": list(data.columns),
        "held_out": [_tree_entries(data.files[part.file], part) for part in held_out],
        "validation_fraction": None if settings.data.validation else settings.data.validation_fraction,
        "split_seed": settings.data.split_seed,
        "jets_per_epoch": count(data.train),
        "labelled": settings.data.labelled,
        "labelled_seed": settings.data.labelled_seed,
        "steps": done.steps,
        "jets": done.jets,
        "seconds": round(done.seconds, 1),
        "seed": settings.train.seed,
        "precision": settings.train.precision,
    }


def _tree_entries(file: JetFile, part: Part) -> list[Any]:
    """`[name, bytes, start, stop]` in entries of the tree: where these are events, they mean all jets of an event."""
    return [*file.identity, *file.tree_entries(part.start, part.stop)]


def finish(run: Run, method: Method, labels: tuple[str, ...], facts: dict[str, Any], fabric: Fabric) -> None:
    """Write the trained model."""
    if run.writes:
        heads = {"head": method.exported_head(), "regressor": method.exported_regressor()}
        model = Model(method.exported(), labels=labels, facts=facts, **heads)  # type: ignore[arg-type]
        digest = save_model(model, run.model, method if method.whole else None)
        run.say(f"model: {run.model} (sha256 {digest[:12]})")
    fabric.barrier()
