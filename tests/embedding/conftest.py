"""A model that several files of tests embed with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ssl_jets.config import ModelSettings
from ssl_jets.model import Model
from ssl_jets.model_file import save_model
from ssl_jets.nn.encoder import Encoder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folder of an untrained encoder of one block."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("run") / "model"
    save_model(Model(Encoder(ModelSettings(size="tiny", blocks=1)), facts={"method": "mae"}), folder)
    return folder.parent
