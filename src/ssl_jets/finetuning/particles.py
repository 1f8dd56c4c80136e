"""Targets of particles in a finetuning: found in the schemas of the files, and counted in the training jets."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ssl_jets.config import RunSettings
from ssl_jets.data.dataset import Dataset
from ssl_jets.data.files import JetFile
from ssl_jets.data.schemas.particle_labels import ParticleLabel
from ssl_jets.errors import DataError, UsageError, nearest
from ssl_jets.finetuning.settings import FinetuneSettings
from ssl_jets.jets import Jets
from ssl_jets.nn.particles.heads import ParticleTarget

_KEY = "method.particle_targets"


def particle_targets(settings: RunSettings[FinetuneSettings], data: Dataset) -> tuple[ParticleTarget, ...]:
    """Return the definitions of the targets of particles, from the schemas of the training files that have them.

    Raises:
        UsageError: no training file has a target.
        DataError: two files define one differently.
    """
    files = [data.files[index] for index in sorted({part.file for part in data.train})]
    return tuple(_target(name, files) for name in settings.method.particle_targets)


def _target(name: str, files: Sequence[JetFile]) -> ParticleTarget:
    """Return the definition of one target."""
    having = [file for file in files if name in file.particle_labels]
    if not having:
        declared = {one: label for file in files for one, label in file.schema.particle_labels.items()}
        if name in declared:
            found = f"{name}, of {', '.join(declared[name].branches)}"
            hint = "ssl-jets inspect FILE lists the branches of a file"
            raise UsageError("no training file has the branches of this label", where=_KEY, found=found, hint=hint)
        available = dict.fromkeys(one for file in files for one in file.particle_labels)
        missing = "no schema declares this label of particles"
        if available:
            raise UsageError(missing, where=_KEY, found=name, allowed=nearest(name, available))
        hint = "`particle_labels: {NAME: {branch: BRANCH, classes: [...]}}` in a schema names one"
        raise UsageError(missing, where=_KEY, found=name, hint=hint)
    first = having[0].schema.particle_labels[name]
    for file in having[1:]:
        other = file.schema.particle_labels[name]
        if (other.names, other.canonical_unit, other.groups) != (first.names, first.canonical_unit, first.groups):
            raise DataError(
                "the files define a label of particles differently",
                where=f"{having[0].source} and {file.source}",
                found=f"{name}: {_kind(first)} and {_kind(other)}",
            )
    return ParticleTarget(name, first.names, first.canonical_unit, first.groups)


def _kind(label: ParticleLabel) -> str:
    """Describe the values of a label."""
    return ", ".join(label.names) or ("groups" if label.groups else f"numbers in {label.canonical_unit}")


def describe_particles(targets: Sequence[ParticleTarget], batches: Sequence[Jets]) -> list[str]:
    """Describe the labels of the particles of training jets, a line for each target and for its absent classes.

    Raises:
        DataError: no particle of the jets has a label of a target, or all labels are of one class.
    """
    return [line for target in targets for line in _describe(target, batches)]


def _describe(target: ParticleTarget, batches: Sequence[Jets]) -> list[str]:
    truth = torch.cat([target.truth(jets) for jets in batches])
    jets = sum(map(len, batches))
    sample = f"{len(truth):,} particles of {jets:,} training jets"
    there = truth[truth.isfinite()]
    known = there[there < len(target.classes)] if target.classes else there
    if not len(known):
        found = f"{len(truth) - len(there):,} without a value, {len(there):,} of a value that belongs to no class"
        raise DataError(f"no particle has a label of the target {target.name}", where=sample, found=found)
    without = f"{len(known):,} have a label, {len(truth) - len(there):,} have none"
    without += f", {unlisted:,} have a value that belongs to no class" if (unlisted := len(there) - len(known)) else ""
    lines = [f"target {target.name}: {sample}: {without}"]
    if target.groups and not any(_has_pairs(target, batch) for batch in batches):
        raise DataError(f"no jet has two particles of one group of the target {target.name}", where=sample)
    if target.classes:
        counts = torch.bincount(known.long(), minlength=len(target.classes)).tolist()
        by_class = dict(zip(target.classes, counts, strict=True))
        if sum(count > 0 for count in counts) < 2:
            (only,) = (name for name, count in by_class.items() if count)
            raise DataError(f"all labels of the target {target.name} are of one class", where=sample, found=only)
        lines.append(f"target {target.name}: " + ", ".join(f"{name} {count:,}" for name, count in by_class.items()))
        if absent := [name for name, count in by_class.items() if not count]:
            lines.append(f"warning: target {target.name}: no particle of these jets is of class {', '.join(absent)}")
    return lines


def _has_pairs(target: ParticleTarget, jets: Jets) -> bool:
    """Check for two particles of a jet in one group."""
    groups = target.truth(jets)
    chosen = groups.nan_to_num(-1) >= 0
    keys = torch.stack([jets.jet_of_particle[chosen], groups[chosen].long()], dim=1)
    return len(keys.unique(dim=0)) < len(keys)
