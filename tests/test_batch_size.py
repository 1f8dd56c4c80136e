"""Batch sizes of the Python functions that are none."""

from __future__ import annotations

from pathlib import Path

import pytest

import ssl_jets
from ssl_jets.errors import UsageError
from ssl_jets.model import Model
from support.small_models import made_jets, tiny_encoder


@pytest.mark.parametrize("size", [0, -1, 2.5])
def test_a_batch_has_at_least_one_jet(size: int, tmp_path: Path) -> None:
    jets = made_jets([3, 2])
    with pytest.raises(UsageError, match=f"(?s)batch_size.*found: *{size}.*1 or more"):
        Model(tiny_encoder(jets)).embed(jets, batch_size=size)
    for verb in (ssl_jets.embed, ssl_jets.predict):
        with pytest.raises(UsageError, match=f"(?s)--batch-size.*found: *{size}"):
            verb("tiny-sup", out=tmp_path / "out.npz", batch_size=size)
