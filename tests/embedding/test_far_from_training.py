"""A message names the inputs that are far from those of the training; the first jets of a file are read once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ssl_jets.config import DataSettings, ModelSettings
from ssl_jets.data import profile
from ssl_jets.data.files import EntryRange, JetFile, open_files
from ssl_jets.data.profile import find_suspicions
from ssl_jets.data.read import read_jets
from ssl_jets.data.sources import resolve_sources
from ssl_jets.embedding.encoding import far_from_training, log_far_from_training
from ssl_jets.jets import Jets
from ssl_jets.model_file import Model
from ssl_jets.nn.encoder import Encoder


def fitted(jets: Jets) -> Model:
    torch.manual_seed(0)
    encoder = Encoder(ModelSettings(size="tiny"))
    encoder.fit_statistics([jets])
    return Model(encoder, facts={"training": {"columns": list(jets.columns)}})


def test_jets_like_those_of_the_training_give_no_message(sample_jets: Jets, sample_files: list[JetFile]) -> None:
    assert list(far_from_training(fitted(sample_jets), sample_files, None)) == []


def test_harder_particles_and_tracks_from_another_vertex_are_named_largest_first(
    sample_jets: Jets, write_jetclass: Callable[..., Path]
) -> None:
    def change(content: dict[str, Any]) -> None:
        for name in ("part_px", "part_py", "part_pz", "part_energy"):
            content[name] = content[name] * np.float32(5)
        content["part_dzval"] = content["part_dzval"] + np.float32(500) * (content["part_charge"] != 0)

    file = open_files(resolve_sources([str(write_jetclass(edit=change))]))
    (line,) = far_from_training(fitted(sample_jets), file, None)
    assert list(far_from_training(fitted(sample_jets), file, "jet_pt < 0")) == []  # nothing is selected
    assert "unlike those of the training" in line
    assert line.index("dz_size +") < line.index("log_pt +")
    assert "dphi" not in line


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files of which the first jets were read."""
    read, names = profile.read_range, list[str]()

    def counted(files: list[JetFile], part: EntryRange, request: Any) -> Any:
        names.append(files[part.file].name)
        return read(files, part, request)

    monkeypatch.setattr(profile, "read_range", counted)
    return names


def turned(content: dict[str, Any]) -> None:
    content["part_dphi"] = content["part_dphi"] + np.float32(2 * np.pi)


def test_all_checks_and_models_look_at_the_same_jets(
    sample_jets: Jets, write_jetclass: Callable[..., Path], reads: list[str]
) -> None:
    files = open_files(resolve_sources([str(write_jetclass("turned.root", edit=turned))]))
    lines: list[str] = []
    assert any("dphi is outside" in line for line in find_suspicions(files))
    for _ in range(2):
        log_far_from_training([fitted(sample_jets), fitted(sample_jets)], files, None, lines.append)
    assert reads == ["turned.root"]
    assert not any("dphi" in line for line in lines)  # wrapped, as in the training
    assert any("dphi is outside" in line for line in find_suspicions(files))


def test_values_that_the_model_does_not_read_hide_no_jets(
    sample_jets: Jets, write_jetclass: Callable[..., Path]
) -> None:
    def spoil(content: dict[str, Any]) -> None:
        content["part_d0val"] = content["part_d0val"] * np.float32("nan")
        for name in ("part_px", "part_py", "part_pz", "part_energy"):
            content[name] = content[name] * np.float32(50)

    files, lines = open_files(resolve_sources([str(write_jetclass(edit=spoil))])), list[str]()
    without_tracks = sample_jets.without(["d0", "d0err", "dz", "dzerr"])
    log_far_from_training([fitted(without_tracks)], files, None, lines.append)
    assert "log_pt +" in lines[0]


def test_jets_in_memory_are_looked_at_as_they_are_read(write_jetclass: Callable[..., Path], reads: list[str]) -> None:
    path = str(write_jetclass(edit=turned))
    for data, expected in ((DataSettings(), 0), (DataSettings(where="jet_pt > 0"), 1)):
        lines: list[str] = []
        jets = read_jets([path], data=data, log=lines.append)
        assert [line for line in lines if "dphi is outside" in line and path in line]
        assert len(lines) == 2
        assert bool((jets.column("dphi").abs() <= torch.pi).all())
        assert len(reads) == expected
