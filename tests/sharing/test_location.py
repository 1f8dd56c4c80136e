"""Models from a server or the hub: copied once, checked by their hash, read offline."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from ssl_jets.api import share
from ssl_jets.api.evaluation import _folder_for, _name_of
from ssl_jets.config import ModelSettings
from ssl_jets.errors import SslJetsError, UsageError
from ssl_jets.model_file import Model, load_model, save_model
from ssl_jets.nn.encoder import Encoder
from ssl_jets.sharing import location
from ssl_jets.sharing.location import is_elsewhere, locate


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, str]:
    """A model folder, and the hash of its weights."""
    torch.manual_seed(0)
    folder = tmp_path / "site" / "model"
    return folder, save_model(Model(Encoder(ModelSettings(size="tiny", blocks=1)), facts={"method": "mae"}), folder)


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SSL_JETS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


def serve(handler: Any) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A web server of the folder `site`."""
    yield from serve(partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "site")))


def test_a_model_of_a_server_is_copied_once_and_then_read_offline(
    saved: tuple[Path, str], server: str, cached: Path
) -> None:
    folder, digest = saved
    url = f"{server}/model/#sha256={digest}"
    model = load_model(url)
    assert model.sha256 == digest
    for name, value in load_model(folder).encoder.state_dict().items():
        assert torch.equal(model.encoder.state_dict()[name], value)
    (folder / "config.json").unlink()  # the server has lost it
    assert load_model(url).sha256 == digest
    assert {path.name for path in cached.iterdir()} == {digest}


def test_without_a_home_folder_a_variable_names_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home(cls: type[Path]) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", classmethod(no_home))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("SSL_JETS_CACHE", "mine")
    assert location.cache() == Path("mine/models")
    monkeypatch.delenv("SSL_JETS_CACHE")
    with pytest.raises(UsageError, match="export SSL_JETS_CACHE"):
        location.cache()


@pytest.mark.parametrize("wrong", ["name", "weights"])
def test_another_hash_is_refused_and_nothing_stays_in_the_cache(
    saved: tuple[Path, str], server: str, cached: Path, wrong: str
) -> None:
    folder, digest = saved
    asked = digest
    if wrong == "name":
        asked = "0" * 64
    else:  # other weights under the same description
        weights = bytearray((folder / "model.safetensors").read_bytes())
        weights[-1] ^= 1
        (folder / "model.safetensors").write_bytes(weights)
    with pytest.raises(SslJetsError, match=f"(?s)another hash.*{asked}"):
        load_model(f"{server}/model#sha256={asked}")
    assert not list(cached.iterdir())


def test_what_cannot_be_copied_is_one_message(saved: tuple[Path, str], server: str, cached: Path) -> None:
    with pytest.raises(UsageError, match="only with the hash"):
        locate(f"{server}/model")
    with pytest.raises(SslJetsError, match=r"(?s)no such file.*404"):
        locate(f"{server}/gone#sha256={saved[1]}")
    with pytest.raises(SslJetsError, match="cannot be reached"):
        locate(f"http://127.0.0.1:9/model#sha256={saved[1]}")
    with pytest.raises(UsageError, match="not a repository on the hub"):
        locate("hf:model")
    assert not list(cached.iterdir())


COMMIT = "c" * 40


class Hub(BaseHTTPRequestHandler):
    """The requests of huggingface-hub for the files of one commit."""

    folder: Path
    asked: list[str]

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        self.asked.append(self.path)
        path, name = self.path.partition("?")[0], self.path.partition("?")[0].rpartition("/")[2]
        headers = {"X-Repo-Commit": COMMIT}
        files = [file.name for file in self.folder.iterdir()]
        if name in files and path.startswith(("/me/jets/resolve/v1/", f"/me/jets/resolve/{COMMIT}/")):
            content = (self.folder / name).read_bytes()
            headers["ETag"] = f'"{hashlib.sha256(content).hexdigest()}"'
        else:
            self.send_error(404)
            return
        self.send_response(200)
        for key, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        return


def test_a_model_of_the_hub_is_copied_and_then_read_offline(
    saved: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    handler = type("OwnHub", (Hub,), {"folder": saved[0], "asked": []})
    for address in serve(handler):
        monkeypatch.setenv("HF_ENDPOINT", address)
        assert load_model("hf:me/jets@v1").sha256 == saved[1]
        with pytest.raises(SslJetsError, match="cannot be taken from the hub"):
            load_model("hf:me/other@v1")
        asked = len(handler.asked)  # type: ignore[attr-defined]
        assert load_model(f"hf:me/jets@{COMMIT}").sha256 == saved[1]
        assert len(handler.asked) == asked  # type: ignore[attr-defined]
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("the hub is asked once"))
    assert load_model(f"hf:me/jets@{COMMIT}").sha256 == saved[1]  # without the server
    assert "cache" not in capsys.readouterr().err
    assert load_model("hf:me/jets@v1").sha256 == saved[1]
    assert "as it is in the cache, since the hub cannot be reached: [Errno" in capsys.readouterr().err
    with pytest.raises(SslJetsError, match="the hub cannot be reached, and the model is not in the cache"):
        load_model("hf:me/jets@v2")


def test_a_bundled_model_is_found_by_its_name(
    saved: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, digest = saved
    monkeypatch.setattr(location, "package_folder", lambda name, in_checkout: folder.parent)
    monkeypatch.chdir(tmp_path)
    assert location.bundled_models() == {"model": folder}
    assert location.shown_name(locate("model")) == "model"
    assert load_model("model").sha256 == digest
    assert (
        "model: model, which comes with ssl-jets: for anti-kt jets, R = 0.8, 500 < pt < 1000 GeV"
        in capsys.readouterr().err
    )
    assert share("model", "hf:me/jets").folder == folder
    assert _folder_for(["model"], None) == Path("runs/evaluation")  # nothing is written into the package
    assert _name_of(["model"]) == "model"
    assert _name_of(["runs/mae/model"]) == "mae"
    assert _name_of([f"https://host/model#sha256={digest}"]) == "https://host/model"
    with pytest.raises(SslJetsError, match="allowed: model"):
        load_model("modl")
    (tmp_path / "model").mkdir()
    assert locate("model") == Path("model")  # a folder of the user has priority
    assert "model: model, the folder of this name, and not" in capsys.readouterr().err
    assert not is_elsewhere("model")
