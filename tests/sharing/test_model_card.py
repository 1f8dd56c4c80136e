"""The model card has the facts of the model, the metrics of its evaluation, and a program that loads the weights."""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ssl_jets.evaluation.card import update_card
from ssl_jets.evaluation.evaluation_data import labelled_jets
from ssl_jets.evaluation.result import Evaluation
from ssl_jets.jets import Jets
from ssl_jets.model import Model
from ssl_jets.model_file import load_model, save_model
from ssl_jets.nn.heads import ClassHead
from ssl_jets.runtime.package_files import package_folder
from ssl_jets.sharing.model_card import CARD, CONFIG, LOAD, CardMetric, _cost, model_card, write_metrics
from support.report_folders import write_evaluation
from support.small_models import CLASSES, tiny_encoder

TRAINING: dict[str, Any] = {
    "files": [["HToBB.root", 996550, "f5a3"], ["old.root", 12]],
    "held_out": [["HToBB.root", 996550, "f5a3", 0, 100]],
    "columns": ["pt", "deta", "dphi", "charge"],
    "steps": 80, "jets": 5120, "seconds": 7200.0, "precision": "32-true", "mode": "full",
    "device": "cpu", "processes": 2, "threads": 3,
    "pretrained": {"files": [["big.root", 7, "aa"]], "steps": 5000, "jets": 10**6, "seconds": 360.0},
}  # fmt: skip


@pytest.fixture
def folder(batch: Jets, tmp_path: Path) -> Path:
    encoder = tiny_encoder(batch)
    model = Model(encoder, ClassHead(encoder.dim, 10), CLASSES, {"method": "mae", "training": TRAINING})
    save_model(model, tmp_path / "run" / "model")
    return tmp_path / "run" / "model"


def config_of(folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((folder / CONFIG).read_text())
    return result


def test_the_card_is_in_the_folder_and_has_the_facts(folder: Path) -> None:
    text = (folder / CARD).read_text()
    assert text == model_card(config_of(folder))
    head = yaml.safe_load(text.split("---")[1])
    assert head == {"library_name": "ssl-jets", "license": "other", "tags": ["particle-physics", "jets", "mae"]}
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    assert ["method", "mae, finetuned: full"] in rows
    assert ["weights", f"`model.safetensors`, SHA-256 `{load_model(folder).sha256}`"] in rows
    assert [row for row in rows if ".root" in row[0]] == [
        ["HToBB.root", "996,550", "f5a3"], ["big.root", "7", "aa"], ["old.root", "12", ""],
    ]  # fmt: skip
    assert ["finetuning", "80", "5,120", "12 core hours", "32-true"] in rows  # 2 h on 2 processes of 3 threads
    assert ["pretraining", "5,000", "1,000,000", "0.1 h", ""] in rows  # its devices are not recorded
    mean = config_of(folder)["features"][0]["mean"]
    assert ["log_pt", "ln GeV", f"{mean:.5g}"] == next(row for row in rows if row[0] == "log_pt")[:3]
    assert "`pt`, `deta`, `dphi`, `charge`" in text
    assert "Not stated yet" in text
    assert "Not evaluated yet" in text


def test_the_cost_has_every_training_of_the_model_and_of_its_teacher() -> None:
    trained = [{"steps": steps, "jets": steps, "seconds": 36.0} for steps in (1, 2, 3, 4)]
    chain = trained[2] | {"pretrained": trained[1] | {"pretrained": trained[0]}}
    for last, name in (({}, "pretraining, continued"), ({"mode": "full"}, "finetuning")):
        training = chain | last | {"teacher": trained[3]}
        rows = [line.split(" | ")[:2] for line in _cost(training)[2:]]
        names = ["| teacher", "| pretraining", "| pretraining, continued", f"| {name}"]
        assert rows == [[one, steps] for one, steps in zip(names, "4123", strict=True)]


def test_the_cards_of_the_bundled_models_have_their_costs() -> None:
    models = package_folder("models", "models")
    cards = {path.parent.name: path.read_text(encoding="utf-8") for path in models.glob(f"*/{CARD}")}
    assert {"small-ssl", "tiny-ssl", "small-sup", "tiny-sup"} <= cards.keys()
    for name, card in cards.items():
        assert "\n".join(["## Cost", "", *_cost(config_of(models / name)["training"]), "", "## Metrics"]) in card, name


def test_labels_of_any_training_of_a_model_count(folder: Path) -> None:
    model = load_model(folder)
    before = model.facts["training"]["pretrained"]
    before["pretrained"] = {"labelled_jets": 700}
    assert labelled_jets(model) == 700


def test_the_ten_lines_of_the_card_load_the_weights(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = re.findall(r"```python\n(.*?)```", (folder / CARD).read_text(), re.DOTALL)[-1]
    assert program == LOAD
    assert len(program.splitlines()) <= 10
    assert "ssl_jets" not in program
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(program, names)
    encoder = load_model(folder).encoder
    assert names["mean"].tolist() == encoder.features.mean.tolist()
    numbers = sum(value.numel() for value in encoder.state_dict().values())
    assert f"{numbers:,} numbers, {{'width': 64, 'blocks': 4, 'heads': 2, 'dim': 64}}" in printed.getvalue()


def test_many_files_are_cut_and_counted(folder: Path) -> None:
    config = config_of(folder)
    config["training"] = {"files": [[f"{number:03}.root", 1, "d"] for number in range(50)]}
    text = model_card(config)
    assert text.count(".root") == 20
    assert "and 30 more" in text


def test_the_metrics_of_an_evaluation_are_filled_in_and_survive_nothing_else(folder: Path) -> None:
    before = (folder / CONFIG).read_bytes()
    write_metrics(folder, [CardMetric("head: accuracy", "0.61 [0.6, 0.62]", 1000, ("a|b.root",))])
    text = (folder / CARD).read_text()
    assert "| head: accuracy | 0.61 [0.6, 0.62] | 1,000 | a\\|b.root |" in text
    assert "Not evaluated yet" not in text
    assert (folder / CONFIG).read_bytes() == before
    assert load_model(folder).method == "mae"


def test_an_evaluation_inside_the_run_updates_its_card_and_one_elsewhere_does_not(folder: Path, tmp_path: Path) -> None:
    for out, changes in ((tmp_path / "elsewhere", False), (folder.parent / "evaluation", True)):
        write_evaluation(out)
        card = (folder / CARD).read_text()
        update_card(folder.parent, Evaluation.read(out))
        assert ((folder / CARD).read_text() != card) is changes
    assert re.search(r"\| head: accuracy \| 0\.\d+ \[0\.\d+, 0\.\d+\] \| [\d,]+ \|", (folder / CARD).read_text())
