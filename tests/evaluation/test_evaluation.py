"""Evaluation of models and z files: results, and refusals."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ssl_jets.config import DataSettings, ModelSettings
from ssl_jets.data.files import open_files, whole
from ssl_jets.data.loading.stream import ordered
from ssl_jets.data.request import Request
from ssl_jets.data.seen import Seen
from ssl_jets.data.sources import sample_sources
from ssl_jets.data.split import split
from ssl_jets.data.subset import choose_subset
from ssl_jets.errors import DataError, SslJetsError, UsageError
from ssl_jets.evaluation.evaluation_data import EvaluationData
from ssl_jets.evaluation.result import Evaluation, ZMap
from ssl_jets.evaluation.result_base import plain, without
from ssl_jets.evaluation.settings import EvaluateSettings, MeasureSettings
from ssl_jets.evaluation.single_model import evaluate_model
from ssl_jets.evaluation.tables import summary_table
from ssl_jets.evaluation.zfile import evaluate_z
from ssl_jets.model_file import Model, load_model, save_model
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.heads import ClassHead
from ssl_jets.report import write_evaluation_report
from ssl_jets.runtime.console import MessageLog
from ssl_jets.zfile import ZMetadata, ZWriter, z_columns
from support.few_trees import few_trees


def small(world: SimpleNamespace | None = None, **measure: object) -> EvaluateSettings:
    """Few jets, and only the measures under test."""
    limits = {"fit_jets": 300, "test_jets": 200, "physics_jets": 0, "robust_jets": 0, "deep_sets": False, **measure}
    return EvaluateSettings(data=DataSettings() if world is None else world.data, evaluate=MeasureSettings(**limits))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Two classes of the sample, a model with a head and one without, both "trained" on them."""
    folder = tmp_path_factory.mktemp("evaluate")
    sources = [str(source) for source in sample_sources() if "ZJets" in str(source) or "TTBarLep" in str(source)]
    data = DataSettings(labels=("QCD", "Tbl"))
    files = open_files([source for source in sample_sources() if str(source) in sources], data.labels)
    train, held = split(files, 0.1, 0)
    training = {
        "files": [list(file.identity) for file in files],
        "held_out": [[*files[part.file].identity, part.start, part.stop] for part in held],
    }
    torch.manual_seed(5)
    encoder = Encoder(ModelSettings(size="tiny", blocks=1, registers=1))
    encoder.features.fit_statistics(ordered(files, train, Request()))
    bare = Model(encoder, None, (), {"method": "mae", "training": training})
    headed = Model(encoder, ClassHead(encoder.dim, 2), ("Tbl", "QCD"), {"method": "supervised", "training": training})
    new = Model(encoder, ClassHead(encoder.dim, 2), ("QCD", "Tbl"), {"method": "supervised", "training": {}})
    for name, model in (("bare", bare), ("headed", headed), ("new", new)):
        save_model(model, folder / name / "model")
    return SimpleNamespace(folder=folder, sources=sources, data=data, files=files, held=held)


@pytest.fixture(scope="module")
def bare(world: SimpleNamespace) -> SimpleNamespace:
    """The evaluation of the model without a head, and its messages."""
    messages: list[str] = []
    out = world.folder / "bare-out"
    found = evaluate_model(
        world.folder / "bare", world.sources, out, settings=small(world, deep_sets=True), log=messages.append
    )
    return SimpleNamespace(found=found, messages=messages)


@pytest.fixture(scope="module")
def headed(world: SimpleNamespace) -> Evaluation:
    """The evaluation of the model with a head."""
    out = world.folder / "headed-out"
    return evaluate_model(world.folder / "headed", world.sources, out, settings=small(world), log=lambda _: None)


def test_a_model_without_a_head_is_probed_with_the_baselines(bare: SimpleNamespace) -> None:
    found, messages = bare.found, bare.messages
    assert found.task is None
    assert [(probe.reader, probe.of) for probe in found.probes] == [
        ("linear", "z"),
        ("kNN", "z"),
        ("linear", "z and observables"),
        ("linear", "z of random weights"),
        ("kNN", "z of random weights"),
        ("boosted trees", "jet columns"),
        ("linear", "observables"),
        ("boosted trees", "observables"),
        ("Deep Sets", "particles"),
    ]
    assert found.against_observables.baseline.of == "observables"
    assert found.probes[2].columns == found.probes[0].columns + found.probes[6].columns
    assert found.with_observables.z.of == "z and observables"
    alone = [found.probes[row].accuracy.value for row in (0, 1, 6, 7)]
    assert found.with_observables.baseline.accuracy.value == max(alone)
    assert "".join(summary_table(found).split("\n\n")[-2:]).startswith("z ")
    assert found.jets == {"fit": 300, "test": 200}
    # Leptonic tops against QCD: the trees tell them apart, and there is something in z of random weights.
    assert found.probes[5].accuracy.value > 0.85
    assert all(probe.auc.low95 > 0.5 for probe in found.probes)
    assert found.probes[5].columns == 11
    assert "held out" in messages[0]
    assert "200" in messages[0]
    assert "kNN" in summary_table(found)


