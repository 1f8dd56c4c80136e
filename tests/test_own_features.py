"""A schema with features and context, from files to a model and its evaluation, without a line of Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import ssl_jets
from ssl_jets.cli.app import app
from ssl_jets.errors import SslJetsError, UsageError
from ssl_jets.exporting.exporter import check_inputs
from ssl_jets.finetuning import resolve_finetune
from ssl_jets.model_file import load_model, save_model
from ssl_jets.zfile import read_z
from support.feature_files import SCHEMA, write_features

TINY = {
    "model.size": "tiny", "model.blocks": 1, "train.validate_every": 2,
    "model.inputs": ["columns", "features", "context"],
}  # fmt: skip


@pytest.fixture
def schema(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(SCHEMA, encoding="utf-8")
    return path


def train(method: str, data: Path, schema: Path, out: Path, **settings: Any) -> Path:
    return ssl_jets.pretrain(
        method, data=str(data), schema=schema, steps=2, batch_size=16, settings=TINY | settings, out=out
    )


@pytest.mark.slow
@pytest.mark.parametrize(("method", "suffix"), [("mae", ".root"), ("simclr", ".h5")])
def test_from_inspect_to_evaluate(
    tmp_path: Path, schema: Path, method: str, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_features(tmp_path / f"jets{suffix}", 400)
    result = CliRunner().invoke(app, ["inspect", str(data), "--schema", str(schema), "--json"])
    (facts,) = json.loads(result.stdout)
    assert facts["features"] == ["chi2", "hits", "depth", "ratio"]
    assert facts["context"] == ["jet_pt", "origin"]

    run = train(method, data, schema, tmp_path / "run", **{"train.hide_features": 0.5 * (method == "simclr")})
    model = load_model(run)
    assert model.columns == ("pt", "deta", "dphi", "charge", "chi2", "hits", "depth", "ratio")
    assert model.context == ()
    config = json.loads((run / "model" / "config.json").read_text())
    chi2 = next(feature for feature in config["features"] if feature["name"] == "chi2")
    assert (chi2["transform"], chi2["target"], chi2["std"] > 0) == ("log", True, True)
    assert [one["name"] for one in config["context"]] == ["jet_pt", "origin"]

    tuned = ssl_jets.finetune(run, data=str(data), schema=schema, steps=2, batch_size=16, out=tmp_path / "tuned")
    assert load_model(tuned).context == ("jet_pt", "origin")
    ssl_jets.embed(tuned, data=str(data), schema=schema, out=tmp_path / "z.npz")
    z = read_z(tmp_path / "z.npz").z
    assert z.shape == (400, 64)
    assert np.isfinite(z).all()
    poor = write_features(tmp_path / f"poor{suffix}", 400, drop=("part_chi2", "jet_pt"))
    capsys.readouterr()
    ssl_jets.embed(tuned, data=str(poor), schema=schema, out=tmp_path / "poor.npz")
    messages = capsys.readouterr().err
    assert "files lack features that the encoder then reads as missing: chi2" in messages
    assert "files lack context that the encoder then reads as missing: jet_pt" in messages
    assert "feature hits" in messages  # a category that is not listed
    assert not np.allclose(read_z(tmp_path / "poor.npz").z, z, atol=1e-3)
    quick = {"evaluate.fit_jets": 100, "evaluate.robust_jets": 0, "evaluate.physics_jets": 0}
    result = ssl_jets.evaluate(tuned, data=str(data), schema=schema, settings=quick, out=tmp_path / "out")
    assert result.model_dump()["task"] is not None


def test_the_schema_of_the_training_is_named_for_files_that_are_read_without_it(
    tmp_path: Path, write_jetclass: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    schema, data = tmp_path / "mine.yaml", [str(write_jetclass(f"{one}.root", label=one)) for one in ("QCD", "Hbb")]
    schema.write_text("extends: jetclass\nfeatures: {share: {formula: part_energy / sum(part_energy)}}\n")
    run = ssl_jets.pretrain(
        "mae", data=data, schema=schema, steps=2, batch_size=16, settings=TINY, out=tmp_path / "run"
    )
    tuned = ssl_jets.finetune(run, data=data, schema=schema, steps=2, batch_size=16, out=tmp_path / "tuned")
    quick = {"evaluate.fit_jets": 50, "evaluate.robust_jets": 0, "evaluate.physics_jets": 0}
    readings: dict[str, Any] = {
        "embed": lambda **own: ssl_jets.embed(run, data=data, force=True, out=tmp_path / "z.npz", **own),
        "predict": lambda **own: ssl_jets.predict(tuned, data=data, force=True, out=tmp_path / "p.npz", **own),
        "finetune": lambda **own: ssl_jets.finetune(
            run, data=data, steps=2, batch_size=16, settings=TINY, force=True, out=tmp_path / "again", **own
        ),
        "evaluate": lambda **own: ssl_jets.evaluate(
            tuned, data=data, settings=quick, force=True, out=tmp_path / "out", **own
        ),
    }
    for name, read in readings.items():
        for own, expected in (({}, True), ({"schema": schema}, False)):
            capsys.readouterr()
            read(**own)
            assert ("the model was trained with --schema mine.yaml" in capsys.readouterr().err) == expected, name


def test_a_run_with_features_resumes_bit_for_bit_and_refuses_another_schema(tmp_path: Path, schema: Path) -> None:
    data = write_features(tmp_path / "jets.root", 200)
    whole = train("mae", data, schema, tmp_path / "whole")
    again = train("mae", data, schema, tmp_path / "again")
    assert load_model(whole).sha256 == load_model(again).sha256
    (again / "model").rename(tmp_path / "gone")
    resumed = ssl_jets.pretrain(
        "mae", data=str(data), schema=schema, steps=2, batch_size=16, settings=TINY, out=again, resume=True
    )
    assert load_model(resumed).sha256 == load_model(whole).sha256
    (again / "model").rename(tmp_path / "gone_too")
    schema.write_text(SCHEMA.replace("transform: log, target: true", "transform: sqrt"), encoding="utf-8")
    with pytest.raises(UsageError, match="defines features otherwise than the run"):
        ssl_jets.pretrain(out=again, resume=True)


def test_a_resumed_run_refuses_a_schema_with_another_order_of_the_classes(tmp_path: Path, schema: Path) -> None:
    data = write_features(tmp_path / "jets.root", 100)
    run = train("supervised", data, schema, tmp_path / "run", **{"model.inputs": ["columns"]})
    (run / "model").rename(tmp_path / "gone")
    swapped = SCHEMA.replace(
        "light: jet_label == 0, heavy: jet_label == 1", "heavy: jet_label == 1, light: jet_label == 0"
    )
    schema.write_text(swapped, encoding="utf-8")
    with pytest.raises(UsageError, match="the schema is not the one that the run began with"):
        ssl_jets.pretrain(out=run, resume=True)
    schema.write_text(f"# as it was\n{SCHEMA}", encoding="utf-8")
    assert load_model(ssl_jets.pretrain(out=run, resume=True)).labels == ("light", "heavy")


def test_a_training_that_goes_on_reads_features_with_their_weights_in_any_order_of_the_schema(
    tmp_path: Path, schema: Path
) -> None:
    data = write_features(tmp_path / "jets.root", 200)
    run = train("mae", data, schema, tmp_path / "run")
    depth, ratio = (line for line in SCHEMA.splitlines(keepends=True) if line.startswith(("  depth", "  ratio")))
    schema.write_text(SCHEMA.replace(depth + ratio, ratio + depth), encoding="utf-8")
    again = train("mae", data, schema, tmp_path / "again", **{"train.model": str(run), "train.lr": 1e-12})
    before, after = (load_model(one).encoder for one in (run, again))
    assert after.features.declared.names == before.features.declared.names
    torch.testing.assert_close(after.features.declared.mean, before.features.declared.mean)


def test_finetuning_hides_features_and_refuses_files_that_define_them_otherwise(tmp_path: Path, schema: Path) -> None:
    data = write_features(tmp_path / "jets.root", 200)
    run = train("mae", data, schema, tmp_path / "run")
    options: dict[str, Any] = {"data": str(data), "schema": schema, "steps": 2, "batch_size": 16}
    ssl_jets.finetune(run, settings={"train.hide_features": 1.0}, out=tmp_path / "tuned", **options)
    plain = ssl_jets.finetune(run, out=tmp_path / "plain", **options)
    assert load_model(tmp_path / "tuned").sha256 != load_model(plain).sha256
    schema.write_text(SCHEMA.replace("[0, 1, 4]", "[1, 0, 4]"), encoding="utf-8")
    with pytest.raises(UsageError, match="hits is defined in two ways"):
        ssl_jets.finetune(run, out=tmp_path / "plain", force=True, **options)
    assert load_model(plain)  # it was refused before the old run was replaced
    with pytest.raises(UsageError, match="hits is defined in two ways"):
        ssl_jets.embed(run, data=str(data), schema=schema, out=tmp_path / "z.npz")


@pytest.mark.parametrize(
    ("inputs", "features", "context"),
    [
        (["pt", "deta", "dphi"], (), ()),
        (["columns", "ratio", "chi2", "origin"], ("chi2", "ratio"), ("origin",)),
        (["columns", "features", "context"], ("chi2", "hits", "depth", "ratio"), ()),  # as its teacher, without labels
    ],
)
def test_a_student_reads_the_inputs_of_its_own_settings(
    tmp_path: Path, schema: Path, inputs: list[str], features: tuple[str, ...], context: tuple[str, ...]
) -> None:
    data = write_features(tmp_path / "jets.root", 200)
    teacher = train("simclr", data, schema, tmp_path / "teacher")
    settings = {"model.inputs": inputs, "method.targets": []}
    options: dict[str, Any] = {"data": str(data), "schema": schema, "steps": 2, "batch_size": 16, "settings": settings}
    model = load_model(ssl_jets.finetune(teacher, mode="distil", out=tmp_path / "student", **options))
    assert (model.columns[3 + ("columns" in inputs) :], model.context) == (features, context)
    declared = model.encoder.features.declared
    assert (() if declared is None else declared.continuous) == tuple(
        name for name in ("depth", "ratio", "chi2") if name in features
    )
    if declared is not None:
        assert bool((declared.std != 1).all())


def test_a_student_cannot_read_what_its_teacher_does_not_have(tmp_path: Path, schema: Path) -> None:
    data = write_features(tmp_path / "jets.root", 200)
    teacher = train("simclr", data, schema, tmp_path / "teacher", **{"model.inputs": ["columns", "chi2"]})
    for word in ("hits", "context"):
        with pytest.raises(UsageError, match=rf"(?s)the teacher does not have this input.*{word}"):
            resolve_finetune(teacher, {"method": {"mode": "distil"}, "model": {"inputs": ["columns", word]}})


def test_hidden_kinds_and_a_mask_of_kinds_do_not_go_together(tmp_path: Path, schema: Path) -> None:
    data = write_features(tmp_path / "jets.root", 200)
    with pytest.raises(UsageError, match="the mask `kind` needs the kinds"):
        train("mae", data, schema, tmp_path / "run", **{"method.mask": "kind", "train.hide_features": 0.1})


def test_columns_can_be_left_out(tmp_path: Path, schema: Path) -> None:
    data = write_features(tmp_path / "jets.root", 200)
    run = train("mae", data, schema, tmp_path / "run", **{"model.inputs": ["pt", "deta", "dphi"]})
    model = load_model(run)
    assert model.columns == ("pt", "deta", "dphi")
    assert model.encoder.features.declared is None


def test_every_door_reads_the_features_of_a_model(tmp_path: Path, schema: Path) -> None:
    """Scores, Python and a second training read the features and the context; an export refuses them by name."""
    data = write_features(tmp_path / "jets.root", 200)
    run = train("supervised", data, schema, tmp_path / "run")
    model = load_model(run)
    torch.nn.init.normal_(model.encoder.context.embed.weight)  # type: ignore[union-attr]
    save_model(model, run / "model")
    jets = ssl_jets.read_jets(str(data), schema=schema)
    assert jets.columns == model.columns
    expected = load_model(run).predict(jets, precision="32-true")
    settings = {"train.precision": "32-true"}
    ssl_jets.predict(run, data=str(data), schema=schema, out=tmp_path / "scores.npz", settings=settings)
    scores = ssl_jets.read_scores(tmp_path / "scores.npz")
    for index, name in enumerate(model.labels):
        np.testing.assert_allclose(scores.columns[f"p_{name}"], expected[:, index], atol=1e-5)
    blind = ssl_jets.read_jets(str(data), schema=schema).without(["chi2", "hits", "depth", "ratio"])
    assert not np.allclose(load_model(run).predict(blind, precision="32-true"), expected, atol=1e-3)

    again = train("supervised", data, schema, tmp_path / "again", **{"train.model": str(run)})
    assert load_model(again).columns == model.columns
    with pytest.raises(SslJetsError, match=r"(?s)cannot be exported.*chi2.*jet_pt"):
        check_inputs(model, run)


def test_a_misspelt_branch_of_a_feature_is_refused(tmp_path: Path, schema: Path) -> None:
    data = write_features(tmp_path / "jets.root")
    schema.write_text(SCHEMA.replace("part_chi2", "part_chi3"), encoding="utf-8")
    with pytest.raises(UsageError, match=r"(?s)no file has the branches of this input.*features\.chi2.*part_chi3"):
        train("mae", data, schema, tmp_path / "run")
    assert not (tmp_path / "run").exists()
