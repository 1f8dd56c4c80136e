"""An exported tagger of all outputs."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from ssl_jets.exporting import ExportSummary
from ssl_jets.jets import Jets
from ssl_jets.model import Model
from ssl_jets.model_file import save_model
from ssl_jets.nn.heads import ClassHead
from ssl_jets.nn.regression import Regressor
from support.small_models import CLASSES, tiny_encoder


class Exported(NamedTuple):
    """What the fixture `exported` gives."""

    model: Model
    run: Path
    summary: ExportSummary


def save_tagger(jets: Jets, folder: Path, kind: str = "quantile", **settings: object) -> Path:
    """Save an untrained model with a class head and a regressor of two targets."""
    encoder = tiny_encoder(jets, **settings).eval()
    for parameter in encoder.parameters():  # biases are zero before the training, and equal tensors are stored once
        parameter.data.add_(0.02 * torch.randn_like(parameter))
    encoder.missing.data.normal_()
    regressor = Regressor(encoder.dim, ["jet_sdmass", "jet_tau2/jet_tau1"], kind=kind)  # type: ignore[arg-type]
    regressor.targets.fit_statistics([jets])
    facts = {"method": "mae", "training": {"steps": 3}}
    model = Model(encoder, ClassHead(encoder.dim, len(CLASSES), 16), CLASSES, facts, regressor=regressor)
    save_model(model, folder / "model")
    return folder
