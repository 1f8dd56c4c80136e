"""Do 95 % intervals contain the truth in 95 % of the cases? Simulated jets whose true numbers are known.

    python benchmarks/coverage.py [--repeats 300] [--only REJECTION]

Scores of signal are normal with mean d and of background with mean 0, both of width 1, so areas, efficiencies and
accuracies have formulas. Every repeat draws new jets. Prints a line for each number: its truth, its mean, the share of
the 95 % and 68 % intervals that contain the truth, and the shares that lie below and above it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import cache, partial
from typing import Any

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student
from sklearn.metrics import roc_auc_score

from ssl_jets.arrays import Array
from ssl_jets.evaluation.metrics.bootstrap import Bootstrap, Estimate
from ssl_jets.evaluation.metrics.calibration import calibration_error, calibration_rows
from ssl_jets.evaluation.metrics.cka import cka
from ssl_jets.evaluation.metrics.classification import accuracy_and_auc, accuracy_and_auc_rows, classification_metrics
from ssl_jets.evaluation.metrics.particles import particle_classes
from ssl_jets.evaluation.metrics.regression import regression_metrics
from ssl_jets.evaluation.metrics.two_sample import WeightedSample, wasserstein

NAMES = ("B", "S")

Numbers = dict[str, tuple[float, Estimate]]
"""Truth and estimate of each number of one repeat."""


def normal(rng: np.random.Generator, d: float, signal: int, background: int) -> tuple[Array, Array, Array]:
    """Return scores, probabilities `[jet, 2]` and labels of jets."""
    labels = np.repeat([1, 0], [signal, background])
    scores = rng.normal(d * labels)
    return scores, of_score(scores, d), labels


def of_score(scores: Array, d: float) -> Array:
    """Return calibrated probabilities `[jet, 2]` of equally frequent classes."""
    right = 1 / (1 + np.exp(-d * (scores - d / 2)))
    return np.stack([1 - right, right], axis=1)


def classes(seed: int, d: float, signal: int, background: int, weighted: bool = False) -> Numbers:
    """Measure a classifier."""
    rng = np.random.default_rng(seed)
    _, probabilities, labels = normal(rng, d, signal, background)
    weights = rng.exponential(size=len(labels)) if weighted else None
    options: Any = {"weights": weights, "background": "B", "seed": seed}
    found = classification_metrics(probabilities, labels, NAMES, efficiencies=(0.3, 0.5, 0.99), **options)
    numbers = {
        "accuracy": (norm.cdf(d / 2), found.accuracy),
        "AUC": (norm.cdf(d / 2**0.5), found.auc),
        "log loss": (log_loss(d), found.log_loss),
    }
    if signal == background:
        numbers["calibration error of calibrated jets"] = 0.0, found.calibration_error
    for rejection in found.rejections:
        truth = norm.sf(norm.isf(rejection.efficiency, d))
        numbers[f"rejection, R{100 * rejection.efficiency:g}"] = 1 / truth, rejection.rejection
    (best,) = found.significance
    if best.background_efficiency is not None:
        cut = norm.sf(norm.isf(best.background_efficiency), d)
        numbers["SIC of its cut"] = cut / best.background_efficiency**0.5, best.improvement
    kind = f"d = {d:g}, {signal} S, {background} B" + ", weighted" * weighted
    return {f"{name}; {kind}": number for name, number in numbers.items()}


@cache
def log_loss(d: float) -> float:
    return float(np.log1p(np.exp(-d * (np.random.default_rng(0).normal(d, 1, 1_000_000) - d / 2))).mean())


def overconfident(seed: int, d: float, jets: int) -> Numbers:
    """Measure the calibration error of probabilities with twice the logits."""

    _, probabilities, labels = normal(np.random.default_rng(seed), d, jets // 2, jets // 2)
    rows = calibration_rows(squared(probabilities), labels, Bootstrap(jets, seed=seed))
    number = calibration_error(rows)
    return {f"calibration error of overconfident jets; d = {d:g}, {jets} jets": (overconfidence(d), number)}


def squared(probabilities: Array) -> Array:
    """Return the softmax of twice the logits."""
    powers = probabilities**2
    result: Array = powers / powers.sum(axis=1, keepdims=True)
    return result


@cache
def overconfidence(d: float) -> float:
    """Return the calibration error of `squared` probabilities."""
    true = normal(np.random.default_rng(0), d, 500_000, 500_000)[1]
    confidence = squared(true).max(axis=1)
    gaps = np.bincount((confidence * 15).astype(int).clip(max=14), confidence - true.max(axis=1))
    return float(np.abs(gaps).sum() / len(true))


def differences(seed: int, d: float, gain: float, correlation: float, jets: int) -> Numbers:
    """Measure the differences of two readers with correlated scores."""
    rng = np.random.default_rng(seed)
    labels = np.arange(jets) % 2
    first, other = rng.normal(size=(2, jets))
    second = correlation * first + (1 - correlation**2) ** 0.5 * other
    rows = [
        accuracy_and_auc_rows(of_score(score + mean * labels, mean), labels, Bootstrap(jets, seed=seed))
        for score, mean in ((first, d), (second, d + gain))
    ]
    estimates = {
        "accuracy": (2.0, Estimate.of_difference(rows[1][0] - rows[0][0], jets)),
        "AUC": (2**0.5, Estimate.of_area_difference(rows[0][1], rows[1][1], jets / 2)),
    }
    return {
        f"difference of {name}; d = {d:g} and {d + gain:g}, {jets} jets": (
            norm.cdf((d + gain) / scale) - norm.cdf(d / scale),
            estimate,
        )
        for name, (scale, estimate) in estimates.items()
    }


def drawn(rng: np.random.Generator, sizes: tuple[int, ...]) -> tuple[Array, Array]:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    powers = np.exp(rng.normal(2.0 * np.eye(len(sizes))[labels]))
    return powers / powers.sum(axis=1, keepdims=True), labels


@cache
def macro_area(number: int) -> float:
    """Return the area of one class against another, by the probability of the first, of equal classes."""
    probabilities, labels = drawn(np.random.default_rng(0), (200_000, 200_000, *(0,) * (number - 2)))
    return float(roc_auc_score(labels == 0, probabilities[:, 0]))


def several(seed: int, sizes: tuple[int, ...]) -> Numbers:
    """Measure classes of unequal size: Gaussian logits, one for each class, shifted for the true one."""

    _, auc = accuracy_and_auc(*drawn(np.random.default_rng(seed), sizes), seed=seed)
    return {f"macro AUC; classes of {sizes}": (macro_area(len(sizes)), auc)}


def regressed(seed: int, jets: int, tails: bool) -> Numbers:
    """Measure a regression with Gaussian residuals, or of Student's t with three degrees of freedom."""
    rng = np.random.default_rng(seed)
    true, off = rng.normal(0, 2, jets), rng.standard_t(3, jets) if tails else rng.normal(0, 1, jets)
    found = regression_metrics(true + off, true, "x", {}, seed=seed)
    core, variance = (student.ppf(0.84, 3), 3.0) if tails else (norm.ppf(0.84), 1.0)
    numbers = {
        "bias": (0.0, found.bias),
        "resolution": (core, found.resolution),
        "R2": (1 - variance / 4, found.explained),
    }
    kind = "heavy tails" if tails else "Gaussian"
    return {f"{name}; {kind}, {jets} jets": number for name, number in numbers.items()}


