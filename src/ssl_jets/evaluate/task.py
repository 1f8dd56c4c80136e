"""How well classes are told apart: numbers as the field quotes them, each with its bootstrap interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ssl_jets.errors import DataError, UsageError, nearest
from ssl_jets.evaluate.estimate import Array, Bootstrap, Estimate
from ssl_jets.evaluate.ranking import Ranked, macro_auc, macro_auc_rest, pair_auc, two_class_score

EFFICIENCY = 0.5
"""Signal efficiency at which a background rejection is quoted (arXiv:2202.03772)."""

EFFICIENCIES: Mapping[str, float] = {"Hqql": 0.99, "Tbl": 0.995}
"""The classes for which the field quotes it elsewhere (the same paper)."""

BINS = 15
"""Bins of the confidence in the reliability diagram and the calibration error."""

ROC_POINTS = 300
"""Points of a stored ROC curve, at most."""


@dataclass(frozen=True)
class Rejection:
    """1 / eps_B at a signal efficiency, with the score p_s / (p_s + p_b).

    Attributes:
        signal, background: class names.
        efficiency: eps_S.
        background_jets, survivors: background jets, and how many of them pass.
        rejection: where no jet survives, `value` is the number of background jets, `limit` is True, and `low` and
            `low95` are the one-sided 68 % and 95 % Poisson limits.
    """

    signal: str
    background: str
    efficiency: float
    background_jets: int
    survivors: int
    rejection: Estimate


@dataclass(frozen=True)
class Roc:
    """eps_S of `signal` at values of eps_B of `background` (`[point]` each), with its 68 % band."""

    signal: str
    background: str
    background_efficiency: Array
    signal_efficiency: Array
    low: Array
    high: Array


@dataclass(frozen=True)
class Reliability:
    """Of the jets in each bin of the largest probability (`[bin]` each): their number, mean confidence, accuracy."""

    jets: Array
    confidence: Array
    accuracy: Array


@dataclass(frozen=True)
class TaskMetrics:
    """Classification of labelled jets.

    Attributes:
        names: classes, in the order of the probabilities.
        jets: jets of each class.
        accuracy: share of jets whose most probable class is the true one.
        auc: macro area under the ROC curve, one-versus-one.
        auc_rest: the same, one-versus-rest.
        log_loss: mean of -ln p(true class).
        calibration_error: expected calibration error of the most probable class.
        class_accuracy, class_auc: of each class; the area is one-versus-rest.
        rejections: one per class that is not the background.
        confusion: jets `[true class, most probable class]`.
        roc: one per rejection.
        reliability: confidence against accuracy.
    """

    names: tuple[str, ...]
    jets: dict[str, int]
    accuracy: Estimate
    auc: Estimate
    auc_rest: Estimate
    log_loss: Estimate
    calibration_error: Estimate
    class_accuracy: dict[str, Estimate]
    class_auc: dict[str, Estimate]
    rejections: list[Rejection]
    confusion: Array
    roc: list[Roc]
    reliability: Reliability


def classify_metrics(
    probabilities: Array,
    labels: Array,
    names: Sequence[str],
    *,
    background: str | None = None,
    efficiencies: Mapping[str, float] | None = None,
    resamples: int = 200,
    seed: int = 0,
) -> TaskMetrics:
    """All metrics of a classification.

    Args:
        probabilities: `[jet, class]`, rows that sum to one.
        labels: int64 `[jet]`, index into `names`.
        names: class names.
        background: class the others are told apart from; by default "QCD" where there is one, else the first.
        efficiencies: signal efficiency by class, over the defaults.
        resamples, seed: of the bootstrap over jets.
    """
    names = tuple(names)
    _check(probabilities, labels, names)
    background = background or ("QCD" if "QCD" in names else names[0])
    if background not in names:
        raise UsageError(
            "there is no such class", where="background", found=background, allowed=nearest(background, names)
        )
    bootstrap = Bootstrap(len(labels), resamples, seed)
    confusion = np.bincount(labels * len(names) + probabilities.argmax(axis=1), minlength=len(names) ** 2)
    confusion = confusion.reshape(len(names), len(names))
    scalars = _scalars(probabilities, labels, bootstrap)
    wanted = {**EFFICIENCIES, **(efficiencies or {})}
    rejections, curves = [], []
    for name in names:
        pair = _ranked(probabilities, labels, names.index(name), names.index(background))
        if name != background and pair is not None:
            rejections.append(_rejection(pair, bootstrap, name, background, wanted.get(name, EFFICIENCY)))
            curves.append(_roc(pair, bootstrap, name, background))
    return TaskMetrics(
        names=names,
        jets={name: int(count) for name, count in zip(names, confusion.sum(axis=1))},
        accuracy=_estimate(scalars["accuracy"]),
        auc=_estimate(scalars["auc"]),
        auc_rest=_estimate(scalars["auc_rest"]),
        log_loss=_estimate(scalars["log_loss"]),
        calibration_error=_estimate(scalars["calibration_error"], biased=True),
        class_accuracy={name: _estimate(scalars["class_accuracy"][:, i]) for i, name in enumerate(names)},
        class_auc={name: _estimate(scalars["class_auc"][:, i]) for i, name in enumerate(names)},
        rejections=rejections,
        confusion=confusion,
        roc=curves,
        reliability=_reliability(probabilities, labels),
    )


def accuracy_and_auc(
    probabilities: Array, labels: Array, *, resamples: int = 200, seed: int = 0
) -> tuple[Estimate, Estimate]:
    """Accuracy and macro one-versus-one AUC alone, for probes."""
    correct = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    accuracy, auc = [], []
    for weights in Bootstrap(len(labels), resamples, seed).blocks():
        accuracy.append(weights @ correct / weights.sum(axis=1))
        auc.append(macro_auc(pair_auc(probabilities, labels, weights)[0]))
    return _estimate(np.concatenate(accuracy)), _estimate(np.concatenate(auc))


def _estimate(rows: Array, *, biased: bool = False) -> Estimate:
    """Row 0 is the value on the jets themselves, the others are resamples."""
    return Estimate.of(float(rows[0]), rows[1:], biased=biased)


def _scalars(probabilities: Array, labels: Array, bootstrap: Bootstrap) -> dict[str, Array]:
    """Every scalar of every row of the bootstrap: `[row]`, or `[row, class]`."""
    classes = probabilities.shape[1]
    member = np.eye(classes)[labels]
    correct = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    with np.errstate(divide="ignore"):
        surprise = -np.log(np.clip(probabilities[np.arange(len(labels)), labels].astype(np.float64), 1e-15, None))
    gap = np.eye(BINS)[_bin(probabilities)] * (correct - probabilities.max(axis=1))[:, None]
    rows: dict[str, list[Array]] = {}
    for weights in bootstrap.blocks():
        total = weights.sum(axis=1)
        one_versus_one, one_versus_rest = pair_auc(probabilities, labels, weights)
        with np.errstate(invalid="ignore"):
            found = {
                "accuracy": weights @ correct / total,
                "auc": macro_auc(one_versus_one),
                "auc_rest": macro_auc_rest(one_versus_rest),
                "log_loss": weights @ surprise / total,
                "calibration_error": np.abs(weights @ gap).sum(axis=1) / total,
                "class_accuracy": (weights @ (member * correct[:, None])) / (weights @ member),
                "class_auc": one_versus_rest,
            }
        for name, values in found.items():
            rows.setdefault(name, []).append(values)
    return {name: np.concatenate(blocks) for name, blocks in rows.items()}


def _ranked(probabilities: Array, labels: Array, signal: int, background: int) -> Ranked | None:
    """The jets of the two classes by their two-class score; None where one has no jets."""
    is_signal, is_background = labels == signal, labels == background
    if not is_signal.any() or not is_background.any():
        return None
    return Ranked.of(two_class_score(probabilities, signal, background), is_signal, is_background)


def _rejection(pair: Ranked, bootstrap: Bootstrap, signal: str, background: str, efficiency: float) -> Rejection:
    shares = np.concatenate([pair.background_efficiency(weights, efficiency) for weights in bootstrap.blocks()])
    jets = len(pair.background)
    survivors = round(float(shares[0]) * jets)
    if survivors == 0:
        # No jet passes: eps_B < -ln(1 - CL) / N_b at confidence CL (Poisson, one-sided).
        low, low95 = (jets / -np.log(1 - level) for level in (0.68, 0.95))
        estimate = Estimate(float(jets), float(low), None, float(low95), None, limit=True)
    else:
        low95, low, high, high95 = _inverse(Estimate.of(float(shares[0]), shares[1:]))
        estimate = Estimate(1 / float(shares[0]), low, high, low95, high95)
    return Rejection(signal, background, efficiency, jets, survivors, estimate)


def _inverse(share: Estimate) -> tuple[float | None, float | None, float | None, float | None]:
    """Bounds of 1 / eps_B from those of eps_B, falling to rising; None (open) where eps_B reaches zero."""
    low95, low, high, high95 = (
        1 / bound if bound else None for bound in (share.high95, share.high, share.low, share.low95)
    )
    return low95, low, high, high95


def _roc(pair: Ranked, bootstrap: Bootstrap, signal: str, background: str) -> Roc:
    grid = pair.grid(ROC_POINTS)
    points = np.concatenate([pair.signal_efficiency(weights, grid) for weights in bootstrap.blocks()])
    low, high = np.nanpercentile(points[1:], (16, 84), axis=0)
    return Roc(signal, background, grid, points[0], low, high)


def _bin(probabilities: Array) -> Array:
    """Bin of the largest probability of each jet, `[jet]`; a value on an edge belongs to the bin above."""
    index: Array = np.minimum((probabilities.max(axis=1) * BINS).astype(np.int64), BINS - 1)
    return index


def _reliability(probabilities: Array, labels: Array) -> Reliability:
    index = _bin(probabilities)
    jets = np.bincount(index, minlength=BINS)
    correct = np.bincount(index, weights=probabilities.argmax(axis=1) == labels, minlength=BINS)
    confidence = np.bincount(index, weights=probabilities.max(axis=1), minlength=BINS)
    filled = jets > 0
    return Reliability(jets[filled], confidence[filled] / jets[filled], correct[filled] / jets[filled])


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
