"""Pretraining: jets in, a run folder with a trained encoder out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ssl_jets import methods
from ssl_jets.config import MethodSettings, RunSettings, resolve
from ssl_jets.data.inputs import columns_of, describe_inputs, requests_of
from ssl_jets.data.loading.counting import Wanted, count_labelled
from ssl_jets.data.request import Request
from ssl_jets.data.seen import Seen
from ssl_jets.data.skipped import BAD_AMONG
from ssl_jets.errors import UsageError, some_of
from ssl_jets.methods._method import Method
from ssl_jets.methods._renamed import read_run_config
from ssl_jets.model_file import load_model
from ssl_jets.nn.encoder import Encoder, parameter_count
from ssl_jets.nn.tasks import TaskSettings, wanted_of
from ssl_jets.runtime.allocator import LESS_TO_TRAIN, explain_shortage, tune_memory
from ssl_jets.runtime.signals import watched
from ssl_jets.training.fabric import make_fabric
from ssl_jets.training.flattening import flattened, record_spectrum
from ssl_jets.training.required import TEACHER, Teacher, load_required, load_teacher
from ssl_jets.training.resume import check_run, goes_on, is_finished, open_run
from ssl_jets.training.run_setup import (
    TrainingInputs,
    export,
    labelled_subset,
    log_files,
    require_labels,
    split_of,
    statistics_sample,
    train,
    training_facts,
    training_sample,
    with_inputs,
    with_resolved_precision,
)
from ssl_jets.training.start import Start, fresh_parts, load_start
from ssl_jets.training.state import FitResult
from ssl_jets.training.streams import open_on_all_ranks


def resolve_pretrain(method: str, *layers: dict[str, Any], stored: Path | None = None) -> RunSettings[MethodSettings]:
    """Resolve the settings of a pretraining run.

    Args:
        method: name of the method.
        layers: settings in increasing precedence.
        stored: `config.yaml` of a run, instead of the defaults of the method.

    With `train.model` encoder and split are by default taken from that model, with `method.teacher` the split.

    Raises:
        UsageError: a setting is wrong, or the stored run is of another method.
    """
    cls = methods.find(method)
    base: dict[str, Any] = cls.recipe.layer() if stored is None else read_run_config(stored)
    trained: dict[str, Any] = {}
    if stored is None and (model := _last_of(layers, "train", "model")):
        trained = _settings_of(model)
    elif stored is None and TEACHER in cls.requires and (model := _last_of(layers, "method", TEACHER)):
        trained = {"data": _settings_of(model)["data"]}
    stored_method = base.get("method", {}).get("name", method)
    if stored_method != method:
        raise UsageError(
            "the run was begun with another method", where="--method", found=method, allowed=[stored_method]
        )
    settings = resolve(RunSettings[cls.Config], trained, {"method": {"name": method}}, base, *layers)  # type: ignore[name-defined]
    if settings.model.architecture is not None:
        hint, found = "ssl-jets finetune trains other encoders", settings.model.architecture
        raise UsageError(
            "pretraining needs the set transformer of ssl-jets", where="model.architecture", found=found, hint=hint
        )
    return settings


def _last_of(layers: Sequence[Mapping[str, Any]], tree: str, name: str) -> str | None:
    """Return the setting TREE.NAME of the last layer that has it."""
    named = [layer[tree][name] for layer in layers if isinstance(layer.get(tree), Mapping) and name in layer[tree]]
    return named[-1] if named else None


def _settings_of(path: str) -> dict[str, Any]:
    """Return the encoder and the split of a model, the defaults of a run that goes on from it."""
    model = load_model(path)
    return {"model": model.encoder.cfg.model_dump(), "data": split_of(model.facts["training"])}


@watched()
def pretrain(settings: RunSettings[MethodSettings], out: Path, *, resume: bool = False, force: bool = False) -> Path:
    """Pretrain an encoder with the settings of `resolve_pretrain`, and write the run folder `out`.

    Raises:
        Interrupted: a signal came before the last step; the checkpoint is saved if a step was taken.
    """
    tune_memory()
    fabric = make_fabric(settings.train)
    settings = with_resolved_precision(settings, fabric)
    run = check_run(settings, out, fabric, resume=resume, force=force)
    if is_finished(run, fabric, resume=resume):
        return out
    begins = not goes_on(run, fabric, resume=resume)

    # Data
    name = settings.method.name
    tasks = settings.method if isinstance(settings.method, TaskSettings) else None
    cls = methods.find(name)
    _check_settings(settings, cls, fabric.world_size)
    data = open_on_all_ranks(settings.data, fabric)
    settings = with_inputs(settings, data)
    needs_labels = cls.needs_labels(settings.method) or settings.data.labelled is not None
    if needs_labels:
        require_labels(data, f"method {name} needs labels, and these files have none")
    request = Request.of(
        settings.data,
        cls.jet_columns(settings.method),
        columns_of(settings.model, data.files),
        context=tuple(settings.model.context) if cls.sees_context else (),
        collections=requests_of(settings.model.collections) if cls.sees_collections else (),
        weighted=tasks is not None,
    )
    request = flattened(request, data, settings.data, run, begins=begins)
    wanted = Wanted(*wanted_of(tasks)) if tasks else Wanted(classes=needs_labels, one_class=True)
    subset = labelled_subset(
        data, request, wanted, settings.data.labelled, seed=settings.data.labelled_seed, setting="data.labelled"
    )
    counts = count_labelled(data.files, data.train, request, subset, wanted) if tasks or needs_labels else None
    inputs = TrainingInputs(settings, data, request, subset, run, fabric, begins)

    # Method, run folder
    built = build_method(inputs)
    open_run(run, settings, data, fabric, resume=resume, force=force)  # the inputs are checked: `force` may replace
    log_setup(inputs, built.method)
    for line in (*built.findings, *(counts.lines() if counts is not None else ())):
        run.log_message(line)
    if begins:
        record_spectrum(run, request)
        if built.start is not None:
            built.start.write(run)
            log_start(inputs, built.start, built.fresh)
        if built.teacher is not None:
            built.teacher.write(run)
            run.log_message(built.teacher.line(cls))

    # Training, model
    with explain_shortage(LESS_TO_TRAIN):
        facts = partial(_facts, inputs, built, counts.labelled if counts is not None and needs_labels else None)
        result = train(built.method, inputs, f"pretrain {name}", facts)
    export(inputs, built.method, facts(result))
    return out


def _check_settings(settings: RunSettings[MethodSettings], cls: type[Method], world: int) -> None:
    """Check that the method can use the settings of data and training, with batches of `world` processes.

    Raises:
        UsageError: it cannot.
    """
    method, data, batch_size = settings.method, settings.data, settings.train.batch_size
    objectives = cls.objectives(method)
    if settings.train.hide_features and getattr(method, "mask", None) == "kind":
        raise UsageError("the mask `kind` needs the kinds that this setting hides", where="train.hide_features")
    if data.pairs and not any(one.compares_views for one in objectives):
        allowed = methods.with_property("compares_views")
        raise UsageError(f"method {method.name} reads one view of each jet", where="data.pairs", allowed=allowed)
    if batch_size * world < 2 and any(one.compares_jets for one in objectives):
        raise UsageError(
            f"method {method.name} learns by comparing the jets of a batch",
            where="train.batch_size",
            found=batch_size,
            allowed=["2 or more"],
            hint="--batch-size 128; each batch of train.accumulate is compared by itself",
        )
    if isinstance(method, TaskSettings):
        return
    what = f"method {method.name} has no labels to weigh"
    if data.weights:
        raise UsageError(what, where="data.weights", found=data.weights)
    if data.flatten is not None and data.flatten.how == "weights":
        raise UsageError(what, where="data.flatten.how", found="weights", hint="data.flatten.how=resample")


def _facts(
    inputs: TrainingInputs[MethodSettings], built: BuiltMethod, labelled: int | None, result: FitResult
) -> dict[str, Any]:
    """Return the facts of the model after a training of this length, on that number of labelled jets."""
    settings = inputs.settings
    facts = training_facts(inputs, result)
    if labelled is not None:
        facts["labelled_jets"] = labelled
    facts = facts if built.start is None else built.start.joined(facts)
    facts = facts if built.teacher is None else built.teacher.joined(facts)
    return {"method": settings.method.name, "training": facts}


@dataclass(frozen=True)
class BuiltMethod:
    """A method before its training.

    Attributes:
        method: the method.
        start: the model that it goes on from; None for random weights.
        teacher: the trained model that it imitates, if it does.
        fresh: parts that begin with random weights nevertheless.
        findings: lines about features that carry no information in these jets, and weights of the model that are lost.
    """

    method: Method
    start: Start | None
    teacher: Teacher | None
    fresh: list[str]
    findings: list[str]


def build_method(inputs: TrainingInputs[MethodSettings]) -> BuiltMethod:
    """Build the method; a run that begins gets the statistics of its features and targets from training jets."""
    settings, data = inputs.settings, inputs.data
    cls = methods.find(settings.method.name)
    components: dict[str, Any] = dict(load_required(cls, settings.method, inputs.columns, data.files))
    teacher = load_teacher(cls, settings.method, inputs.columns, data.files, None if inputs.begins else inputs.run)
    if teacher is not None:
        components[TEACHER] = teacher.encoder
    torch.manual_seed(settings.train.seed)
    encoder = Encoder(settings.model)
    findings = fit_input_statistics(encoder, inputs) if inputs.begins else []
    start, fresh = None, list[str]()
    if settings.train.model is not None and inputs.begins:
        start, fresh, lost = load_start(settings.train.model, encoder)
        if modules := list(dict.fromkeys(".".join(name.split(".")[:3]) for name in lost)):
            findings.append(f"the encoder has no place for weights of the model: {some_of(modules, 8)}")
    elif settings.train.model is not None:
        start = Start.read(inputs.run)
    method = cls(settings.method, encoder, data.label_names, **components)
    if inputs.begins:
        method.prepare(training_sample(inputs))
    return BuiltMethod(method, start, teacher, fresh_parts(method, encoder, fresh), findings)


def fit_input_statistics(encoder: Encoder, inputs: TrainingInputs[MethodSettings]) -> list[str]:
    """Fit the statistics of declared inputs on training jets; return lines about those without information."""
    data, model = inputs.data, inputs.settings.model
    further: Any = {"context": tuple(model.context), "collections": requests_of(model.collections)}
    request = replace(inputs.request.inputs, **further)
    batches = list(statistics_sample(data, data.all_train, inputs.settings.train.seed, request, blind=True))
    encoder.fit_statistics(batches)
    return describe_inputs(batches, model)


def log_start(inputs: TrainingInputs[MethodSettings], start: Start, fresh: list[str]) -> None:
    """Log the model that a run goes on from, the parts that it lacks, and doubts about the jets that it has seen."""
    run, data = inputs.run, inputs.data
    begins = f"; with random weights begin: {', '.join(fresh)}" if fresh else ""
    run.log_message(f"goes on from {start.path} ({start.method}, sha256 {start.sha256[:12]}){begins}")
    if new := [name for name in inputs.columns if name not in start.columns]:
        run.log_message(f"columns that the model was not trained with: {', '.join(new)}")
    for line in Seen.of(start.training).notes(data.files):
        run.log_message(line)


def log_setup(inputs: TrainingInputs[MethodSettings], method: Method) -> None:
    """Log the files, the number of jets and labels, and the size of the encoder."""
    settings, data, run = inputs.settings, inputs.data, inputs.run
    if not (settings.data.sources or settings.data.proportions):
        run.log_message("no --data: training on the sample that comes with ssl-jets (10 classes of simulated jets)")
    log_files(inputs)
    classes = f", {len(data.label_names)} classes" if data.label_names else ", no labels"
    classes += f", weights {settings.data.weights}" if settings.data.weights else ""
    collections = sorted({file.collection for file in data.files} - {""})
    jets = " ".join([*collections, "jets to train on"]) + BAD_AMONG * (settings.data.bad_jets == "skip")
    run.log_message(f"data: {data.jets(data.train):,} {jets}, {data.jets(data.held_out):,} held out{classes}")
    if settings.data.pairs:
        paired = data.jets([part for part in data.all_train if data.files[part.file].second is not None])
        run.log_message(f"pairs: {paired:,} of {data.jets(data.all_train):,} jets to train on have a second view")
    if inputs.subset is not None:
        run.log_message(f"labels of {len(inputs.subset):,} jets")
    if data.unlabelled:
        ratio = settings.data.unlabelled_ratio
        run.log_message(f"unlabelled: {data.jets(data.unlabelled):,} jets, {ratio:g} in a batch for each labelled one")
    encoder = method.exported()
    run.log_message(
        f"encoder: {settings.model.title()}, {parameter_count(encoder):,} parameters, z of {encoder.dim} numbers; "
        f"trained together: {parameter_count(method):,} parameters, {settings.train.precision}"
    )
