"""data.weights: from a column of the file to the losses of labels, one way for all."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ssl_jets.data.chunks import read_chunk
from ssl_jets.data.files import JetFile, open_files
from ssl_jets.data.loading.mixed import MixedStream
from ssl_jets.data.loading.stream import TrainStream
from ssl_jets.data.request import Request
from ssl_jets.data.sources import Source
from ssl_jets.errors import DataError, UsageError
from ssl_jets.jets import Jets, concatenate
from ssl_jets.methods.semi_supervised import SemiSupervised
from ssl_jets.methods.supervised import Supervised
from ssl_jets.model_file import load_model
from ssl_jets.nn.tasks import LABEL, Tasks, TaskSettings
from ssl_jets.pretraining import pretrain, resolve_pretrain
from support.finetune_settings import QUICK
from support.overridden import overridden
from support.small_models import made_jets, tiny_encoder

Write = Callable[..., Path]
NAMES = ("a", "b", "c")
WEIGHTED = Request(weights="w")


def weighted_jets(jets: int = 24, seed: int = 0) -> Jets:
    """Jets of three classes, some without label or target, with weights from 0 to about 5."""
    generator = torch.Generator().manual_seed(seed)
    made = made_jets([3 + i % 5 for i in range(jets)], seed)
    labels = torch.arange(jets) % 4 - 1
    mass = torch.rand(jets, generator=generator) * 100
    mass[::5] = torch.nan
    weights = torch.rand(jets, generator=generator).square() * 5
    weights[1::6] = 0
    return replace(made, labels=labels, jet={"mass": mass}, weights=weights)


def plain_losses(tasks: Tasks, z: Tensor, jets: Jets) -> dict[str, float]:
    """sum(w l) / sum(w), jet by jet in Python."""
    assert tasks.head is not None
    assert tasks.regressor is not None
    assert jets.labels is not None
    assert jets.weights is not None
    of_class = torch.ones(3) if tasks.class_weights is None else tasks.class_weights
    logits, target, mean = (of.detach() for of in (tasks.head(z), tasks.regressor.targets(jets), tasks.regressor(z)))
    sums = {"label": [0.0, 0.0], "mass": [0.0, 0.0]}
    for jet in range(len(jets)):
        label, weight = int(jets.labels[jet]), float(jets.weights[jet])
        if label >= 0:
            own = weight * float(of_class[label])
            sums["label"][0] += own * float(torch.logsumexp(logits[jet], 0) - logits[jet, label])
            sums["label"][1] += own
        if target[jet].isfinite():
            sums["mass"][0] += weight * float((target[jet, 0] - mean[jet, 0]) ** 2)
            sums["mass"][1] += weight
    return {name: total / weight for name, (total, weight) in sums.items()}


@pytest.mark.parametrize("class_weights", [None, (0.5, 2.0, 1.0)])
def test_a_loss_is_the_weighted_mean(class_weights: Any) -> None:
    jets = weighted_jets()
    tasks = Tasks(TaskSettings(targets=(LABEL, "mass"), class_weights=class_weights), 4, NAMES)
    tasks.fit_statistics([jets])
    z = torch.randn(len(jets), 4)
    losses, logged = tasks(z, jets)
    for name, expected in plain_losses(tasks, z, jets).items():
        assert float(losses[name].value.detach()) == pytest.approx(expected, rel=1e-5)
    assert tasks.head is not None
    assert jets.labels is not None
    assert jets.weights is not None
    right, labelled = tasks.head(z).argmax(1) == jets.labels, jets.labels >= 0
    assert float(logged["accuracy"].value) == pytest.approx(
        float(jets.weights[right].sum() / jets.weights[labelled].sum()), rel=1e-5
    )


def test_equal_weights_change_nothing_and_their_scale_does_not_matter() -> None:
    jets, z = weighted_jets(), torch.randn(24, 4)
    assert jets.weights is not None
    tasks = Tasks(TaskSettings(targets=(LABEL, "mass"), class_weights="balanced"), 4, NAMES)

    def losses(weights: Tensor | None) -> list[float]:
        given = replace(jets, weights=weights)
        tasks.fit_statistics([given])
        tasks.weight_sums.seen.zero_()
        return [float(loss.value.detach()) for loss in tasks(z, given)[0].values()]

    assert losses(torch.full((24,), 0.3)) == pytest.approx(losses(None), rel=1e-5)
    assert losses(jets.weights * 1e-3) == pytest.approx(losses(jets.weights), rel=1e-5)
    assert losses(jets.weights) != pytest.approx(losses(None), rel=1e-2)


@pytest.mark.parametrize("method", ["supervised", "semi_supervised"])
def test_jets_of_weight_0_do_not_matter(method: str) -> None:
    jets = weighted_jets()
    assert jets.weights is not None
    assert jets.labels is not None
    nothing = (jets.weights == 0).nonzero()[:, 0]
    wrong, mass = jets.labels.clone(), jets.jet["mass"].clone()
    wrong[nothing], mass[nothing] = (wrong[nothing] + 1) % 3, 1e6
    encoder = tiny_encoder(jets)
    cls: Any = {"supervised": Supervised, "semi_supervised": SemiSupervised}[method]
    made = cls(cls.Config(name=method, targets=(LABEL, "mass"), class_weights="balanced"), encoder, NAMES).eval()

    def loss(of: Jets) -> float:
        made.fit_statistics([of])
        torch.manual_seed(1)
        return float(made(of, 0.5)["loss"])

    # Without labels of weight, the other method of `semi_supervised` still sees all jets.
    assert loss(replace(jets, labels=wrong, jet={"mass": mass})) == pytest.approx(loss(jets), rel=1e-6)
    if method == "supervised":
        kept = (jets.weights > 0).nonzero()[:, 0]
        assert loss(jets.select(kept)) == pytest.approx(loss(jets), rel=1e-5)


def weigh(branches: dict[str, Any]) -> None:
    branches["w"] = np.linspace(0, 3, 50)


def opened(path: Path, form: str | None = None) -> JetFile:
    return open_files([Source(str(path))], schema=form)[0]


def test_weights_are_read_selected_joined_and_mixed_with_jets_that_have_none(write_jetclass: Write) -> None:
    file = opened(write_jetclass(edit=weigh))
    jets = read_chunk(file, 0, 10, 30, WEIGHTED)[0]
    assert jets.weights is not None
    np.testing.assert_allclose(jets.weights.numpy(), np.linspace(0, 3, 50)[10:30], rtol=1e-6)
    joined = concatenate([jets, jets.select(torch.tensor([3]))]).to("cpu")
    assert joined.weights is not None
    assert joined.weights[-1] == jets.weights[3]
    assert read_chunk(file, 0, 0, 9, Request())[0].weights is None
    place: Any = {"batch_size": 5, "buffer": 20, "seed": 0}
    streams = [TrainStream([file], file_parts(file), request=request, **place) for request in (WEIGHTED, Request())]
    mixed = next(stream := MixedStream(*streams))
    stream.close()
    assert mixed.weights is not None
    assert mixed.weights[5:].tolist() == [1] * 5


def file_parts(file: JetFile) -> list[Any]:
    from ssl_jets.data.files import whole

    return whole([file])


def test_negative_weights_are_refused_and_a_schema_names_those_to_take(write_jetclass: Write, tmp_path: Path) -> None:
    def next_to_leading_order(branches: dict[str, Any]) -> None:
        weigh(branches)
        branches["w"][7] = -2.0

    path = write_jetclass(edit=next_to_leading_order)
    for skip in ("error", "skip"):
        with pytest.raises(DataError, match=r"negative weight") as caught:
            read_chunk(opened(path), 0, 0, 50, Request(weights="w", bad_jets=skip, bad_files=skip))  # type: ignore[arg-type]
        assert "entry 7" in str(caught.value)
    (tmp_path / "mine.yaml").write_text("extends: jetclass\njets: {weight: {formula: abs(w)}}\n", encoding="utf-8")
    jets = read_chunk(opened(path, str(tmp_path / "mine.yaml")), 0, 0, 50, Request(weights="weight"))[0]
    assert jets.weights is not None
    assert jets.weights[7] == 2


def test_a_weight_that_is_not_finite_makes_a_bad_jet(write_jetclass: Write) -> None:
    def spoil(branches: dict[str, Any]) -> None:
        weigh(branches)
        branches["w"][7] = np.nan

    file = opened(write_jetclass(edit=spoil))
    with pytest.raises(DataError, match="weight is not finite"):
        read_chunk(file, 0, 0, 50, WEIGHTED)
    jets, left_out = read_chunk(file, 0, 0, 50, Request(weights="w", bad_jets="skip"))
    assert (len(jets), left_out) == (49, {"its weight is not finite": 1})


def test_a_training_reads_the_column_that_is_named(write_jetclass: Write, tmp_path: Path) -> None:
    def of_last(branches: dict[str, Any]) -> None:
        branches["w"] = np.where(branches["label_Tbl"] != 0, 1.0, 1e-12) * np.ones(50)

    sources = [str(write_jetclass(f"{name}.root", label=name, edit=of_last)) for name in ("QCD", "Tbl")]
    layer = overridden(QUICK, "model.size=tiny", "model.blocks=1", "data.labels=[label_QCD,label_Tbl]", "train.steps=8")
    named: dict[str, Any] = {"data": {"sources": sources, "weights": "w"}}
    out = pretrain(resolve_pretrain("supervised", layer, named), tmp_path / "run")
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["kind"] == "train"]
    # Hardly any weight but that of the second class: a network that predicts nothing else is always right.
    assert steps[-1]["accuracy"] == 1
    model = load_model(out)
    assert model.head is not None
    with pytest.raises(UsageError, match="no labels to weigh"):
        pretrain(resolve_pretrain("mae", layer, named), tmp_path / "mae")
    named["data"]["weights"] = "ww"
    with pytest.raises(UsageError, match="no such column"):
        pretrain(resolve_pretrain("supervised", layer, named), tmp_path / "other")
