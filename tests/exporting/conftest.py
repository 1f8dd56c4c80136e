"""An exported tagger, shared by the tests: the export takes a while."""

from __future__ import annotations

import pytest

from ssl_jets import api
from ssl_jets.exporting import parity
from ssl_jets.jets import Jets
from ssl_jets.model_file import load_model
from support.exported import Exported, save_tagger


@pytest.fixture(scope="session")
def exported(sample_jets: Jets, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("exported")
    run = save_tagger(sample_jets, folder / "tagger", blocks=1, pool="attention", pair_bias=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parity, "_MEASURED_SECONDS", 0.0)  # five calls for each latency
        summary = api.export(run, out=folder / "tagger.onnx", tokens=True, int8=True, settings={"export.jets": 20})
    return Exported(load_model(run), run, summary)
