"""Methods kept whole: rebuilt to the last bit from their own folder, and handed to the methods that start from them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ssl_jets import methods
from ssl_jets.config import MethodSettings
from ssl_jets.errors import SslJetsError, UsageError
from ssl_jets.jets import COLUMNS, Jets
from ssl_jets.methods import _renamed
from ssl_jets.methods._method import Method
from ssl_jets.model_file import CONFIG, METHOD_WEIGHTS, WEIGHTS, Model, load_method, load_model, save_model
from ssl_jets.nn.encoder import Encoder
from ssl_jets.runtime.weights import write_weights
from ssl_jets.sharing.model_card import CARD
from ssl_jets.training.required import load_required
from support.small_models import CLASSES, build_method


class Words(Method):
    """A method that is more than its encoder."""

    class Config(MethodSettings):
        """Settings."""

        size: int = 3

    saves_full_method: ClassVar[bool] = True

    def __init__(self, cfg: Config, encoder: Encoder, labels: tuple[str, ...] = ()) -> None:
        super().__init__(cfg, encoder, labels)
        self.encoder = encoder
        self.words = nn.Embedding(cfg.size, encoder.dim)
        self.register_buffer("counts", torch.rand(cfg.size))

    def loss(self, jets: Jets, progress: float) -> dict[str, Tensor]:
        return {"loss": (self.encoder(jets).z @ self.words.weight.T * self.counts).mean()}

    def exported(self) -> Encoder:
        return self.encoder


class Sentences(Method):
    """A method that starts from one of `words`."""

    class Config(MethodSettings):
        """Settings."""

        words: str = ""

    saves_full_method: ClassVar[bool] = True
    requires: ClassVar[tuple[str, ...]] = ("words",)

    def __init__(self, cfg: Config, encoder: Encoder, labels: tuple[str, ...] = (), *, words: Method) -> None:
        super().__init__(cfg, encoder, labels)
        self.encoder, self.words = encoder, words

    def loss(self, jets: Jets, progress: float) -> dict[str, Tensor]:
        return {"loss": self.words(jets, progress)["loss"] + self.encoder(jets).z.mean()}

    def exported(self) -> Encoder:
        return self.encoder


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    real = methods.find
    known: dict[str, type[Method]] = {"words": Words, "sentences": Sentences}
    monkeypatch.setattr(methods, "find", lambda name: known.get(name) or real(name))


def save(method: Method, run: Path, columns: tuple[str, ...] = COLUMNS) -> Path:
    facts = {"method": method.cfg.name, "training": {"columns": list(columns)}}
    model = Model(method.exported(), None, CLASSES, facts)
    save_model(model, run / "model", method if method.saves_full_method else None)
    return run


@pytest.mark.parametrize("name", ["words", "sentences"])
def test_a_method_comes_back_to_the_last_bit_without_the_runs_it_started_from(
    name: str, batch: Jets, tmp_path: Path
) -> None:
    method = build_method(name, batch)
    run = save(method, tmp_path / "run")
    before = torch.random.get_rng_state()
    loaded = load_method(run)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not loaded.training
    assert (loaded.cfg, loaded.labels) == (method.cfg, CLASSES)
    assert loaded.state_dict().keys() == method.state_dict().keys()
    assert all(torch.equal(value, method.state_dict()[key]) for key, value in loaded.state_dict().items())
    assert torch.equal(loaded(batch, 0.0)["loss"], method(batch, 0.0)["loss"])


def test_the_settings_of_method_and_part_come_back(batch: Jets, tmp_path: Path) -> None:
    words = Words(Words.Config(name="words", size=7), build_method("mae", batch).exported())
    loaded = load_method(save(words, tmp_path / "words"))
    built = Sentences(Sentences.Config(name="sentences"), build_method("mae", batch).exported(), words=loaded)
    again = load_method(save(built, tmp_path / "sentences"))
    assert isinstance(again, Sentences)
    assert again.words.cfg == Words.Config(name="words", size=7)


@pytest.mark.parametrize("name", ["tokenizer", "bottleneck_mae", "diffusion_ae", "next_token", "next_particle"])
def test_a_folder_with_the_names_of_earlier_versions_loads(name: str, batch: Jets, tmp_path: Path) -> None:
    method = build_method(name, batch)
    folder = save(method, tmp_path / "run") / "model"
    weights = load_file(folder / METHOD_WEIGHTS)
    old = {}
    for key, value in weights.items():
        part = "tokenizer." if key.startswith("tokenizer.") else ""
        own = key.removeprefix(part)
        for before, now in _renamed.WEIGHTS.items():
            own = before + own.removeprefix(now) if own.startswith(now) else own
        old[part + own] = value
    assert old.keys() != weights.keys()
    config = json.loads((folder / CONFIG).read_text())
    for described in (config["whole"], *config["whole"]["parts"].values()):
        for before, now in _renamed.SETTINGS.items():
            if now in described["settings"]:
                described["settings"][before] = described["settings"].pop(now)
    config["whole"]["weights_sha256"] = write_weights(old, folder / METHOD_WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(config))
    loaded = load_method(folder)
    assert loaded.cfg == method.cfg
    assert loaded.state_dict().keys() == method.state_dict().keys()
    assert all(torch.equal(value, method.state_dict()[key]) for key, value in loaded.state_dict().items())


def test_no_tensor_is_written_twice_and_the_encoder_is_where_it_always_was(batch: Jets, tmp_path: Path) -> None:
    method = build_method("words", batch)
    folder = save(method, tmp_path / "run") / "model"
    assert sorted(path.name for path in folder.iterdir()) == [CARD, CONFIG, METHOD_WEIGHTS, WEIGHTS]
    assert sorted(load_file(folder / METHOD_WEIGHTS)) == ["counts", "words.weight"]
    assert all(name.startswith("encoder.") for name in load_file(folder / WEIGHTS))
    assert torch.equal(load_model(folder).encoder(batch).z, method.exported()(batch).z)


def test_one_flipped_bit_in_the_methods_weights_is_found(batch: Jets, tmp_path: Path) -> None:
    run = save(build_method("words", batch), tmp_path / "run")
    content = bytearray((run / "model" / METHOD_WEIGHTS).read_bytes())
    content[-3] ^= 1
    (run / "model" / METHOD_WEIGHTS).write_bytes(content)
    with pytest.raises(SslJetsError, match="not those the model was saved with") as caught:
        load_method(run)
    assert METHOD_WEIGHTS in str(caught.value.where)


@pytest.mark.parametrize("change", [{"encoder": {"size": "small"}}, {"shared": {}}, {"labels": None}])
def test_a_description_that_does_not_fit_is_one_error(batch: Jets, tmp_path: Path, change: dict[str, Any]) -> None:
    run = save(build_method("words", batch), tmp_path / "run")
    config = json.loads((run / "model" / CONFIG).read_text())
    config["whole"] |= change
    (run / "model" / CONFIG).write_text(json.dumps(config))
    with pytest.raises(SslJetsError, match="does not fit the weights"):
        load_method(run)


def test_a_run_that_kept_its_encoder_only_is_refused(batch: Jets, tmp_path: Path) -> None:
    run = save(build_method("mae", batch), tmp_path / "run")
    with pytest.raises(SslJetsError, match="kept its encoder, not the whole method") as caught:
        load_method(run)
    assert caught.value.found == "method mae"


def test_the_parts_of_a_method_are_loaded_from_the_runs_that_its_settings_name(batch: Jets, tmp_path: Path) -> None:
    words = build_method("words", batch)
    run = save(words, tmp_path / "run")
    parts = load_required(Sentences, Sentences.Config(name="sentences", words=str(run)), COLUMNS, ())
    assert torch.equal(parts["words"](batch, 0.0)["loss"], words(batch, 0.0)["loss"])
    assert load_required(Words, Words.Config(name="words"), COLUMNS, ()) == {}


def test_a_part_that_is_not_named_missing_of_another_method_or_of_other_columns_is_refused(
    batch: Jets, tmp_path: Path
) -> None:
    def refused(run: Path | str, match: str) -> SslJetsError:
        with pytest.raises(SslJetsError, match=match) as caught:
            load_required(Sentences, Sentences.Config(name="sentences", words=str(run)), COLUMNS, ())
        return caught.value

    error = refused("", "method sentences starts from a run of method words")
    assert isinstance(error, UsageError)
    assert "--set method.words=RUN" in str(error.hint)
    assert refused(tmp_path / "nowhere", "no trained model").found == "no such folder"
    other = refused(save(build_method("mae", batch), tmp_path / "mae"), "the run is not a words")
    assert (other.found, other.allowed) == ("mae", ["words"])
    fewer = refused(save(build_method("words", batch), tmp_path / "fewer", COLUMNS[:-1]), "other particle columns")
    assert COLUMNS[-1] in str(fewer.found)


def test_a_moved_run_still_loads(batch: Jets, tmp_path: Path) -> None:
    run = save(build_method("words", batch), tmp_path / "run")
    shutil.move(run, tmp_path / "moved")
    assert isinstance(load_method(tmp_path / "moved" / "model"), Words)


@pytest.mark.parametrize("name", ["diffusion_ae", "diffusion_mae", "mar", "bottleneck_mae", "tokenizer"])
def test_a_loaded_method_neither_reads_nor_makes_columns_that_it_was_not_trained_with(
    name: str, batch: Jets, tmp_path: Path
) -> None:
    """As `Model.embed`: the encoder has random weights for them, and so have the decoders."""
    kinematic = batch.without(["charge", "kind", "d0", "d0err", "dz", "dzerr"])
    quick = {} if name in ("bottleneck_mae", "tokenizer") else {"steps": 1}
    method = build_method(name, kinematic, **quick, **({"rounds": 2} if name == "mar" else {}))
    method.prepare([kinematic])
    facts = {"method": name, "training": {"columns": COLUMNS, "last_columns": kinematic.columns}}
    save_model(Model(method.exported(), facts=facts), tmp_path, method)
    loaded, hidden = load_method(tmp_path), batch.rank_by_pt() > 2

    def made(jets: Jets) -> Tensor:
        torch.manual_seed(0)
        if name == "tokenizer":
            again = loaded.particles(loaded.codes(jets), jets.offsets)
        elif name in ("mar", "diffusion_mae"):
            again = loaded.complete(jets, hidden, 1)[0]
        else:
            again = loaded.reconstruct(jets)
        assert again.columns == kinematic.columns
        return again.particles

    assert torch.equal(made(batch), made(kinematic))
