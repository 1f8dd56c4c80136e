"""A selection that leaves no jet is one error in every command and mode, whatever emptied it; counts add up."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import torch

from ssl_jets import methods
from ssl_jets.config import DataSettings, ModelSettings, parse_set
from ssl_jets.data.dataset import open_dataset
from ssl_jets.data.files import EntryRange, count, open_files, whole
from ssl_jets.data.inspection import inspect_files
from ssl_jets.data.loading.counting import Wanted, count_labelled
from ssl_jets.data.loading.stream import ordered
from ssl_jets.data.read import read_jets
from ssl_jets.data.request import Request
from ssl_jets.data.sources import Source
from ssl_jets.data.subset import choose_subset
from ssl_jets.embedding.embed import embed
from ssl_jets.errors import DataError, UsageError
from ssl_jets.evaluation.evaluation_data import EvaluationData
from ssl_jets.evaluation.probes import deep_sets
from ssl_jets.evaluation.result_base import plain
from ssl_jets.evaluation.settings import EvaluateSettings, MeasureSettings
from ssl_jets.evaluation.single_model import evaluate_model
from ssl_jets.evaluation.zfile import evaluate_z, labelled_sides
from ssl_jets.finetuning import finetune, resolve_finetune
from ssl_jets.finetuning.modes import MODES
from ssl_jets.model_file import Model, load_model, save_model
from ssl_jets.nn.encoder import Encoder
from ssl_jets.pretraining import pretrain, resolve_pretrain
from ssl_jets.runtime.console import MessageLog
from ssl_jets.zfile import read_z
from support.few_trees import few_trees
from support.finetune_settings import QUICK
from support.jetclass_files import jetclass_branches, write_tree
from support.overridden import overridden

Write = Callable[..., Path]
SKIP = DataSettings(bad_jets="skip")
WEIGHTED = overridden(QUICK, "data.weights=weight")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("run") / "model"
    facts = {"method": "mae", "training": {"files": [], "held_out": []}}
    save_model(Model(Encoder(ModelSettings(size="tiny", blocks=2)), facts=facts), folder)
    return folder.parent


COMPARING = {"byol", "dino", "jepa", "lejepa", "simclr", "supcon", "vicreg"}
CLASSES = Wanted(classes=True)
OTHER_CLASSES = ("Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl")


def two_classes(path: Path, weight: Any, entries: int = 120) -> str:
    branches = jetclass_branches(entries, label="QCD") | {"weight": np.broadcast_to(np.float32(weight), entries).copy()}
    odd = np.arange(entries) % 2 == 1
    branches["label_QCD"], branches["label_Hbb"] = (~odd).astype(np.float32), odd
    return str(write_tree(path, {"tree": branches}))


@pytest.mark.parametrize("mode", sorted(set(MODES) - {"distil"}))
def test_no_mode_trains_on_jets_of_weight_0(model: Path, tmp_path: Path, mode: str) -> None:
    files = {"data": {"sources": [two_classes(tmp_path / "a.root", 0)]}, "method": {"mode": mode}}
    with pytest.raises(DataError, match="no jet to learn from") as caught:
        finetune(resolve_finetune(model, files, WEIGHTED), tmp_path / "run")
    assert "weight 0" in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_no_number_of_labels_is_chosen_among_jets_of_weight_0(model: Path, tmp_path: Path) -> None:
    files = {"data": {"sources": [two_classes(tmp_path / "a.root", 0)]}, "method": {"mode": "full", "labels": 0.1}}
    with pytest.raises(DataError, match="no jet to learn from"):
        finetune(resolve_finetune(model, files, WEIGHTED), tmp_path / "run")


def test_pretraining_with_labels_refuses_weights_of_0_and_one_class(tmp_path: Path, write_jetclass: Write) -> None:
    quick = overridden(QUICK, "model.size=tiny", "model.blocks=1")
    settings = resolve_pretrain(
        "supervised", quick, WEIGHTED, {"data": {"sources": [two_classes(tmp_path / "a.root", 0)]}}
    )
    with pytest.raises(DataError, match="no jet to learn from"):
        pretrain(settings, tmp_path / "run")
    settings = resolve_pretrain("supervised", quick, {"data": {"sources": [str(write_jetclass())]}})
    with pytest.raises(DataError, match="one class only") as caught:
        pretrain(settings, tmp_path / "run")
    assert "QCD" in str(caught.value.found)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", [*methods.names(), "semi_supervised with vicreg"])
def test_a_method_that_compares_jets_refuses_batches_of_one(name: str, tmp_path: Path, write_jetclass: Write) -> None:
    name, _, other = name.partition(" with ")
    inner = [f"method.unlabelled={other}"] * bool(other)
    file = {"data": {"sources": [str(write_jetclass())]}}
    settings = resolve_pretrain(name, file, overridden(["train.batch_size=1", "train.accumulate=4", *inner]))
    cls = methods.find(name)
    compares = any(one.compares_jets for one in cls.objectives(settings.method))
    assert compares == (bool(other) or name in COMPARING)
    if compares:
        with pytest.raises(UsageError, match="comparing the jets of a batch") as caught:
            pretrain(settings, tmp_path / "run")
        assert caught.value.found == 1


def test_a_classifier_is_not_finetuned_on_one_class(model: Path, tmp_path: Path, write_jetclass: Write) -> None:
    settings = resolve_finetune(model, {"data": {"sources": [str(write_jetclass())]}}, parse_set(QUICK))
    with pytest.raises(DataError, match="one class only"):
        finetune(settings, tmp_path / "run")


def test_jets_of_weight_0_are_no_labelled_jets(tmp_path: Path) -> None:
    weight = np.where(np.arange(120) < 30, 0, 2)
    files = open_files([Source(two_classes(tmp_path / "a.root", weight))])
    request = Request(weights="weight")
    assert count_labelled(files, whole(files), request, None, CLASSES)[:4] == (90, 90, OTHER_CLASSES, 90)
    chosen = choose_subset(files, whole(files), 20.0, 0, request)
    assert chosen.weights is not None
    assert float(chosen.weights.min()) > 0
    assert count_labelled(files, whole(files), request, chosen, CLASSES)[:4] == (20, 90, OTHER_CLASSES, 20)
    with pytest.raises(DataError, match="no jet to learn from"):
        count_labelled(files, [EntryRange(0, 0, 30)], request, None, Wanted())


def test_jets_without_a_target_are_not_counted_as_labelled(tmp_path: Path, model: Path) -> None:
    """120 jets have a class, 120 have none and the mass NaN; of the first 30 the mass is NaN, too."""
    branches = jetclass_branches(120, label="QCD") | {"label_Hbb": np.arange(120) % 2 == 1}
    branches["label_QCD"] = (np.arange(120) % 2 == 0).astype(np.float32)
    branches["jet_sdmass"] = np.where(np.arange(120) < 30, np.nan, 80).astype(np.float32)
    write_tree(tmp_path / "a.root", {"tree": branches})
    unlabelled = jetclass_branches(120, label=None) | {"jet_sdmass": np.full(120, np.nan, dtype=np.float32)}
    write_tree(tmp_path / "b.root", {"tree": unlabelled})
    files = {"data": {"sources": [str(tmp_path / "a.root"), str(tmp_path / "b.root")]}}

    def trained(name: str, *settings: str) -> tuple[int, str]:
        run = finetune(resolve_finetune(model, files, overridden(QUICK, *settings)), tmp_path / name)
        return load_model(run).facts["training"]["labelled_jets"], (run / "log.txt").read_text()

    half = "data.validation_fraction=0.5"
    labels, log = trained("classes", half)
    assert (labels, "58 of 58 labelled jets" in log, "58 of 116 jets have no label" in log) == (58, True, True)
    selected = trained("selected", half, "data.where=jet_pt > 0")
    assert (selected[0], "58 of 58 labelled jets" in selected[1]) == (58, True)
    mass, log = trained("mass", half, "method.targets=[jet_sdmass]")
    assert f"{mass} of {mass} labelled jets" in log
    assert f"{116 - mass} of 116 jets have no jet_sdmass: nothing is learned from them" in log
    assert f"probe: z of {mass} jets" in trained("probe", half, "method.targets=[jet_sdmass]", "method.mode=probe")[1]
    both, log = trained("both", half, "method.targets=[label,jet_sdmass]")
    assert (both, "58 of 58 labelled jets" in log) == (58, True)
    assert "58 of 116 jets have no label and no jet_sdmass" in log
    assert f"target jet_sdmass: {mass} of the 58 jets to learn from have it" in log
    pretrained = pretrain(
        resolve_pretrain("supervised", overridden(QUICK, half, "model.size=tiny", "model.blocks=1"), files),
        tmp_path / "s",
    )
    assert load_model(pretrained).facts["training"]["labelled_jets"] == 58
    assert "58 of 116 jets have no label" in (pretrained / "log.txt").read_text()


def test_classes_without_jets_are_named(tmp_path: Path, model: Path, write_jetclass: Write) -> None:
    files = open_files([Source(two_classes(tmp_path / "a.root", 1))])
    counts = count_labelled(files, whole(files), Request(), None, CLASSES)
    assert counts.absent == OTHER_CLASSES
    (line,) = counts.lines()
    assert "8 of the classes have no jet among the 120 jets to learn from" in line
    assert "Hcc, Hgg" in line
    assert not count_labelled(files, whole(files), Request(), None, Wanted()).lines()
    settings = resolve_finetune(model, {"data": {"sources": [str(tmp_path / "a.root")]}}, parse_set(QUICK))
    assert "8 of the classes have no jet among" in (finetune(settings, tmp_path / "run") / "log.txt").read_text()


def test_evaluations_refuse_weights_of_0(model: Path, tmp_path: Path) -> None:
    path, settings = two_classes(tmp_path / "a.root", 0), EvaluateSettings(data=DataSettings(weights="weight"))
    with pytest.raises(DataError, match=r"no jet of .* to evaluate on[^$]*weight 0"):
        evaluate_model(model, [path], tmp_path / "out", settings=settings, log=lambda _: None)
    done = embed(model, [path], tmp_path / "z.npz", keep=["weight"], log=lambda _: None)
    with pytest.raises(DataError, match="no jet to measure with"):
        evaluate_z(done.path, tmp_path / "out", settings=settings, log=lambda _: None)


def test_jets_of_weight_0_take_no_part_in_an_evaluation(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deep_sets, "MAX_EPOCHS", 5)
    weight = np.arange(400) % 5 // 2 % 2  # 0 0 1 1 0
    path = two_classes(tmp_path / "a.root", weight, entries=400)
    limits: dict[str, Any] = {"physics_jets": 300, "robust_jets": 0, "deep_sets": True}

    def measured(**data: Any) -> Any:
        settings = EvaluateSettings(data=DataSettings(**data), evaluate=MeasureSettings(**limits))
        with few_trees():
            return evaluate_model(model, [path], tmp_path / "out", settings=settings, force=True, log=lambda _: None)

    found, alone = measured(weights="weight"), measured(where="weight > 0")
    assert found.left_out == {"weight 0": 240}
    for part in ("jets", "probes", "physics", "spread"):
        assert plain(getattr(found, part)) == plain(getattr(alone, part)), part


def test_jets_of_weight_0_take_no_part_in_the_evaluation_of_a_z_file(tmp_path: Path) -> None:
    rng, w = np.random.default_rng(0), np.ones(800)
    w[rng.permutation(800)[:600]] = 0
    label = np.arange(800) % 2
    z = rng.normal(size=(800, 6)) + 0.8 * label[:, None] + 100 * (w == 0)[:, None]
    table = {"z": z.astype(np.float32), "label": label, "mass": 10 * z[:, 0], "w": w, "source_entry": np.arange(800)}
    results = []
    for name, rows in (("all", w >= 0), ("some", w > 0)):
        np.savez(tmp_path / f"{name}.npz", **{column: values[rows] for column, values in table.items()})
        settings = EvaluateSettings(data=DataSettings(weights="w"), evaluate=MeasureSettings(seen=True))
        with few_trees():
            files = (tmp_path / f"{name}.npz", tmp_path / name)
            results.append(evaluate_z(*files, settings=settings, log=lambda _: None))
        (fit, _), _, _ = labelled_sides([files[0]], settings, MessageLog(lambda _: None))
        assert fit.weights.min() == 1
    found, alone = results
    assert (found.left_out, alone.left_out) == ({"weight 0": 600}, {})
    assert alone.probes[0].accuracy.value > 0.7
    for part in ("jets", "probes", "physics", "spread"):
        assert plain(getattr(found, part)) == plain(getattr(alone, part)), part


def spoil(branches: dict[str, Any]) -> None:
    """Make jets bad for three reasons: a NaN, a pt that overflows, no class."""
    for name, entries, value in (("part_deta", (1, 2), np.nan), ("part_px", (4, 5, 6), 1e25)):
        lists = branches[name].to_list()
        for entry in entries:
            lists[entry][0] = value
        branches[name] = ak.values_astype(ak.Array(lists), np.float32)
    branches["label_QCD"][9] = 0


REASONS = {"part_deta is not finite": 2, "pt is beyond 1,000,000": 3, "it belongs to no class, or to several": 1}


def test_used_and_left_out_jets_add_up_in_every_command(model: Path, tmp_path: Path, write_jetclass: Write) -> None:
    path = write_jetclass(edit=spoil)
    (looked,) = inspect_files([str(path)], {}, SKIP)
    assert looked.seen.left_out == REASONS
    assert looked.seen.jets + sum(looked.seen.left_out.values()) == 50
    done = embed(model, [str(path)], tmp_path / "z.npz", data=SKIP, log=lambda _: None)
    found = read_z(done.path)
    lost = np.isnan(found.z).any(axis=1)
    assert (done.jets, done.skipped, done.reasons) == (50, 6, REASONS)
    assert found.metadata["left_out"] == REASONS
    assert np.flatnonzero(lost).tolist() == [1, 2, 4, 5, 6, 9]
    assert set(found.columns["label"][lost]) == {-1}
    logged: list[str] = []
    assert len(read_jets([str(path)], data=SKIP, log=logged.append)) == 44
    counted = [f"{number}: {why}" for why, number in Counter(REASONS).most_common()]
    assert logged == ["jets left out: " + "; ".join(counted)]
    bench = EvaluationData.of([load_model(model)], [str(path)], EvaluateSettings(data=SKIP), MessageLog(lambda _: None))
    read = count(bench.roles.fit) + count(bench.roles.test)
    assert len(bench.fit) + len(bench.test) + bench.skipped.total() == read
    assert read >= 48  # but for the neighbours of the held-out block
    out, quick = tmp_path / "run", overridden(QUICK, "model.size=tiny", "model.blocks=1", "data.bad_jets=skip")
    pretrain(resolve_pretrain("mae", quick, {"data": {"sources": [str(path)]}}), out)
    log = (out / "log.txt").read_text()
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    (left_out,) = [line for line in lines if line["kind"] == "left_out"]
    data = open_dataset(DataSettings(sources=(str(path),), bad_jets="skip"))
    used = sum(len(jets) for jets in ordered(data.files, data.train, Request(bad_jets="skip")))
    assert used + left_out["all"] == count(data.train)
    assert f"data: {count(data.train)} jets to train on (bad ones among them)" in log


def test_nothing_is_written_where_no_jet_has_a_z(model: Path, tmp_path: Path, write_jetclass: Write) -> None:
    def all_bad(branches: dict[str, Any]) -> None:
        branches["part_deta"] = branches["part_deta"] * np.float32(np.nan)

    path = str(write_jetclass(edit=all_bad))
    with pytest.raises(DataError, match="no jet that can be embedded") as caught:
        embed(model, [path], tmp_path / "z.npz", data=SKIP, log=lambda _: None)
    assert "50: part_deta is not finite" in str(caught.value)
    assert not (tmp_path / "z.npz").exists()
    with pytest.raises(DataError, match="no jet that can be used"):
        read_jets([path], data=SKIP, log=lambda _: None)
    settings = EvaluateSettings(data=SKIP)
    with pytest.raises(DataError, match="no jet of 5 to evaluate on"):
        evaluate_model(model, [path], tmp_path / "out", settings=settings, log=lambda _: None)
    quick = overridden(QUICK, "model.size=tiny", "model.blocks=1", "data.bad_jets=skip")
    with pytest.raises(DataError, match="no jet that can be used"):
        pretrain(resolve_pretrain("mae", quick, {"data": {"sources": [path]}}), tmp_path / "run")


def test_a_model_that_gives_no_number_is_no_z(tmp_path: Path, write_jetclass: Write) -> None:
    encoder = Encoder(ModelSettings(size="tiny", blocks=2))
    encoder.extra_tokens.data.fill_(torch.nan)
    save_model(Model(encoder, facts={"method": "mae"}), tmp_path / "run" / "model")
    path = str(write_jetclass())
    with pytest.raises(DataError, match="its z is not finite") as caught:
        embed(tmp_path / "run", [path], tmp_path / "z.npz", log=lambda _: None)
    assert "entry 0" in str(caught.value.where)
    with pytest.raises(DataError, match="no jet that can be embedded"):
        embed(tmp_path / "run", [path], tmp_path / "z.npz", data=SKIP, log=lambda _: None)