def test_readers_are_also_fitted_on_the_very_labels_that_the_head_had(world, tmp_path: Path) -> None:
    """A head of 36 labels is compared with readers of the same 36 jets, and every row names its number of jets."""
    model = load_model(world.folder / "headed")
    training = {**model.facts["training"], "labelled_jets": 36, "labelled_seed": 3}
    run = tmp_path / "few"
    save_model(Model(model.encoder, model.head, model.labels, {"method": "mae", "training": training}), run / "model")
    settings = small(world, fit_jets=400, physics_jets=60)
    with few_trees():
        found = evaluate_model(run, world.sources, tmp_path / "out", settings=settings, log=lambda _: None)
    few = [probe for probe in found.probes if probe.fit_jets == 36]
    many = [probe for probe in found.probes if probe.fit_jets > 36]
    assert [(probe.reader, probe.of) for probe in few] == [(probe.reader, probe.of) for probe in many]
    assert ("boosted trees", "z") in {(probe.reader, probe.of) for probe in few}
    head, *rows = summary_table(found).split("\n\n")[0].splitlines()[1:]
    assert "36 jets" in head
    assert sum("36 jets" in row for row in rows) == len(few) == 9
    page = write_evaluation_report(tmp_path / "out").read_text()
    for name in (
        "the model&#x27;s head (36 jets)",
        "<td>linear, z</td><td>64</td><td>36</td>",
        "The head had 36 labels",
    ):
        assert name in page, name
    # Not some jets, those of the training: the subset of a finetuning does not depend on what else is read.
    every = small(world, fit_jets=5000)
    bench = EvaluationData.of([model], world.sources, every, MessageLog(lambda _: None))
    bench.roles = replace(bench.roles, fit=split(world.files, 0.1, 0)[0])
    rows_of = bench.with_labels_of(load_model(run))
    chosen = choose_subset(bench.files, bench.roles.fit, 36, 3, Request())
    np.testing.assert_array_equal(bench.fit.source.numpy()[rows_of], chosen.source.numpy())


def test_metrics_and_curves_are_written_and_read_as_they_are_returned(world, headed: Evaluation) -> None:
    found, out = headed, headed.folder
    written = json.loads((out / "metrics.json").read_text())
    assert written["task"]["accuracy"] == plain(found.task.accuracy)
    assert written["probes"] == [plain(without(probe, "rows", "effective_jets")) for probe in found.probes]
    read = Evaluation.read(out)
    assert read.metrics() == written
    assert written["model"]["sha256"] == load_model(world.folder / "headed").sha256
    assert written["classes"] == ["QCD", "Tbl"]
    assert [file["name"] for file in written["files"]] == [file.name for file in world.files]
    assert str(world.folder) not in (out / "metrics.json").read_text()
    curves = json.loads((out / "curves.json").read_text())
    assert np.sum(curves["confusion"]) == found.jets["task"]
    assert len(curves["map"]["x"]) == found.jets["test"]
    assert curves["roc"][0]["signal"] == "Tbl"


def test_the_head_is_scored_on_the_held_out_jets_with_its_classes_in_the_order_of_the_files(
    world, headed: Evaluation
) -> None:
    found = headed
    model = load_model(world.folder / "headed")
    batches = list(ordered(world.files, world.held, Request()))
    right, total = 0, 0
    for jets in batches:
        with torch.no_grad():
            logits = model.head(torch.from_numpy(model.embed(jets, device="cpu")))
        guess = [model.labels[index] for index in logits.argmax(1)]
        right += sum(guess[i] == ("QCD", "Tbl")[jets.labels[i]] for i in range(len(jets)))
        total += len(jets)
    assert found.jets["task"] == total == 200
    assert found.task.accuracy.value == pytest.approx(right / total, abs=0.011)


def test_all_jets_of_new_files_test_the_head(world, tmp_path: Path) -> None:
    settings = small(world, test_jets=5000)
    with few_trees():
        found = evaluate_model(
            world.folder / "new", world.sources, tmp_path / "out", settings=settings, log=lambda _: None
        )
    assert found.jets["task"] == 2000
    assert found.jets["test"] == 200


