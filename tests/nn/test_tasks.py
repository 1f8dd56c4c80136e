"""Tasks on z: weights of classes, kinds of regression."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from ssl_jets.errors import UsageError
from ssl_jets.jets import Jets
from ssl_jets.nn.task_weights import LIKELIHOOD, REGRESSION, Form, Mean
from ssl_jets.nn.tasks import LABEL, Tasks, TaskSettings
from support.small_models import made_jets

NAMES = ("a", "b", "c")


@pytest.fixture
def jets() -> Jets:
    """Six jets of class a, three of b, one of c, and two without a label."""
    return replace(made_jets([2] * 12), labels=torch.tensor([0] * 6 + [1] * 3 + [2] + [-1] * 2))


def test_accuracy_is_exact_under_autocast() -> None:
    """Of 300 jets of weights 1 to 1.3, which bfloat16 rounds."""
    tasks, many = Tasks(TaskSettings(), 4, NAMES), made_jets([1] * 300)
    many = replace(many, labels=torch.arange(300) % 3, weights=1 + torch.arange(300) / 1000)
    z = torch.randn(300, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        accuracy = tasks(z, many)[1]["accuracy"]
        right = tasks.head(z).argmax(1) == many.labels  # type: ignore[misc]
    assert isinstance(accuracy, Mean)
    assert float(accuracy.value) == pytest.approx(float((many.weights * right).sum() / many.weights.sum()), rel=1e-6)


def test_given_weights_are_those_of_torch(jets: Jets) -> None:
    tasks = Tasks(TaskSettings(class_weights=(0.5, 2.0, 0.0)), 4, NAMES)
    z = torch.randn(12, 4)
    assert tasks.head is not None
    expected = nn.functional.cross_entropy(
        tasks.head(z), jets.labels, weight=torch.tensor([0.5, 2.0, 0.0]), ignore_index=-1
    )
    torch.testing.assert_close(tasks(z, jets)[0][LABEL].value, expected)
    smooth = Tasks(TaskSettings(label_smoothing=0.2), 4, NAMES)
    assert smooth.head is not None
    expected = nn.functional.cross_entropy(smooth.head(z), jets.labels, label_smoothing=0.2, ignore_index=-1)
    torch.testing.assert_close(smooth(z, jets)[0][LABEL].value, expected)


def test_balanced_classes_count_the_same(jets: Jets) -> None:
    tasks = Tasks(TaskSettings(class_weights="balanced"), 4, NAMES)
    tasks.fit_statistics([jets])
    assert tasks.class_weights is not None
    shares = tasks.class_weights * torch.tensor([6, 3, 1])
    torch.testing.assert_close(shares, shares.mean().expand(3))
    z = torch.randn(12, 4)
    assert tasks.head is not None
    assert jets.labels is not None
    each = nn.functional.cross_entropy(tasks.head(z), jets.labels, ignore_index=-1, reduction="none")
    expected = torch.stack([each[jets.labels == label].mean() for label in range(3)]).mean()
    torch.testing.assert_close(tasks(z, jets)[0][LABEL].value, expected)
    weights = torch.linspace(0.1, 3, 12)
    tasks.fit_statistics([replace(jets, weights=weights)])
    shares = tasks.class_weights * torch.stack([weights[jets.labels == label].sum() for label in range(3)])
    torch.testing.assert_close(shares, shares.mean().expand(3))
    other = Tasks(TaskSettings(class_weights="balanced"), 4, NAMES)
    other.load_state_dict(tasks.state_dict())
    assert torch.equal(other.class_weights, tasks.class_weights)  # type: ignore[arg-type]


@pytest.mark.parametrize("unit", [1.0, 1e-13])
def test_an_absent_class_has_the_weight_of_a_mean_one_in_any_unit_of_the_weights(jets: Jets, unit: float) -> None:
    tasks = Tasks(TaskSettings(class_weights="balanced"), 4, (*NAMES, "d"))
    tasks.fit_statistics([replace(jets, weights=torch.full((12,), unit))])
    assert tasks.class_weights is not None
    torch.testing.assert_close(tasks.class_weights, torch.tensor([10 / 18, 10 / 9, 10 / 3, 1.0]))


def test_as_many_weights_as_classes_are_asked_for() -> None:
    with pytest.raises(UsageError, match="a weight for each class") as caught:
        Tasks(TaskSettings(class_weights=(1.0, 2.0)), 4, NAMES)
    assert caught.value.where == "method.class_weights"


@pytest.mark.parametrize(
    "wrong",
    [
        {"class_weights": (1.0, -1.0)},
        {"class_weights": (0.0, 0.0)},
        {"quantiles": (0.1, 0.9)},
        {"quantiles": (0.5, 0.1)},
    ],
)
def test_weights_and_quantiles_without_sense_are_refused(wrong: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(ValidationError):
        TaskSettings(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "form"), [("mean", REGRESSION), ("quantile", REGRESSION), ("gaussian", LIKELIHOOD)])
def test_a_jet_without_a_target_has_no_part_whatever_the_head(jets: Jets, kind: str, form: Form | None) -> None:
    values = torch.linspace(1, 5, 12)
    values[3] = torch.nan
    jets = replace(jets, jet={"m": values})
    tasks = Tasks(TaskSettings(targets=("m",), regression=kind), 4, NAMES)  # type: ignore[arg-type]
    tasks.fit_statistics([jets])
    assert tasks.forms == {"m": form}
    z = torch.randn(12, 4)
    known = torch.arange(12) != 3
    chosen = jets.select(known.nonzero()[:, 0])
    torch.testing.assert_close(tasks(z, jets)[0]["m"].value, tasks(z[known], chosen)[0]["m"].value)
    assert tasks(z, jets)[0]["m"].value.isfinite()


@pytest.mark.parametrize("class_weights", [None, (1.0, 2.0, 40.0)])
def test_the_mean_over_batches_is_the_weighted_mean_over_jets(class_weights: tuple[float, ...] | None) -> None:
    """Also where one jet has most of the weight: divided by the sums of batches, it counted no more than a batch."""
    jets, batches = made_jets([1] * 48), torch.arange(48).chunk(8)
    weights = torch.ones(48)
    weights[[3, 17]] = torch.tensor([200.0, 50.0])
    mass = torch.rand(48, generator=torch.Generator().manual_seed(0))
    jets = replace(jets, labels=torch.arange(48) % 3, weights=weights, jet={"m": mass})
    tasks = Tasks(TaskSettings(targets=(LABEL, "m"), class_weights=class_weights), 4, NAMES)
    tasks.fit_statistics([jets])
    z = torch.randn(48, 4)
    tasks(z, jets)
    tasks.weight_sums.seen *= 1e9  # as after many jets: those of one batch do not change their mean
    whole, _ = tasks.eval()(z, jets)
    means = [tasks.train()(z[rows], jets.select(rows))[0] for rows in batches]
    for name in (LABEL, "m"):
        found = torch.stack([one[name].value for one in means]).mean()
        torch.testing.assert_close(found, whole[name].value)


def test_the_mean_weight_is_in_checkpoints_and_begins_anew_without(jets: Jets) -> None:
    jets, z = replace(jets, weights=torch.linspace(0.1, 3, 12)), torch.randn(12, 4)
    tasks, half = Tasks(TaskSettings(), 4, NAMES), jets.select(slice(6))
    tasks(z, jets)
    saved = tasks.state_dict()
    before = {name: value.clone() for name, value in saved.items()}
    found = tasks(z[:6], half)[0][LABEL].value
    tasks.load_state_dict(before)
    assert torch.equal(tasks(z[:6], half)[0][LABEL].value, found)
    tasks.load_state_dict({name: value for name, value in before.items() if "head" in name})
    own = tasks.eval()(z[:6], half)[0][LABEL].value
    torch.testing.assert_close(tasks.train()(z[:6], half)[0][LABEL].value, own)
    assert own.item() != pytest.approx(found.item(), rel=0.01)
