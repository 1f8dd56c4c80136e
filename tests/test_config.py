"""Settings: resolved once from layers, frozen, and every mistake named with its nearest remedy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

import ssl_jets
from ssl_jets import methods
from ssl_jets.config import (
    DataSettings,
    FileSettings,
    MethodSettings,
    ModelSettings,
    Recipe,
    RunSettings,
    Settings,
    TrainSettings,
    parse_set,
    read_config,
    resolve,
    to_yaml,
)
from ssl_jets.errors import UsageError
from ssl_jets.evaluation.settings import MeasureSettings
from ssl_jets.finetuning import FinetuneSettings
from ssl_jets.methods.mae import MaskedAutoencoder
from ssl_jets.methods.simclr import SimCLR
from ssl_jets.pretraining import resolve_pretrain
from ssl_jets.runtime import reading

MaeRun = RunSettings[MaskedAutoencoder.Config]


def settings_of(*assignments: str) -> MaeRun:
    return resolve(MaeRun, {"method": {"name": "mae"}}, parse_set(assignments))


def test_later_layers_win_key_by_key() -> None:
    layers = [{"train": {"lr": 1.0, "seed": 1}}, {"train": {"lr": 2.0}}, {"model": {"size": "tiny"}}]
    found = resolve(MaeRun, {"method": {}}, *layers)
    assert (found.train.lr, found.train.seed, found.model.size) == (2.0, 1, "tiny")
    assert found.train.batch_size == TrainSettings().batch_size


def test_settings_are_frozen() -> None:
    found = settings_of()
    with pytest.raises(ValidationError, match="frozen"):
        found.train.lr = 2.0  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        found.method.mask_ratio = 0.1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("assignment", "where", "nearest"),
    [
        ("train.learning_rate=1", "train.learning_rate", "train.lr"),
        ("train.warmup_steps=10", "train.warmup_steps", "train.warmup"),
        ("train.gradient_clip_val=1", "train.gradient_clip_val", "train.clip"),
        ("learning_rate=1", "learning_rate", "train.lr"),
        ("model.max_epochs=3", "model.max_epochs", "train.epochs"),
        ("train.batchsize=3", "train.batchsize", "train.batch_size"),
        ("method.mask_ration=0.3", "method.mask_ration", "method.mask_ratio"),
        ("model.sise=tiny", "model.sise", "model.size"),
        ("tran.lr=1", "tran", "train"),
        ("lr=1", "lr", "train.lr"),
        ("train.mask_ratio=0.3", "train.mask_ratio", "method.mask_ratio"),
        ("data.validaton_fraction=0.2", "data.validaton_fraction", "data.validation_fraction"),
    ],
)
def test_an_unknown_setting_is_refused_with_the_nearest_name(assignment: str, where: str, nearest: str) -> None:
    with pytest.raises(UsageError, match="there is no such setting") as caught:
        settings_of(assignment)
    assert caught.value.exit_code == 2
    assert caught.value.where == where
    assert caught.value.allowed
    assert caught.value.allowed[0] == nearest
    assert nearest in str(caught.value.hint)


@pytest.mark.parametrize("name", ["activation", "n_layers", "hidden_dim"])
def test_a_setting_that_is_unlike_any_gets_those_of_its_tree_and_no_suggestion(name: str) -> None:
    with pytest.raises(UsageError, match="there is no such setting") as caught:
        settings_of(f"model.{name}=1")
    assert caught.value.allowed == [f"model.{field}" for field in ModelSettings.model_fields]
    assert caught.value.hint is None


@pytest.mark.parametrize(
    ("assignment", "where"),
    [
        ("train.lr=fast", "train.lr"),
        ("train.lr=-1", "train.lr"),
        ("train.lr=nan", "train.lr"),
        ("train.steps=0", "train.steps"),
        ("train.steps=1.5", "train.steps"),
        ("model.size=huge", "model.size"),
        ("model.registers=-1", "model.registers"),
        ("model.blocks=0", "model.blocks"),
        ("model.dropout=1", "model.dropout"),
        ("method.mask_ratio=1", "method.mask_ratio"),
        ("method.decoder_width=12", "method.decoder_width"),
        ("data.bad_jets=ignore", "data.bad_jets"),
        ("data.sources=3", "data.sources"),
        ("train=3", "train"),
    ],
)
def test_a_value_that_is_not_allowed_is_named_with_its_setting(assignment: str, where: str) -> None:
    with pytest.raises(UsageError, match="not allowed") as caught:
        settings_of(assignment)
    assert caught.value.where == where
    assert caught.value.allowed
    assert "Input" not in str(caught.value)  # the library's words


def test_a_tree_that_is_unlike_any_is_refused_without_a_suggestion() -> None:
    with pytest.raises(UsageError) as caught:
        settings_of("evaluate.seed=1")
    assert caught.value.where == "evaluate"
    assert caught.value.hint is None


@pytest.mark.parametrize(
    ("text", "value"), [("1e-4", 1e-4), ("1E-4", 1e-4), ("5.0e-4", 5e-4), ("2", 2.0), (".5", 0.5), ("1e2", 100.0)]
)
def test_a_number_is_a_number_however_it_is_written(text: str, value: float) -> None:
    assert settings_of(f"train.lr={text}").train.lr == value


@pytest.mark.parametrize(("text", "steps"), [("1e3", 1000), ("0100", 100), ("1_000", 1000)])
def test_a_number_in_a_file_is_the_number_of_an_option(tmp_path: Path, text: str, steps: int) -> None:
    (tmp_path / "c.yaml").write_text(f"train: {{steps: {text}}}")
    assert resolve(MaeRun, {"method": {"name": "mae"}}, read_config(tmp_path / "c.yaml")).train.steps == steps
    assert settings_of(f"train.steps={text}").train.steps == steps


@pytest.mark.parametrize("text", ["0x10", "1:30", "0o10"])
def test_a_number_that_is_not_decimal_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=text):
        settings_of(f"train.steps={text}")


@pytest.mark.parametrize(
    "assignment", ["train.steps=yes", "train.lr=on", "model.registers=true", "data.proportions={a: yes}"]
)
def test_yes_and_no_are_no_numbers(assignment: str) -> None:
    with pytest.raises(UsageError, match="a number, not yes or no"):
        settings_of(assignment)
    assert settings_of("train.checkpointing=yes").train.checkpointing


def test_a_text_that_looks_like_a_number_is_a_text_if_it_is_quoted(tmp_path: Path) -> None:
    before = settings_of("data.jets='5'", "data.labels=['1e5', '0100', '1:30', 'yes']")
    assert before.data.jets == "5"
    (tmp_path / "c.yaml").write_text(to_yaml(before))
    assert resolve(MaeRun, read_config(tmp_path / "c.yaml")) == before


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("data.labels=QCD", "allowed: a list: [A, B]"),
        ("train=1", "allowed: names and values: {NAME: VALUE}"),
        ("data.sources=a.root", "globs, `@lists` or `file.root:tree` to train on"),
    ],
)
def test_lists_trees_and_settings_are_described_in_the_words_of_a_user(assignment: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        settings_of(assignment)
    assert words in str(caught.value)


def test_values_are_read_as_yaml() -> None:
    found = parse_set(["a.b=[x, y]", "a.c=true", "a.d=null", "a.e=text", "f=3", "a.g=k=v"])
    assert found == {"a": {"b": ["x", "y"], "c": True, "d": None, "e": "text", "g": "k=v"}, "f": 3}


@pytest.mark.parametrize("assignment", ["train.lr", "=3", "train.=3", ".lr=3", ""])
def test_an_assignment_without_key_or_value_is_refused(assignment: str) -> None:
    with pytest.raises(UsageError, match="KEY=VALUE"):
        parse_set([assignment])


def test_a_value_that_is_not_yaml_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        parse_set(["data.labels=[a, b"])
    assert "data.labels=[a, b" in str(caught.value)


def test_a_key_that_is_assigned_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="given twice"):
        parse_set(["train.lr=1", "train.lr=2"])


@pytest.mark.parametrize("name", methods.names())
def test_every_method_has_a_recipe_that_resolves(name: str) -> None:
    layer = methods.find(name).recipe.layer()
    found = resolve_pretrain(name)
    assert found.method.name == name
    assert found.train.steps is not None or found.train.epochs is not None
    assert layer["train"]
    for tree, settings in layer.items():
        for key, value in settings.items():
            assert getattr(getattr(found, tree), key) == value


def test_the_recipe_of_finetuning_resolves() -> None:
    found = resolve(RunSettings[FinetuneSettings], {"method": {}}, Recipe().layer())
    assert (found.train.epochs, found.train.batch_size, found.train.lr) == (5, 128, 5e-4)


def test_settings_survive_a_round_trip_through_yaml(tmp_path: Path) -> None:
    before = settings_of("data.sources=[a.root, b]", "data.labels=[x]", "train.lr=1e-5", "train.precision=32-true")
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(before), encoding="utf-8")
    assert resolve(MaeRun, read_config(path)) == before
    assert set(yaml.safe_load(path.read_text())) == {"data", "model", "method", "train"}


@pytest.mark.parametrize("text", ["", "# only a comment\n"])
def test_an_empty_settings_file_sets_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    assert read_config(path) == {}


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "cannot be read"),
        (b"train: [1", "not valid YAML"),
        (b"train: {steps: 3, lr: 1, steps: 7}", "'steps' is given twice"),
        (b"- 1\n- 2\n", "not a tree"),
        (b"root\x00\x00\xff\xfe\x80", "not valid YAML"),
    ],
)
def test_a_settings_file_that_is_none_is_refused_by_name(tmp_path: Path, content: bytes | None, what: str) -> None:
    path = tmp_path / "c.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=what) as caught:
        read_config(path)
    assert caught.value.where == path


@pytest.mark.parametrize("settings", [DataSettings, ModelSettings, TrainSettings, FinetuneSettings])
def test_every_setting_has_a_description(settings: type[Settings]) -> None:
    for name, field in settings.model_fields.items():
        assert field.description, name


@pytest.mark.parametrize("method", ["simclr", "byol", "vicreg"])
def test_settings_within_settings_are_set_by_their_full_key(method: str) -> None:
    plain, changed = (
        resolve_pretrain(method, parse_set(assignments)).method.model_dump()["views"]
        for assignments in ([], ["method.views.rotate=0.5"])
    )
    assert plain["rotate"] != 0.5
    assert changed == plain | {"rotate": 0.5}


@pytest.mark.parametrize(
    ("assignment", "nearest"),
    [("method.views.rotat=1", "method.views.rotate"), ("method.views.crop_regon=0.1", "method.views.crop_region")],
)
def test_a_misspelt_setting_within_settings_is_refused_with_the_nearest_full_key(assignment: str, nearest: str) -> None:
    with pytest.raises(UsageError, match="there is no such setting") as caught:
        resolve(RunSettings[SimCLR.Config], {"method": {"name": "simclr"}}, parse_set([assignment]))
    assert caught.value.where == assignment.partition("=")[0]
    assert caught.value.allowed is not None
    assert caught.value.allowed[0] == nearest
    assert caught.value.hint == f"--set {nearest}=..."


def test_a_value_within_settings_is_checked() -> None:
    with pytest.raises(UsageError, match="not allowed") as caught:
        resolve(RunSettings[SimCLR.Config], {"method": {"name": "simclr"}}, parse_set(["method.views.drop=1.5"]))
    assert caught.value.where == "method.views.drop"
    assert "not allowed (Probability to drop a particle of zero pt)\n" in caught.value.message


def test_a_tree_without_settings_in_a_file_changes_nothing() -> None:
    found = resolve(FileSettings, {"data": None}, {"data": {"split_seed": 3}})
    assert found == FileSettings(data=DataSettings(split_seed=3))


@pytest.mark.parametrize("setting", ["train.seed=-1", "train.epochs=.inf", "train.lr=.inf", "data.split_seed=-1"])
def test_a_number_that_no_run_could_use_is_refused(setting: str) -> None:
    with pytest.raises(UsageError, match=setting.partition("=")[0]):
        resolve(RunSettings[MethodSettings], {"method": {}}, parse_set([setting]))


def test_a_fold_without_the_number_of_folds_is_refused() -> None:
    with pytest.raises(UsageError, match=r"(?s)do not go together.*set data\.folds"):
        settings_of("data.fold=0")
    assert settings_of("data.fold=0", "data.folds=3").data.fold == 0


def test_a_settings_file_may_have_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_bytes(b"\xef\xbb\xbftrain: {steps: 3}\n")
    assert read_config(tmp_path / "mine.yaml") == {"train": {"steps": 3}}


BOMBS = {
    "aliases": "a: &a [1,2,3,4,5,6,7,8,9]\n"
    + "\n".join(f"{'bcdefghijk'[i]}: &{'bcdefghijk'[i]} [{','.join([f'*{chr(97 + i)}'] * 9)}]" for i in range(10)),
    "merged": "a: &a {x: 1}\n"
    + "\n".join(f"{'bcdefgh'[i]}: &{'bcdefgh'[i]} {{<<: [{','.join([f'*{chr(97 + i)}'] * 9)}]}}" for i in range(7)),
    "itself": "a: &a [*a]",
    "brackets": "a: " + "[" * 5000,
    "braces": "{" * 5000,
    "dashes": "- " * 5000,
    "keys": "\n".join(f"k{i}: 1" for i in range(700)),
    "long": "a: " + "x" * (2**24 + 1),
    "date": "a: 2026-13-45",
    "empty number": "a: !!int ''",
    "object": "a: !!python/object/apply:os.system [ls]",
    "zero": "a: \0",
    "bytes": "\udcff",
}


@pytest.mark.parametrize("name", list(BOMBS))
def test_a_few_bytes_that_ask_for_everything_are_one_message(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MOST_NODES", 1000)
    path = tmp_path / "settings.yaml"
    path.write_bytes(BOMBS[name].encode(errors="surrogateescape"))
    with pytest.raises(UsageError, match="not valid YAML") as caught:
        read_config(path)
    assert len(str(caught.value)) < 3000


def test_aliases_of_ordinary_size_are_read(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("common: &c {lr: 0.5, steps: 3}\ntrain: {<<: *c, steps: 7}\nagain: *c")
    assert read_config(path) == {
        "common": {"lr": 0.5, "steps": 3},
        "train": {"lr": 0.5, "steps": 7},
        "again": {"lr": 0.5, "steps": 3},
    }


@pytest.mark.parametrize("text", ["a" + ".b" * 5000 + "=1", "data.format=" + "[" * 5000, "data.format=!!int ''"])
def test_a_setting_without_end_is_one_message(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_set([text])
    assert len(str(caught.value)) < 6000


def test_finetuning_refuses_the_regression_of_observables_that_pretraining_has() -> None:
    assert settings_of("method.observables_weight=0.5").method.observables_weight == 0.5
    with pytest.raises(ValueError, match="regresses no observables"):
        FinetuneSettings(observables_weight=0.5)


@pytest.mark.parametrize("setting", ["data.folds", "data.flatten", "data.cache", "data.validation", "data.pairs"])
def test_settings_of_trainings_are_refused_by_commands_that_only_read(setting: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {setting: 3}
    calls: list[Callable[[], object]] = [
        lambda: ssl_jets.embed("none", out=tmp_path / "z.root", settings=settings),
        lambda: ssl_jets.predict("none", out=tmp_path / "z.root", settings=settings),
        lambda: ssl_jets.export("none", out=tmp_path / "m.onnx", settings=settings),
        lambda: ssl_jets.evaluate(z=tmp_path / "z.root", out=tmp_path / "e", settings=settings),
        lambda: ssl_jets.read_jets(settings=settings),
    ]
    for call in calls:
        with pytest.raises(UsageError, match="no effect in this command") as caught:
            call()
        assert caught.value.where == setting
    with pytest.raises(UsageError, match="no effect in this command"):
        ssl_jets.embed("none", out=tmp_path / "z.root", settings={"data.weights": "w"})


def test_no_seed_is_negative() -> None:
    """NumPy raises on such a seed long after the start, and -1 and -2 have one hash."""
    for cls, name in (
        (TrainSettings, "seed"), (DataSettings, "split_seed"), (DataSettings, "labelled_seed"),
        (MeasureSettings, "seed"), (FinetuneSettings, "subset_seed"),
    ):  # fmt: skip
        with pytest.raises(ValidationError, match=name):
            cls(**{name: -1})