def test_classes_that_are_not_those_of_the_head_are_refused_with_both_lists(world, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        evaluate_model(world.folder / "headed", world.sources, tmp_path / "out", log=lambda _: None)
    assert "Tbl, QCD" in str(error.value)
    assert "Wqq" in str(error.value)
    assert not (tmp_path / "out").exists()


def test_of_jets_of_one_class_z_is_measured_and_the_rest_named(world, tmp_path: Path) -> None:
    logged: list[str] = []
    settings = small(world, physics_jets=100)
    with few_trees():
        found = evaluate_model(
            world.folder / "new", world.sources[:1], tmp_path / "out", settings=settings, log=logged.append
        )
    assert (found.task, found.probes, found.robustness, found.classes) == (None, [], [], ())
    assert set(found.spread) == {"z", "z of random weights"}
    assert found.spread["z"].rankme > 1
    of_mass = {probe.of: probe for probe in found.physics if (probe.quantity, probe.reader) == ("particles", "ridge")}
    assert set(of_mass) == {"z", "z of random weights"}
    # Any network knows something of how many particles there are, on jets that the probe has not seen.
    assert all(probe.explained.value > 0.2 for probe in of_mass.values())
    assert any(probe.of == "other quantities" for probe in found.physics)
    assert found.jets["physics fit"] == 300
    (note,) = [message for message in logged if "all of one class" in message]
    assert "metrics of a head" in note
    assert note in json.loads((tmp_path / "out" / "metrics.json").read_text())["notes"]
    assert "particles" in summary_table(found)


@pytest.mark.slow
def test_jets_of_one_class_fill_a_report(world, tmp_path: Path) -> None:
    settings = small(world, physics_jets=100)
    evaluate_model(world.folder / "new", world.sources[:1], tmp_path / "out", settings=settings, log=lambda _: None)
    page = write_evaluation_report(tmp_path / "out").read_text()
    assert "all of one class" in page
    assert "charged particles" in page


def test_physics_is_fitted_on_other_jets_than_it_is_tested_on(world) -> None:
    logged: list[str] = []
    settings = small(world, physics_jets=100)
    model = load_model(world.folder / "bare")
    bench = EvaluationData.of([model], world.sources[:1], settings, MessageLog(logged.append))
    assert len(bench.test)
    assert bench.classes == ()
    sides = [{tuple(row) for row in jets.source.tolist()} for jets in (bench.fit, bench.probed)]
    assert not sides[0] & sides[1]
    with pytest.raises(DataError, match="two classes or more"):
        bench.need_classes("this")


def test_classes_that_cannot_be_measured_are_named(world, tmp_path: Path) -> None:
    settings = small(world)
    labels = ("QCD", "Hbb", "Tbl", "Zqq")
    settings = settings.model_copy(update={"data": settings.data.model_copy(update={"labels": labels})})
    logged: list[str] = []
    with few_trees():
        found = evaluate_model(
            world.folder / "bare", world.sources, tmp_path / "out", settings=settings, log=logged.append
        )
    assert any("2 of the 4 classes have no test jets" in text and "Hbb, Zqq" in text for text in logged)
    assert found.probes[0].accuracy.value is not None


def test_an_evaluation_is_not_overwritten_unasked(world, tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(UsageError, match="exists"):
        evaluate_model(world.folder / "bare", world.sources, tmp_path)
    with pytest.raises(UsageError, match="not a folder"):
        evaluate_z("any.npz", tmp_path / "metrics.json")
    with pytest.raises(SslJetsError, match="no trained model"):
        evaluate_model(tmp_path / "missing", world.sources, tmp_path / "out")


def write_z(
    path: Path,
    labelled: bool = True,
    bad: int = 0,
    kept: tuple[str, ...] = ("jet_sdmass",),
    trained: tuple[tuple[int, int, int], ...] = (),
    unlabelled: int = 0,
) -> Path:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 300)
    z = (rng.normal(size=(600, 5)) + 2 * labels[:, None]).astype(np.float32)
    z[:bad] = np.nan
    rows = {
        "z": z,
        "source_file": labels.astype(np.int32),
        "source_entry": np.tile(np.arange(300), 2),
        "source_jet": np.zeros(600, np.int32),
        "jet_sdmass": (80 + 40 * labels + rng.normal(size=600)).astype(np.float32),
    }
    if labelled:
        rows["label"] = np.where(np.tile(np.arange(300), 2) < unlabelled // 2, -1, labels)
    names = ("W", "H") if labelled else ()
    metadata = ZMetadata("f" * 64, "mae", 5, "jet", ("a.root", "b.root"), names, kept, trained=trained)
    columns = z_columns("jet", 5, labelled=labelled, kept=kept)
    with ZWriter(path, columns, metadata) as writer:
        writer.write({column.name: rows[column.name] for column in columns})
    return path


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".root"])
def test_a_z_file_is_probed_with_halves_that_do_not_overlap(tmp_path: Path, suffix: str) -> None:
    found = evaluate_z(
        write_z(tmp_path / f"z{suffix}"), tmp_path / "out", settings=small(test_jets=300), log=lambda _: None
    )
    assert found.jets == {"fit": 300, "test": 300}
    assert found.classes == ("W", "H")
    assert [probe.reader for probe in found.probes] == ["linear", "kNN", "boosted trees"]
    assert all(probe.accuracy.value > 0.95 for probe in found.probes)
    assert found.model.method == "mae"


