"""From the settings to what adapts: a loss of both domains, weights of the source, a pull to the pretrained weights."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ssl_jets.config import RunSettings
from ssl_jets.data.dataset import Dataset
from ssl_jets.data.files import count, shared_columns
from ssl_jets.data.loading.stream import Request, ordered
from ssl_jets.data.subset import subsample
from ssl_jets.finetuning.objective import Objective, Term
from ssl_jets.finetuning.settings import CoralSettings, DannSettings, FinetuneSettings, MmdSettings, check_domain
from ssl_jets.finetuning.source_weights import SourceWeights
from ssl_jets.jets import Jets
from ssl_jets.nn.domain.adversary import Discriminator, ramp
from ssl_jets.nn.domain.distance import coral, mmd
from ssl_jets.training.run_folder import Run


def adapt(
    objective: Objective,
    settings: RunSettings[FinetuneSettings],
    data: Dataset,
    subset: Jets | None,
    run: Run,
    *,
    begins: bool,
) -> None:
    """Give `objective` the adaptation that the settings name. The labels of the target are never read.

    Args:
        objective: changed in place, before its first step.
        settings: of the run.
        data: labelled source and unlabelled target.
        subset: the labelled jets in memory; None for all of the source.
        run: told what is done.
        begins: whether the run begins here; one that is resumed has its weights of the source in the checkpoint.
    """
    if settings.method.adapt == "none":
        return
    check_domain(settings)  # again: the mode may be the one that fits
    shared_columns([data.files[part.file] for part in data.all_train])
    run.say(f"domain: {count(data.unlabelled):,} unlabelled jets of the target, {settings.method.adapt}")
    weights = attach(objective, settings.method, {part.file for part in data.unlabelled})
    if weights is not None and begins:
        _fit(weights, settings, data, subset, run)


def attach(objective: Objective, cfg: FinetuneSettings, target: Iterable[int]) -> SourceWeights | None:
    """Give `objective` what adapts it to files, by index; the weights of the source, if any, are still to be fitted."""
    if cfg.adapt == "reweight":
        objective.source_weights = SourceWeights(cfg.reweight, objective.encoder)
        return objective.source_weights
    if cfg.adapt != "none":
        objective.terms["domain"] = _term(cfg, objective.encoder.dim, target)
    return None


def _term(cfg: FinetuneSettings, dim: int, target: Iterable[int]) -> DomainTerm:
    if cfg.adapt == "dann":
        return DannTerm(cfg.dann, dim, target)
    return CoralTerm(cfg.coral, target) if cfg.adapt == "coral" else MmdTerm(cfg.mmd, target)


def _fit(
    weights: SourceWeights, settings: RunSettings[FinetuneSettings], data: Dataset, subset: Jets | None, run: Run
) -> None:
    """Fit the weights on a sample of both domains and say how much of the source they leave."""
    jets, seed = settings.method.reweight.jets, settings.train.seed
    request = Request.of(settings.data)
    if subset is None:
        source = list(ordered(data.files, subsample(data.train, jets, seed), request))
    else:
        generator = torch.Generator().manual_seed(seed)
        source = [subset.select(torch.randperm(len(subset), generator=generator)[:jets])]
    target = ordered(data.blind, subsample(data.unlabelled, jets, seed), request)
    found = weights.fit(source, target, seed)
    run.say(
        f"reweight: the source counts as {found.effective:.0%} of its jets (effective sample size); "
        f"{found.clipped:.1%} of the weights clipped; domain told right for {found.right:.1%} of the jets"
    )
    run.log({"step": 0, "kind": "reweight", **found._asdict()})


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


class DannTerm(DomainTerm):
    """A discriminator that the encoder deceives (`nn/domain/adversary.py`)."""

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


class CoralTerm(DomainTerm):
    """The distance of the covariances (`nn/domain/distance.py`)."""

    def __init__(self, cfg: CoralSettings, target: Iterable[int]) -> None:
        super().__init__(target)
        self.cfg = cfg

    def between(self, source: Tensor, target: Tensor, progress: float) -> Tensor:
        """The weighted distance."""
        return self.cfg.weight * coral(source, target)


class MmdTerm(DomainTerm):
    """The maximum mean discrepancy (`nn/domain/distance.py`)."""

    def __init__(self, cfg: MmdSettings, target: Iterable[int]) -> None:
        super().__init__(target)
        self.cfg = cfg

    def between(self, source: Tensor, target: Tensor, progress: float) -> Tensor:
        """The weighted distance."""
        return self.cfg.weight * mmd(source, target, self.cfg.scales)
