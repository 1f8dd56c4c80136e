"""Features, context, collections and labels of particles of one schema, from one verb to the next."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import ssl_jets
from ssl_jets.config import CollectionSettings, DataSettings, FeatureSettings, ModelSettings
from ssl_jets.data.dataset import open_named
from ssl_jets.data.files import whole
from ssl_jets.data.inputs import joint_requests
from ssl_jets.data.loading.stream import ordered
from ssl_jets.embedding.inputs import PartOf
from ssl_jets.embedding.predictions import predict
from ssl_jets.errors import UsageError
from ssl_jets.evaluation.baselines import Baselines
from ssl_jets.evaluation.evaluation_data import EvaluationData
from ssl_jets.evaluation.settings import EvaluateSettings
from ssl_jets.finetuning import resolve_finetune
from ssl_jets.finetuning.modes.probe import cached_z
from ssl_jets.finetuning.setup import open_labelled
from ssl_jets.jets import COLUMNS, Jets
from ssl_jets.methods.salt import Salt
from ssl_jets.model import Model
from ssl_jets.model_file import load_model, save_model
from ssl_jets.nn.encoder import Encoder, random_like
from ssl_jets.nn.particles.heads import ParticleHeads, ParticleTarget
from ssl_jets.protocols.domain import _Measurement
from ssl_jets.runtime.console import MessageLog
from ssl_jets.training.required import Teacher
from ssl_jets.zfile import merge_parts, read_scores
from support.collection_files import SCHEMA, write_collections
from support.pretended_device import PretendCuda
from support.track_files import ORIGINS, write_tracks

FEATURES = {
    "pt": FeatureSettings(unit="GeV", transform="log"),
    "length": FeatureSettings(unit="mm", transform="log1p"),
    "ntracks": FeatureSettings(categories=(2, 3)),
}
CONTEXT = "context:\n  jet_pt: {branch: jet_pt, unit: GeV, transform: log}\nlabels:"
READ = ("pt", "deta", "dphi", "charge")


@pytest.fixture
def schema(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(SCHEMA.replace("labels:", CONTEXT), encoding="utf-8")
    return path


def encoder(most: int = 3, **settings: Any) -> Encoder:
    torch.manual_seed(0)
    context = {"jet_pt": FeatureSettings(unit="GeV", transform="log")}
    sv = CollectionSettings(features=FEATURES, most=most)
    inputs = {"inputs": ("columns", "context", "collections"), "context": context, "collections": {"SV": sv}}
    return Encoder(ModelSettings(**{"size": "tiny", **inputs, **settings})).eval()


def saved(folder: Path, seen: bool, **heads: Any) -> Path:
    """A model of random weights, trained with context and collections if `seen`."""
    inputs = {"context": ["jet_pt"], "collections": ["SV"]} if seen else {}
    facts = {"method": "mae", "training": {"columns": list(READ), "steps": 1, "jets": 1, "seconds": 1.0, **inputs}}
    save_model(Model(encoder(), facts=facts, **heads), folder)
    return folder


def test_a_plan_for_the_best_mode_reads_all_inputs(tmp_path: Path, schema: Path) -> None:
    data = {"sources": [str(write_collections(tmp_path / "jets.root", 60))], "format": str(schema)}
    settings = resolve_finetune(saved(tmp_path / "model", seen=False), {"data": data, "method": {"mode": "auto"}})
    request = open_labelled(settings)[1]
    assert request.context == ("jet_pt",)
    assert [one.name for one in request.collections] == ["SV"]


def evaluation_data(tmp_path: Path, schema: Path, *models: Model) -> EvaluationData:
    settings = EvaluateSettings(data=DataSettings(format=str(schema)))
    data = [str(write_collections(tmp_path / "jets.root", 60))]
    return EvaluationData.of(models, data, settings, MessageLog(lambda line: None))


def test_an_evaluation_reads_the_inputs_that_a_later_finetuning_is_trained_with(tmp_path: Path, schema: Path) -> None:
    model = load_model(saved(tmp_path / "model", seen=False))
    data = evaluation_data(tmp_path, schema, model)
    assert set(data.test.context) == {"jet_pt"}
    assert set(data.test.collections) == {"SV"}
    z = model.encoder(data.test).z
    assert torch.equal(model.encoder(data.test.without(["jet_pt", "SV"])).z, z)  # the model itself reads neither


def test_random_weights_read_what_the_model_reads_and_are_not_shared_with_one_that_reads_more(
    tmp_path: Path, schema: Path
) -> None:
    blind, seeing = (load_model(saved(tmp_path / str(seen), seen=seen)) for seen in (False, True))
    assert not random_like(blind.encoder, 0).reads_context
    assert random_like(seeing.encoder, 0).reads_context
    data = evaluation_data(tmp_path, schema, blind, seeing)
    baselines = Baselines(data, torch.device("cpu"))
    baselines._measure = lambda model: SimpleNamespace(model=model)  # type: ignore[assignment, return-value]
    of_blind, of_seeing = (baselines.untrained(model).model.encoder for model in (blind, seeing))
    assert (of_blind.reads_collections, of_seeing.reads_collections) == (False, True)


def test_an_encoder_reads_no_more_elements_than_it_was_trained_with(tmp_path: Path, schema: Path) -> None:
    data = write_collections(tmp_path / "jets.root", 60)
    jets = ssl_jets.read_jets(str(data), schema=schema)
    narrow = encoder(most=1)
    elements = jets.collections["SV"]
    assert int(elements.lengths.max()) > 1
    place = torch.arange(len(elements.particles)) - elements.offsets[elements.jet_of_particle]
    cut = replace(jets, collections={"SV": elements.keep(place < 1)})
    assert torch.equal(narrow(jets).z, narrow(cut).z)
    assert not torch.equal(encoder(most=3)(jets).z, encoder(most=3)(cut).z)
    both = joint_requests([narrow.cfg.collections, encoder(most=3).cfg.collections])
    assert [one.most for one in both] == [3]


def test_a_pair_bias_is_of_the_particles_also_with_collections(tmp_path: Path, schema: Path) -> None:
    jets = ssl_jets.read_jets(str(write_collections(tmp_path / "jets.root", 60)), schema=schema)
    both = encoder(pair_bias=True)
    assert both.pair_bias is not None
    torch.nn.init.normal_(both.pair_bias.mlp[-1].weight)
    alone = encoder(pair_bias=True, collections={}, inputs=("columns", "context"))
    alone.load_state_dict({name: value for name, value in both.state_dict().items() if "collections" not in name})
    elements = jets.collections["SV"]
    empty = replace(jets, collections={"SV": elements.keep(torch.zeros(len(elements.particles), dtype=torch.bool))})
    torch.testing.assert_close(both(empty).z, alone(jets).z, rtol=1e-5, atol=1e-5)
    assert (both(empty).z - encoder()(empty).z).abs().max() > 0.01  # of other pair biases
    assert (both(jets).z - both(empty).z).abs().max() > 0.01
    there = replace(jets, particles=jets.particles.as_subclass(PretendCuda))
    torch.testing.assert_close(both(there).z.as_subclass(torch.Tensor), both(jets).z, rtol=1e-4, atol=1e-4)


def test_the_domain_protocol_reads_the_columns_that_the_model_was_trained_with(sample_jets: Jets) -> None:
    jets = sample_jets.select(torch.arange(8))
    model = Model(Encoder(ModelSettings(size="tiny")), facts={"training": {"columns": list(READ)}})
    sides = {name: lambda facts: (jets, None) for name in ("simulation", "target")}
    both = SimpleNamespace(**sides, observables=lambda facts: ())
    trainings: Any = SimpleNamespace(jets=both, settings=SimpleNamespace(trees=False), device=torch.device("cpu"))
    z = _Measurement(trainings, model, model.facts["training"]).sides["target"][0]
    np.testing.assert_array_equal(z.numpy(), model.embed(jets))


def test_jets_of_cached_z_hold_no_elements(tmp_path: Path, schema: Path) -> None:
    data = {"sources": [str(write_collections(tmp_path / "jets.root", 60))], "format": str(schema)}
    settings = resolve_finetune(saved(tmp_path / "model", seen=True), {"data": data, "method": {"mode": "probe"}})
    files = open_named(settings.data.sources, settings.data, {})
    request = open_labelled(settings)[1]
    subset = next(iter(ordered(files, whole(files), request)))
    assert len(subset.collections["SV"].particles)
    tasks = SimpleNamespace(has=lambda jets: torch.ones(len(jets), dtype=torch.bool))
    objective: Any = SimpleNamespace(encoder=load_model(tmp_path / "model").encoder, tasks=tasks)
    fabric = SimpleNamespace(device=torch.device("cpu"))
    inputs: Any = SimpleNamespace(settings=settings, subset=subset, fabric=fabric)
    z, jets = cached_z(objective, inputs)
    assert len(z) == len(jets) == len(subset)
    assert not jets.collections


def test_a_teacher_names_the_inputs_that_the_method_hides_from_it(tmp_path: Path, schema: Path) -> None:
    data = DataSettings(format=str(schema))
    files = open_named([str(write_collections(tmp_path / "jets.root", 60))], data, {})
    teacher = Teacher.load(str(saved(tmp_path / "seeing", seen=True)), READ, files)
    assert teacher.line(Salt).endswith("frozen; it reads as missing what this method hides: jet_pt, SV")
    teacher = Teacher.load(str(saved(tmp_path / "blind", seen=False)), READ, files)
    assert teacher.line(Salt).endswith("frozen")


def test_a_teacher_of_a_feature_that_the_files_define_otherwise_is_refused(tmp_path: Path) -> None:
    schema = tmp_path / "mine.yaml"
    hits = "features:\n  hits: {branch: part_charge, categories: [-1, 1]}\nlabels:"
    schema.write_text(SCHEMA.replace("labels:", hits), encoding="utf-8")
    files = open_named([str(write_collections(tmp_path / "jets.root", 20))], DataSettings(format=str(schema)), {})
    for categories in ((-1, 1), (1, -1)):
        declared = {"hits": FeatureSettings(categories=categories)}
        trained = Encoder(ModelSettings(size="tiny", inputs=("columns", "features"), features=declared))
        facts = {"method": "mae", "training": {"columns": [*READ, "hits"]}}
        save_model(Model(trained, facts=facts), tmp_path / "model")
        if categories == (-1, 1):
            Teacher.load(str(tmp_path / "model"), (*READ, "hits"), files)
            continue
        with pytest.raises(UsageError, match="the feature hits is defined in two ways"):
            Teacher.load(str(tmp_path / "model"), (*READ, "hits"), files)


def test_a_teacher_of_particles_alone_teaches_its_z(tmp_path: Path) -> None:
    heads = ParticleHeads(64, [ParticleTarget("origin", ("pileup", "hard"), "1", False)])
    run = saved(tmp_path / "model", seen=False, particles=heads)
    assert resolve_finetune(run, {"method": {"mode": "distil"}}).method.targets == ()


@pytest.mark.parametrize("suffix", [".npz", ".json"])
@pytest.mark.parametrize("first", ["with", "without"])
def test_parts_of_particles_with_and_without_labels_merge_to_one_run(tmp_path: Path, first: str, suffix: str) -> None:
    """The inputs of a part may have no labels of particles: its rows then have missing ones, as in one run."""
    write_tracks(tmp_path / "with.h5", 20)
    write_tracks(tmp_path / "without.h5", 20, seed=1, names=None)
    targets = [ParticleTarget("origin", ORIGINS, "1", False), ParticleTarget("vertex", (), "1", True)]
    encoder = Encoder(ModelSettings(size="tiny"))
    model = Model(encoder, particles=ParticleHeads(64, targets))
    model.facts = {"method": "mae", "training": {"columns": list(COLUMNS)}}
    save_model(model, tmp_path / "model")
    names = sorted(("with", "without"), key=lambda name: name != first)
    inputs = [str(tmp_path / f"{name}.h5") for name in names]
    options: dict[str, Any] = {"level": "particle", "precision": "32-true", "log": lambda line: None}
    predict([tmp_path / "model"], inputs, tmp_path / "whole.npz", **options)
    for number, name in enumerate(names, start=1):
        predict([tmp_path / "model"], inputs, tmp_path / f"{name}.npz", part=PartOf(number, 2), **options)
    out = tmp_path / f"merged{suffix}"
    merge_parts([tmp_path / f"{name}.npz" for name in names], out)
    merged, whole = read_scores(out), read_scores(tmp_path / "whole.npz")
    assert list(merged.columns) == list(whole.columns)
    for name, values in whole.columns.items():
        np.testing.assert_array_equal(merged.columns[name], values, err_msg=name)
    assert merged.metadata == whole.metadata
    lacking = whole.columns["true_origin"][whole.columns["source_file"] == names.index("without")]
    assert Counter(lacking.tolist()).keys() == {-1}
