"""The protocols as a user calls them: one after the other in a run, whose report then shows them all."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ssl_jets import cli
from ssl_jets.data.files import JetFile

QUICK = {
    "labels": [
        *(
            "labels.shares=[0.1,0.2]",
            "labels.seeds=2",
            "labels.modes=[probe,last-blocks]",
            "labels.steps=2",
            "labels.batch_size=16",
        ),
        "labels.test_jets=60",
    ],
    "anomaly": ["anomaly.counts=[10]", "anomaly.seeds=2"],
    "domain": [
        *("protocol.adapt=[none]", "protocol.seeds=1", "protocol.steps=2", "protocol.batch_size=16"),
        *("protocol.test_jets=120", "finetuning.train.validation_jets=20"),
    ],
}
TITLES = {"labels": "Label curves", "anomaly": "Search for anomalies", "domain": "Simulation and data"}


def call(*words: str) -> None:
    """Run a command in this process; it must not fail."""
    code: object = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["ssl-jets", *words])
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code
    assert not code


@pytest.mark.slow
def test_each_protocol_answers_goes_on_and_is_in_the_report_of_the_run(
    sample_files: list[JetFile], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [str(file.source) for file in sample_files]
    jets = next(name for name in names if "ZJetsToNuNu" in name)
    simulation = ["--data", names[0], "--data", jets]
    settings = ["--size", "tiny", "--steps", "1", "--batch-size", "16", "--set", "train.validation_jets=20"]
    call("pretrain", "--method", "mae", "--data", names[2], "--out", "run", *settings)
    capsys.readouterr()
    more = {"domain": ["--domain", names[2], "--target", names[3], "--target", names[4]]}
    for protocol, wanted in QUICK.items():
        words = ["evaluate", "run", "--protocol", protocol, *simulation, *more.get(protocol, [])]
        words += [word for setting in wanted for word in ("--set", setting)]
        call(*words)
        first = capsys.readouterr()
        assert " of " in first.err
        page = Path("run/report.html").read_text()
        assert f">{TITLES[protocol]}</a>" in page
        assert f"{protocol}-" in page  # its figures, under a name of their own
        call(*words)
        again = capsys.readouterr()
        assert again.out == first.out
        assert "1 of" not in again.err
    assert all(title in page for title in TITLES.values())
