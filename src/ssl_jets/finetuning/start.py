"""What a finetuning run starts from: the labelled jets, and the objective before its first step."""

from __future__ import annotations

from dataclasses import replace

import torch
from lightning_fabric import Fabric

from ssl_jets.config import RunSettings
from ssl_jets.data.dataset import Dataset, open_dataset
from ssl_jets.data.loading.stream import Request
from ssl_jets.data.schemas.check import like_labels
from ssl_jets.data.subset import choose, count_labelled
from ssl_jets.errors import DataError
from ssl_jets.finetuning.modes import MODES
from ssl_jets.finetuning.objective import L2SPTerm, Objective
from ssl_jets.finetuning.settings import ADAPTED_Z, FinetuneSettings
from ssl_jets.jets import Jets
from ssl_jets.model_file import Model
from ssl_jets.nn.tasks import LABEL
from ssl_jets.training.streams import open_for


def read_data(
    settings: RunSettings[FinetuneSettings], fabric: Fabric | None = None
) -> tuple[Dataset, Request, Jets | None]:
    """The files, what to read of them, and the labelled jets to use where not all are.

    With `fabric`, all processes call this, and must see the same files.
    """
    data = open_dataset(settings.data) if fabric is None else open_for(settings.data, fabric)
    _refuse_missing_labels(settings, data)
    request = Request.of(settings.data, settings.method.jet_columns, weighted=True)
    return data, request, _subset(settings, data, request)


def labelled_jets(
    settings: RunSettings[FinetuneSettings], data: Dataset, request: Request, subset: Jets | None
) -> tuple[int, int]:
    """Count the jets that the tasks learn from, and all that could be chosen.

    Raises:
        DataError: there are none, or only jets of one class where classes are to be told apart.
    """
    return count_labelled(data.files, data.train, request, subset, classes=LABEL in settings.method.targets)


def trained_on(data: Dataset, settings: RunSettings[FinetuneSettings]) -> Dataset:
    """The files of which batches are made: those of the target domain are among them where z of both is compared."""
    return data if settings.method.adapt in ADAPTED_Z else replace(data, unlabelled=[])


def build_objective(settings: RunSettings[FinetuneSettings], pretrained: Model, labels: tuple[str, ...]) -> Objective:
    """What is trained, before its first step."""
    mode = MODES[settings.method.mode](settings)
    torch.manual_seed(settings.train.seed)
    encoder = mode.encoder(pretrained)
    pool = settings.method.pool or mode.pool
    if pool not in (None, encoder.cfg.pool):
        encoder.set_pool(pool)
    objective = Objective(settings.method, encoder, labels, mode.terms(pretrained, encoder))
    mode.prepare(objective)
    if settings.method.l2_sp and encoder is pretrained.encoder:
        objective.terms["l2_sp"] = L2SPTerm(settings.method.l2_sp, encoder)
    return objective


def _refuse_missing_labels(settings: RunSettings[FinetuneSettings], data: Dataset) -> None:
    if LABEL in settings.method.targets and not data.label_names:
        hint = like_labels(column for file in data.files for column in file.jet_columns)
        raise DataError(
            "finetuning on labels needs labels, and these files have none",
            where=", ".join(data.names[:8]),
            hint="; ".join(filter(None, ("--set method.targets=[jet_sdmass] learns a jet column", hint))),
        )


def _subset(settings: RunSettings[FinetuneSettings], data: Dataset, request: Request) -> Jets | None:
    """The labelled jets to use, in memory; None for all of them."""
    labels = settings.method.labels
    if labels is None or labels == 1.0:
        return None
    return choose(data.files, data.train, labels, settings.method.subset_seed, request, skipped=data.jets_left_out)
