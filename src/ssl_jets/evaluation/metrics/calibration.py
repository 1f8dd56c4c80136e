"""Calibration of probabilities: expected calibration error, reliability, temperature scaling.

    p_T = softmax(ln p / T),    T = argmin over T of the log-loss on other jets

(Guo et al., arXiv:1706.04599). The test jets are cut in two halves; each is scaled with the temperature fitted on the
other, so no jet helps to calibrate itself, and all of them are still tested on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize_scalar

from ssl_jets.arrays import Array
from ssl_jets.evaluation.metrics.bootstrap import PERCENTILES, Bootstrap, Estimate, standard_error
from ssl_jets.evaluation.result_base import Values

BINS = 15
"""Bins of the confidence in the reliability diagram and the calibration error."""

_RANGE = (-3.0, 3.0)
"""Bounds of ln T."""


@dataclass(frozen=True)
class Reliability:
    """Jets in bins of the largest probability: their number, mean confidence and accuracy, `[bin]` each.

    With weights the number is the effective one, (sum w)^2 / sum w^2.
    """

    jets: Values
    confidence: Values
    accuracy: Values


@dataclass(frozen=True)
class Calibrated:
    """The same probabilities after temperature scaling.

    Attributes:
        temperatures: of the first and of the second half of the jets; above 1 the model was overconfident.
        log_loss, calibration_error: afterwards, on all jets.
        reliability: afterwards.
    """

    temperatures: tuple[float, float]
    log_loss: Estimate
    calibration_error: Estimate
    reliability: Reliability


def calibrate(probabilities: Array, labels: Array, first: Array, bootstrap: Bootstrap) -> Calibrated:
    """Scale each half of the jets with the temperature of the other.

    Args:
        probabilities: `[jet, class]`.
        labels: int64 `[jet]`.
        first: mask of the jets of the first half, bool `[jet]`.
        bootstrap: resamples of the jets, with their weights.
    """
    scaled = np.empty(probabilities.shape)
    temperatures = []
    for half in (first, ~first):
        weights = bootstrap.weights[half]
        temperatures.append(temperature(probabilities[half], labels[half], weights) if weights.sum() > 0 else 1.0)
        scaled[~half] = scale(probabilities[~half], temperatures[-1])
    rows = calibration_rows(scaled, labels, bootstrap)
    return Calibrated(
        (temperatures[0], temperatures[1]),
        Estimate.of_positive(rows["log_loss"], rows["log_loss_error"]),
        calibration_error(rows),
        reliability(scaled, labels, bootstrap.weights),
    )


def temperature(probabilities: Array, labels: Array, weights: Array) -> float:
    """Return the T of the smallest log-loss on these jets."""

    def loss(log_t: float) -> float:
        return float(weights @ surprise(scale(probabilities, float(np.exp(log_t))), labels) / weights.sum())

    return float(np.exp(minimize_scalar(loss, bounds=_RANGE, method="bounded", options={"xatol": 1e-4}).x))


def scale(probabilities: Array, temperature: float) -> Array:
    """Return softmax(ln p / T), `[jet, class]`."""
    logits = np.log(np.clip(probabilities.astype(np.float64), 1e-15, None)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    scaled: Array = powers / powers.sum(axis=1, keepdims=True)
    return scaled


def surprise(probabilities: Array, labels: Array) -> Array:
    """Return -ln p of the true class, `[jet]`."""
    true = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    result: Array = -np.log(np.clip(true, 1e-15, None))
    return result


def calibration_rows(probabilities: Array, labels: Array, bootstrap: Bootstrap) -> dict[str, Array]:
    """Return `log_loss`, its error, `calibration_error` and `calibration_noise` of every row of the bootstrap, `[row]`.

    The last is the error of the jets themselves with random labels: each jet is classified correctly with its largest
    probability, as if the model were calibrated.
    """
    correct, confidence = (probabilities.argmax(axis=1) == labels).astype(np.float64), probabilities.max(axis=1)
    member = np.eye(BINS)[_bin(probabilities)]  # [jet, bin]
    gap = member * (correct - confidence)[:, None]
    rng, weighted = np.random.default_rng(0), bootstrap.weights[:, None] * member
    loss = surprise(probabilities, labels)
    rows: dict[str, list[Array]] = {
        name: [] for name in ("log_loss", "log_loss_error", "calibration_error", "calibration_noise")
    }
    for weights in bootstrap.blocks():
        total, gaps = weights.sum(axis=1), weights @ gap
        with np.errstate(invalid="ignore"):  # a resample of jets of weight 0 alone
            mean = weights @ loss / total
            rows["log_loss"].append(mean)
            rows["log_loss_error"].append(standard_error(weights, bootstrap.weights, loss - mean[:, None]))
            rows["calibration_error"].append(np.abs(gaps).sum(axis=1) / total)
        drawn = (rng.random(weights.shape) < confidence) - confidence
        rows["calibration_noise"].append(np.abs(drawn @ weighted).sum(axis=1) / bootstrap.weights.sum())
    return {name: np.concatenate(blocks) for name, blocks in rows.items()}


def calibration_error(rows: Mapping[str, Array]) -> Estimate:
    """Return the calibration error, corrected for its bias, from `calibration_rows`.

    An interval begins at 0 unless the error exceeds that percentile of the noise. By the bootstrap alone 0 was in half
    of the 95 % intervals of calibrated jets, whatever their number. Noise from resamples of the jets is too small in
    bins of few jets.
    """
    estimate, error = Estimate.of_rows(rows["calibration_error"], biased=True), rows["calibration_error"][0]
    if estimate.low is None:
        return estimate
    noise, noise95 = np.percentile(rows["calibration_noise"], (84, 97.5), method=PERCENTILES)
    return replace(
        estimate,
        low=estimate.low if error > noise else 0.0,
        low95=estimate.low95 if error > noise95 else 0.0,
    )


def reliability(probabilities: Array, labels: Array, weights: Array) -> Reliability:
    """Return confidence and accuracy in bins of the largest probability; empty bins are left out."""
    index = _bin(probabilities)
    total, squares = (np.bincount(index, weights**power, BINS) for power in (1, 2))
    correct = np.bincount(index, weights * (probabilities.argmax(axis=1) == labels), BINS)
    confidence = np.bincount(index, weights * probabilities.max(axis=1), BINS)
    filled = total > 0
    jets = total[filled] ** 2 / squares[filled]
    return Reliability(jets, confidence[filled] / total[filled], correct[filled] / total[filled])


def _bin(probabilities: Array) -> Array:
    """Return the bin of the largest probability, int64 `[jet]`; a value on an edge belongs to the bin above."""
    index: Array = np.minimum((probabilities.max(axis=1) * BINS).astype(np.int64), BINS - 1)
    return index
