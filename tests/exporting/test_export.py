"""The exported graph agrees with PyTorch on real jets, describes itself, and is refused where it does not agree."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from ssl_jets import __version__, api
from ssl_jets.config import DataSettings, FeatureSettings, ModelSettings
from ssl_jets.data.sources import sample_sources
from ssl_jets.errors import SslJetsError, UsageError
from ssl_jets.exporting import exporter as verb
from ssl_jets.exporting import parity
from ssl_jets.exporting.graph import ExportedModel, build_graph, metadata_of
from ssl_jets.exporting.padded import PaddedEncoder
from ssl_jets.jets import COLUMNS, Jets
from ssl_jets.model import Model
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.heads import ClassHead
from support.exported import Exported, save_tagger
from support.small_models import CLASSES, made_jets, tiny_encoder, without_columns

OUTPUTS = ["z", "tokens", "probabilities", "regressed", "quantiles"]


@pytest.fixture(scope="module")
def session(exported: Exported) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(exported.summary.path)


@pytest.mark.parametrize(
    ("lengths", "lacking"),
    [
        *(([length], ()) for length in (1, 2, 50, 300)),
        *(([1, 300, 2, 50], names) for names in ((), ("energy",), ("kind", "d0"), COLUMNS[3:])),
    ],
    ids=str,
)
def test_the_graph_agrees_with_the_model(
    exported: Exported, session: onnxruntime.InferenceSession, lengths: list[int], lacking: tuple[str, ...]
) -> None:
    jets, model = without_columns(made_jets(lengths, seed=4), *lacking), exported.model
    table, mask = parity.as_table(jets, COLUMNS)
    found = dict(zip(OUTPUTS, session.run(OUTPUTS, {"particles": table, "mask": mask}), strict=True))
    assert model.regressor is not None
    z = model.embed(jets, precision="32-true", device="cpu")
    with torch.inference_mode():
        bands = model.regressor.bands(torch.from_numpy(z)).numpy()
    np.testing.assert_allclose(found["z"], z, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(found["probabilities"], model.probabilities(z), atol=1e-6)
    np.testing.assert_allclose(found["regressed"], model.regressed(z), rtol=1e-5)
    np.testing.assert_allclose(found["quantiles"], bands, rtol=1e-5)
    assert np.abs(z).max() > 0.1


@pytest.mark.parametrize("lengths", [[3, 0, 5], [0, 0]], ids=str)
def test_a_jet_without_particles_has_no_result_and_others_keep_theirs(
    session: onnxruntime.InferenceSession, lengths: list[int]
) -> None:
    jets = made_jets(lengths, seed=4)
    table, mask = parity.as_table(jets, COLUMNS)
    found = dict(zip(OUTPUTS, session.run(OUTPUTS, {"particles": table, "mask": mask}), strict=True))
    empty = np.array(lengths) == 0
    for name in ("z", "probabilities", "regressed", "quantiles"):
        assert found[name].shape[0] == len(lengths)
        assert np.isnan(found[name][empty]).all()
        assert np.isfinite(found[name][~empty]).all()
    assert np.isfinite(found["tokens"]).all()


def test_the_summary_has_small_differences_and_the_files(exported: Exported) -> None:
    summary = exported.summary
    assert list(summary.differences) == OUTPUTS == list(summary.outputs)
    assert all(0 < value < 1e-5 for value in summary.differences.values())
    assert {(one.runtime, one.jets) for one in summary.latencies} == {
        (name, jets) for name in ("onnxruntime", "PyTorch") for jets in (1, 20)
    }
    assert summary.bytes == summary.path.stat().st_size
    names = sorted(path.name for path in summary.path.parent.iterdir())
    assert names == ["tagger", "tagger.int8.onnx", "tagger.onnx"]


def test_the_file_describes_itself_and_has_no_trace_of_this_machine(exported: Exported) -> None:
    graph = onnx.load(exported.summary.path)
    assert [(entry.domain, entry.version) for entry in graph.opset_import] == [("", 17)]
    assert graph.ir_version == 7
    facts = {entry.key: entry.value for entry in graph.metadata_props}
    assert facts["columns"] == ",".join(COLUMNS)
    particles = json.loads(facts["inputs"])[0]
    assert {one["name"]: one["unit"] for one in particles["columns"]}["d0err"] == "mm"
    assert json.loads(facts["classes"]) == list(CLASSES)
    assert json.loads(facts["outputs"]) == OUTPUTS
    assert json.loads(facts["quantiles"]) == [0.16, 0.5, 0.84]
    assert facts["model_sha256"] == exported.model.sha256 != ""
    assert facts["method"] == "mae"
    assert facts["package"] == f"ssl-jets {__version__}"
    axes = [[dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in graph.graph.input]
    assert axes == [["jet", "particle", len(COLUMNS)], ["jet", "particle"]]
    content = exported.summary.path.read_bytes()
    assert b".py" not in content
    assert b"/work" not in content


def test_eight_bits_make_a_smaller_file_with_nearly_the_same_z(exported: Exported) -> None:
    loss = exported.summary.int8
    assert loss is not None
    assert loss.bytes == loss.path.stat().st_size
    blocks = exported.model.encoder.transformer.blocks
    weights = sum(parameter.numel() for parameter in blocks.parameters() if parameter.ndim == 2)
    assert 2.5 * weights < exported.summary.bytes - loss.bytes < 3 * weights  # one byte instead of four
    assert 0.99 < loss.cosine < 0.9999999
    assert loss.auc is not None
    assert loss.jets == 20
    assert loss.auc[0] == pytest.approx(loss.auc[1], abs=0.05)
    kinds = [node.op_type for node in onnx.load(loss.path).graph.node]
    assert kinds.count("MatMulInteger") == 4 * len(blocks)


@pytest.mark.parametrize("chosen", [CLASSES, CLASSES[:2], CLASSES[::-1]], ids=len)
def test_labels_are_of_the_classes_of_the_model(chosen: tuple[str, ...]) -> None:
    """`data.labels` chooses classes and their order; in another order than the model's, the labels are not used."""
    classes = CLASSES[: len(chosen)]
    model = Model(Encoder(ModelSettings(size="tiny", blocks=1)), ClassHead(64, len(classes)), classes)
    sources = tuple(source.path for source in sample_sources())
    jets, labels = verb.labelled_jets(
        model, DataSettings(sources=sources, labels=chosen, bad_jets="skip"), 20, lambda line: None
    )
    assert jets.labels is not None
    assert [chosen[label] for label in jets.labels[:2].tolist()] == ["Hbb", "Hbb"]
    assert (labels is not None) == (chosen == classes)
    assert labels is None or labels.tolist() == jets.labels.tolist()


