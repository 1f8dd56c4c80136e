"""The search for anomalies refuses what it cannot search for before it works."""

from __future__ import annotations

from pathlib import Path

import pytest

from small_models import tiny_encoder
from ssl_jets.data.files import JetFile
from ssl_jets.errors import UsageError
from ssl_jets.evaluate.settings import AnomalySettings, EvaluateSettings, MeasureSettings
from ssl_jets.jets import Jets
from ssl_jets.model_file import Model, save_model
from ssl_jets.nn.encoder import Encoder
from ssl_jets.protocols import anomaly_scan


def test_an_unknown_signal_is_refused_before_any_jet_is_encoded(
    sample_files: list[JetFile], batch: Jets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = {"method": "mae", "training": {"files": [], "held_out": []}}
    save_model(Model(tiny_encoder(batch), None, (), facts), tmp_path / "run" / "model")
    settings = EvaluateSettings(
        anomaly=AnomalySettings(signals=("label_Hbb",)), evaluate=MeasureSettings(fit_jets=200, test_jets=200)
    )
    monkeypatch.setattr(Encoder, "forward", lambda *_: pytest.fail("z was computed"))
    sources = [str(file.source) for file in sample_files]
    with pytest.raises(UsageError, match="no such class"):
        anomaly_scan([tmp_path / "run"], sources, tmp_path / "out", settings=settings, say=lambda text: None)
