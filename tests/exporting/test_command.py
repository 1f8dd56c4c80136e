"""The command `export` prints the files on stdout, and differences, latencies and losses on stderr."""

from __future__ import annotations

from typing import Any

import pytest

from ssl_jets import api
from ssl_jets.cli.export import export
from support.exported import Exported


def test_the_command_prints_files_and_messages_apart(
    exported: Exported, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(api, "export", lambda model, **options: asked.update(options) or exported.summary)
    out = exported.summary.path
    export(exported.run, out, set_=["export.opset=16", "data.bad_jets=skip"], int8=True)
    assert asked["settings"] == {"export": {"opset": 16}, "data": {"bad_jets": "skip"}}
    assert (asked["out"], asked["int8"], asked["tokens"], asked["data"]) == (out, True, False, ())
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [str(out), str(out.with_suffix(".int8.onnx"))]
    lines = printed.err.splitlines()
    assert "particles: pt, deta, dphi, energy, charge, kind, d0, d0err, dz, dzerr; mask" in lines
    assert f"z              {exported.summary.differences['z']:.1e}" in lines
    assert sum("onnxruntime" in line for line in lines) == 2
    assert "cosine of z 0.99" in lines[-1]
    assert "AUC 0." in lines[-1]
