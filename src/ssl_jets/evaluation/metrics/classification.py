"""Metrics of a classification as the field quotes them, each with its bootstrap interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ssl_jets.arrays import Array
from ssl_jets.errors import DataError, UsageError, nearest
from ssl_jets.evaluation.metrics.bootstrap import Bootstrap, Estimate, effective
from ssl_jets.evaluation.metrics.calibration import (
    Calibrated,
    Reliability,
    calibrate,
    calibration_error,
    calibration_rows,
    reliability,
)
from ssl_jets.evaluation.metrics.ranking import macro_auc, macro_auc_rest, pair_auc
from ssl_jets.evaluation.metrics.roc import Rejection, Roc, Significance, against, ranked
from ssl_jets.evaluation.result_base import Values
from ssl_jets.runtime.short_repr import ShortRepr

EFFICIENCY = 0.5
"""Signal efficiency at which a background rejection is quoted (arXiv:2202.03772)."""

EFFICIENCIES: Mapping[str, float] = {"Hqql": 0.99, "Tbl": 0.995}
"""The classes for which the field quotes it elsewhere (the same paper)."""


@dataclass(frozen=True, repr=False)
class ClassificationMetrics(ShortRepr):
    """Classification of labelled jets.

    Attributes:
        names: classes, in the order of the probabilities.
        jets: jets of each class.
        largest_class: as the function of that name.
        accuracy: share of jets whose most probable class is the true one.
        auc: macro area under the ROC curve, one-versus-one.
        auc_rest: the same, one-versus-rest.
        log_loss: mean of -ln p(true class).
        calibration_error: expected calibration error of the most probable class.
        class_accuracy, class_auc: of each class; the area is one-versus-rest.
        rejections: of each class that is not the background, at each signal efficiency.
        significance: the largest significance improvement of each of these classes.
        confusion: jets `[true class, most probable class]`, the sum of their weights.
        roc: of each of these classes, through its rejections.
        reliability: confidence against accuracy.
        calibrated: the same after temperature scaling.
    """

    names: tuple[str, ...]
    jets: dict[str, int]
    largest_class: float
    accuracy: Estimate
    auc: Estimate
    auc_rest: Estimate
    log_loss: Estimate
    calibration_error: Estimate
    class_accuracy: dict[str, Estimate]
    class_auc: dict[str, Estimate]
    rejections: list[Rejection]
    significance: list[Significance]
    confusion: Values
    roc: list[Roc]
    reliability: Reliability
    calibrated: Calibrated


def classification_metrics(
    probabilities: Array,
    labels: Array,
    names: Sequence[str],
    *,
    weights: Array | None = None,
    first: Array | None = None,
    background: str | None = None,
    efficiencies: Mapping[str, float] | Sequence[float] | None = None,
    resamples: int = 200,
    seed: int = 0,
) -> ClassificationMetrics:
    """Compute all metrics of a classification.

    Args:
        probabilities: `[jet, class]`, rows that sum to one.
        labels: int64 `[jet]`, index into `names`.
        names: class names.
        weights: of the jets, `[jet]`; by default all 1.
        first: the jets of the first half for temperature scaling, bool `[jet]`; by default a random half.
        background: class that the others are separated from; by default "QCD" if there is one, else the first.
        efficiencies: signal efficiency by class, over the defaults; or of every class, instead of the defaults.
        resamples: number of bootstrap resamples of the jets.
        seed: of the bootstrap.
    """
    names = tuple(names)
    _check(probabilities, labels, names)
    background = background or ("QCD" if "QCD" in names else names[0])
    if background not in names:
        raise UsageError(
            "there is no such class", where="background", found=background, allowed=nearest(background, names)
        )
    bootstrap = Bootstrap(len(labels), resamples, seed, weights)
    scalars = _scalars(probabilities, labels, bootstrap)
    points = _working_points(probabilities, labels, names, background, efficiencies or {}, bootstrap)
    if first is None:
        first = np.random.default_rng(seed).permutation(len(labels)) < len(labels) // 2
    counts = np.bincount(labels, minlength=len(names))
    own = [effective(bootstrap.weights[labels == index]) for index in range(len(names))]
    rest = [effective(bootstrap.weights[labels != index]) for index in range(len(names))]
    right, areas = scalars["class_accuracy"], scalars["class_auc"]
    return ClassificationMetrics(
        names=names,
        jets={name: int(count) for name, count in zip(names, counts)},
        largest_class=largest_class(labels, bootstrap.weights),
        accuracy=Estimate.of_share(scalars["accuracy"], effective(bootstrap.weights)),
        auc=_of_macro_auc(scalars["auc"], labels, bootstrap),
        auc_rest=_of_macro_auc(scalars["auc_rest"], labels, bootstrap),
        log_loss=Estimate.of_positive(scalars["log_loss"], scalars["log_loss_error"]),
        calibration_error=calibration_error(scalars),
        class_accuracy={name: Estimate.of_share(right[:, i], own[i]) for i, name in enumerate(names)},
        class_auc={name: Estimate.of_mean(areas[:, i], min(own[i], rest[i])) for i, name in enumerate(names)},
        rejections=[rejection for rejections, _, _ in points for rejection in rejections],
        significance=[best for _, _, best in points],
        confusion=_confusion(probabilities, labels, bootstrap.weights),
        roc=[curve for _, curve, _ in points],
        reliability=reliability(probabilities, labels, bootstrap.weights),
        calibrated=calibrate(probabilities, labels, first, bootstrap),
    )


def accuracy_and_auc(
    probabilities: Array, labels: Array, *, weights: Array | None = None, resamples: int = 200, seed: int = 0
) -> tuple[Estimate, Estimate]:
    """Return accuracy and macro one-versus-one AUC alone, for probes."""
    bootstrap = Bootstrap(len(labels), resamples, seed, weights)
    return accuracy_and_auc_of(*accuracy_and_auc_rows(probabilities, labels, bootstrap), labels, bootstrap)


def accuracy_and_auc_of(accuracy: Array, auc: Array, labels: Array, bootstrap: Bootstrap) -> tuple[Estimate, Estimate]:
    """Return the estimates of the rows `[row]` of `accuracy_and_auc_rows`."""
    jets = effective(bootstrap.weights)
    return Estimate.of_share(accuracy, jets), _of_macro_auc(auc, labels, bootstrap)


def accuracy_and_auc_rows(probabilities: Array, labels: Array, bootstrap: Bootstrap) -> tuple[Array, Array]:
    """Return both for every row of the bootstrap, `[row]` each, so that differences of models can be paired."""
    correct = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    accuracy, auc = [], []
    for weights in bootstrap.blocks(probabilities.shape[1] ** 2):
        with np.errstate(invalid="ignore"):  # a resample of jets of weight 0 alone
            accuracy.append(weights @ correct / weights.sum(axis=1))
        auc.append(macro_auc(pair_auc(probabilities, labels, weights)[0]))
    return np.concatenate(accuracy), np.concatenate(auc)


def _of_macro_auc(rows: Array, labels: Array, bootstrap: Bootstrap) -> Estimate:
    """Return the estimate of a macro AUC `[row]`: one area of two classes; of more, an average of areas."""
    counting = np.unique(labels[bootstrap.weights > 0])
    smallest = smallest_class(labels, bootstrap.weights)
    return (Estimate.of_mean if len(counting) == 2 else Estimate.of_means)(rows, smallest)


def smallest_class(labels: Array, weights: Array) -> float:
    """Return the effective number of jets of the smallest class that has any: labels int64 `[jet]`, weights `[jet]`."""
    return min(effective(weights[labels == index]) for index in np.unique(labels[weights > 0]))


def largest_class(labels: Array, weights: Array) -> float:
    """Return the accuracy of a constant guess: the share of the class of largest weight in all weight.

    Args:
        labels: int64 `[jet]`.
        weights: `[jet]`.
    """
    return float(np.bincount(labels, weights).max() / weights.sum())


def _scalars(probabilities: Array, labels: Array, bootstrap: Bootstrap) -> dict[str, Array]:
    """Return every scalar for every row of the bootstrap: `[row]`, or `[row, class]`."""
    member = np.eye(probabilities.shape[1])[labels]
    correct = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    rows: dict[str, list[Array]] = {}
    for weights in bootstrap.blocks(probabilities.shape[1] ** 2):
        one_versus_one, one_versus_rest = pair_auc(probabilities, labels, weights)
        with np.errstate(invalid="ignore"):
            metrics = {
                "accuracy": weights @ correct / weights.sum(axis=1),
                "auc": macro_auc(one_versus_one),
                "auc_rest": macro_auc_rest(one_versus_rest),
                "class_accuracy": (weights @ (member * correct[:, None])) / (weights @ member),
                "class_auc": one_versus_rest,
            }
        for name, values in metrics.items():
            rows.setdefault(name, []).append(values)
    joined = {name: np.concatenate(blocks) for name, blocks in rows.items()}
    return joined | calibration_rows(probabilities, labels, bootstrap)


def _working_points(
    probabilities: Array,
    labels: Array,
    names: tuple[str, ...],
    background: str,
    efficiencies: Mapping[str, float] | Sequence[float],
    bootstrap: Bootstrap,
) -> list[tuple[list[Rejection], Roc, Significance]]:
    """Return rejections, ROC curve and significance improvement of each class with jets against the background."""
    points = []
    for index, name in enumerate(names):
        pair = ranked(probabilities, labels, index, names.index(background), bootstrap.weights)
        if name != background and pair is not None:
            if isinstance(efficiencies, Mapping):
                of_class = [{**EFFICIENCIES, **efficiencies}.get(name, EFFICIENCY)]
            else:
                of_class = list(efficiencies)
            points.append(against(pair, bootstrap, name, background, of_class))
    return points


def _confusion(probabilities: Array, labels: Array, weights: Array) -> Array:
    classes = probabilities.shape[1]
    counts = np.bincount(labels * classes + probabilities.argmax(axis=1), weights, classes**2)
    confusion: Array = counts.reshape(classes, classes)
    return confusion


def _check(probabilities: Array, labels: Array, names: tuple[str, ...]) -> None:
    if probabilities.shape != (len(labels), len(names)) or len(names) < 2 or len(labels) == 0:
        raise DataError(
            "the probabilities do not fit the labels and classes",
            found=f"probabilities {list(probabilities.shape)}, {len(labels)} labels, {len(names)} classes",
            allowed=["[jet, class], with two classes or more"],
        )
    if not np.isfinite(probabilities).all():
        raise DataError("a probability is NaN or infinite", found=f"{int((~np.isfinite(probabilities)).sum())} values")
    if labels.min() < 0 or labels.max() >= len(names):
        raise DataError(
            "a label is not a class", found=f"{labels.min()} to {labels.max()}", allowed=[f"0 to {len(names) - 1}"]
        )
