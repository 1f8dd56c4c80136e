"""Labelled jets and objective of a finetuning run, before its first step; also for its memory plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from lightning_fabric import Fabric

from ssl_jets.config import CollectionSettings, RunSettings
from ssl_jets.data.dataset import Dataset, open_dataset
from ssl_jets.data.inputs import check_definitions, columns_of, requests_of
from ssl_jets.data.loading.counting import Labelled, Wanted, count_labelled
from ssl_jets.data.loading.pairs import refuse_pairs
from ssl_jets.data.request import Request
from ssl_jets.embedding.encoding import column_differences, schema_of_training, trained_columns
from ssl_jets.finetuning.adaptation_settings import ADAPTED_Z
from ssl_jets.finetuning.modes import MODES
from ssl_jets.finetuning.objective import L2SPTerm, Objective
from ssl_jets.finetuning.particles import particle_targets
from ssl_jets.finetuning.settings import FinetuneSettings
from ssl_jets.jets import COLUMNS, Jets
from ssl_jets.model_file import Model, load_model
from ssl_jets.nn.encoder import BaseEncoder
from ssl_jets.nn.foreign.adapter import ForeignEncoder
from ssl_jets.nn.particles.heads import ParticleHeads, ParticleTarget
from ssl_jets.nn.particles.tasks import ParticleTasks
from ssl_jets.nn.tasks import LABEL, wanted_of
from ssl_jets.training.flattening import flattened
from ssl_jets.training.run_folder import TrainingRun
from ssl_jets.training.run_setup import labelled_subset, require_labels
from ssl_jets.training.streams import open_on_all_ranks


def open_labelled(
    settings: RunSettings[FinetuneSettings],
    fabric: Fabric | None = None,
    run: TrainingRun | None = None,
    *,
    begins: bool = True,
    pretrained: Model | None = None,
) -> tuple[Dataset, Request, Jets | None]:
    """Open the files, and choose the columns to read and the labelled jets to use (None for all).

    With `fabric`, all ranks call this, and must see the same files. With `run`, a run that does not begin uses the
    spectra that it has recorded. The pretrained model is loaded if it is not given.

    Raises:
        DataError: classes are to be learned, and the files have no labels.
        UsageError: the files define a feature otherwise than the model.
    """
    refuse_pairs(settings.data)
    data = open_dataset(settings.data) if fabric is None else open_on_all_ranks(settings.data, fabric)
    if LABEL in settings.method.targets:
        hint = "--set method.targets=[jet_sdmass] learns a jet column"
        require_labels(data, "finetuning on labels needs labels, and these files have none", hint)
    model = settings.model
    check_definitions(model.features, model.context, data.files, model.collections)
    columns, context, collections = _seen(settings, data, pretrained)
    request = Request.of(
        settings.data,
        settings.method.jet_columns,
        columns,
        context=context,
        collections=requests_of(collections),
        weighted=True,
    )
    particle_targets(settings, data)  # raises before anything is read
    request = replace(request, particle_labels=settings.method.particle_targets)
    request = flattened(request, data, settings.data, run, begins=begins)
    method = settings.method
    return data, request, labelled_subset(data, request, _wanted(method), method.labels, seed=method.subset_seed)


def _seen(
    settings: RunSettings[FinetuneSettings], data: Dataset, pretrained: Model | None
) -> tuple[tuple[str, ...] | None, tuple[str, ...], dict[str, CollectionSettings]]:
    """Return particle columns, context and collections to read.

    They are all if their embedding is trained, else those it was trained with. A plan for mode `auto` reads all, since
    some of its modes do. A student of mode `distil` can have other `model.inputs` than its teacher.
    """
    inputs, mode = settings.model, settings.method.mode
    columns = columns_of(inputs, data.files)
    if mode == "auto" or MODES[mode].trains_inputs:
        return columns, tuple(inputs.context), inputs.collections
    model = load_model(settings.method.model) if pretrained is None else pretrained
    if inputs.inputs != model.encoder.cfg.inputs:
        return columns, tuple(inputs.context), inputs.collections
    trained = trained_columns(model, _canonical(columns, data))
    if columns is not None or trained != data.columns:  # else all, so that files to validate on may lack some
        columns = (*trained, *inputs.features)
    collections = {name: one for name, one in inputs.collections.items() if name in model.collections}
    return columns, model.context, collections


def new_columns(pretrained: Model, columns: Sequence[str]) -> list[str]:
    """Return the columns of a training that the pretrained model can read and was not trained with."""
    encoder = pretrained.encoder
    readable = encoder.columns if isinstance(encoder, ForeignEncoder) else columns
    return [name for name in columns if name in readable and name not in pretrained.columns]


def describe_columns(
    settings: RunSettings[FinetuneSettings], pretrained: Model, data: Dataset, columns: Sequence[str]
) -> Iterator[str]:
    """Yield lines about differences between the columns of the pretraining, of the files, and of this training."""
    if new := new_columns(pretrained, columns):
        yield f"columns that the model was not trained with, and learns now: {', '.join(new)}"
    if settings.model.inputs != pretrained.encoder.cfg.inputs:
        read = (*columns, *settings.model.context, *settings.model.collections)
        inputs = (*pretrained.columns, *pretrained.context, *pretrained.collections)
        if hidden := [name for name in inputs if name not in read]:
            yield f"the teacher reads as missing the inputs that its student does not read: {', '.join(hidden)}"
    elif not MODES[settings.method.mode].starts_anew:
        available = _canonical(columns_of(settings.model, data.files), data)
        yield from column_differences(pretrained, [name for name in available if name not in new])
        yield from schema_of_training(pretrained, data.files)


def _canonical(chosen: Sequence[str] | None, data: Dataset) -> tuple[str, ...]:
    """Return the canonical columns among the chosen ones; None chooses all of the files to train on."""
    return data.columns if chosen is None else tuple(name for name in chosen if name in COLUMNS)


def count_targets(
    settings: RunSettings[FinetuneSettings], data: Dataset, request: Request, subset: Jets | None
) -> Labelled:
    """Count the jets that the tasks learn from, and all jets to choose from.

    Raises:
        DataError: there are none, or only jets of one class although classes are to be learned.
    """
    return count_labelled(data.files, data.train, request, subset, _wanted(settings.method))


def _wanted(method: FinetuneSettings) -> Wanted:
    """Return the targets to learn."""
    return Wanted(*wanted_of(method), method.particle_targets)


def in_batches(data: Dataset, settings: RunSettings[FinetuneSettings]) -> Dataset:
    """Return the dataset of the training batches, with jets of the target domain only if `adapt` compares their z."""
    return data if settings.method.adapt in ADAPTED_Z else replace(data, unlabelled=[])


def build_objective(
    settings: RunSettings[FinetuneSettings],
    pretrained: Model,
    labels: tuple[str, ...],
    particles: Sequence[ParticleTarget] = (),
) -> Objective:
    """Build encoder, heads and loss terms of the mode, and freeze the weights that the mode keeps fixed."""
    mode = MODES[settings.method.mode](settings)
    torch.manual_seed(settings.train.seed)
    encoder = mode.encoder(pretrained)
    known = list(encoder.parameters())
    pool = settings.method.pool or mode.pool
    if pool not in (None, encoder.cfg.pool):
        encoder.set_pool(pool)
    terms, of_particles = mode.terms(pretrained, encoder), _particle_tasks(settings.method, encoder, particles)
    objective = Objective(settings.method, encoder, labels, terms, of_particles)
    mode.prepare(objective)
    if settings.method.l2_sp and "l2_sp" in mode.own_settings:
        objective.terms["l2_sp"] = L2SPTerm(settings.method.l2_sp, encoder, known)
    return objective


def _particle_tasks(
    cfg: FinetuneSettings, encoder: BaseEncoder, targets: Sequence[ParticleTarget]
) -> ParticleTasks | None:
    """Build the heads of the particles and their losses; None without targets of particles."""
    if not targets:
        return None
    heads = ParticleHeads(encoder.width, targets, cfg.head_hidden, cfg.regression, cfg.quantiles)
    return ParticleTasks(heads, cfg.particle_class_weights)
