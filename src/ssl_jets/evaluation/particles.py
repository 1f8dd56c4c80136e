"""Evaluation of the heads of particles of a model, on jets in memory."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from ssl_jets.embedding.columns import column_of
from ssl_jets.embedding.particle_predictions import predictions
from ssl_jets.evaluation.evaluation_data import EvaluationData, subset
from ssl_jets.evaluation.metrics.particles import (
    ParticleClasses,
    ParticleGroups,
    ParticleNumbers,
    particle_classes,
    particle_groups,
    particle_numbers,
)
from ssl_jets.model import BATCH, Model, encode
from ssl_jets.nn.particles.pairs import same_group
from ssl_jets.runtime.precision import resolve_precision


class ParticleResults(NamedTuple):
    """Metrics of all targets of particles that the jets have."""

    particle_classes: list[ParticleClasses]
    particle_numbers: list[ParticleNumbers]
    particle_groups: list[ParticleGroups]


def evaluate_particles(model: Model, data: EvaluationData, device: torch.device) -> ParticleResults:
    """Measure the heads of particles on at most `evaluate.particle_jets` of the jets that test heads."""
    heads, most = model.particles, data.settings.evaluate.particle_jets
    results = ParticleResults([], [], [])
    if heads is None or not most:
        return results
    rows = np.sort(np.random.default_rng(data.seed).permutation(len(data.task))[:most])
    jets = subset(data.task, rows)
    batches = (jets.select(index) for index in torch.arange(len(jets)).split(BATCH))
    precision = resolve_precision("auto", device)
    encoded = encode(model.encoder, batches, device, precision, batch=BATCH, tokens=True)
    tokens = torch.cat([entry.tokens for _, entry in encoded])
    predicted = predictions(heads, tokens, jets)
    with torch.no_grad():
        of_pairs = heads.pairs(tokens, jets)
    owner, weights = jets.jet_of_particle.numpy(), data.weights(jets)
    for target in heads.targets:
        options: Any = {"weights": weights, "seed": data.seed}
        if target.classes:
            scores = np.stack([predicted[f"p_{target.name}_{name}"] for name in target.classes], axis=1)
            labels = target.labels(jets).numpy()
            classes = particle_classes(scores, labels, owner, target.name, target.classes, **options)
            results.particle_classes.extend([] if classes is None else [classes])
        elif target.groups:
            pairs = of_pairs[target.name]
            known, same = same_group(target.truth(jets), pairs)
            _, joined = same_group(torch.from_numpy(predicted[column_of(target.name)]).float(), pairs)
            logits, same, joined, of_jet = (
                values[known].numpy() for values in (pairs.logits, same, joined, jets.jet_of_particle[pairs.first])
            )
            groups = particle_groups(logits, same, joined, of_jet, target.name, **options)
            results.particle_groups.extend([] if groups is None else [groups])
        else:
            points, true = predicted[column_of(target.name)], target.truth(jets).numpy()
            numbers = particle_numbers(points, true, owner, target.name, target.unit, **options)
            results.particle_numbers.extend([] if numbers is None else [numbers])
        if target.name not in {one.target for kind in results for one in kind}:
            data.note(f"too few particles of the test jets have labels of {target.name}, so it is not measured")
    return results
