"""A pretrained model for all tests of finetuning."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssl_jets.data.files import JetFile
from ssl_jets.pretraining import pretrain, resolve_pretrain
from support.finetune_settings import QUICK, sources
from support.jetclass_files import write_class_files
from support.overridden import overridden


@pytest.fixture(scope="session")
def class_files(tmp_path_factory: pytest.TempPathFactory) -> list[JetFile]:
    """Three classes of 200 jets of few particles: quicker to read and to train on than the sample."""
    return write_class_files(tmp_path_factory.mktemp("class_files"), 200, cluster=200)


@pytest.fixture(scope="session")
def pretrained(sample_files: list[JetFile], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An autoencoder pretrained on the files 0 and 1, a fifth of which it held out with seed 7."""
    layer = overridden(QUICK, "model.size=tiny", "model.blocks=2", "data.validation_fraction=0.2", "data.split_seed=7")
    settings = resolve_pretrain("mae", sources(sample_files[:2]), layer)
    return pretrain(settings, tmp_path_factory.mktemp("pretrained") / "mae")
