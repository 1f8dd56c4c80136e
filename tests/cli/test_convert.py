"""Foreign encoders: converted, recorded, and used by the commands like encoders of the package."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import ssl_jets as package
from ssl_jets.data.files import JetFile
from ssl_jets.data.sources import sample_sources
from ssl_jets.errors import SslJetsError, UsageError
from ssl_jets.jets import Jets
from ssl_jets.model_file import load_model
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.foreign.adapter import ForeignEncoder
from support.commands import Done
from support.public_part import newer_names, state_dict

PAGE = Path(__file__).parents[2] / "docs" / "own-encoder.md"
QUICK = ["train.precision=32-true", "train.validation_jets=20", "data.buffer=300", "train.batch_size=16"]
Run = Callable[..., Done]


@pytest.fixture
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The network of the page, registered by the environment variable."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "my_encoders.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SSL_JETS_ENCODERS", "deepsets=my_encoders:DeepSets")
    return "deepsets"


def test_a_tuple_among_the_defaults_is_one_again_when_the_folder_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
import torch

class Layers(torch.nn.Module):
    def __init__(self, widths=(8, 8)):
        super().__init__()
        self.width = self.dim = widths[-1]
        sizes = (1, *widths) if isinstance(widths, tuple) else None
        self.layers = torch.nn.ModuleList(torch.nn.Linear(a, b) for a, b in zip(sizes, sizes[1:]))

    def forward(self, jets):
        x = jets.column("pt").unsqueeze(1)
        for layer in self.layers:
            x = layer(x)
        return jets.mean(x), x
"""
    (tmp_path / "layered.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SSL_JETS_ENCODERS", "layers=layered:Layers")
    folder = package.convert("layers", out=tmp_path / "model").folder
    assert package.load_model(folder).encoder.dim == 8


@pytest.fixture
def converted(registered: str, tmp_path: Path) -> Path:
    return package.convert(registered, out=tmp_path / "model", options={"width": 16}).folder


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.save(state_dict(), tmp_path / "ParT_full.pt")
    return tmp_path / "ParT_full.pt"


def words(mode: str, model: Path, files: list[JetFile], *more: str) -> list[str]:
    data = ["--data", *(str(file.source) for file in files[:2])]
    settings = [word for setting in QUICK for word in ("--set", setting)]
    return [
        "finetune",
        "--model",
        str(model),
        "--mode",
        mode,
        "--steps",
        "2",
        "--labels",
        "60",
        *data,
        *settings,
        *more,
    ]


