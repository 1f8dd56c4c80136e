"""What a finetuning run starts from: the labelled jets, and the objective before its first step."""

from __future__ import annotations

import torch

from ssl_jets.config import RunSettings
from ssl_jets.data.dataset import Dataset, open_dataset
from ssl_jets.data.stream import Request
from ssl_jets.data.subset import choose
from ssl_jets.errors import DataError
from ssl_jets.finetune.anchor import TowardsPretrained
from ssl_jets.finetune.modes import MODES
from ssl_jets.finetune.objective import Objective
from ssl_jets.finetune.settings import FinetuneSettings
from ssl_jets.jets import Jets
from ssl_jets.model_file import Model
from ssl_jets.nn.tasks import LABEL


def read_data(settings: RunSettings[FinetuneSettings]) -> tuple[Dataset, Request, Jets | None]:
    """The files, what to read of them, and the labelled jets to use where not all are."""
    data = open_dataset(settings.data)
    _refuse_missing_labels(settings, data)
    request = Request(jet_columns=settings.method.jet_columns, bad_jets=settings.data.bad_jets)
    return data, request, _subset(settings, data, request)


def begin(settings: RunSettings[FinetuneSettings], pretrained: Model, labels: tuple[str, ...]) -> Objective:
    """What is trained, before its first step."""
    mode = MODES[settings.method.mode](settings)
    torch.manual_seed(settings.train.seed)
    encoder = mode.encoder(pretrained)
    objective = Objective(settings.method, encoder, labels, mode.terms(pretrained, encoder))
    mode.prepare(objective)
    if settings.method.l2_sp:
        objective.terms["l2_sp"] = TowardsPretrained(settings.method.l2_sp, encoder)
    return objective


def _refuse_missing_labels(settings: RunSettings[FinetuneSettings], data: Dataset) -> None:
    if LABEL in settings.method.targets and not data.label_names:
        raise DataError(
            "finetuning on labels needs labels, and these files have none",
            where=", ".join(data.names[:8]),
            hint="--set method.targets=[jet_sdmass] learns a jet column",
        )


def _subset(settings: RunSettings[FinetuneSettings], data: Dataset, request: Request) -> Jets | None:
    """The labelled jets to use, in memory; None for all of them."""
    labels = settings.method.labels
    if labels is None or labels == 1.0:
        return None
    return choose(data.files, data.train, labels, settings.method.subset_seed, request)