def samples(seed: int, jets: int, shift: float) -> Numbers:
    """Measure the Wasserstein distance of two samples, and CKA of two z that share a part."""
    rng = np.random.default_rng(seed)
    first, second = (WeightedSample.of_jets(rng.normal(mean, 1, jets)) for mean in (0, shift))

    return {
        f"Wasserstein distance; shift {shift:g}, {jets} jets": (shift, wasserstein(first, second, seed=seed)),
        f"CKA; common part {shift:g}, {jets} jets": (alignment(shift), cka(*pair(rng, jets, shift), seed=seed)),
    }


def pair(rng: np.random.Generator, jets: int, common: float) -> tuple[Array, Array]:
    """Return two z with a common part, `[jet, 8]` each."""
    z = rng.normal(size=(jets, 8)) * np.arange(1, 9)
    return z, common * z + 4 * rng.normal(size=(jets, 8))


@cache
def alignment(common: float) -> float:
    """Return CKA of many jets; 0 without a common part."""
    x, y = pair(np.random.default_rng(0), 400_000, common)
    value = np.linalg.norm(y.T @ x) ** 2 / np.linalg.norm(x.T @ x) / np.linalg.norm(y.T @ y)
    return float(value) if common else 0.0


def correlated(seed: int, jets: int, correlation: float) -> Numbers:
    """Measure an accuracy of pairs of jets of one event with correlated scores, and of particles of one jet."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(jets // 2) % 2, 2)
    common = np.repeat(rng.normal(size=jets // 2), 2)
    score = correlation**0.5 * common + (1 - correlation) ** 0.5 * rng.normal(size=jets) + 2 * labels
    accuracy, _ = accuracy_and_auc(of_score(score, 2), labels, seed=seed)
    owner = np.repeat(np.arange(jets), 10)
    kind = rng.integers(0, 2, len(owner))
    shared, own = rng.normal(size=jets)[owner], rng.normal(size=len(owner))
    particle = correlation**0.5 * shared + (1 - correlation) ** 0.5 * own + 2 * kind
    found = particle_classes(of_score(particle, 2), kind, owner, "kind", NAMES, seed=seed)
    assert found is not None
    return {
        f"accuracy, two jets an event; correlation {correlation:g}, {jets} jets": (norm.cdf(1), accuracy),
        f"accuracy of particles; correlation {correlation:g}, {jets} jets": (norm.cdf(1), found.accuracy),
    }


def cases() -> Iterator[partial[Numbers]]:
    """Yield functions from a seed to the numbers of one repeat."""
    for d, signal, background in (
        (1, 25, 25),
        (1, 500, 500),
        (2.5, 25, 25),
        (2.5, 500, 500),
        (4, 25, 25),
        (4, 500, 500),
    ):
        yield partial(classes, d=d, signal=signal, background=background)
    for d, signal, background in ((1.5, 3, 500), (1.5, 10, 500), (1.5, 50, 500), (1.5, 500, 30)):
        yield partial(classes, d=d, signal=signal, background=background)
    yield partial(classes, d=2, signal=250, background=250, weighted=True)
    for d, jets in ((2.5, 50), (2.5, 1000), (4, 50), (4, 1000)):
        yield partial(overconfident, d=d, jets=jets)
    for d, jets in ((2, 50), (2, 1000), (4, 50), (5, 1000)):
        yield partial(differences, d=d, gain=0.3, correlation=0.9, jets=jets)
    for sizes in ((3, 100, 100), (5,) * 10, (50,) * 5):
        yield partial(several, sizes=sizes)
    for jets in (20, 100, 1000):
        for tails in (False, True):
            yield partial(regressed, jets=jets, tails=tails)
    for shift in (0.0, 0.3, 1.0):
        yield partial(samples, jets=300, shift=shift)
    for correlation in (0.2, 0.6):
        yield partial(correlated, jets=300, correlation=correlation)


def line(name: str, found: list[tuple[float, Estimate]]) -> str:
    """Return the line of the table of one number; an open end is infinite."""
    truth = np.array([one for one, _ in found])

    def ends(end: str, instead: float) -> Array:
        values = (getattr(estimate, end) for _, estimate in found)
        return np.array([instead if value is None else value for value in values])

    low, high = ends("low95", -np.inf), ends("high95", np.inf)
    inside = np.mean((low <= truth + 1e-12) & (truth <= high + 1e-12))
    inside68 = np.mean((ends("low", -np.inf) <= truth + 1e-12) & (truth <= ends("high", np.inf) + 1e-12))
    value = np.nanmean(ends("value", np.nan))
    missed = f"{np.mean(high < truth - 1e-12):.3f} | {np.mean(low > truth + 1e-12):.3f}"
    return f"| {name} | {truth.mean():.4g} | {value:.4g} | {inside:.3f} | {inside68:.3f} | {missed} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=300)
    parser.add_argument("--only", default="", help="part of the name of a function, such as classes")
    args = parser.parse_args()
    print("| number | truth | mean | 95 % contain it | 68 % | below it | above it |\n|---|---|---|---|---|---|---|")
    for case in cases():
        if args.only in case.func.__name__:
            repeats = [case(seed) for seed in range(args.repeats)]
            for name in dict.fromkeys(name for one in repeats for name in one):
                print(line(name, [one[name] for one in repeats if name in one]), flush=True)


if __name__ == "__main__":
    main()
