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
from ssl_jets.data.contents import like_labels
from ssl_jets.data.dataset import Dataset
from ssl_jets.data.files import JetFile, Part, count
from ssl_jets.data.left_out import BAD_AMONG, of_files, of_jets, require_jets
from ssl_jets.data.seen import Seen, copies_of
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
from ssl_jets.resume import check_run, is_finished, open_run
from ssl_jets.run import Run, Say
from ssl_jets.signals import watched
from ssl_jets.streams import make_stream, open_for
from ssl_jets.train import Fit, fit, make_fabric

_STATISTICS_JETS = 10_000


def resolve_pretrain(method: str, *layers: dict[str, Any], stored: Path | None = None) -> RunSettings[MethodSettings]:
    """The settings of a pretraining run: the method's recipe (or the `stored` settings of a run), then `layers`."""
    cls = methods.find(method)
    base = recipe(method) if stored is None else read_config(stored)
    begun = base.get("method", {}).get("name", method)
    if begun != method:
        raise UsageError("the run was begun with another method", where="--method", found=method, allowed=[begun])
    return resolve(RunSettings[cls.Config], {"method": {"name": method}}, base, *layers)  # type: ignore[name-defined]


@watched()
def pretrain(settings: RunSettings[MethodSettings], out: Path, *, resume: bool = False, force: bool = False) -> Path:
    """Pretrain an encoder and write a run folder.

    Args:
        settings: as `resolve_pretrain` made them.
        out: the run folder.
        resume: go on with the run in `out`; where there is none, begin it.
        force: replace the run in `out`.

    Returns:
        `out`.

    Raises:
        Interrupted: a signal came before the last step; where steps were taken, the checkpoint is saved.
    """
    tune_memory()
    fabric = make_fabric(settings.train)
    settings = explicit(settings, fabric)
    run = check_run(settings, out, fabric, resume=resume, force=force)
    if is_finished(run, fabric, resume=resume):
        return out
    data = open_for(settings.data, fabric)
    name = settings.method.name
    cls = methods.find(name)
    needs_labels = cls.needs_labels(settings.method) or settings.data.labelled is not None
    if needs_labels and not data.label_names:
        raise DataError(
            f"method {name} needs labels, and these files have none",
            where=", ".join(data.names[:8]),
            hint=like_labels(column for file in data.files for column in file.jet_columns),
        )
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
    begins = not (resume and run.begun)
    if begins:
        encoder.features.measure(sample_of(data.blind, data.all_train, seed, Request.of(settings.data)))
    method = cls(settings.method, encoder, data.label_names, **parts)
    if begins:
        method.measure([subset] if subset is not None else sample_of(data.files, data.train, seed, request))
    open_run(run, settings, data, fabric, resume=resume, force=force)
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
    training = training_facts(data, settings, done)
    if needs_labels:
        training["labelled_jets"] = count(data.train) if subset is None else len(subset)
    finish(run, method, data.label_names, {"method": name, "training": training}, fabric)
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
    suspicions = suspicions_of(data.files) if run.writes else []
    for line in (*of_files(data.left_out), *copies_of(data.files), *suspicions):
        run.say(line)
    logged = run.begun  # when the run began
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
    return {
        **Seen.of_parts(data.files, data.all_train, [*data.held_out, *data.unlabelled_held_out]).facts(),
        "columns": list(data.columns),
        "validation_fraction": None if settings.data.validation else settings.data.validation_fraction,
        "split_seed": settings.data.split_seed,
        "jets_per_epoch": count(data.train),
        "labelled": settings.data.labelled,
        "labelled_seed": settings.data.labelled_seed,
        "steps": done.steps,
        "skipped_steps": done.skipped_steps,
        "jets": done.jets,
        "seconds": round(done.seconds, 1),
        "seed": settings.train.seed,
        "precision": settings.train.precision,
    }


def finish(run: Run, method: Method, labels: tuple[str, ...], facts: dict[str, Any], fabric: Fabric) -> None:
    """Write the trained model. From here on a signal comes too late to stop anything."""
    with watched() as watch:
        watch.at_once = False
        if run.writes:
            heads = {"head": method.exported_head(), "regressor": method.exported_regressor()}
            model = Model(method.exported(), labels=labels, facts=facts, **heads)  # type: ignore[arg-type]
            digest = save_model(model, run.model, method if method.whole else None)
            run.say(f"model: {run.model} (sha256 {digest[:12]})")
        fabric.barrier()
