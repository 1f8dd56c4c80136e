"""A head trained on cached z reads z as the encoder gives it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ssl_jets.errors import SslJetsError
from ssl_jets.finetuning.modes.probe import fit_heads
from ssl_jets.jets import Jets
from ssl_jets.nn.heads import ClassHead
from ssl_jets.nn.task_weights import RATE, TaskWeights
from ssl_jets.nn.tasks import Tasks, TaskSettings


def labelled_z(jets: int = 300) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(jets) % 3
    return torch.randn(jets, 6, generator=generator) + 3 * nn.functional.one_hot(labels, 6), labels


def train(z: Tensor, labels: Tensor, hidden: int = 0, **changes: int) -> tuple[ClassHead, list[float]]:
    torch.manual_seed(0)
    tasks, losses = Tasks(TaskSettings(head_hidden=hidden), 6, ("a", "b", "c")), []
    jets = Jets(torch.empty(0, 10), torch.zeros(len(z) + 1, dtype=torch.int64), labels=labels)
    options = {"steps": 60, "batch_size": 50, "seed": 0} | changes
    weights = TaskWeights(tasks.forms, learned=False)
    fit_heads(z, jets, tasks, weights, lr=0.05, progress=lambda step, loss: losses.append(loss), **options)  # type: ignore[arg-type]
    assert tasks.head is not None
    return tasks.head, losses


@pytest.mark.parametrize("hidden", [0, 8])
def test_the_standardisation_is_folded_into_the_head(hidden: int) -> None:
    z, labels = labelled_z()
    scale, shift = torch.tensor([1e-9, 0.1, 1.0, 10.0, 100.0, 2.0]), torch.tensor([0.0, -30, -10, 10, 30, 50])
    (head, losses), (moved, losses_moved) = train(z, labels, hidden), train(z * scale + shift, labels, hidden)
    assert losses_moved == pytest.approx(losses, rel=1e-2, abs=1e-3)
    with torch.no_grad():
        torch.testing.assert_close(moved(z * scale + shift), head(z), atol=0.05, rtol=0.01)


def test_a_number_of_z_that_is_constant_in_training_does_not_decide_the_scores() -> None:
    z, labels = labelled_z()
    z[:, 4] = 0.0  # such as a unit that no jet of the training activates
    z[:, 5] = 50.0  # and one that is constant but for rounding
    z[::2, 5] = torch.tensor(50.0).nextafter(torch.tensor(60.0))
    head, _ = train(z, labels)
    other = z.clone()
    other[:, 4:] += 0.01
    with torch.no_grad():
        torch.testing.assert_close(head(other), head(z), atol=0.02, rtol=0)


def test_heads_whose_loss_is_not_finite_are_not_handed_on() -> None:
    z, labels = labelled_z()
    z[3] = torch.nan
    with pytest.raises(SslJetsError, match="the loss of the heads is not finite"):
        train(z, labels)


@pytest.mark.parametrize("hidden", [0, 8])
def test_the_folded_head_has_the_loss_of_the_trained_one(hidden: int) -> None:
    z, labels = labelled_z()
    z = 5 * z + 20
    head, _ = train(z, labels, hidden)
    mean, std = z.mean(0), z.std(0, correction=0)
    unfolded, _ = train((z - mean) / std, labels, hidden)
    last = nn.functional.cross_entropy(unfolded((z - mean) / std), labels)
    torch.testing.assert_close(nn.functional.cross_entropy(head(z), labels), last, atol=1e-3, rtol=1e-3)


def test_separable_classes_are_separated() -> None:
    z, labels = labelled_z()
    head, losses = train(z, labels)
    assert float((head(z).argmax(1) == labels).float().mean()) > 0.95
    assert losses[-1] < losses[0] / 3
    assert len(losses) == 60


def test_a_dead_dimension_of_z_gives_a_finite_head() -> None:
    z, labels = labelled_z()
    z[:, 2] = 0.7
    head, _ = train(z, labels)
    assert all(parameter.isfinite().all() for parameter in head.parameters())
    assert head(z).abs().max() < 1e3


@pytest.mark.parametrize("jets", [3, 49, 51])
def test_fewer_jets_than_a_batch_are_enough(jets: int) -> None:
    z, labels = labelled_z(jets)
    _, losses = train(z, labels)
    assert losses[-1] < losses[0]


def test_every_jet_is_used_once_before_any_is_used_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    z, labels = labelled_z(90)
    seen: list[Tensor] = []
    original = nn.functional.cross_entropy
    monkeypatch.setattr(
        nn.functional,
        "cross_entropy",
        lambda logits, target, **how: seen.append(target) or original(logits, target, **how),
    )
    train(z, labels, steps=3, batch_size=30)
    assert [int((torch.cat(seen) == label).sum()) for label in range(3)] == [30, 30, 30]


def test_the_seed_makes_the_batches() -> None:
    z, labels = labelled_z()
    losses = [train(z, labels, seed=seed)[1] for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


def test_uncertainties_learn_at_a_tenth_of_the_rate_of_the_heads() -> None:
    z, labels = labelled_z()
    torch.manual_seed(0)
    tasks = Tasks(TaskSettings(targets=("label", "mass")), 6, ("a", "b", "c"))
    jets = Jets(torch.empty(0, 10), torch.zeros(len(z) + 1, dtype=torch.int64), labels=labels, jet={"mass": z[:, 0]})
    tasks.fit_statistics([jets])
    weights = TaskWeights(tasks.forms, learned=True)
    fit_heads(z, jets, tasks, weights, steps=1, batch_size=50, seed=0, lr=0.05)
    assert weights.log_sigma is not None
    assert weights.log_sigma.detach().abs().tolist() == pytest.approx([0.005, 0.005], rel=1e-3)  # Adam: one rate a step
    fit_heads(z, jets, tasks, weights, steps=2, batch_size=50, seed=0, lr=50.0)
    sigma = (RATE * weights.log_sigma.detach()).exp()
    assert ((sigma > 0.5 - 1e-5) & (sigma < 20 + 1e-3)).all()


def test_a_rare_class_of_large_weight_has_its_share() -> None:
    """Half of the weight is of 1 % of the jets; divided by the sum of each batch they counted as .33."""
    labels = (torch.arange(4000) % 100 == 0).long()
    weights = torch.where(labels == 1, 99.0, 1.0)
    jets = Jets(torch.empty(0, 10), torch.zeros(4001, dtype=torch.int64), labels=labels, weights=weights)
    tasks = Tasks(TaskSettings(), 1, ("common", "rare"))
    z = torch.zeros(4000, 1)
    fit_heads(z, jets, tasks, TaskWeights(tasks.forms, learned=True), steps=400, batch_size=64, lr=0.02, seed=0)
    assert tasks.head is not None
    assert tasks.head(z[:1]).softmax(1)[0, 1].item() == pytest.approx(0.5, abs=0.03)