def test_jets_without_a_finite_z_are_left_out_and_counted(tmp_path: Path) -> None:
    logged: list[str] = []
    found = evaluate_z(
        write_z(tmp_path / "z.npz", bad=40), tmp_path / "out", settings=small(test_jets=300), log=logged.append
    )
    assert found.jets["fit"] + found.jets["test"] == 560
    assert found.left_out == {"z is not finite": 40}
    assert any("40 jets" in message for message in logged)


def test_a_z_file_is_tested_on_jets_that_its_model_has_not_seen(tmp_path: Path) -> None:
    logged: list[str] = []
    file = write_z(tmp_path / "z.npz", trained=((0, 0, 200), (1, 100, 300)))
    found = evaluate_z(file, tmp_path / "out", settings=small(fit_jets=1000, test_jets=1000), log=logged.append)
    assert (found.jets, found.leaked) == ({"fit": 400, "test": 200}, 0)
    assert "trained on 400 of the jets" in logged[0]
    assert [file.trained_on for file in found.files] == [True]
    everything = write_z(tmp_path / "all.npz", trained=((0, 0, 300), (1, 0, 300)))
    with pytest.raises(DataError, match=r"evaluate\.seen=true"):
        evaluate_z(everything, tmp_path / "all", settings=small(), log=logged.append)
    found = evaluate_z(everything, tmp_path / "all", settings=small(seen=True, test_jets=300), log=logged.append)
    assert found.leaked == 300
    assert any("WARNING" in message and "on 300 of the 300 jets tested on" in message for message in logged)


def test_jets_that_are_counted_are_those_that_were_used(tmp_path: Path) -> None:
    file = write_z(tmp_path / "z.npz", unlabelled=100, trained=((0, 0, 150), (1, 0, 150)))
    most = small(fit_jets=1000, test_jets=1000)
    found = evaluate_z(file, tmp_path / "out", settings=most, log=lambda _: None)
    assert found.jets == {"fit": 200, "test": 300}
    assert (found.probes[0].fit_jets, found.probes[0].test_jets) == (200, 300)


def test_kept_columns_are_read_from_z(tmp_path: Path) -> None:
    settings = small(physics_jets=200, test_jets=300)
    found = evaluate_z(write_z(tmp_path / "z.npz"), tmp_path / "out", settings=settings, log=lambda _: None)
    masses = {probe.reader: probe.explained.value for probe in found.physics if probe.quantity == "jet_sdmass"}
    assert masses["ridge"] > 0.7  # it follows the class, and so does z
    assert ("boosted trees", "z") in {(probe.reader, probe.of) for probe in found.probes}


def test_entries_that_were_trained_on_are_all_but_those_held_out(world) -> None:
    from ssl_jets.embedding.inputs import trained_entries

    first, second = world.files
    training = {"files": [list(first.identity)], "held_out": [[*first.identity, 100, 150], [*second.identity, 0, 9]]}
    assert trained_entries([second, first], Seen.of(training)) == ((1, 0, 100), (1, 150, first.entries))
    assert trained_entries([first], Seen.of({})) == ()


def test_weights_are_read_from_a_column_and_must_be_weights(world, bare: SimpleNamespace, tmp_path: Path) -> None:
    def weighted(column: str) -> EvaluateSettings:
        return small(SimpleNamespace(data=world.data.model_copy(update={"weights": column})))

    settings = weighted("jet_pt")
    with few_trees():
        found = evaluate_model(
            world.folder / "bare", world.sources, tmp_path / "a", settings=settings, log=lambda _: None
        )
    assert found.probes[0].auc.value != bare.found.probes[0].auc.value
    assert found.settings.weights == "jet_pt"
    with pytest.raises(DataError, match="negative weight"):
        evaluate_model(world.folder / "bare", world.sources, tmp_path / "c", settings=weighted("jet_eta"))
    with pytest.raises(UsageError, match="jet_weight"):
        evaluate_model(world.folder / "bare", world.sources, tmp_path / "c", settings=weighted("jet_weight"))


