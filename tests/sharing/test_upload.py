"""Sharing a model: a dry run sends nothing, an upload sends the model folder and nothing else (a local server)."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ssl_jets import api
from ssl_jets.config import ModelSettings
from ssl_jets.errors import SslJetsError, UsageError
from ssl_jets.model import Model
from ssl_jets.model_file import save_model
from ssl_jets.nn.encoder import Encoder

hub = pytest.importorskip("huggingface_hub")


class Hub(ThreadingHTTPServer):
    """The part of the hub that an upload uses: every file is sent inside the commit."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.created: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        self.forbidden = False


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.forbidden:
            self.answer({"error": "no write token"}, 403)
        elif self.path.endswith("/repos/create"):
            self.server.created.append(json.loads(text))
            self.answer({"url": "https://huggingface.co/owner/name", "id": "owner/name"})
        elif "/preupload/" in self.path:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(text)["files"]
            ]
            self.answer({"files": files})
        elif "/commit/" in self.path:
            for line in text.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    self.server.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            self.answer(
                {"commitUrl": "https://huggingface.co/owner/name/commit/1", "commitOid": "1", "pullRequestUrl": None}
            )
        else:
            self.answer({})

    def do_GET(self) -> None:
        self.answer({"id": "owner/name", "sha": "0", "siblings": []}, 403 if self.server.forbidden else 200)

    def answer(self, content: dict[str, Any], status: int = 200) -> None:
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.hf_api.HfApi.__init__", _init_with(address))
    yield server
    server.shutdown()


def _init_with(address: str) -> Any:
    original = hub.HfApi.__init__

    def init(self: Any, **words: Any) -> None:
        original(self, **words | {"endpoint": address, "token": "hf_test"})

    return init


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    save_model(Model(Encoder(ModelSettings(size="tiny", blocks=1))), folder / "model")
    (folder / "model" / "README.md").write_text("# card\n", encoding="utf-8")
    (folder / "log.txt").write_text("private\n", encoding="utf-8")
    return folder


def test_a_dry_run_lists_the_model_folder_and_sends_nothing(run: Path, server: Hub) -> None:
    shared = api.share(run, "hf:owner/name")
    assert set(shared.files) == {"README.md", "config.json", "model.safetensors"}
    assert (shared.url, server.created, server.files) == (None, [], {})


def test_an_upload_sends_the_files_of_the_model_folder(run: Path, server: Hub) -> None:
    shared = api.share(run, "hf:owner/name", upload=True, private=True)
    assert shared.url == "https://huggingface.co/owner/name/commit/1"
    assert server.created[0]["name"] == "name"
    assert "private" in (
        server.created[0].get("visibility"),
        *[key for key, on in server.created[0].items() if on is True],
    )
    assert server.files == {name: (run / "model" / name).read_bytes() for name in shared.files}


def test_a_refused_upload_is_one_message(run: Path, server: Hub) -> None:
    server.forbidden = True
    with pytest.raises(SslJetsError, match="the upload to the hub failed"):
        api.share(run, "hf:owner/name", upload=True)


@pytest.mark.parametrize("target", ["owner/name", "hf:name", "hf:a/b/c", "hf:owner/na me"])
def test_a_target_of_another_form_is_refused(run: Path, target: str) -> None:
    with pytest.raises(UsageError, match="hf:OWNER/NAME"):
        api.share(run, target)


def test_a_model_without_a_card_is_not_shared(run: Path) -> None:
    (run / "model" / "README.md").unlink()
    with pytest.raises(SslJetsError, match="no card"):
        api.share(run, "hf:owner/name")
