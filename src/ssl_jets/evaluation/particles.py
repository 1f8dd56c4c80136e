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
    ParticleNumbers,
    particle_classes,
    particle_numbers,
)
from ssl_jets.model import BATCH, Model, encode
from ssl_jets.runtime.precision import resolve_precision


class ParticleResults(NamedTuple):
    """Metrics of all targets of particles that the jets have."""

    particle_classes: list[ParticleClasses]
    particle_numbers: list[ParticleNumbers]


def evaluate_particles(model: Model, data: EvaluationData, device: torch.device) -> ParticleResults:
    """Measure the heads of particles on at most `evaluate.particle_jets` of the jets that test heads."""
    heads, most = model.particles, data.settings.evaluate.particle_jets
    results = ParticleResults([], [])
    if heads is None or not most:
        return results
    rows = np.sort(np.random.default_rng(data.seed).permutation(len(data.task))[:most])
    jets = subset(data.task, rows)
    batches = (jets.select(index) for index in torch.arange(len(jets)).split(BATCH))
    precision = resolve_precision("auto", device)
    encoded = encode(model.encoder, batches, device, precision, batch=BATCH, tokens=True)
    tokens = torch.cat([entry.tokens for _, entry in encoded])
    predicted, pairs = predictions(heads, tokens, jets), heads.pairs(tokens, jets)
    owner, weights = jets.jet_of_particle.numpy(), data.weights(jets)
    for target in heads.targets:
        options: Any = {"weights": weights, "seed": data.seed}
        if target.classes:
            scores = np.stack([predicted[f"p_{target.name}_{name}"] for name in target.classes], axis=1)
            labels = target.labels(jets).numpy()
            classes = particle_classes(scores, labels, owner, target.name, target.classes, **options)
            results.particle_classes.extend([] if classes is None else [classes])
        elif target.groups:
            known, same = same_group(target.truth(jets), pairs[target.name])
            found = torch.from_numpy(predicted[column_of(target.name)])
            joined = same_group(found.float(), pairs[target.name])[1] & ...
            results.particle_groups.append(None)
        else:
            points, true = predicted[column_of(target.name)], target.truth(jets).numpy()
            numbers = particle_numbers(points, true, owner, target.name, target.unit, **options)
            results.particle_numbers.extend([] if numbers is None else [numbers])
        if target.name not in {one.target for kind in results for one in kind}:
            data.note(f"too few particles of the test jets have labels of {target.name}, so it is not measured")
    return results
