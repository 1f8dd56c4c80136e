"""Domain adaptation: loss terms on z of source and target, or weights of the source jets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor

from ssl_jets.data.loading.stream import ordered
from ssl_jets.data.shared import shared_columns
from ssl_jets.data.subset import subsample
from ssl_jets.finetuning.adaptation_settings import DannSettings
from ssl_jets.finetuning.modes.distil import DistillationTerm
from ssl_jets.finetuning.objective import Objective, Term
from ssl_jets.finetuning.settings import FinetuneSettings
from ssl_jets.finetuning.source_weights import SourceWeights
from ssl_jets.jets import Jets, concatenate
from ssl_jets.nn.domain.adversary import Discriminator, ramp
from ssl_jets.nn.domain.distance import coral, mmd, sinkhorn
from ssl_jets.nn.task_weights import Mean
from ssl_jets.training.run_setup import TrainingInputs


def adapt(objective: Objective, inputs: TrainingInputs[FinetuneSettings]) -> None:
    """Attach the adaptation of the settings to `objective` and fit source weights. Target labels are never read.

    A run that does not begin has its source weights in the checkpoint.
    """
    settings, data = inputs.settings, inputs.data
    if settings.method.adapt == "none":
        return
    if inputs.request.columns is None:
        shared_columns([data.files[part.file] for part in data.all_train])
    target_jets = data.jets(data.unlabelled)
    inputs.run.log_message(f"domain: {target_jets:,} unlabelled jets of the target, {settings.method.adapt}")
    weights = attach(objective, settings.method, {part.file for part in data.unlabelled})
    if weights is not None and inputs.begins:
        fit_source_weights(weights, inputs)


def attach(objective: Objective, cfg: FinetuneSettings, target: Iterable[int]) -> SourceWeights | None:
    """Attach the adaptation to target files, by index; return the source weights, which are still to be fitted.

    They are of z of the teacher in mode `distil`: its student has random weights.
    """
    if cfg.adapt == "reweight":
        teacher = next((term for term in objective.terms.values() if isinstance(term, DistillationTerm)), None)
        known = (objective.encoder,) if teacher is None else (teacher.encoder, teacher.columns)
        objective.source_weights = SourceWeights(cfg.reweight, *known)
        return objective.source_weights
    if cfg.adapt == "dann":
        objective.terms["domain"] = DannTerm(cfg.dann, objective.encoder.dim, target)
    elif cfg.adapt == "coral":
        objective.terms["domain"] = DistanceTerm(coral, cfg.coral.weight, target)
    elif cfg.adapt == "mmd":
        objective.terms["domain"] = DistanceTerm(partial(mmd, scales=cfg.mmd.scales), cfg.mmd.weight, target)
    elif cfg.adapt == "sinkhorn":
        distance = partial(sinkhorn, regularization=cfg.sinkhorn.regularization)
        objective.terms["domain"] = DistanceTerm(distance, cfg.sinkhorn.weight, target)
    return None


def fit_source_weights(weights: SourceWeights, inputs: TrainingInputs[FinetuneSettings]) -> None:
    """Fit the weights on a sample of both domains, and log the effective sample size of the source.

    The source has the weights, and the spectrum, that it is trained with.
    """
    settings, data, subset, run = inputs.settings, inputs.data, inputs.subset, inputs.run
    jets, seed = settings.method.reweight.jets, settings.train.seed
    request = inputs.request
    if subset is None:
        parts = subsample(data.train, data.entries_for(data.train, jets), seed)
        source = concatenate(list(ordered(data.files, parts, request)))
        source = source if request.flatten is None else request.flatten.resampled(source, seed)
    else:
        generator = torch.Generator().manual_seed(seed)
        source = subset.select(torch.randperm(len(subset), generator=generator)[:jets])
    entries = data.entries_for(data.unlabelled, jets)
    target = ordered(data.blind, subsample(data.unlabelled, entries, seed), request.inputs)
    result = weights.fit([source], target, seed)
    run.log_message(
        f"reweight: the source counts as {result.effective:.0%} of its jets (effective sample size); "
        f"{result.clipped:.1%} of the weights clipped; domain classified correctly for {result.right:.1%} of the jets"
    )
    run.log_metrics({"step": 0, "kind": "reweight", **result._asdict()})


class DomainTerm(Term):
    """Loss on z of source and target; `target` are the indices of the files of the target domain."""

    def __init__(self, target: Iterable[int]) -> None:
        super().__init__()
        self.register_buffer("target", torch.tensor(sorted(target)), persistent=False)
        self.target: Tensor

    def forward(self, objective: Objective, z: Tensor, jets: Jets, progress: float) -> Mean:
        """Compute the loss of the two domains, 0 with weight 0 if one is missing in the batch."""
        assert jets.source is not None  # jets read from files have it
        in_target = torch.isin(jets.source[:, 0], self.target)
        self.logged = {}
        if bool(in_target.all()) or not bool(in_target.any()):
            return Mean(z.new_zeros(()), 0.0)
        return Mean(self.between(z[~in_target], z[in_target], progress), len(jets))

    def between(self, source: Tensor, target: Tensor, progress: float) -> Tensor:
        """Compute the loss of z of source and target, `[jet, dim]` each."""
        raise NotImplementedError


class DannTerm(DomainTerm):
    """Adversarial domain discriminator with reversed gradient (`nn/domain/adversary.py`)."""

    def __init__(self, cfg: DannSettings, dim: int, target: Iterable[int]) -> None:
        super().__init__(target)
        self.cfg, self.discriminator = cfg, Discriminator(dim, cfg.hidden)

    def between(self, source: Tensor, target: Tensor, progress: float) -> Tensor:
        """Compute the loss of the discriminator; it logs `domain_accuracy`, 0.5 for indistinguishable domains."""
        scale = self.cfg.weight * ramp(progress, self.cfg.gamma)
        loss, accuracy = self.discriminator(source, target, scale)
        self.logged = {"domain_accuracy": accuracy, "domain_lambda": accuracy.new_tensor(scale)}
        return loss  # type: ignore[no-any-return]


class DistanceTerm(DomainTerm):
    """Weighted distance of z of the domains (`nn/domain/distance.py`)."""

    def __init__(self, distance: Callable[[Tensor, Tensor], Tensor], weight: float, target: Iterable[int]) -> None:
        super().__init__(target)
        self.distance, self.weight = distance, weight

    def between(self, source: Tensor, target: Tensor, progress: float) -> Tensor:
        """Compute the weighted distance."""
        return self.weight * self.distance(source, target)
