"""Metrics of the targets of particles on held-out jets, for the log of a training."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ssl_jets.jets import Jets
from ssl_jets.nn.encoder import BaseEncoder
from ssl_jets.nn.particles.heads import ParticleHeads
from ssl_jets.nn.particles.pairs import same_group


def particle_metrics(encoder: BaseEncoder, heads: ParticleHeads, batches: Iterable[Jets]) -> dict[str, float]:
    """Return the metrics of all particles of the batches that have a label.

    `accuracy_NAME` and `auc_NAME`, the mean over the classes with particles of the area under the ROC curve of a class
    against the rest; of a number `bias_NAME`, the median of predicted - true, and `resolution_NAME`, half of its
    central 68 %, both in the unit of the label; of groups `auc_NAME`, `efficiency_NAME`, the share of the pairs of one
    group with a positive logit, and `purity_NAME`, the share of pairs with a positive logit that are of one group.
    Metrics that are not defined are left out.
    """
    outputs: dict[str, list[tuple[Tensor, Tensor]]] = {target.name: [] for target in heads.targets}
    for jets in batches:
        tokens = encoder(jets).tokens
        for target, logits in zip(heads.classified, heads.logits(tokens).values(), strict=True):
            outputs[target.name].append((logits.softmax(1).cpu(), target.labels(jets).cpu()))
        if heads.regressor is not None:
            for target, predicted in zip(heads.regressed, heads.regressor.physical(tokens).unbind(1), strict=True):
                outputs[target.name].append((predicted.cpu(), target.truth(jets).cpu()))
        for target, of_pairs in zip(heads.grouped, heads.pairs(tokens, jets).values(), strict=True):
            known, same = same_group(target.truth(jets), of_pairs)
            outputs[target.name].append((of_pairs.logits[known].cpu(), same[known].cpu()))
    metrics: dict[str, float] = {}
    for target in heads.targets:
        predicted, truth = (torch.cat(parts) for parts in zip(*outputs[target.name], strict=True))
        measure = _of_classes if target.classes else _of_pairs if target.groups else _of_numbers
        measured = measure(predicted, truth)
        metrics |= {f"{name}_{target.name}": value for name, value in measured.items()}
    return metrics


def _of_classes(probabilities: Tensor, labels: Tensor) -> dict[str, float]:
    """Return accuracy and macro AUC from probabilities `[particle, class]` and labels, -1 without one."""
    probabilities, labels = probabilities[labels >= 0], labels[labels >= 0]
    if not len(labels):
        return {}
    areas = [
        _area(probabilities[:, index], labels == index)
        for index in labels.unique().tolist()
        if bool((labels != index).any())
    ]
    accuracy = {"accuracy": float((probabilities.argmax(1) == labels).double().mean())}
    return accuracy | ({"auc": sum(areas) / len(areas)} if areas else {})


def _of_numbers(predicted: Tensor, truth: Tensor) -> dict[str, float]:
    """Return bias and resolution from predictions and true numbers, `[particle]`, NaN without one."""
    off = (predicted - truth)[truth.isfinite()].double()
    if not len(off):
        return {}
    # At most 2^24 numbers, the limit of `torch.quantile`.
    low, median, high = off[: 2**24].quantile(off.new_tensor([0.16, 0.5, 0.84])).tolist()
    return {"bias": median, "resolution": (high - low) / 2}


def _of_pairs(logits: Tensor, same: Tensor) -> dict[str, float]:
    """Return AUC, efficiency and purity from logits and truth, `[pair]`."""
    found, both = logits > 0, int((same & (logits > 0)).sum())
    metrics = {"auc": _area(logits, same)} if bool(same.any()) and bool((~same).any()) else {}
    metrics |= {"efficiency": both / int(same.sum())} if bool(same.any()) else {}
    return metrics | ({"purity": both / int(found.sum())} if bool(found.any()) else {})


def _area(score: Tensor, positive: Tensor) -> float:
    """Return the area under the ROC curve: the share of pairs in which the positive scores higher, ties one half."""
    values, index = score.double().unique(return_inverse=True)
    above = torch.bincount(index[positive], minlength=len(values)).double()
    below = torch.bincount(index[~positive], minlength=len(values)).double()
    lower = below.cumsum(0) - below
    return float((above * (lower + below / 2)).sum() / (above.sum() * below.sum()))
