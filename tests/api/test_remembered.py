"""An evaluation without --data reads the files of its run, as the run did."""

from pathlib import Path

import pytest

from ssl_jets import api
from ssl_jets.api.run_files import Remembered
from ssl_jets.errors import DataError, SslJetsError, UsageError


def run(folder: Path, data: str) -> Path:
    """A run folder that has only its settings."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(f"data: {data}\nmethod: {{name: mae}}\n")
    return folder


@pytest.fixture
def jets(tmp_path: Path) -> Path:
    (tmp_path / "jets.root").write_bytes(b"root")
    (tmp_path / "more.root").write_bytes(b"root")
    return tmp_path / "jets.root"


def test_files_held_out_files_and_schema_are_those_of_the_run(jets: Path, tmp_path: Path) -> None:
    more = tmp_path / "more.root"
    one = run(tmp_path / "one", f"{{sources: ['{jets}'], validation: ['{more}'], format: mine.yaml, bad_jets: skip}}")
    found = Remembered.of([one / "model"])
    assert found.sources == (str(jets), str(more))
    assert found.reading == {"format": "mine.yaml", "bad_jets": "skip"}
    assert str(jets) in found.line()
    assert "mine.yaml" in found.line()
    mixed = run(tmp_path / "mixed", f"{{proportions: {{'{jets}': 0.3, '{more}': 0.7}}}}")
    assert Remembered.of([mixed]).sources == (str(jets), str(more))
    labelled = run(tmp_path / "two", f"{{sources: ['{jets}'], labels: [QCD, Tbl]}}")
    bare = run(tmp_path / "three", f"{{sources: ['{jets}'], labels: null}}")
    assert Remembered.of([bare, labelled]).reading == {"labels": ["QCD", "Tbl"]}


def test_a_run_on_the_sample_and_a_model_alone_remember_no_files(tmp_path: Path) -> None:
    assert Remembered.of([run(tmp_path / "sample", "{sources: []}")]) == Remembered()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    assert Remembered.of([tmp_path / "model"]) == Remembered()
    with pytest.raises(SslJetsError, match="no trained model"):
        Remembered.of([tmp_path / "gone"])


def test_files_that_are_gone_and_runs_of_other_files_ask_for_data(jets: Path, tmp_path: Path) -> None:
    gone = run(tmp_path / "gone", f"{{sources: ['{tmp_path}/gone.root']}}")
    with pytest.raises(DataError, match=r"cannot be found(.|\n)*gone\.root(.|\n)*--data"):
        api.evaluate(gone)
    piped = run(tmp_path / "piped", "{sources: ['-']}")
    with pytest.raises(DataError, match="--data"):
        Remembered.of([piped])
    one, other = run(tmp_path / "one", f"{{sources: ['{jets}']}}"), run(tmp_path / "other", "{sources: []}")
    with pytest.raises(UsageError, match=r"different files(.|\n)*--data"):
        Remembered.of([one, other])
