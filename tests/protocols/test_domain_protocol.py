"""The domain protocol: its comparisons, how it continues after a stop, and the jets it must not train on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ssl_jets.config import resolve
from ssl_jets.data.files import JetFile, open_files
from ssl_jets.data.sources import Source
from ssl_jets.errors import UsageError
from ssl_jets.evaluation.probes.observables import observable_inputs
from ssl_jets.model_file import load_model, save_model
from ssl_jets.protocols.domain import domain_protocol
from ssl_jets.protocols.domain_jets import DomainJets
from ssl_jets.protocols.domain_result import DomainResult
from ssl_jets.protocols.settings import DomainRun
from ssl_jets.protocols.tables import domain_table
from ssl_jets.report import write_result_report
from support.jetclass_files import CLASSES, jetclass_branches, write_tree
from support.measured import check_intervals

SMALL = {
    "protocol": {
        "size": "tiny", "pretrain_steps": 2, "steps": 2, "batch_size": 16, "test_jets": 100, "seeds": 2,
        "adapt": ["none", "coral"],
    },
    "pretraining": {"model": {"blocks": 1}, "train": {"validation_jets": 20}},
    "finetuning": {"train": {"validation_jets": 20}},
}  # fmt: skip


def settings_of(files: list[JetFile], *layers: Any) -> DomainRun:
    """Two classes: files 0 and 1 are the simulation, 2 the data, 3 and 4 stand for labelled data."""
    names = [str(file.source) for file in files]
    given = {"data": {"sources": names[:2], "unlabelled": names[2:3]}, "protocol": {"target": names[3:5]}}
    return resolve(DomainRun, SMALL, given, *layers)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[JetFile]:
    """Five classes of 300 jets of few particles."""
    folder = tmp_path_factory.mktemp("classes")
    branches = {label: jetclass_branches(300, label=label, seed=seed) for seed, label in enumerate(CLASSES[:5])}
    paths = [write_tree(folder / f"{label}.root", {"tree": tree}) for label, tree in branches.items()]
    return open_files([Source(str(path)) for path in paths])


@pytest.fixture(scope="module")
def finished(files: list[JetFile], tmp_path_factory: pytest.TempPathFactory) -> tuple[DomainResult, list[str], Path]:
    logged: list[str] = []
    out = tmp_path_factory.mktemp("protocol")
    return domain_protocol(settings_of(files), out, log=logged.append), logged, out


def test_every_start_adaptation_and_seed_is_one_finetuning(finished: tuple[DomainResult, list[str], Path]) -> None:
    result, logged, out = finished
    expected = [
        (start, adapt, seed) for seed in (0, 1) for start in ("mae", "supervised") for adapt in ("none", "coral")
    ]
    assert [(row.start, row.adapt, row.seed) for row in result.rows] == expected
    assert [line for line in logged if " of 10: " in line][-1] == "10 of 10: supervised-coral-1"
    for start, adapt, seed in expected:
        training = load_model(out / "runs" / f"{start}-{adapt}-{seed}").facts["training"]
        assert training["mode"] == ("scratch" if start == "supervised" else "full")
        # As many labelled jets in a step: with coral as many unlabelled ones in addition.
        assert training["jets"] == 2 * 16 * (2 if adapt == "coral" else 1)
        assert training["seed"] == seed


def test_pretraining_sees_the_data_and_finetuning_the_simulation(
    finished: tuple[DomainResult, list[str], Path], files: list[JetFile]
) -> None:
    _, _, out = finished
    assert load_model(out / "runs" / "mae").facts["training"]["files"] == [list(files[2].identity)]
    tuned = load_model(out / "runs" / "mae-none-0").facts["training"]
    assert sorted(tuned["files"]) == sorted(list(file.identity) for file in files[:3])
    alone = load_model(out / "runs" / "supervised-none-0").facts["training"]
    assert sorted(alone["files"]) == sorted(list(file.identity) for file in files[:2])


def test_means_and_spreads_are_over_the_seeds(finished: tuple[DomainResult, list[str], Path]) -> None:
    result = finished[0]
    first = result.summary[0]
    values = [row.target.accuracy.value for row in result.rows if (row.start, row.adapt) == ("mae", "none")]
    assert (first.start, first.adapt, first.seeds) == ("mae", "none", 2)
    assert first.values.target_accuracy.mean == pytest.approx(sum(values) / 2)
    assert first.values.target_accuracy.std == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    drop = first.values.simulation_accuracy.mean - first.values.target_accuracy.mean
    assert first.values.drop_accuracy.mean == pytest.approx(drop)


@pytest.mark.slow
def test_finished_pieces_are_kept_and_changed_ones_made_anew(
    finished: tuple[DomainResult, list[str], Path], files: list[JetFile]
) -> None:
    before, _, out = finished
    logged: list[str] = []
    again = domain_protocol(settings_of(files), out, log=logged.append)
    assert (again.rows, again.before, logged) == (before.rows, before.before, [])
    (out / "pieces" / "mae-coral-1.json").unlink()
    trained = (out / "runs" / "mae-coral-1" / "model" / "config.json").stat().st_mtime_ns
    domain_protocol(settings_of(files), out, log=logged.append)
    assert logged == ["8 of 10: mae-coral-1"]
    assert (out / "runs" / "mae-coral-1" / "model" / "config.json").stat().st_mtime_ns == trained
    logged.clear()
    changed = settings_of(files, {"finetuning": {"method": {"coral": {"weight": 5.0}}}, "protocol": {"seeds": 1}})
    found = domain_protocol(changed, out, log=logged.append)
    # The settings of every finetuning changed, those of the pretraining did not.
    assert [line.partition(": ")[2] for line in logged if " of 6: " in line] == [
        "mae-none-0", "mae-coral-0", "supervised-none-0", "supervised-coral-0",
    ]  # fmt: skip
    assert found.before == before.before


def test_the_result_is_written_printed_and_reported(
    finished: tuple[DomainResult, list[str], Path], files: list[JetFile]
) -> None:
    result, _, out = finished
    result.write()
    assert DomainResult.read(out) == result
    found = json.loads((out / "domain.json").read_text())
    assert [entry["start"] for entry in found["summary"]] == ["mae", "mae", "supervised", "supervised"]
    assert check_intervals(found) > 20
    assert found["before"]["mae"]["gap"]["floor"]["jets"] > 0
    sentences = result.against_observables()
    assert [line.split(" of ")[1].split()[0] for line in sentences] == ["mae", "supervised"]
    for row in (*result.rows, *result.before.values()):
        assert row.gap.observables is not None
        difference = row.gap.all.a_distance.value - row.gap.observables.a_distance.value
        assert row.gap.observables.difference.value == pytest.approx(difference)
    table = domain_table(result).splitlines()
    assert table[1 + 4] == ""
    assert " ".join(table[6:]) == " ".join(sentences)
    assert f"{result.summary[0].values.target_accuracy.mean:.4f}" in table[1]
    html = write_result_report(out, DomainResult).read_text()
    assert all(sentence in html for sentence in sentences)
    assert html.count("<figure>") == 2
    assert f"{found['summary'][3]['values']['drop_accuracy']['mean']:.4f}" in html


def test_jets_to_test_on_are_not_trained_on(
    finished: tuple[DomainResult, list[str], Path], files: list[JetFile], tmp_path: Path
) -> None:
    names = [str(file.source) for file in files]
    with pytest.raises(UsageError, match="must not be trained on"):
        domain_protocol(settings_of(files, {"data": {"unlabelled": names[3:4]}}), tmp_path / "a")
    target = {"protocol": {"target": names[2:3]}, "data": {"unlabelled": names[4:5]}}
    pretrained = finished[2] / "runs" / "mae"  # on the file 2
    with pytest.raises(UsageError, match="trained on the jets to test on"):
        domain_protocol(settings_of(files, target), tmp_path / "b", models=[pretrained])


def test_observables_of_the_domains_are_of_the_columns_that_both_have(files: list[JetFile]) -> None:
    settings = settings_of(files)
    jets = DomainJets(settings.data, settings.protocol.target, 100)
    simulation = jets.simulation({})[0].without(["d0"])
    jets._target = jets._target.without(["d0"])
    for found, expected in zip(jets.observables({}), observable_inputs(simulation, jets._target), strict=True):
        np.testing.assert_array_equal(found, expected)
        assert np.isfinite(found).all()


def test_jets_of_the_simulation_are_those_that_a_training_held_out_whatever_was_measured_before(
    files: list[JetFile],
) -> None:
    settings = settings_of(files)
    jets = DomainJets(settings.data, settings.protocol.target, 100)
    of_data, *of_simulation = ([list(files[index].identity)] for index in (2, 0, 1))
    held_out = [[*row, 0, 30] for (row,) in of_simulation]
    for trained in (of_data, [row for (row,) in of_simulation]):  # the same jets held out of other trainings
        found, _ = jets.simulation({"files": trained, "held_out": held_out})
        assert found.source is not None
    assert len(found) == 60
    assert found.source[:, 1].max() < 30


@pytest.mark.parametrize(
    ("role", "option"), [("sources", "--data"), ("unlabelled", "--domain"), ("target", "--target")]
)
def test_missing_files_are_asked_for(files: list[JetFile], tmp_path: Path, role: str, option: str) -> None:
    layer = {"protocol" if role == "target" else "data": {role: []}}
    with pytest.raises(UsageError) as caught:
        domain_protocol(settings_of(files, layer), tmp_path)
    assert caught.value.where == option


def test_models_of_one_name_are_distinguished_and_the_name_of_the_baseline_is_refused(
    finished: tuple[DomainResult, list[str], Path], files: list[JetFile], tmp_path: Path
) -> None:
    for name in ("a/run", "b/run", "supervised"):
        shutil.copytree(finished[2] / "runs" / "mae" / "model", tmp_path / name / "model")
    few = settings_of(files, {"protocol": {"seeds": 1, "adapt": ["none"], "supervised": False}})
    models = [tmp_path / "a" / "run", tmp_path / "b" / "run" / "model"]
    result = domain_protocol(few, tmp_path / "out", models=models, log=lambda _: None)
    assert [row.start for row in result.rows] == ["a-run", "b-run"]
    with pytest.raises(UsageError, match="supervised"):
        domain_protocol(settings_of(files), tmp_path / "c", models=[tmp_path / "supervised"])


@pytest.mark.slow
def test_a_model_that_was_trained_again_is_finetuned_again(
    finished: tuple[DomainResult, list[str], Path], files: list[JetFile], tmp_path: Path
) -> None:
    few = settings_of(files, {"protocol": {"seeds": 1, "adapt": ["none"], "supervised": False}})
    shutil.copytree(finished[2] / "runs" / "mae" / "model", tmp_path / "run" / "model")
    tuned = []
    for _ in range(2):
        domain_protocol(few, tmp_path / "out", models=[tmp_path / "run"], log=lambda _: None)
        tuned.append(load_model(tmp_path / "out" / "runs" / "run-none-0").sha256)
        model = load_model(tmp_path / "run")
        with torch.no_grad():
            next(model.encoder.parameters()).add_(0.1)
        shutil.rmtree(tmp_path / "run")
        save_model(model, tmp_path / "run" / "model")
    assert tuned[0] != tuned[1]
