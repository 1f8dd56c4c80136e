"""Losses that bring z of the target domain to that of the source, beside the losses of the tasks.

The jets of the two domains come in one batch and are told apart by their file. Where a batch has jets of one domain
only (held-out jets while training), the loss is 0.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ssl_jets.finetune.domain.settings import CoralSettings, DannSettings, MmdSettings
from ssl_jets.finetune.objective import Objective, Term
from ssl_jets.jets import Jets
from ssl_jets.nn.adversary import Discriminator, ramp
from ssl_jets.nn.domain_distance import coral, mmd


class DomainTerm(Term):
    """A loss on z of source and target.

    Args:
        target: indices of the files of the target domain.
    """

    def __init__(self, target: Iterable[int]) -> None:
        super().__init__()
        self.register_buffer("target", torch.tensor(sorted(target)), persistent=False)
        self.target: Tensor

    def forward(self, objective: Objective, z: Tensor, jets: Jets, progress: float) -> Tensor:
        """The loss of the two domains, 0 where one is missing."""
        assert jets.source is not None  # everything read from files has it
        of_target = torch.isin(jets.source[:, 0], self.target)
        self.logged = {}
        if bool(of_target.all()) or not bool(of_target.any()):
            return z.new_zeros(())
        return self.between(z[~of_target], z[of_target], progress)

    def between(self, source: Tensor, target: Tensor, progress: float) -> Tensor:
        """The loss from z of source and target, `[jet, dim]` each."""
        raise NotImplementedError


class Dann(DomainTerm):
    """A discriminator that the encoder deceives (`nn/adversary.py`)."""

    def __init__(self, cfg: DannSettings, dim: int, target: Iterable[int]) -> None:
        super().__init__(target)
        self.cfg = cfg
        self.discriminator = Discriminator(dim, cfg.hidden)

    def between(self, source: Tensor, target: Tensor, progress: float) -> Tensor:
        """The loss of the discriminator; `domain_accuracy` of 0.5 means that it cannot tell."""
        scale = self.cfg.weight * ramp(progress, self.cfg.gamma)
        loss, right = self.discriminator(source, target, scale)
        self.logged = {"domain_accuracy": right, "domain_lambda": right.new_tensor(scale)}
        return loss  # type: ignore[no-any-return]


class Coral(DomainTerm):
    """The distance of the covariances (`nn/domain_distance.py`)."""

    def __init__(self, cfg: CoralSettings, target: Iterable[int]) -> None:
        super().__init__(target)
        self.cfg = cfg

    def between(self, source: Tensor, target: Tensor, progress: float) -> Tensor:
        """The weighted distance."""
        return self.cfg.weight * coral(source, target)


class Mmd(DomainTerm):
    """The maximum mean discrepancy (`nn/domain_distance.py`)."""

    def __init__(self, cfg: MmdSettings, target: Iterable[int]) -> None:
        super().__init__(target)
        self.cfg = cfg

    def between(self, source: Tensor, target: Tensor, progress: float) -> Tensor:
        """The weighted distance."""
        return self.cfg.weight * mmd(source, target, self.cfg.scales)
