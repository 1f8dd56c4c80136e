"""Small files for all tests of training."""

from __future__ import annotations

import pytest

from ssl_jets.data.files import JetFile
from support.jetclass_files import write_class_files


@pytest.fixture(scope="session")
def class_files(tmp_path_factory: pytest.TempPathFactory) -> list[JetFile]:
    """Three classes of 60 jets of few particles: quicker to read and to train on than the sample."""
    return write_class_files(tmp_path_factory.mktemp("class_files"), 60)
