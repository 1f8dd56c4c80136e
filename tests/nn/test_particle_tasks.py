"""Losses of targets of particles: against a reference, with masked particles, weights of jets and of classes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from ssl_jets.errors import SslJetsError
from ssl_jets.jets import TRUTH, Jets
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.masking import hide_inputs
from ssl_jets.nn.particles.heads import ParticleHeads, ParticleTarget
from ssl_jets.nn.particles.metrics import particle_metrics
from ssl_jets.nn.particles.pairs import PairHead, Pairs, components, within_jets
from ssl_jets.nn.particles.tasks import ParticleTasks
from ssl_jets.nn.tasks import Tasks, TaskSettings, at_least_one
from support.small_models import made_jets, tiny_encoder

ORIGIN, SHARE = ParticleTarget("origin", ("soft", "hard", "none")), ParticleTarget("share", unit="GeV")
LENGTHS = [3, 1, 5, 4]


def with_truth(jets: Jets, **truth: Tensor) -> Jets:
    """Add labels of particles, `[particle]`."""
    columns = (*jets.columns, *(f"{TRUTH}{name}" for name in truth))
    return replace(jets, particles=torch.column_stack([jets.particles, *truth.values()]), columns=columns)


@pytest.fixture
def jets() -> Jets:
    """Labels 0 or 1 by pt, two of them missing, one of no class, none for the second jet; a number for each."""
    plain = made_jets(LENGTHS)
    pt = plain.column("pt")
    origin = (pt > pt.median()).float()
    origin[[0, 3]] = torch.nan
    origin[1] = 3.0
    share = 2 * pt
    share[5] = torch.nan
    return with_truth(plain, origin=origin, share=share)


@pytest.fixture
def tokens() -> Tensor:
    return torch.randn(sum(LENGTHS), 16, generator=torch.Generator().manual_seed(0))


def tasks(*targets: ParticleTarget, **options: object) -> ParticleTasks:
    torch.manual_seed(0)
    return ParticleTasks(ParticleHeads(16, targets), **options)  # type: ignore[arg-type]


def test_the_loss_is_the_mean_over_particles_with_a_label_weighted_by_their_jets(jets: Jets, tokens: Tensor) -> None:
    jets = replace(jets, weights=torch.tensor([1.0, 2.0, 0.5, 0.0]))
    own = tasks(ORIGIN, SHARE)
    own.fit_statistics([jets])
    losses, logged = own(tokens, jets)
    weights = jets.weights[jets.jet_of_particle]  # type: ignore[index]
    origin, share = jets.column("truth:origin"), jets.column("truth:share")
    known = (origin == 0) | (origin == 1)
    logits = own.heads.logits(tokens)["origin"]
    each = nn.functional.cross_entropy(logits[known], origin[known].long(), reduction="none")
    torch.testing.assert_close(losses["origin"].value, (each * weights[known]).sum() / weights[known].sum())
    right = (logits.argmax(1) == origin)[known].float()
    torch.testing.assert_close(logged["accuracy_origin"].value, (right * weights[known]).sum() / weights[known].sum())
    assert own.heads.regressor is not None
    target = own.heads.regressor.targets.standardised(share.unsqueeze(1).double())[:, 0]
    finite = target.isfinite()
    squared = (own.heads.regressor(tokens)[finite, 0] - target[finite]).square()
    torch.testing.assert_close(losses["share"].value, (squared * weights[finite]).sum() / weights[finite].sum())
    assert list(losses) == list(own.forms) == ["origin", "share"]


def test_the_mean_over_batches_is_the_weighted_mean_over_particles_and_pairs() -> None:
    plain, batches = made_jets([4] * 12), torch.arange(12).chunk(6)
    groups, origin = torch.arange(48) % 2, torch.arange(48) % 3
    weights = torch.ones(12)
    weights[5] = 100.0
    jets = replace(with_truth(plain, origin=origin, vertex=groups, share=plain.column("pt")), weights=weights)
    own = tasks(ORIGIN, SHARE, ParticleTarget("vertex", groups=True))
    own.fit_statistics([jets])
    tokens = torch.randn(12, 4, 16, generator=torch.Generator().manual_seed(0))
    own(tokens.flatten(0, 1), jets)
    own.weight_sums.seen *= 1e9  # as after many jets: those of one batch do not change their mean
    whole, _ = own.eval()(tokens.flatten(0, 1), jets)
    means = [own.train()(tokens[rows].flatten(0, 1), jets.select(rows))[0] for rows in batches]
    for name in ("origin", "share", "vertex"):
        torch.testing.assert_close(torch.stack([one[name].value for one in means]).mean(), whole[name].value)


def test_a_particle_without_a_label_gives_no_gradient(jets: Jets, tokens: Tensor) -> None:
    tokens = tokens.clone().requires_grad_()
    tasks(ORIGIN)(tokens, jets)[0]["origin"].value.backward()
    assert tokens.grad is not None
    moved = tokens.grad.abs().sum(1) > 0
    assert moved.tolist() == [index not in (0, 1, 3) for index in range(len(tokens))]


def test_a_batch_without_any_label_has_no_loss_and_no_weight(jets: Jets, tokens: Tensor) -> None:
    columns = list(jets.columns)
    jets.particles[:, columns.index("truth:origin")] = torch.nan
    loss, weight, _ = tasks(ORIGIN)(tokens, jets)[0]["origin"]
    assert (float(loss.detach()), float(weight)) == (0.0, 0.0)
    assert not tasks(ORIGIN).has(jets).any()


def test_jets_with_a_label_of_any_target_are_chosen(jets: Jets) -> None:
    assert tasks(ORIGIN).has(jets).tolist() == [True, False, True, True]
    assert tasks(ORIGIN, SHARE).has(jets).all()
    of_jets = Tasks(TaskSettings(name="x"), 8, ("a", "b"))
    unlabelled = replace(jets, labels=torch.tensor([-1, -1, -1, 0]))
    has = of_jets.has(unlabelled)
    assert len(at_least_one(unlabelled, has)) == 1
    assert len(at_least_one(unlabelled, has | tasks(ORIGIN).has(unlabelled))) == 3


def test_balanced_classes_count_the_same_and_absent_ones_not_at_all(jets: Jets, tokens: Tensor) -> None:
    own = tasks(ORIGIN, class_weights="balanced")
    own.fit_statistics([jets])
    labels = ORIGIN.labels(jets)
    counts = torch.bincount(labels[labels >= 0], minlength=3).float()
    totals = own.get_buffer("class_weights0") * counts
    torch.testing.assert_close(totals[0], totals[1])
    assert float(totals[2]) == 0.0
    assert float(own.get_buffer("class_weights0")[2]) == 1.0
    assert not torch.allclose(own(tokens, jets)[0]["origin"].value, tasks(ORIGIN)(tokens, jets)[0]["origin"].value)


def test_a_number_that_no_particle_has_is_an_error(jets: Jets) -> None:
    with pytest.raises(SslJetsError, match="no training jet has a finite value"):
        tasks(ParticleTarget("gone")).fit_statistics([jets])


def test_the_encoder_reads_no_label_and_hidden_features_leave_them(jets: Jets) -> None:
    encoder = tiny_encoder(made_jets([5, 6])).eval()
    plain = jets.without([name for name in jets.columns if name.startswith(TRUTH)])
    with torch.no_grad():
        torch.testing.assert_close(encoder(jets).tokens, encoder(plain).tokens, rtol=0, atol=0)
    assert {"truth:origin", "truth:share"} <= set(hide_inputs(jets, 1.0).columns)


def test_heads_are_built_again_from_their_description() -> None:
    heads = ParticleHeads(16, [SHARE, ORIGIN], 8, "quantile", (0.1, 0.5, 0.9))
    again = ParticleHeads.of(heads.describe())
    again.load_state_dict(heads.state_dict())
    assert again.targets == heads.targets
    tokens = torch.randn(3, 16)
    assert again.regressor is not None
    assert heads.regressor is not None
    torch.testing.assert_close(again.regressor.bands(tokens), heads.regressor.bands(tokens))


def test_metrics_of_held_out_particles_equal_those_of_scikit_learn(jets: Jets) -> None:
    encoder: Encoder = tiny_encoder(made_jets([5, 6])).eval()
    torch.manual_seed(0)
    heads = ParticleHeads(encoder.width, [ORIGIN, SHARE])
    with torch.no_grad():
        metrics = particle_metrics(encoder, heads, [jets.select(torch.tensor(rows)) for rows in ([0, 1], [2, 3])])
        probabilities = heads.logits(encoder(jets).tokens)["origin"].softmax(1)
        off = (heads.regressor.physical(encoder(jets).tokens)[:, 0] - SHARE.truth(jets)).double()  # type: ignore[union-attr]
    labels = ORIGIN.labels(jets)
    known = labels >= 0
    areas = [roc_auc_score(labels[known] == index, probabilities[known, index]) for index in (0, 1)]
    assert metrics["auc_origin"] == pytest.approx(sum(areas) / 2)
    accuracy = (probabilities.argmax(1) == labels)[known].double().mean()
    assert metrics["accuracy_origin"] == pytest.approx(float(accuracy))
    assert set(metrics) == {"accuracy_origin", "auc_origin", "bias_share", "resolution_share"}
    low, median, high = off[off.isfinite()].quantile(torch.tensor([0.16, 0.5, 0.84]).double()).tolist()
    assert metrics["bias_share"] == pytest.approx(median, rel=1e-4)
    assert metrics["resolution_share"] == pytest.approx((high - low) / 2, rel=1e-4)


VERTEX = ParticleTarget("vertex", groups=True)


def test_pairs_are_of_one_jet_each_once_and_their_logits_are_the_form(tokens: Tensor) -> None:
    jets = made_jets(LENGTHS)
    torch.manual_seed(0)
    head = PairHead(16)
    pairs = head(tokens, jets)
    owner = jets.jet_of_particle
    expected = {(i, j) for i in range(13) for j in range(i + 1, 13) if owner[i] == owner[j]}
    assert set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == expected
    assert len(pairs.first) == len(expected)
    values = head.layers(tokens)
    for logit, i, j in zip(*pairs, strict=True):
        form = (values[i, :-1] * values[j, :-1] * head.signs).sum() + values[i, -1] + values[j, -1] + head.constant
        torch.testing.assert_close(logit, form)


def test_the_loss_of_groups_is_the_mean_over_pairs_that_both_have_one(tokens: Tensor) -> None:
    nan = torch.nan
    vertex = torch.tensor([0, 0, 1, 0, -2, -2, 1, 1, nan, 0, 0, 0, 0.0])
    jets = replace(with_truth(made_jets(LENGTHS), vertex=vertex), weights=torch.tensor([1.0, 1.0, 3.0, 0.0]))
    own = tasks(VERTEX)
    pairs = own.heads.pairs(tokens, jets)["vertex"]
    total, weight = 0.0, 0.0
    for logit, i, j in zip(*pairs, strict=True):
        if vertex[i].isfinite() and vertex[j].isfinite():
            same = (vertex[i] == vertex[j]) & (vertex[i] >= 0)
            jet = float(jets.weights[jets.jet_of_particle[i]])  # type: ignore[index]
            total += jet * float(nn.functional.binary_cross_entropy_with_logits(logit, same.float()).detach())
            weight += jet
    loss = own(tokens, jets)[0]["vertex"]
    assert float(loss.value.detach()) == pytest.approx(total / weight, rel=1e-5)


def test_groups_are_the_connected_pairs_numbered_in_each_jet() -> None:
    logits = torch.tensor([1.0, -1.0, 1.0, 2.0, -3.0])
    pairs = Pairs(logits, torch.tensor([0, 0, 1, 5, 4]), torch.tensor([1, 3, 3, 6, 5]))
    groups = components(pairs, 8)
    assert within_jets(groups, np.array([0, 0, 0, 0, 1, 1, 1, 1])).tolist() == [0, 0, -1, 0, -1, 0, 0, -1]


def test_metrics_of_pairs_rank_true_pairs_above_others() -> None:
    jets = made_jets([4, 3])
    encoder = tiny_encoder(jets).eval()
    torch.manual_seed(0)
    heads = ParticleHeads(encoder.width, [VERTEX])
    with torch.no_grad():
        pairs = heads.pairs(encoder(jets).tokens, jets)["vertex"]
    groups = torch.from_numpy(components(pairs, 7)).float()
    metrics = particle_metrics(encoder, heads, [with_truth(jets, vertex=groups)])
    assert 0 <= metrics["auc_vertex"] <= 1
    assert metrics["purity_vertex"] == 1.0
    joined = pairs.logits > 0
    same = (groups[pairs.first] == groups[pairs.second]) & (groups[pairs.first] >= 0)
    assert metrics["efficiency_vertex"] == pytest.approx(float(joined[same].double().mean()))


def test_pairs_are_multiplied_in_float32_under_autocast(jets: Jets) -> None:
    torch.manual_seed(0)
    head, tokens = PairHead(16), 3 * torch.randn(sum(LENGTHS), 16)
    with torch.autocast("cpu", torch.bfloat16):
        pairs = head(tokens, jets)
        factors, single = head.layers(tokens).float().split([len(head.signs), 1], 1)
    products = (factors[pairs.first] * head.signs * factors[pairs.second]).sum(1)
    expected = products + single[pairs.first, 0] + single[pairs.second, 0] + head.constant
    torch.testing.assert_close(pairs.logits, expected, atol=1e-5, rtol=1e-5)
