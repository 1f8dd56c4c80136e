"""A message names the inputs that are far from those of the training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssl_jets.config import ModelSettings
from ssl_jets.data.files import JetFile, open_files
from ssl_jets.data.sources import resolve_sources
from ssl_jets.embedding.encoding import far_from_training
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