def test_the_commands_of_the_page_run(registered: str, ssl_jets: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    two = sample_sources()[:2]
    monkeypatch.setattr("ssl_jets.data.dataset.sample_sources", lambda: two)
    block = re.search(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    commands = [shlex.split(line) for line in block[1].replace("\\\n", "").splitlines() if line.startswith("ssl-jets")]
    assert [command[1] for command in commands] == ["convert", "finetune", "embed"]
    for command in commands:
        done = ssl_jets(*command[1:])
        assert done.code == 0, done.err
    assert Path("z.parquet").is_file()


def test_a_public_checkpoint_keeps_its_head_and_is_recorded(checkpoint: Path, ssl_jets: Run, batch: Jets) -> None:
    done = ssl_jets("convert", "part", checkpoint, "--out", "models/part")
    assert done.code == 0, done.err
    assert done.out.strip() == "models/part"
    assert "2,143,486 parameters" in done.err
    config = json.loads(Path("models/part/config.json").read_text())
    assert config["encoder"]["settings"]["architecture"] == "part"
    assert config["encoder"]["settings"]["options"]["inputs"] == "full"
    assert config["training"]["checkpoint"]["file"] == "ParT_full.pt"
    card = Path("models/part/README.md").read_text()
    assert "`part`" in card
    assert config["training"]["checkpoint"]["sha256"] in card
    model = load_model("models/part")
    assert model.labels[0] == "QCD"
    p = model.predict(batch.select(torch.arange(4)))
    assert p.shape == (4, 10)
    assert p.sum(1) == pytest.approx(1)


def test_safetensors_and_a_pickle_of_tensors_give_the_same_model(checkpoint: Path, tmp_path: Path) -> None:
    save_file(state_dict(), tmp_path / "part.safetensors")
    torch.save({"epoch": 3, "state_dict": state_dict()}, tmp_path / "trainer.pt")
    made = [
        package.convert("part", tmp_path / name, out=tmp_path / f"m{number}").model.sha256
        for number, name in enumerate(("ParT_full.pt", "part.safetensors", "trainer.pt"))
    ]
    assert len(set(made)) == 1


class Evil:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return exec, ("open('executed', 'w').close()",)


def test_pickled_code_is_not_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"a": torch.zeros(1)}, "extra": Evil()}, "evil.pt")
    with pytest.raises(SslJetsError, match="pickled code is not executed"):
        package.convert("part", "evil.pt", out="model")
    assert not Path("executed").exists()
    assert not Path("model").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"no zip", "checkpoint"), (None, "checkpoint cannot be read")],
)
def test_a_file_that_is_no_checkpoint_is_one_message(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(SslJetsError, match=message):
        package.convert("part", tmp_path / "w.pt", out=tmp_path / "model")


def test_weights_that_do_not_fit_are_named(registered: str, tmp_path: Path) -> None:
    torch.save({"token.0.weight": torch.zeros(8, 3), "extra": torch.zeros(1)}, tmp_path / "w.pt")
    with pytest.raises(SslJetsError, match="do not fit") as error:
        package.convert(registered, tmp_path / "w.pt", out=tmp_path / "model")
    assert "5 missing: token.0.bias" in error.value.message
    assert "1 unknown: extra" in error.value.message
    assert "1 of another shape: token.0.weight" in error.value.message


def test_the_order_of_heads_is_recorded_and_can_be_set(checkpoint: Path, tmp_path: Path, batch: Jets) -> None:
    torch.save(newer_names(state_dict()), tmp_path / "newer.pt")
    made = {
        "public": package.convert("part", checkpoint, out=tmp_path / "public"),
        "newer": package.convert("part", tmp_path / "newer.pt", out=tmp_path / "newer"),
        "set": package.convert("part", checkpoint, out=tmp_path / "set", options={"swap_heads": False}),
    }
    options = {name: load_model(one.folder).encoder.cfg.options for name, one in made.items()}
    assert {name: one["swap_heads"] for name, one in options.items()} == {"public": True, "newer": False, "set": False}
    assert options["public"]["pair_activation"] is True  # a default of the constructor
    assert "up to 0.4.17" in made["public"].notes[0]
    assert "since 0.5" in made["newer"].notes[0]
    four = batch.select(torch.arange(4))
    p = {name: load_model(one.folder).predict(four) for name, one in made.items()}
    assert np.abs(p["public"] - p["newer"]).max() > 0.01
    np.testing.assert_array_equal(p["set"], p["newer"])


def test_a_model_without_the_order_of_heads_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    folder = package.convert("part", checkpoint, out=tmp_path / "model").folder
    config = json.loads((folder / "config.json").read_text())
    del config["encoder"]["settings"]["options"]["swap_heads"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(SslJetsError, match="earlier version") as error:
        load_model(folder)
    assert "no swap_heads" in error.value.message


def test_another_head_needs_names(tmp_path: Path) -> None:
    torch.save(state_dict(classes=2), tmp_path / "top.pt")
    unnamed = package.convert("part", tmp_path / "top.pt", out=tmp_path / "m")
    assert unnamed.model.head is None
    assert "2 classes is left out" in unnamed.notes[0]
    named = package.convert("part", tmp_path / "top.pt", out=tmp_path / "m2", labels=["top", "QCD"])
    assert load_model(named.folder).labels == ("top", "QCD")
    with pytest.raises(UsageError, match="not the classes"):
        package.convert("part", tmp_path / "top.pt", out=tmp_path / "m3", labels=["top"])


def test_an_encoder_that_is_not_registered_is_refused_without_an_import(
    converted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_JETS_ENCODERS")
    with pytest.raises(UsageError, match="no such encoder"):
        load_model(converted)
    config = json.loads((converted / "config.json").read_text())
    config["encoder"]["settings"]["architecture"] = "subprocess:Popen"
    (converted / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match="no such encoder"):
        load_model(converted)


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("deepsets", "names no encoder"),
        ("deepsets=a:A:b=b:B", "names no encoder(.|\\n)*separated by commas"),
        ("deepsets=gone:Net", "cannot be imported"),
        ("deepsets=json:dumps", "class of"),
    ],
)
def test_a_wrong_registration_is_one_message(monkeypatch: pytest.MonkeyPatch, variable: str, message: str) -> None:
    monkeypatch.setenv("SSL_JETS_ENCODERS", variable)
    with pytest.raises(SslJetsError, match=message):
        package.convert("deepsets", out="model")


def test_a_wrong_option_is_one_message(registered: str, tmp_path: Path) -> None:
    with pytest.raises(SslJetsError, match="cannot be built"):
        package.convert(registered, out=tmp_path / "model", options={"depth": 3})


BAD_RESULTS = {
    "no tokens": ("z", r"found: +\(2, 64\) of 2 jets with 4 particles"),
    "tokens of another width": ("z, tokens[:, 1:]", r"found: +\(2, 64\), \(4, 31\)"),
    "z of the particles": ("z[:1], tokens", r"found: +\(1, 64\), \(4, 32\)"),
    "another dim": ("z[:, 1:], tokens", r"found: +\(2, 63\), \(4, 32\)"),
    "no tensor": ("z, None", r"found: +\(2, 64\), NoneType"),
    "an error": ("z @ z, tokens", r"fails on two jets(.|\n)*RuntimeError"),
    "not finite": ("z / 0, tokens", "not finite"),
    "z of all jets": ("z + z.mean(0), tokens", "depends on the other jets"),
}


@pytest.mark.parametrize(("result", "message"), BAD_RESULTS.values(), ids=BAD_RESULTS)
def test_a_network_without_z_and_tokens_is_refused_by_convert_and_embed(
    result: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sample_jets: Jets,
    converted: Path,
) -> None:
    import my_encoders

    good = my_encoders.DeepSets.forward

    def forward(self: torch.nn.Module, jets: Jets) -> object:
        z, tokens = good(self, jets)
        return eval(result, {"z": z, "tokens": tokens})

    monkeypatch.setattr(my_encoders.DeepSets, "forward", forward)
    with pytest.raises(SslJetsError, match=message):
        package.convert("deepsets", out=tmp_path / "bad")
    assert not (tmp_path / "bad").exists()
    if "2 jets" in message:
        with pytest.raises(SslJetsError, match="an encoder returns z"):
            load_model(converted).embed(sample_jets)


def test_jets_without_what_a_network_names_are_one_message(
    sample_jets: Jets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
import torch

class Charges(torch.nn.Module):
    columns, context, width, dim = ("pt", "charge"), ("jet_eta",), 1, 1

    def forward(self, jets):
        charge = jets.column("charge").unsqueeze(1)
        return jets.mean(charge) + jets.context["jet_eta"].unsqueeze(1), charge
"""
    (tmp_path / "charges.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SSL_JETS_ENCODERS", "charges=charges:Charges")
    model = package.convert("charges", out=tmp_path / "model").model
    with pytest.raises(SslJetsError, match=r"lack inputs which it names(.|\n)*no charge, jet_eta; UsageError"):
        model.embed(sample_jets.without(["charge"]))
    with pytest.raises(SslJetsError, match="no jet_eta; KeyError"):
        model.embed(sample_jets)
    with_eta = replace(sample_jets, context={"jet_eta": torch.ones(len(sample_jets))})
    assert model.embed(with_eta).shape == (len(sample_jets), 1)


def test_an_existing_model_is_kept_without_force(converted: Path, registered: str) -> None:
    with pytest.raises(UsageError, match="exists already"):
        package.convert(registered, out=converted)
    assert package.convert(registered, out=converted, force=True).model.encoder.width == 32


@pytest.mark.parametrize("mode", ["probe", "head", "full", "scratch"])
def test_modes_of_finetuning(mode: str, converted: Path, class_files: list[JetFile], ssl_jets: Run) -> None:
    done = ssl_jets(*words(mode, converted, class_files, "--out", "run"))
    assert done.code == 0, done.err
    before, after = load_model(converted), load_model("run")
    assert isinstance(after.encoder, ForeignEncoder)
    same = all(
        torch.equal(value, after.encoder.network.state_dict()[name])
        for name, value in before.encoder.network.state_dict().items()  # type: ignore[union-attr, operator]
    )
    assert same is (mode in ("probe", "head"))
    assert after.encoder.dim == (16 if mode == "head" else 32)
    assert after.head is not None


def test_a_student_of_the_package_learns_from_a_foreign_teacher(
    converted: Path, class_files: list[JetFile], ssl_jets: Run
) -> None:
    assert ssl_jets(*words("probe", converted, class_files, "--out", "teacher")).code == 0
    done = ssl_jets(*words("distil", Path("teacher"), class_files, "--size", "tiny", "--out", "student"))
    assert done.code == 0, done.err
    encoder = load_model("student").encoder
    assert isinstance(encoder, Encoder)
    assert encoder.features.mean[0] != 0  # measured on the jets: the teacher has no statistics


@pytest.mark.parametrize("mode", ["last-blocks", "lora"])
def test_modes_that_need_blocks_refuse(mode: str, converted: Path, class_files: list[JetFile], ssl_jets: Run) -> None:
    done = ssl_jets(*words(mode, converted, class_files, "--out", "run"))
    assert done.code == 2
    assert f"mode {mode} needs the set transformer" in done.err


def test_pretraining_and_export_refuse(converted: Path, ssl_jets: Run) -> None:
    done = ssl_jets("pretrain", "--method", "simclr", "--model", converted, "--steps", "1", "--out", "run")
    assert (done.code, "the set transformer of ssl-jets" in done.err) == (2, True)
    done = ssl_jets("export", "--model", converted, "--out", "model.onnx")
    assert (done.code, "the export needs" in done.err) == (2, True)


def test_tokens_of_particles(converted: Path, class_files: list[JetFile], ssl_jets: Run) -> None:
    data = ["--data", str(class_files[0].source), "--set", "data.where=jet_pt > 900"]
    done = ssl_jets("embed", "--model", converted, *data, "--level", "particle", "--out", "z.npz")
    assert done.code == 0, done.err
    assert package.read_z("z.npz", level="particle").z.shape[1] == 16


@pytest.mark.slow
def test_an_evaluation(converted: Path, sample_files: list[JetFile], ssl_jets: Run) -> None:
    data = ["--data", str(sample_files[0].source), str(sample_files[1].source)]
    small = {"fit_jets": 200, "test_jets": 200, "physics_jets": 0, "robust_jets": 0}
    settings = [word for key, value in small.items() for word in ("--set", f"evaluate.{key}={value}")]
    done = ssl_jets("evaluate", converted, *data, "--out", "out", *settings)
    assert done.code == 0, done.err


def test_a_frozen_network_stays_in_evaluation_mode() -> None:
    from ssl_jets.config import ModelSettings

    options = {"embed": [8], "pair": [4], "heads": 2, "blocks": 1, "class_blocks": 1, "swap_heads": True}
    encoder = ForeignEncoder(ModelSettings(architecture="part", options=options))
    assert encoder.train().network.training
    encoder.requires_grad_(False)
    encoder.set_pool("attention")
    assert not encoder.train().network.training
    assert encoder.pool is not None
    assert encoder.pool.training


def test_z_does_not_depend_on_the_batch(converted: Path, batch: Jets) -> None:
    model = load_model(converted)
    np.testing.assert_allclose(model.embed(batch), model.embed(batch, batch_size=7), rtol=1e-5, atol=1e-6)
