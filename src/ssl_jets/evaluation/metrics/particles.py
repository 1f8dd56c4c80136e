"""Metrics of the targets of particles, with intervals from a bootstrap over jets: particles of a jet are correlated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ssl_jets.arrays import Array
from ssl_jets.evaluation.metrics.bootstrap import Bootstrap, Estimate, effective
from ssl_jets.evaluation.metrics.ranking import macro_auc_rest, pair_auc
from ssl_jets.evaluation.metrics.regression import explained, quantiles
from ssl_jets.evaluation.result_base import Values

RESAMPLES = 100
"""Resamples of the jets."""

MOST_PAIRS = 300_000
"""Pairs of particles that groups are measured on, at most: of random jets."""


class ParticleBootstrap(Bootstrap):
    """Resamples of jets as weights of their particles, or of pairs of these.

    Args:
        owner: jet of each particle, int64 `[particle]`.
        jets: number of jets.
        resamples: number of resamples.
        seed: of the random draws.
        weights: of the jets, `[jet]`, none of them negative; by default all 1.
    """

    def __init__(
        self, owner: Array, jets: int, resamples: int = RESAMPLES, seed: int = 0, weights: Array | None = None
    ) -> None:
        super().__init__(jets, resamples, seed, weights)
        self.owner, self.of_jets = owner, self.weights  # [particle], [jet]
        self.weights, self.counts = self.weights[owner], self.counts[:, owner]  # [particle], [resample, particle]

    def share(self, rows: Array, *of: Array) -> Estimate:
        """Return the estimate of a share of particles or pairs `of`, bool `[particle]`: a mean over their jets.

        Of an area under a ROC curve, `of` are both classes: the one in fewer jets decides.
        """
        jets = (effective(self.of_jets[np.unique(self.owner[some])]) for some in of)
        return Estimate.of_mean(rows, min((number for number in jets if number > 0), default=0.0))


@dataclass(frozen=True)
class ParticleClasses:
    """Classification of particles.

    Attributes:
        target: name of the target.
        classes: names of its classes.
        jets: jets with such particles.
        particles: particles of each class.
        unlabelled: particles of the same jets without a label, or with one of no class.
        largest_class: share of the largest class: the accuracy of a prediction that ignores the particle.
        accuracy: share of particles whose most probable class is the true one.
        auc: mean over the classes of the area under the ROC curve of a class against the rest.
        class_accuracy, class_auc: of each class.
        confusion: particles `[true class, most probable class]`, the sum of the weights of their jets.
    """

    target: str
    classes: tuple[str, ...]
    jets: int
    particles: dict[str, int]
    unlabelled: int
    largest_class: float
    accuracy: Estimate
    auc: Estimate
    class_accuracy: dict[str, Estimate]
    class_auc: dict[str, Estimate]
    confusion: Values


@dataclass(frozen=True)
class ParticleNumbers:
    """Regression of a number of particles.

    Attributes:
        target: name of the target.
        unit: its unit.
        jets: jets with such particles.
        particles: particles that have the number.
        unlabelled: particles of the same jets without it.
        spread: half of the central 68 % of the true numbers: the resolution of a prediction that ignores the particle.
        bias: median of predicted - true, in the unit.
        resolution: half of the central 68 % of predicted - true, in the unit.
        explained: share of the variance that is explained.
    """

    target: str
    unit: str
    jets: int
    particles: int
    unlabelled: int
    spread: float
    bias: Estimate
    resolution: Estimate
    explained: Estimate


@dataclass(frozen=True)
class ParticleGroups:
    """Grouping of particles, such as into vertices, measured on pairs of particles of a jet.

    Attributes:
        target: name of the target.
        jets: jets with such pairs.
        pairs: pairs of particles that both have the label.
        same: share of the pairs that are of one group.
        auc: area under the ROC curve of the probability of a pair.
        efficiency: share of the pairs of one group that are joined, directly or by other particles.
        purity: share of the joined pairs that are of one group.
    """

    target: str
    jets: int
    pairs: int
    same: float
    auc: Estimate
    efficiency: Estimate
    purity: Estimate


def particle_classes(
    probabilities: Array,
    labels: Array,
    owner: Array,
    target: str,
    classes: Sequence[str],
    *,
    weights: Array | None = None,
    seed: int = 0,
) -> ParticleClasses | None:
    """Compute the metrics of a classification of particles; None without labels of two classes.

    Args:
        probabilities: `[particle, class]`.
        labels: int64 `[particle]`, -1 without a label.
        owner: jet of each particle, int64 `[particle]`, from 0 to the number of jets - 1.
        target: name of the target.
        classes: names of the classes.
        weights: of the jets, `[jet]`; by default all 1.
        seed: of the bootstrap.
    """
    known = _known(labels >= 0, owner, weights)
    if len(np.unique(labels[known])) < 2:
        return None
    probabilities, true, kept = probabilities[known], labels[known], owner[known]
    bootstrap = ParticleBootstrap(kept, int(owner.max()) + 1, seed=seed, weights=weights)
    one_hot = np.eye(len(classes))[true]
    right = (probabilities.argmax(axis=1) == true)[:, None] * one_hot  # [particle, class]
    accuracies, totals, areas = [], [], []
    for rows in bootstrap.blocks():
        accuracies.append(rows @ right)
        totals.append(rows @ one_hot)
        areas.append(pair_auc(probabilities, true, rows)[1])
    passed, all_of, area = (np.concatenate(parts) for parts in (accuracies, totals, areas))  # [row, class]
    with np.errstate(invalid="ignore", divide="ignore"):
        by_class = passed / all_of
    confusion = np.zeros((len(classes), len(classes)))
    np.add.at(confusion, (true, probabilities.argmax(axis=1)), bootstrap.weights)
    counts = np.bincount(true, minlength=len(classes))
    every = np.ones(len(true), dtype=bool)
    of = [true == index for index in range(len(classes))]
    return ParticleClasses(
        target=target,
        classes=tuple(classes),
        jets=len(np.unique(kept)),
        particles={name: int(count) for name, count in zip(classes, counts, strict=True)},
        unlabelled=int((~known & np.isin(owner, kept)).sum()),
        largest_class=float(all_of[0].max() / all_of[0].sum()),
        accuracy=bootstrap.share(passed.sum(axis=1) / all_of.sum(axis=1), every),
        auc=bootstrap.share(macro_auc_rest(area), *of),
        class_accuracy={name: bootstrap.share(by_class[:, i], of[i]) for i, name in enumerate(classes)},
        class_auc={name: bootstrap.share(area[:, i], of[i], ~of[i]) for i, name in enumerate(classes)},
        confusion=confusion,
    )


def particle_numbers(
    predicted: Array,
    true: Array,
    owner: Array,
    target: str,
    unit: str,
    *,
    weights: Array | None = None,
    seed: int = 0,
) -> ParticleNumbers | None:
    """Compute the metrics of a regression of particles; None with fewer than two numbers.

    Args:
        predicted: `[particle]`.
        true: `[particle]`, not finite without a number.
        owner: as of `particle_classes`.
        target: name of the target.
        unit: its unit.
        weights: as of `particle_classes`.
        seed: of the bootstrap.
    """
    known = _known(np.isfinite(true), owner, weights)
    if known.sum() < 2:
        return None
    numbers, kept = true[known].astype(np.float64), owner[known]
    bootstrap = ParticleBootstrap(kept, int(owner.max()) + 1, seed=seed, weights=weights)
    residual, every = predicted[known] - numbers, np.arange(len(numbers))
    bounds = quantiles(residual, bootstrap, every, (0.16, 0.5, 0.84))
    low, high = quantiles(numbers, bootstrap, every, (0.16, 0.84))[0]
    return ParticleNumbers(
        target=target,
        unit=unit,
        jets=len(np.unique(kept)),
        particles=len(numbers),
        unlabelled=int((~known & np.isin(owner, kept)).sum()),
        spread=float(high - low) / 2,
        bias=Estimate.of_rows(bounds[:, 1]),
        resolution=Estimate.of_rows((bounds[:, 2] - bounds[:, 0]) / 2),
        explained=explained(predicted[known].astype(np.float64), numbers, bootstrap),
    )


def particle_groups(
    logits: Array,
    same: Array,
    joined: Array,
    owner: Array,
    target: str,
    *,
    weights: Array,
    seed: int = 0,
) -> ParticleGroups | None:
    """Compute the metrics of a grouping of particles; None without pairs of one group and of two.

    Args:
        logits: of each pair, `[pair]`.
        same: pairs of one group, bool `[pair]`.
        joined: pairs of one predicted group, bool `[pair]`.
        owner: jet of each pair, int64 `[pair]`.
        target: name of the target.
        weights: of the jets, `[jet]`.
        seed: of the bootstrap.
    """
    order = np.random.default_rng(seed).permutation(len(weights))  # jets come file by file, and files class by class
    jets = np.zeros(len(weights), dtype=bool)
    jets[order] = np.bincount(owner, minlength=len(weights))[order].cumsum() <= MOST_PAIRS
    counting = (weights > 0)[owner] & jets[owner]
    logits, same, joined, owner = (values[counting] for values in (logits, same, joined, owner))
    if same.all() or not same.any():
        return None
    bootstrap = ParticleBootstrap(owner, len(weights), seed=seed, weights=weights)
    both = np.stack([same & joined, same, joined], axis=1).astype(np.float64)
    scores = np.stack([-logits, logits], axis=1)
    sums, areas = [], []
    for rows in bootstrap.blocks():
        sums.append(rows @ both)
        areas.append(pair_auc(scores, same.astype(np.int64), rows)[1][:, 1])
    right, true, found = np.concatenate(sums).T
    with np.errstate(invalid="ignore", divide="ignore"):
        efficiency, purity = right / true, right / found
    return ParticleGroups(
        target=target,
        jets=len(np.unique(owner)),
        pairs=len(same),
        same=float(np.average(same, weights=bootstrap.weights)),
        auc=bootstrap.share(np.concatenate(areas), same, ~same),
        efficiency=bootstrap.share(efficiency, same),
        purity=bootstrap.share(purity, joined),
    )


def _known(labelled: Array, owner: Array, weights: Array | None) -> Array:
    """Return the particles with a label in a jet of weight above 0, bool `[particle]`."""
    known: Array = labelled if weights is None else labelled & (weights[owner] > 0)
    return known
