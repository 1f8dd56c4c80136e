"""Models that were trained on other particle columns than the files, and than each other, read each their own."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import ssl_jets.model
from ssl_jets.arrays import Array
from ssl_jets.config import DataSettings, ModelSettings
from ssl_jets.data.dataset import open_named
from ssl_jets.data.files import EntryRange, JetFile
from ssl_jets.data.seen import Seen
from ssl_jets.evaluation.baselines import Baselines
from ssl_jets.evaluation.evaluation_data import EvaluationData
from ssl_jets.evaluation.particles import evaluate_particles
from ssl_jets.evaluation.settings import EvaluateSettings, LabelSettings, MeasureSettings
from ssl_jets.evaluation.single_model import _ModelEvaluation
from ssl_jets.jets import COLUMNS, TRUTH, Jets
from ssl_jets.model import Model
from ssl_jets.model_file import save_model
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.heads import ClassHead
from ssl_jets.nn.particles.heads import ParticleHeads, ParticleTarget
from ssl_jets.protocols import labels
from ssl_jets.protocols.anomaly import RANDOM, _of_models
from ssl_jets.runtime.console import MessageLog
from support.small_models import without_columns

KINEMATICS = ("pt", "deta", "dphi", "energy")
TRACKS = tuple(name for name in COLUMNS if name not in KINEMATICS)
CLASSES = ("QCD", "Tbl")
CPU = torch.device("cpu")
SETTINGS = EvaluateSettings(
    data=DataSettings(labels=CLASSES),
    evaluate=MeasureSettings(fit_jets=60, test_jets=60, physics_jets=0, robust_jets=20, deep_sets=False),
)


def model_of(*columns: str, seed: int = 0) -> Model:
    """A model of random weights that was trained on these columns."""
    torch.manual_seed(seed)
    encoder = Encoder(ModelSettings(size="tiny", blocks=1)).eval()
    head = ClassHead(encoder.dim, len(CLASSES))
    facts = {"method": "mae", "training": {"columns": list(columns), "files": [], "held_out": []}}
    return Model(encoder, head, CLASSES, facts)


@pytest.fixture(scope="module")
def sources(sample_files: list[JetFile]) -> list[str]:
    return [str(file.source) for file in sample_files if "ZJets" in file.name or "TTBarLep" in file.name]


def evaluated(model: Model, models: list[Model], sources: list[str]) -> _ModelEvaluation:
    """The evaluation of a model beside others."""
    data = EvaluationData.of(models, sources, SETTINGS, MessageLog(lambda line: None))
    return _ModelEvaluation(model, data, Baselines(data, CPU), CPU)


def read(evaluation: _ModelEvaluation) -> list[Any]:
    """z of the model and of random weights, and its curves on changed jets."""
    untrained = evaluation.baselines.untrained(evaluation.model).z_test
    curves = evaluation.robustness(lambda z: z)
    return [evaluation.z_test.tolist(), untrained.tolist(), [(curve.name, curve.accuracy) for curve in curves]]


def test_a_model_has_the_same_numbers_alone_and_beside_one_of_other_columns(sources: list[str]) -> None:
    of_tracks, plain = model_of(*COLUMNS), model_of(*KINEMATICS)
    for model in (of_tracks, plain):
        alone, beside = evaluated(model, [model], sources), evaluated(model, [of_tracks, plain], sources)
        assert set(beside.data.test.columns) == set(COLUMNS)
        assert read(alone) == read(beside)
    assert not np.allclose(
        evaluated(plain, [plain], sources).z_test, evaluated(of_tracks, [plain, of_tracks], sources).z_test
    )


def test_random_weights_of_models_of_other_columns_are_not_shared(sources: list[str]) -> None:
    of_tracks, plain = model_of(*COLUMNS), model_of(*KINEMATICS)
    baselines = evaluated(plain, [of_tracks, plain], sources).baselines
    assert not np.allclose(baselines.untrained(plain).z_test, baselines.untrained(of_tracks).z_test)


def test_heads_of_particles_read_the_tokens_of_the_columns_of_the_model(batch: Jets) -> None:
    plain = model_of(*KINEMATICS)
    plain.particles = ParticleHeads(64, [ParticleTarget("origin", ("soft", "hard"), "1", False)])
    truth = (batch.column("pt") > 5).float()[:, None]

    def results(jets: Jets) -> Any:
        jets = Jets(torch.cat([jets.particles, truth], 1), jets.offsets, (*jets.columns, f"{TRUTH}origin"))
        weights = lambda jets: np.ones(len(jets))  # noqa: E731
        data: Any = SimpleNamespace(settings=SETTINGS, seed=0, task=jets, weights=weights)
        return evaluate_particles(plain, data, CPU).particle_classes

    assert results(batch)
    assert repr(results(batch)) == repr(results(without_columns(batch, *TRACKS)))


def test_an_anomaly_search_reads_the_columns_of_each_model(sources: list[str], tmp_path: Path) -> None:
    paths = [tmp_path / "tracks", tmp_path / "plain"]
    for path, columns in zip(paths, (COLUMNS, KINEMATICS), strict=True):
        save_model(model_of(*columns), path / "model")
    settings = SETTINGS.model_copy(update={"data": DataSettings(labels=CLASSES, sources=tuple(sources))})

    def searched(*models: Path) -> dict[str, Array]:
        inputs = _of_models(models, settings, "cpu", MessageLog(lambda line: None)).inputs
        return {name: test.x for name, (_, test) in inputs.items()}

    both, alone = searched(*paths), [searched(path) for path in paths]
    np.testing.assert_array_equal(both["z of tracks"], alone[0]["z"])
    np.testing.assert_array_equal(both["z of plain"], alone[1]["z"])
    np.testing.assert_array_equal(searched(*paths[::-1])[RANDOM], alone[1][RANDOM])


def test_label_curves_test_a_network_with_the_columns_that_it_was_finetuned_on(
    sources: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(model_of(*KINEMATICS), tmp_path / "run" / "model")
    settings = SETTINGS.model_copy(
        update={"labels": LabelSettings(shares=(0.02,), modes=("full",), steps=1, test_jets=20)}
    )
    tested, embed_jets = [], ssl_jets.model.embed_jets

    def embed(encoder: Encoder, jets: Jets, **options: Any) -> Any:
        tested.append(set(jets.columns))
        return embed_jets(encoder, jets, **options)

    class Stop(Exception):
        """The first network is tested."""

    def score(*_: object) -> None:
        raise Stop

    monkeypatch.setattr(ssl_jets.model, "embed_jets", embed)
    monkeypatch.setattr(labels._CurveTrainings, "_score", score)
    with pytest.raises(Stop):
        labels.label_curves([tmp_path / "run"], sources, tmp_path / "out", settings=settings, log=lambda line: None)
    assert tested == [set(COLUMNS)]


def test_files_of_trainings_to_come_are_not_said_to_be_of_the_model(sources: list[str]) -> None:
    files = open_named(sources, SETTINGS.data, {})
    to_come = Seen.of_parts(files, [EntryRange(0, 0, 700)], [EntryRange(0, 701, files[0].entries)]).facts()
    logged: list[str] = []
    EvaluationData.of([model_of(*KINEMATICS)], sources, SETTINGS, MessageLog(logged.append), also=[to_come])
    assert any(line.startswith("the protocol trains on 1 of the 2 files") for line in logged)
    assert not any("the model was trained" in line for line in logged)
