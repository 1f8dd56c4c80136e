"""The whole road on formats other than JetClass: pretrain, finetune, generate, and generated against real jets."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from ssl_jets.config import DataSettings, parse_set
from ssl_jets.data.sources import sample_sources
from ssl_jets.errors import DataError, SslJetsError
from ssl_jets.evaluation.generated.compare import evaluate_generated
from ssl_jets.evaluation.metrics.bootstrap import Estimate
from ssl_jets.evaluation.metrics.two_sample import TwoSample
from ssl_jets.finetuning import finetune, resolve_finetune
from ssl_jets.generation import generate
from ssl_jets.model_file import load_model
from ssl_jets.pretraining import pretrain, resolve_pretrain
from support.finetune_settings import QUICK
from support.format_files import sample_branches, write_top_landscape
from support.overridden import last_of, overridden
from support.paths import REAL

NO_TEST = TwoSample(Estimate(None, None, None, None, None), 0, 0, (), np.zeros(0), np.zeros(0, bool))

PFNANO = REAL / "pfnano.root"


class Road(NamedTuple):
    """A Top landscape file, a generator trained on it, and its jets."""

    top: str
    run: Path
    made: Path


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Road:
    folder = tmp_path_factory.mktemp("top")
    source = next(source.path for source in sample_sources() if source.path.endswith("TTBar.root"))
    top = str(write_top_landscape(sample_branches(source, 120), folder / "top.h5"))
    short = last_of(QUICK, "model.size=tiny", "model.blocks=1", "method.steps=2", "train.validation_jets=8")
    run = pretrain(resolve_pretrain("diffusion_ae", {"data": {"sources": [top]}}, parse_set(short)), folder / "run")
    return Road(top, run, generate(run, 60, folder / "made.root").path)


def test_finetune_tells_the_classes_of_the_format(road: Road, tmp_path: Path) -> None:
    layer = overridden(QUICK, "method.mode=full")
    source = next(source.path for source in sample_sources() if source.path.endswith("HToBB.root"))
    other = str(write_top_landscape(sample_branches(source, 120), tmp_path / "other.h5"))
    named = {"data": {"sources": [road.top, other]}}
    model = load_model(finetune(resolve_finetune(road.run, named, layer), tmp_path / "ft"))
    assert model.labels == ("QCD", "top")
    assert model.facts["training"]["columns"] == ["pt", "deta", "dphi", "energy"]


def test_finetune_on_the_jets_of_events(road: Road, tmp_path: Path) -> None:
    more = ["method.mode=probe", "data.jets=AK4", "data.validation_fraction=0.3"]
    named: dict[str, Any] = {"data": {"sources": [str(PFNANO)]}}
    with pytest.raises(DataError, match="one class only") as caught:  # the few events have light jets alone
        finetune(resolve_finetune(road.run, named, overridden(QUICK, *more)), tmp_path / "ft")
    assert "jets of light" in str(caught.value.found)
    settings = resolve_finetune(road.run, named, overridden(QUICK, *more, "method.targets=[jet_pt]"))
    model = load_model(finetune(settings, tmp_path / "ft"))
    assert model.regressor is not None
    assert model.regressor.names == ("jet_pt",)


@pytest.mark.parametrize(
    ("data", "messages"),
    [
        (DataSettings(format="top_landscape"), ["data.format=top_landscape", "generated", "JetClass"]),
        (DataSettings(format="jetclass"), ["data.format=jetclass", "real", "Top tagging landscape"]),
    ],
)
def test_generated_and_real_jets_may_have_different_formats(
    road: Road, tmp_path: Path, data: DataSettings, messages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssl_jets.evaluation.generated.compare.two_sample_test", lambda *_, **__: NO_TEST)
    monkeypatch.setattr("ssl_jets.evaluation.generated.compare.GeneratedEvaluation.write", lambda _: None)
    found = evaluate_generated([str(road.made)], [road.top], tmp_path / "out", data=data, log=lambda _: None)
    assert found.jets == 60
    assert (found.generated[0].name, found.real[0].name) == ("made.root", "top.h5")
    assert all(np.isfinite(distance.generated.value) for distance in found.distances)
    assert len(found.notes) == 2
    assert all(word in found.notes[0] for word in messages)


def test_a_collection_is_taken_where_it_fits(road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssl_jets.evaluation.generated.compare.MIN_JETS", 2)
    monkeypatch.setattr("ssl_jets.evaluation.generated.compare.two_sample_test", lambda *_, **__: NO_TEST)
    monkeypatch.setattr("ssl_jets.evaluation.generated.compare.GeneratedEvaluation.write", lambda _: None)
    data = DataSettings(jets="AK4", bad_jets="skip")
    found = evaluate_generated([str(road.made)], [str(PFNANO)], tmp_path / "out", data=data, log=lambda _: None)
    default = evaluate_generated([str(road.made)], [str(PFNANO)], tmp_path / "out", log=lambda _: None)
    assert found.real[0].entries > default.real[0].entries
    assert "data.jets=AK4 does not fit the generated files" in found.notes[0]


def test_a_setting_that_fits_neither_side_is_an_error(road: Road, tmp_path: Path) -> None:
    with pytest.raises(SslJetsError, match="JetNet"):
        evaluate_generated([str(road.made)], [road.top], tmp_path, data=DataSettings(format="jetnet"))
    with pytest.raises(SslJetsError, match="several collections"):
        evaluate_generated([str(road.made)], [road.top], tmp_path, data=DataSettings(jets="AK4"))