def test_without_labels_z_is_measured_and_missing_parts_are_logged(tmp_path: Path) -> None:
    logged: list[str] = []
    found = evaluate_z(write_z(tmp_path / "z.npz", labelled=False), tmp_path / "out", log=logged.append)
    assert found.probes == []
    assert found.spread["z"].jets == 600
    assert {probe.quantity for probe in found.physics} == {"jet_sdmass"}
    assert any("no probes of the class" in message for message in logged)


def test_a_z_file_of_one_class_is_measured_without_it_and_reported(tmp_path: Path) -> None:
    full = write_z(tmp_path / "z.npz")
    with np.load(full) as table:
        # Without our metadata, whose checksums are of the whole file.
        few = {name: values[:300] for name, values in table.items() if values.shape[:1] == (600,)}
    np.savez(tmp_path / "one.npz", **few)
    found = evaluate_z(tmp_path / "one.npz", tmp_path / "out", log=lambda _: None)
    assert (found.classes, found.probes, found.spread["z"].jets) == ((), [], 300)
    assert write_evaluation_report(tmp_path / "out", None).is_file()


def test_the_map_holds_the_directions_of_largest_variance() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(4000, 3)) * [1, 5, 3] @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
    found = ZMap.of(z, np.zeros(4000, int))
    assert found.explained == pytest.approx((25 / 35, 9 / 35), abs=0.02)
    assert found.x.std() == pytest.approx(1)
    assert found.y.std() == pytest.approx(3 / 5, rel=0.05)
    assert abs(np.corrcoef(found.x, found.y)[0, 1]) < 0.02
    assert len(ZMap.of(np.repeat(z, 2, axis=0), np.zeros(8000, int)).x) == 5000
    assert set(ZMap.of(z[:, :1], np.zeros(4000, int)).y) == {0.0}


def test_plain_json_has_no_nan() -> None:
    assert plain({"a": float("nan"), "b": (1.23456789, np.float64("inf")), "c": np.arange(2)}, digits=3) == {
        "a": None,
        "b": [1.23, None],
        "c": [0, 1],
    }


def test_files_without_labels_give_the_spread_alone(world, tmp_path: Path) -> None:
    unlabelled = world.folder / "unlabelled.root"
    if not unlabelled.exists():
        strip_labels(Path(world.sources[0]), unlabelled)
    logged: list[str] = []
    found = evaluate_model(
        world.folder / "new", [str(unlabelled)], tmp_path / "out", log=logged.append, settings=small(test_jets=100)
    )
    assert (found.probes, found.task, found.jets) == ([], None, {"test": 100})
    assert set(found.spread) == {"z", "z of random weights"}
    assert any("nothing of classes is measured" in message for message in logged)
    assert len(whole(world.files)) == 2


def strip_labels(path: Path, out: Path) -> None:
    import uproot

    with uproot.open(path) as file:
        tree = file["tree"]
        names = [name for name in tree.keys() if name.startswith(("part_", "jet_"))]  # noqa: SIM118
        arrays = tree.arrays(names, entry_stop=150)
    with uproot.recreate(out) as file:
        file.mktree("tree", {name: arrays[name].type.content for name in names})
        file["tree"].extend({name: arrays[name] for name in names})


def test_the_unit_of_the_weights_does_not_matter(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    label = np.arange(800) % 2
    z = rng.normal(size=(800, 6)).astype(np.float32) + 0.4 * label[:, None].astype(np.float32)
    weights, found = rng.uniform(0.5, 2, 800), []
    settings = EvaluateSettings(data=DataSettings(weights="w"))
    for unit in (1.0, 1e-13):
        np.savez(tmp_path / "z.npz", z=z, label=label, mass=z[:, 0] * 10, w=weights * unit)
        with few_trees():
            out = evaluate_z(tmp_path / "z.npz", tmp_path / "out", settings=settings, force=True, log=lambda _: None)
        read = {probe.reader: probe.accuracy.value for probe in out.probes}
        found.append(read | {("mass", probe.reader): probe.explained.value for probe in out.physics})
    assert {"linear", ("mass", "ridge"), ("mass", "boosted trees")} < set(found[0])
    assert found[1] == pytest.approx(found[0], abs=2e-3)
