"""A model on disk: bit-exact, complete, without pickles, refused where it is damaged, never half-written."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from ssl_jets import __version__
from ssl_jets.config import FeatureSettings
from ssl_jets.errors import SslJetsError
from ssl_jets.jets import Jets
from ssl_jets.model_file import CONFIG, WEIGHTS, Model, load_model, save_model
from ssl_jets.nn.features import FEATURES
from ssl_jets.nn.heads import ClassHead
from ssl_jets.nn.regression import Regressor
from ssl_jets.runtime import weights as weights_on_disk
from ssl_jets.sharing.model_card import CARD
from support.small_models import CLASSES, tiny_encoder

FACTS = {"method": "mae", "training": {"files": [["a.root", 12, "d"]], "steps": 3, "validation_fraction": 0.1}}


@pytest.fixture
def model(batch: Jets) -> Model:
    encoder = tiny_encoder(batch, pair_bias=True, registers=3).eval()
    return Model(encoder, ClassHead(encoder.dim, len(CLASSES), hidden=5), CLASSES, FACTS)


def edit(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | changes))


@pytest.mark.parametrize("name", ["", "model"])
def test_z_and_logits_come_back_to_the_last_bit(model: Model, batch: Jets, tmp_path: Path, name: str) -> None:
    digest = save_model(model, tmp_path / "run" / "model")
    loaded = load_model(tmp_path / "run" / name)
    assert loaded.head is not None
    assert model.head is not None
    with torch.no_grad():
        z, again = model.encoder(batch).z, loaded.encoder(batch).z
        assert torch.equal(z, again)
        assert torch.equal(model.head(z), loaded.head(again))
    assert not loaded.encoder.training
    assert (loaded.labels, loaded.facts, loaded.method) == (CLASSES, FACTS, "mae")
    assert loaded.encoder.cfg == model.encoder.cfg
    assert loaded.sha256 == model.sha256 == digest
    assert loaded.parameters == model.parameters


def test_a_regressor_comes_back_with_its_units(batch: Jets, tmp_path: Path) -> None:
    encoder = tiny_encoder(batch)
    regressor = Regressor(encoder.dim, ["jet_sdmass", "jet_tau2/jet_tau1"], hidden=4)
    regressor.targets.fit_statistics([batch])
    model = Model(encoder, regressor=regressor)
    save_model(model, tmp_path / "model")
    loaded = load_model(tmp_path)
    assert loaded.regressor is not None
    assert loaded.regressor.names == regressor.names
    assert loaded.parameters == model.parameters
    z = torch.randn(5, encoder.dim)
    assert torch.equal(loaded.regressor.physical(z), regressor.physical(z))


def test_a_model_without_head_and_labels_comes_back_without(batch: Jets, tmp_path: Path) -> None:
    save_model(Model(tiny_encoder(batch)), tmp_path / "model")
    loaded = load_model(tmp_path)
    assert loaded.head is None
    assert loaded.labels == ()
    assert loaded.method == "unknown"


def test_features_and_context_are_part_of_the_model(batch: Jets, tmp_path: Path) -> None:
    hits, log = FeatureSettings(categories=(0, 1)), FeatureSettings(transform="log", unit="GeV")
    encoder = tiny_encoder(
        batch, inputs=("columns", "hits", "jet_pt"), features={"hits": hits}, context={"jet_pt": log}
    )
    jets = replace(batch, context={"jet_pt": batch.sum(batch.column("pt"))})
    encoder.fit_statistics([jets])
    assert encoder.context is not None
    torch.nn.init.normal_(encoder.context.embed.weight)
    save_model(Model(encoder, facts={"method": "supervised", "training": {"context": ["jet_pt"]}}), tmp_path / "model")
    config = json.loads((tmp_path / "model" / CONFIG).read_text())
    assert config["features"][-1] == {"name": "hits", **hits.model_dump(mode="json")}
    assert config["context"][0]["mean"] == pytest.approx(float(encoder.context.inputs.mean))
    loaded = load_model(tmp_path)
    assert loaded.encoder.cfg == encoder.cfg
    assert loaded.encoder.reads_context
    assert torch.equal(loaded.encoder(jets).z, encoder.eval()(jets).z)
    assert not torch.equal(loaded.encoder(batch).z, loaded.encoder(jets).z)
    save_model(Model(encoder, facts={"method": "mae", "training": {}}), tmp_path / "unseen")
    unseen = load_model(tmp_path / "unseen").encoder
    assert torch.equal(unseen(batch).z, unseen(jets).z)  # the map of its context was never trained


def test_a_model_of_a_version_without_features_loads(model: Model, batch: Jets, tmp_path: Path) -> None:
    save_model(model, tmp_path / "model")
    config = json.loads((tmp_path / "model" / CONFIG).read_text())
    for key in ("inputs", "features", "context"):
        del config["encoder"]["settings"][key]
    (tmp_path / "model" / CONFIG).write_text(json.dumps(config))
    assert torch.equal(load_model(tmp_path).encoder(batch).z, model.encoder.eval()(batch).z)


def test_the_description_has_what_the_design_asks_for(model: Model, tmp_path: Path) -> None:
    save_model(model, tmp_path / "model")
    config = json.loads((tmp_path / "model" / CONFIG).read_text())
    assert config["format_version"] == 2
    assert config["package_version"] == __version__
    assert config["method"] == "mae"
    assert config["encoder"] == {
        "settings": model.encoder.cfg.model_dump(),
        "width": 64,
        "blocks": 4,
        "heads": 2,
        "dim": 64,
    }
    assert [feature["name"] for feature in config["features"]] == [feature.name for feature in FEATURES]
    for feature, mean, std in zip(config["features"], model.encoder.features.mean, model.encoder.features.std):
        assert feature["unit"]
        assert feature["mean"] == pytest.approx(float(mean))
        assert feature["std"] == pytest.approx(float(std))
    assert config["labels"] == list(CLASSES)
    assert config["head"] == {"dim": 64, "classes": 10, "hidden": 5}
    assert config["training"] == FACTS["training"]
    assert config["parameters"] == model.parameters
    digest = hashlib.sha256((tmp_path / "model" / WEIGHTS).read_bytes()).hexdigest()
    assert config["weights_sha256"] == digest


def test_width_blocks_and_heads_come_back(batch: Jets, tmp_path: Path) -> None:
    save_model(Model(tiny_encoder(batch, width=48, blocks=2, heads=3, drop_path=0.1)), tmp_path / "model")
    description = json.loads((tmp_path / "model" / CONFIG).read_text())["encoder"]
    assert [description[key] for key in ("width", "blocks", "heads", "dim")] == [48, 2, 3, 48]
    loaded = load_model(tmp_path).encoder
    assert loaded.cfg.shape == (48, 2, 3)
    assert [block.drop_path for block in loaded.transformer.blocks] == [0.0, 0.1]


def test_a_model_of_a_version_without_these_settings_loads(model: Model, tmp_path: Path) -> None:
    save_model(model, tmp_path / "model")
    file = tmp_path / "model" / CONFIG
    config = json.loads(file.read_text())
    for key in ("width", "blocks", "heads", "dropout", "drop_path"):
        del config["encoder"]["settings"][key]
    file.write_text(json.dumps(config))
    assert load_model(tmp_path).encoder.cfg == model.encoder.cfg


def test_there_are_three_files_and_none_is_a_pickle(model: Model, tmp_path: Path) -> None:
    save_model(model, tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [CARD, CONFIG, WEIGHTS]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    weights = load_file(tmp_path / "model" / WEIGHTS)
    assert all(name.startswith(("encoder.", "head.")) for name in weights)
    content = (tmp_path / "model" / WEIGHTS).read_bytes()
    assert b"ssl_jets" not in content
    assert "ssl_jets" not in (tmp_path / "model" / CONFIG).read_text()


def test_one_flipped_bit_in_the_weights_is_found(model: Model, tmp_path: Path) -> None:
    save_model(model, tmp_path / "model")
    weights = tmp_path / "model" / WEIGHTS
    content = bytearray(weights.read_bytes())
    content[-7] ^= 1
    weights.write_bytes(content)
    with pytest.raises(SslJetsError, match="not those the model was saved with"):
        load_model(tmp_path)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_cut_off_weights_are_one_error(model: Model, tmp_path: Path, keep: int) -> None:
    save_model(model, tmp_path / "model")
    weights = tmp_path / "model" / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(SslJetsError, match=r"cannot be read|not those"):
        load_model(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"format_version": 1}'])
def test_a_damaged_description_is_one_error(model: Model, tmp_path: Path, text: str) -> None:
    save_model(model, tmp_path / "model")
    (tmp_path / "model" / CONFIG).write_text(text)
    with pytest.raises(SslJetsError):
        load_model(tmp_path)


def test_another_format_is_refused_and_named(model: Model, tmp_path: Path) -> None:
    save_model(model, tmp_path / "model")
    edit(tmp_path / "model", format_version=3, package_version="9.9")
    with pytest.raises(SslJetsError, match="another format") as caught:
        load_model(tmp_path)
    assert "format_version 3, package 9.9" in str(caught.value)


def test_missing_weights_are_one_error(model: Model, tmp_path: Path) -> None:
    save_model(model, tmp_path / "model")
    (tmp_path / "model" / WEIGHTS).unlink()
    with pytest.raises(SslJetsError, match="cannot be read"):
        load_model(tmp_path)


def test_a_place_without_a_model_says_what_was_found_and_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(SslJetsError, match="no trained model here") as caught:
        load_model(tmp_path / "nowhere")
    assert caught.value.found == "no such folder"
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(SslJetsError, match="no trained model here") as caught:
        load_model(tmp_path / "run")
    assert "--resume" in str(caught.value.hint)
    assert "pretrain" not in str(caught.value.hint)  # it may be a finetuning


def test_a_failed_write_keeps_the_model_that_was_there(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(model, tmp_path / "model")
    before = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}

    def full(weights: object, path: Path) -> None:
        path.write_bytes(b"half of the wei")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weights_on_disk, "save_file", full)
    with pytest.raises(SslJetsError, match="No space left"):
        save_model(model, tmp_path / "model")
    assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_saving_again_replaces_the_model(model: Model, batch: Jets, tmp_path: Path) -> None:
    save_model(model, tmp_path / "model")
    other = Model(tiny_encoder(batch, seed=9))
    save_model(other, tmp_path / "model")
    assert load_model(tmp_path).sha256 == other.sha256 != model.sha256
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_place_that_cannot_be_written_is_one_error(model: Model, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SslJetsError, match="cannot be written"):
        save_model(model, tmp_path / "file" / "model")


def test_loading_draws_no_random_numbers_and_a_changed_weight_stays_out_of_the_file(
    model: Model, tmp_path: Path
) -> None:
    save_model(model, tmp_path / "model")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    loaded = load_model(tmp_path)
    assert torch.equal(torch.rand(3), expected)
    assert not any(parameter.is_meta for parameter in loaded.encoder.parameters())
    with torch.no_grad():
        loaded.encoder.extra_tokens.add_(1.0)
    assert torch.equal(load_model(tmp_path).encoder.extra_tokens, model.encoder.extra_tokens)
    save_model(loaded, tmp_path / "model")  # over the file that it is mapped from
    assert torch.equal(load_model(tmp_path).encoder.extra_tokens, model.encoder.extra_tokens + 1.0)


@pytest.mark.parametrize("kind", ["mean", "quantile", "gaussian"])
def test_pool_and_kind_of_regression_come_back(batch: Jets, tmp_path: Path, kind: str) -> None:
    encoder = tiny_encoder(batch, pool="attention").eval()
    regressor = Regressor(encoder.dim, ["jet_sdmass"], 0, kind, (0.1, 0.5))  # type: ignore[arg-type]
    regressor.targets.fit_statistics([batch])
    save_model(Model(encoder, regressor=regressor), tmp_path / "model")
    loaded = load_model(tmp_path)
    assert loaded.regressor is not None
    with torch.inference_mode():
        z = loaded.encoder(batch).z
        assert torch.equal(z, encoder(batch).z)
        assert torch.equal(loaded.regressor.physical(z), regressor.physical(z))
        assert torch.equal(loaded.regressor.bands(z), regressor.bands(z))
    assert loaded.regressor.levels == (() if kind == "mean" else (0.1, 0.5))


def test_features_in_another_order_are_refused(model: Model, tmp_path: Path) -> None:
    save_model(model, tmp_path / "model")
    config = json.loads((tmp_path / "model" / CONFIG).read_text())
    config["features"][:2] = config["features"][1::-1]
    (tmp_path / "model" / CONFIG).write_text(json.dumps(config))
    with pytest.raises(SslJetsError, match="other features than this version"):
        load_model(tmp_path)