def test_a_graph_that_differs_is_refused_and_not_written(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = onnx.load(exported.summary.path)
    weight = next(entry for entry in graph.graph.initializer if "norm" in entry.name and entry.name.endswith("weight"))
    values = onnx.numpy_helper.to_array(weight).copy()
    values *= 1.001
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    monkeypatch.setattr(verb, "build_graph", lambda *_: graph)
    few = verb.ExportSettings(export=verb.GraphSettings(jets=20))
    with pytest.raises(SslJetsError, match="differs from PyTorch") as caught:
        verb.export(exported.run, tmp_path / "tagger.onnx", tokens=True, settings=few)
    assert "z by" in str(caught.value.found)
    assert not list(tmp_path.iterdir())


def test_the_differences_are_relative_to_the_scale_of_each_output() -> None:
    expected = np.array([[100.0, 1.0], [-100.0, 1.0]])
    off = expected + np.array([[0.0, 0.5], [0.0, 0.0]])
    assert parity.difference("regressed", off, expected) == 0.5  # its target has scale 1
    assert parity.difference("z", off, expected) == pytest.approx(0.5 / np.sqrt(5000.5))
    assert parity.difference("probabilities", off, expected) == 0.5
    assert parity.difference("z", np.array([[np.nan]]), np.array([[1.0]])) == np.inf
    with pytest.raises(SslJetsError):
        verb.check_differences({"z": np.nan}, 1e-5, "run")


def test_the_comparison_has_all_lengths_and_missing_columns(sample_jets: Jets) -> None:
    real, *others = parity.batches_of(sample_jets)
    assert torch.equal(real.particles, sample_jets.particles[: len(real.particles)])
    assert all(tuple(jets.lengths) == parity.LENGTHS for jets in others)
    lacking = [set(COLUMNS) - set(jets.columns) for jets in others]
    assert lacking == [set(), *map(set, parity.MISSING), set(COLUMNS[3:])]
    few = sample_jets.select(torch.arange(1))
    assert len(parity.regroup(few).particles) == sum(parity.LENGTHS)


@pytest.mark.parametrize("name", ["tagger.onnx", "tagger.int8.onnx"])
def test_an_existing_file_and_another_suffix_are_refused(exported: Exported, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        api.export(exported.run, out=tmp_path / "tagger.onnx", int8=True)
    assert (tmp_path / name).read_text() == "mine"
    with pytest.raises(UsageError, match="exported as ONNX"):
        api.export(exported.run, out=tmp_path / "tagger.pt")


def test_a_missing_package_and_further_inputs_are_one_message(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    further = ModelSettings(size="tiny", inputs=("columns", "origin"), context={"origin": FeatureSettings()})
    with pytest.raises(SslJetsError, match=r"(?s)inputs that cannot be exported.*origin"):
        verb.check_inputs(Model(Encoder(further)), "run")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(UsageError, match="not installed") as caught:
        api.export(exported.run, out=tmp_path / "tagger.onnx")
    assert "onnxscript" in str(caught.value.found)
    assert "ssl-jets[onnx]" in str(caught.value.hint)


def test_a_model_trained_without_a_column_has_no_input_for_it(exported: Exported) -> None:
    facts = {"method": "mae", "training": {"columns": ["pt", "deta", "dphi", "charge"]}}
    module = ExportedModel(replace(exported.model, facts=facts))
    assert module.columns == ("pt", "deta", "dphi", "charge")
    assert "tokens" not in module.outputs


EIGHT = ("pt", "deta", "dphi", "energy", "charge", "kind", "d0", "d0err")


class Embedding(torch.nn.Module):
    """The part of a padded encoder that reads the columns."""

    def __init__(self, encoder: PaddedEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, particles: Tensor) -> Tensor:
        return self.encoder._embedded(particles)


@torch.no_grad()
def test_columns_that_are_no_inputs_leave_the_numbers_of_jets_and_particles_free(batch: Jets) -> None:
    """The slow test exports the whole graph."""
    encoder = tiny_encoder(batch, blocks=1).eval()
    encoder.missing.normal_()
    module = Embedding(PaddedEncoder(encoder, COLUMNS[:3]))
    free = {0: torch.export.Dim("jet"), 1: torch.export.Dim("particle")}
    graph = torch.export.export(module, (torch.ones(2, 3, 3),), dynamic_shapes=(free,)).module()
    for jets, particles in ((1, 1), (3, 7), (2, 300)):
        table = torch.rand(jets, particles, 3) + 0.1
        torch.testing.assert_close(graph(table), module(table))


@pytest.mark.slow
@pytest.mark.parametrize("columns", [COLUMNS[:3], EIGHT], ids=len)
def test_a_graph_without_inputs_for_some_columns_takes_any_number_of_jets(
    sample_jets: Jets, columns: tuple[str, ...]
) -> None:
    model = Model(tiny_encoder(sample_jets, blocks=1).eval(), facts={"training": {"columns": columns}})
    module = ExportedModel(model).eval()
    session = parity.open_session(build_graph(module, metadata_of(model, module), 17).SerializeToString())
    for lengths in ([1], [4, 1, 7], [300, 2]):
        jets = without_columns(made_jets(lengths, seed=4), *set(COLUMNS) - set(columns))
        assert max(parity.differences(model, module, session, jets).values()) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "opset"),
    [
        ({"size": "small", "pool": "mean"}, 15),
        ({"z_tokens": 3, "z_width": 5, "registers": 0, "kind": "gaussian"}, 16),
        ({"size": "base", "kind": "mean"}, 17),
        ({"size": "large", "pair_bias": True}, 18),
    ],
    ids=str,
)
def test_every_shape_of_model_agrees_in_every_opset(
    settings: dict[str, Any], opset: int, sample_jets: Jets, tmp_path: Path
) -> None:
    run = save_tagger(sample_jets, tmp_path / "run", **settings)
    summary = api.export(run, out=tmp_path / "model.onnx", settings={"export.opset": opset, "export.jets": 64})
    assert onnx.load(summary.path).opset_import[0].version == opset
    assert max(summary.differences.values()) < 1e-5
