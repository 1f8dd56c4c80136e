"""Several models on the same jets: what one has seen none is tested on; differences are paired; ensembles."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ssl_jets import api
from ssl_jets.cli.evaluate import as_json
from ssl_jets.config import DataSettings, ModelSettings
from ssl_jets.data.files import EntryRange, open_files
from ssl_jets.data.loading.stream import ordered
from ssl_jets.data.request import Request
from ssl_jets.data.seen import joint_training
from ssl_jets.data.sources import sample_sources
from ssl_jets.diagnostics.results import Verdict
from ssl_jets.errors import DataError, UsageError
from ssl_jets.evaluation import single_model
from ssl_jets.evaluation.compare import compare_models, names_of
from ssl_jets.evaluation.comparison import Comparison
from ssl_jets.evaluation.metrics.bootstrap import Estimate
from ssl_jets.evaluation.metrics.particles import ParticleGroups
from ssl_jets.evaluation.particles import ParticleResults
from ssl_jets.evaluation.settings import EvaluateSettings, MeasureSettings
from ssl_jets.evaluation.tables import comparison_table
from ssl_jets.model_file import Model, save_model
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.heads import ClassHead
from support.few_trees import few_trees
from support.measured import check_intervals

ONE = Estimate(1.0, 1.0, 1.0, 1.0, 1.0)
SETTINGS = EvaluateSettings(
    data=DataSettings(labels=("QCD", "Tbl")),
    evaluate=MeasureSettings(fit_jets=200, test_jets=200, physics_jets=0, robust_jets=40, deep_sets=False),
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], list[str]]:
    """Two untrained models that "held out" blocks of the files which overlap in part, and one without a head."""
    folder = tmp_path_factory.mktemp("models")
    sources = [str(source) for source in sample_sources() if "ZJets" in str(source) or "TTBarLep" in str(source)]
    files = open_files([source for source in sample_sources() if str(source) in sources], ("QCD", "Tbl"))
    paths = []
    for seed, (start, stop) in enumerate([(0, 150), (100, 300), (100, 150)]):
        training = {
            "files": [list(file.identity) for file in files],
            "held_out": [[*file.identity, start, stop] for file in files],
        }
        torch.manual_seed(seed)
        encoder = Encoder(ModelSettings(size="tiny", blocks=1, registers=1))
        encoder.features.fit_statistics(ordered(files, [EntryRange(0, 0, 100)], Request()))
        head = None if seed == 2 else ClassHead(encoder.dim, 2)
        model = Model(encoder, head, ("QCD", "Tbl") if head else (), {"method": "mae", "training": training})
        paths.append(folder / f"run{seed}")
        save_model(model, paths[-1] / "model")
    return paths, sources


def test_models_are_compared_on_jets_that_all_held_out_and_the_ensemble_is_the_mean(
    runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first, second, _), sources = runs
    out, settings = tmp_path / "c", SETTINGS.model_dump(mode="json")
    # Of the first model z is constant, and a particle head was measured.
    verdicts = iter([[Verdict("constant", "variation 0")], []])
    groups = ParticleGroups("vertex", 5, 50, 0.5, *3 * [ONE])
    statistics = single_model.spread_and_collapse
    monkeypatch.setattr(
        single_model,
        "spread_and_collapse",
        lambda *args, **options: statistics(*args, **options) | {"collapse": next(verdicts)},
    )
    particles = iter([ParticleResults([], [], [groups]), ParticleResults([], [], [])])
    monkeypatch.setattr(single_model, "evaluate_particles", lambda *_: next(particles))
    with few_trees():
        found = api.evaluate([first, second], data=sources, ensemble=True, out=out, settings=settings)
    assert isinstance(found, Comparison)
    assert list(found.evaluations) == ["run0", "run1", "ensemble"]
    # Entries 100 to 150 of each of the two files.
    assert {name: one.jets["test"] for name, one in found.evaluations.items()} == dict.fromkeys(found.evaluations, 100)
    one, other = (found.evaluations[name].task.accuracy for name in ("run0", "run1"))
    difference = next(entry for entry in found.differences if entry.of == "head")
    assert difference.accuracy.value == pytest.approx(other.value - one.value)
    notes = {name: [note for note in one.notes if "collapsed" in note] for name, one in found.evaluations.items()}
    assert notes == {"run0": ["z has collapsed: variation 0"], "run1": [], "ensemble": []}
    assert "z of run0 has collapsed: variation 0" in found.notes
    assert [one.particle_groups for one in found.evaluations.values()] == [[groups], [], []]
    losses = [found.evaluations[name].task.log_loss.value for name in ("run0", "run1", "ensemble")]
    assert losses[2] <= np.mean(losses[:2]) + 1e-9  # -ln is convex
    assert 0 < found.cka[0].cka.value < 1
    assert check_intervals([found.metrics(), *(one.metrics() for one in found.evaluations.values())]) > 50
    assert check_intervals([one.curve_points() for one in found.evaluations.values()]) > 100
    written = json.loads((out / "comparison.json").read_text())
    assert written["models"] == ["run0", "run1", "ensemble"]
    assert "run1 - run0" in comparison_table(found)
    page = (out / "report.html").read_text()
    for word in ("run1 - run0", "ensemble", "CKA", "compared_roc.pdf", "Robustness to changed inputs"):
        assert word in page, word
    printed = json.loads(as_json(found))
    assert len(printed["differences"]) == 2  # of the heads, and of linear probes
    for name, evaluation in printed["evaluations"].items():
        assert evaluation["task"] == json.loads((out / name / "metrics.json").read_text())["task"]
    with pytest.raises(UsageError, match="exists"):
        compare_models([first, second], sources, out)


def test_models_that_do_not_go_together_are_refused(runs, tmp_path: Path) -> None:
    (first, _, bare), sources = runs
    with pytest.raises(UsageError, match=r"head(.|\n)*run2 without"):
        compare_models([first, bare], sources, tmp_path, ensemble=True, settings=SETTINGS)
    with pytest.raises(UsageError, match="twice"):
        names_of([first, first / "model"])
    assert names_of([Path("a/mae"), Path("b/mae")]) == ["a-mae", "b-mae"]
    assert not (tmp_path / "comparison.json").exists()


def test_a_model_without_a_record_of_held_out_jets_spoils_the_joint_set() -> None:
    file = ["a.root", 7, "d"]
    clear = {"files": [file], "held_out": [[*file, 0, 50]]}
    assert joint_training([clear, {}])["held_out"] == [[*file, 0, 50]]
    assert joint_training([clear, {"files": [file], "held_out": [[*file, 40, 90]]}])["held_out"] == [[*file, 40, 50]]
    assert "held_out" not in joint_training([clear, {"files": [file]}])


def test_jets_that_were_seen_are_refused_unless_forced_and_then_marked_everywhere(tmp_path: Path) -> None:
    from ssl_jets.evaluation.single_model import evaluate_model
    from ssl_jets.report import write_evaluation_report

    sources = [str(source) for source in sample_sources() if "ZJets" in str(source) or "TTBarLep" in str(source)]
    files = open_files([source for source in sample_sources() if str(source) in sources], ("QCD", "Tbl"))
    torch.manual_seed(0)
    encoder = Encoder(ModelSettings(size="tiny", blocks=1, registers=1))
    training = {"files": [list(file.identity) for file in files], "held_out": []}
    head = ClassHead(encoder.dim, 2)
    facts = {"method": "supervised", "training": training}
    save_model(Model(encoder, head, ("QCD", "Tbl"), facts), tmp_path / "run" / "model")
    options = {"settings": SETTINGS, "log": lambda _: None}
    with pytest.raises(DataError, match=r"evaluate\.seen=true"):
        evaluate_model(tmp_path / "run", sources, tmp_path / "out", **options)
    seen = SETTINGS.evaluate.model_copy(update={"seen": True, "robust_jets": 0})
    options["settings"] = SETTINGS.model_copy(update={"evaluate": seen})
    with few_trees():
        found = evaluate_model(tmp_path / "run", sources, tmp_path / "out", **options)
    assert found.leaked == sum(file.entries for file in files)
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["leaked"] == found.leaked
    page = write_evaluation_report(tmp_path / "out").read_text()
    assert 'role="alert"' in page
    assert found.task is not None
    assert "has not seen" not in page
    assert "how well it remembers" in page
