"""Jets are read into memory in input order, and what is left out is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ssl_jets.config import DataSettings
from ssl_jets.data.files import open_files, whole
from ssl_jets.data.loading.stream import ordered
from ssl_jets.data.read import read_jets
from ssl_jets.data.request import Request
from ssl_jets.data.sources import Source
from ssl_jets.errors import DataError, UsageError
from ssl_jets.jets import concatenate

Write = Callable[..., Path]


def test_jets_are_those_of_the_files_in_their_order(write_jetclass: Write) -> None:
    names = [str(write_jetclass(f"QCD_{number}.root", 30, seed=number)) for number in (2, 1)]
    files = open_files([Source(name) for name in names])
    expected = concatenate(list(ordered(files, whole(files), Request(("jet_sdmass",)))))
    jets = read_jets(names, keep=["jet_sdmass"])
    assert torch.equal(jets.particles, expected.particles)
    assert torch.equal(jets.jet["jet_sdmass"], expected.jet["jet_sdmass"])
    few = read_jets(names, each=10)
    assert few.source is not None
    assert few.source[:, :2].tolist() == [[file, entry] for file in (0, 1) for entry in range(10)]


def test_jets_left_out_are_said_and_none_at_all_is_an_error(write_jetclass: Write) -> None:
    def spoil(content: dict[str, Any]) -> None:
        content["part_deta"] = content["part_deta"] * np.float32("nan")

    bad, said = str(write_jetclass("bad.root", edit=spoil)), list[str]()
    skip = DataSettings(bad_jets="skip")
    assert len(read_jets([str(write_jetclass()), bad], data=skip, log=said.append)) == 50
    assert any("50" in line for line in said)
    with pytest.raises(DataError, match="no jet that can be used"):
        read_jets([bad], data=skip, log=said.append)
    with pytest.raises(DataError, match="not finite"):
        read_jets([bad])


def test_an_unknown_column_is_refused(write_jetclass: Write) -> None:
    with pytest.raises(UsageError, match="no such column"):
        read_jets([str(write_jetclass())], keep=["jet_sdmas"])
