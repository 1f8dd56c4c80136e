"""Jets in memory in wrong units are reported as files are: once a call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import awkward as ak
import pytest
import torch

from ssl_jets.config import ModelSettings
from ssl_jets.data.read import read_jets
from ssl_jets.jets import Jets
from ssl_jets.model import Model
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.heads import ClassHead

MEV = "suspicious: pt adds up to 600,000 GeV in half of the jets: is it in MeV?"


def model() -> Model:
    torch.manual_seed(0)
    return Model(Encoder(ModelSettings(size="tiny", blocks=1)), ClassHead(64, 2), ("QCD", "Tbl"))


def of_pt(pt: float, count: int = 600) -> Jets:
    return Jets.of([[[pt, 0.1, 0.0], [pt, 0.0, 0.1]]] * count, ("pt", "deta", "dphi"))


def test_jets_in_mev_are_reported_once_a_call_and_others_not(capsys: pytest.CaptureFixture[str]) -> None:
    for compute in (model().embed, model().predict):
        compute(of_pt(300e3), batch_size=100)
        assert capsys.readouterr().err.splitlines() == [MEV]
    records = ak.Array([[{"pt": 300e3, "eta": 0.1, "phi": 0.0, "mass": 0.0}] * 2])
    model().embed(Jets.from_awkward(records))
    assert capsys.readouterr().err.splitlines() == [MEV]
    for quiet in (of_pt(300.0), of_pt(300e3)[:0], of_pt(300e3).keep(torch.zeros(1200, dtype=torch.bool))):
        model().embed(quiet)
        assert not capsys.readouterr().err


def test_jets_of_files_are_reported_when_they_are_read(
    write_jetclass: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    def in_mev(content: dict[str, Any]) -> None:
        for name in ("part_px", "part_py", "part_pz", "part_energy"):
            content[name] = content[name] * 1000

    file, lines = write_jetclass(edit=in_mev), list[str]()
    jets = read_jets([str(file)], log=lines.append)
    assert [line for line in lines if "is it in MeV?" in line and str(file) in line]
    model().embed(jets)
    assert not capsys.readouterr().err
    model().embed(replace(jets, source=None))
    assert "is it in MeV?" in capsys.readouterr().err
