"""Provenance of an evaluation of a model: model, files, settings."""

from __future__ import annotations

import torch

from ssl_jets.evaluation.evaluation_data import EvaluationData, labelled_jets
from ssl_jets.evaluation.result import InputFile, ModelFacts, UsedSettings
from ssl_jets.evaluation.settings import EvaluateSettings
from ssl_jets.model_file import Model
from ssl_jets.runtime.precision import native_precision


def facts_of(model: Model) -> ModelFacts:
    """Return the facts of a model that its evaluation has."""
    encoder = model.encoder
    return ModelFacts(
        sha256=model.sha256,
        method=model.method,
        parameters=model.parameters,
        dim=encoder.dim,
        encoder=encoder.cfg.model_dump(mode="json"),
        head=model.head is not None,
        labelled_jets=labelled_jets(model),
    )


def input_files(data: EvaluationData) -> list[InputFile]:
    """Return the files of an evaluation, with their use in the training."""
    return [
        InputFile(file.name, file.bytes, file.entries, trained, bool(file.label_names))
        for file, trained in zip(data.files, data.roles.trained)
    ]


def used_settings(settings: EvaluateSettings, device: torch.device) -> UsedSettings:
    """Return the settings that numbers depend on."""
    data = settings.data
    return UsedSettings.of(
        settings,
        validation_fraction=data.validation_fraction,
        split_seed=data.split_seed,
        precision=native_precision(device),
        device=device.type,
    )
