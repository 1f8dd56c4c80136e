"""Supervised tasks on the tokens of particles, each averaged over the particles that have the label.

    L = sum_p w_p l_p / sum_p w_p,       w_p = (weight of the jet) x (weight of the class)

with the cross-entropy l of a class, or the squared error (pinball loss, likelihood) of a standardized number. Particles
without the label, or with a value of no class, do not enter. For groups the sum runs over pairs of particles that both
have the label, with the binary cross-entropy of the pair. All sums are over all ranks, as in `Tasks`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from ssl_jets.jets import Jets
from ssl_jets.nn.particles.heads import ParticleHeads
from ssl_jets.nn.particles.pairs import same_group
from ssl_jets.nn.task_weights import LIKELIHOOD, REGRESSION, Form, Part, TaskLoss, classification
from ssl_jets.nn.tasks import WeightSums, balanced_weights, mean_losses, mean_over, weights_of

ClassWeights = Literal["balanced"] | None
"""Weights of the classes of particles: `balanced` gives all classes the same total weight."""


class ParticleTasks(nn.Module):
    """Losses of the heads of particles."""

    def __init__(self, heads: ParticleHeads, class_weights: ClassWeights = None) -> None:
        super().__init__()
        self.heads, self.balanced = heads, class_weights == "balanced"
        regression = LIKELIHOOD if heads.regressor is not None and heads.regressor.kind == "gaussian" else REGRESSION
        self.forms: dict[str, Form | None] = {
            target.name: regression if target.is_number else classification(len(target.classes) or 2)
            for target in heads.targets
        }
        for number, target in enumerate(heads.classified):
            self.register_buffer(f"class_weights{number}", torch.ones(len(target.classes)))
        self.weight_sums = WeightSums(self.forms)

    def fit_statistics(self, batches: Iterable[Jets]) -> None:
        """Fit the statistics of the numbers, and the weights of the classes, on training jets of weight above 0."""
        batches = [jets.select(weights_of(jets).nonzero()[:, 0]) for jets in batches]
        self.heads.fit_statistics(batches)
        for number, target in enumerate(self.heads.classified if self.balanced else ()):
            counts = torch.zeros(len(target.classes))
            for jets in batches:
                labels, weights = target.labels(jets), weights_of(jets)[jets.jet_of_particle]
                counts += torch.bincount(labels[labels >= 0], weights[labels >= 0], minlength=len(counts)).float()
            self._class_weights(number).copy_(balanced_weights(counts))

    def has(self, jets: Jets) -> Tensor:
        """Return the jets with a label of any target on any particle, bool `[jet]`."""
        has = torch.zeros(len(jets.particles), dtype=torch.bool, device=jets.particles.device)
        for target in self.heads.targets:
            has = has | (target.labels(jets) >= 0 if target.classes else target.truth(jets).isfinite())
        return (jets.sum(has.float()) > 0) & (weights_of(jets) > 0)

    def forward(
        self, tokens: Tensor, jets: Jets, jet_weights: Tensor | None = None
    ) -> tuple[dict[str, TaskLoss], dict[str, Part]]:
        """Compute the loss of each target, in the order of the heads, and the accuracies to log.

        Args:
            tokens: `[particle, width]`.
            jets: the jets of these particles, with their labels.
            jet_weights: further factor on the loss of each jet, `[jet]`, of mean 1: it is not in the sum of weights.
        """
        owner = jets.jet_of_particle
        weights = weights_of(jets)[owner]  # [particle]
        factor = torch.ones_like(weights) if jet_weights is None else jet_weights[owner]
        sums, counted = {}, {}
        logged: dict[str, Part] = {}
        of_pairs = self.heads.pairs(tokens, jets)
        for number, (target, logits) in enumerate(zip(self.heads.classified, self.heads.logits(tokens).values())):
            labels = target.labels(jets)
            known = weights * (labels >= 0)
            logged[f"accuracy_{target.name}"] = mean_over(known, (logits.argmax(1) == labels).float())
            counted[target.name] = known * self._class_weights(number)[labels.clamp(min=0)]
            error = nn.functional.cross_entropy(logits, labels, reduction="none", ignore_index=-1)
            sums[target.name] = (counted[target.name] * factor * error).sum()
        if (regressor := self.heads.regressor) is not None:
            numbers = regressor.targets(jets)  # [particle, target]
            finite = numbers.isfinite()
            each = finite * weights.unsqueeze(1)
            errors = regressor.error(tokens, numbers.masked_fill(~finite, 0.0)) * each * factor.unsqueeze(1)
            sums |= dict(zip(regressor.names, errors.sum(0)))
            counted |= dict(zip(regressor.names, each.unbind(1)))
        for target in self.heads.grouped:
            pairs = of_pairs[target.name]
            both, same = same_group(target.truth(jets), pairs)
            counted[target.name] = weights[pairs.first] * both
            error = nn.functional.binary_cross_entropy_with_logits(pairs.logits, same.float(), reduction="none")
            sums[target.name] = (counted[target.name] * factor[pairs.first] * error).sum()
        return mean_losses(sums, self.weight_sums(counted)), logged

    def _class_weights(self, number: int) -> Tensor:
        weights: Tensor = getattr(self, f"class_weights{number}")
        return weights
