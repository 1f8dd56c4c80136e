"""Evaluation of the heads of particles of a model, on jets in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from ssl_jets.arrays import Array, some_rows
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
from ssl_jets.jets import Jets
from ssl_jets.model import BATCH, Model, encode, with_columns
from ssl_jets.nn.particles.heads import ParticleTarget
from ssl_jets.nn.particles.pairs import Pairs, same_group
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
    jets = subset(data.task, some_rows(len(data.task), most, data.seed))
    seen = with_columns(jets, model.columns)
    batches = (seen.select(index) for index in torch.arange(len(seen)).split(BATCH))
    precision = resolve_precision("auto", device)
    encoded = encode(model.encoder, batches, device, precision, batch=BATCH, tokens=True)
    tokens = torch.cat([entry.tokens for _, entry in encoded])
    predicted = predictions(heads, tokens, jets)
    with torch.no_grad():
        of_pairs = heads.pairs(tokens, jets)
    options: Any = {"weights": data.weights(jets), "seed": data.seed}
    for target in heads.targets:
        found = _measure(target, predicted, of_pairs.get(target.name), jets, **options)
        if found is None:
            data.note(f"too few particles of the test jets have labels of {target.name}, so it is not measured")
        elif isinstance(found, ParticleClasses):
            results.particle_classes.append(found)
        elif isinstance(found, ParticleNumbers):
            results.particle_numbers.append(found)
        else:
            results.particle_groups.append(found)
    return results


def _measure(
    target: ParticleTarget, predicted: Mapping[str, Array], pairs: Pairs | None, jets: Jets, **options: Any
) -> ParticleClasses | ParticleNumbers | ParticleGroups | None:
    """Measure one target; None without enough labels."""
    owner = jets.jet_of_particle.numpy()
    if target.classes:
        scores = np.stack([predicted[f"p_{target.name}_{name}"] for name in target.classes], axis=1)
        labels = target.labels(jets).numpy()
        return particle_classes(scores, labels, owner, target.name, target.classes, **options)
    points = predicted[column_of(target.name)]
    if pairs is None:
        return particle_numbers(points, target.truth(jets).numpy(), owner, target.name, target.unit, **options)
    known, same = (values.numpy() for values in same_group(target.truth(jets), pairs))
    joined = same_group(torch.from_numpy(points).float(), pairs)[1].numpy()
    logits, of_jet = pairs.logits.numpy()[known], owner[pairs.first.numpy()[known]]
    return particle_groups(logits, same[known], joined[known], of_jet, target.name, **options)
