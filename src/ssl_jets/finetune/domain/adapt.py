"""From the settings to what adapts: a loss of both domains, weights of the source, a pull to the pretrained weights."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from ssl_jets.config import RunSettings
from ssl_jets.data.dataset import Dataset
from ssl_jets.data.files import count, shared_columns
from ssl_jets.data.stream import Request, ordered
from ssl_jets.data.thin import thin
from ssl_jets.finetune.domain.terms import Coral, Dann, DomainTerm, Mmd
from ssl_jets.finetune.domain.weights import SourceWeights
from ssl_jets.finetune.objective import Objective
from ssl_jets.finetune.settings import FinetuneSettings, check_domain
from ssl_jets.jets import Jets
from ssl_jets.run import Run


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
    weights = equip(objective, settings.method, {part.file for part in data.unlabelled})
    if weights is not None and begins:
        _fit(weights, settings, data, subset, run)


def equip(objective: Objective, cfg: FinetuneSettings, target: Iterable[int]) -> SourceWeights | None:
    """Give `objective` what adapts it to files, by index; the weights of the source, if any, are still to be fitted."""
    if cfg.adapt == "reweight":
        objective.source_weights = SourceWeights(cfg.reweight, objective.encoder)
        return objective.source_weights
    if cfg.adapt != "none":
        objective.terms["domain"] = _term(cfg, objective.encoder.dim, target)
    return None


def _term(cfg: FinetuneSettings, dim: int, target: Iterable[int]) -> DomainTerm:
    if cfg.adapt == "dann":
        return Dann(cfg.dann, dim, target)
    return Coral(cfg.coral, target) if cfg.adapt == "coral" else Mmd(cfg.mmd, target)


def _fit(
    weights: SourceWeights, settings: RunSettings[FinetuneSettings], data: Dataset, subset: Jets | None, run: Run
) -> None:
    """Fit the weights on a sample of both domains and say how much of the source they leave."""
    jets, seed = settings.method.reweight.jets, settings.train.seed
    request = Request.of(settings.data)
    if subset is None:
        source = list(ordered(data.files, thin(data.train, jets, seed), request))
    else:
        generator = torch.Generator().manual_seed(seed)
        source = [subset.select(torch.randperm(len(subset), generator=generator)[:jets])]
    target = ordered(data.blind, thin(data.unlabelled, jets, seed), request)
    found = weights.fit(source, target, seed)
    run.say(
        f"reweight: the source counts as {found.effective:.0%} of its jets (effective sample size); "
        f"{found.clipped:.1%} of the weights clipped; domain told right for {found.right:.1%} of the jets"
    )
    run.log({"step": 0, "kind": "reweight", **found._asdict()})
