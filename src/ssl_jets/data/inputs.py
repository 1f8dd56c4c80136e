"""Inputs of an encoder: names chosen by `model.inputs` among columns, features and context of files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from ssl_jets.config import INPUT_GROUPS, FeatureSettings, ModelSettings
from ssl_jets.data.files import JetFile
from ssl_jets.data.schemas.schema import known_schemas
from ssl_jets.data.schemas.value import FeatureSource
from ssl_jets.data.shared import shared_columns
from ssl_jets.errors import UsageError, nearest
from ssl_jets.jets import COLUMNS, NEEDED, Jets

_KEY = "model.inputs"


def with_definitions(settings: ModelSettings, files: Sequence[JetFile]) -> ModelSettings:
    """Return settings with the definitions of the chosen features and context, from the schemas of the files.

    Raises:
        UsageError: an input that no file has, pt, deta or dphi left out, files that define a feature differently, or
            definitions that differ from the settings.
    """
    if settings.inputs is None:
        if settings.features or settings.context:
            raise UsageError("definitions come from the schema of the files", where="model.features", hint=_hint())
        return settings
    columns = [name for name in COLUMNS if any(name in file.columns for file in files)]
    features = _sources([(file, {name: file.schema.features[name] for name in file.features}) for file in files])
    context = _sources([(file, {name: file.schema.context[name] for name in file.context}) for file in files])
    groups = dict(zip(INPUT_GROUPS, (columns, features, context)))
    allowed = [*columns, *features, *context, *INPUT_GROUPS]
    for name in settings.inputs:
        if name not in allowed:
            hint = "ssl-jets inspect FILE lists columns, features and context"
            raise UsageError(
                "no file has this input", where=_KEY, found=name, allowed=nearest(name, allowed), hint=hint
            )
    chosen = {name for word in settings.inputs for name in groups.get(word, [word])}
    _check_own_schema(files, [*features, *context], settings.inputs)
    if lacking := [name for name in NEEDED if name not in chosen]:
        raise UsageError(
            "every encoder reads pt, deta and dphi",
            where=_KEY,
            found=f"without {', '.join(lacking)}",
            hint=f"--set '{_KEY}=[columns, ...]' names all columns",
        )
    own = {
        "features": {name: source for name, source in features.items() if name in chosen},
        "context": {name: source for name, source in context.items() if name in chosen},
    }
    for key, definitions in own.items():
        if (before := getattr(settings, key)) and before != definitions:
            _raise_changed(key, before, definitions)
    return settings.model_copy(update=own)


def _check_own_schema(files: Sequence[JetFile], available: Sequence[str], inputs: Sequence[str]) -> None:
    """Check that some file has each feature and context of a user's own schema, if the groups are among the inputs.

    Files may lack those of a known format: older ones do.

    Raises:
        UsageError: no file has it, such as with a misspelt branch.
    """
    known = {name for schema in known_schemas() for name in (*schema.features, *schema.context)}
    for file in files:
        declared = {"features": file.schema.features, "context": file.schema.context}
        for group in (group for group in declared if group in inputs):
            for name, source in declared[group].items():
                if name not in known and name not in available:
                    branches = ", ".join(source.branches)
                    hint = f"ssl-jets inspect {file.source.path} lists the branches"
                    raise UsageError(
                        "no file has the branches of this input", where=f"{group}.{name}", found=branches, hint=hint
                    )


def columns_of(settings: ModelSettings, files: Sequence[JetFile]) -> tuple[str, ...] | None:
    """Return the particle columns and features to read for an encoder; None for all columns of the files."""
    if settings.inputs is None:
        return None
    chosen = set(settings.inputs)
    if "columns" in chosen:
        return (*shared_columns(files), *settings.features)
    present = {name for file in files for name in file.columns}
    return (*(name for name in COLUMNS if name in chosen & present), *settings.features)


def all_inputs(files: Sequence[JetFile]) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """Return particle columns and context to read for encoders of any inputs: each reads its own of them."""
    features = dict.fromkeys(name for file in files for name in file.features)
    context = dict.fromkeys(name for file in files for name in file.context)
    return (*shared_columns(files), *features) if features else None, tuple(context)


def check_definitions(
    features: Mapping[str, FeatureSettings], context: Mapping[str, FeatureSettings], files: Sequence[JetFile]
) -> list[str]:
    """Check that the schemas of files define the features of an encoder alike; return lines about missing ones.

    Raises:
        UsageError: another dimension, or other categories.
    """
    lines = []
    for noun, known in (("features", features), ("context", context)):
        lacking: dict[str, int] = {}
        for file in files:
            present = file.features if noun == "features" else file.context
            sources = file.schema.features if noun == "features" else file.schema.context
            for name, definition in known.items():
                if name not in present:
                    lacking[name] = lacking.get(name, 0) + 1
                elif _values_of(sources[name].definition) != _values_of(definition):
                    _raise_different(name, definition, sources[name].definition, file)
        if lacking:
            names = ", ".join(f"{name} ({number} of {len(files)} files)" for name, number in lacking.items())
            lines.append(f"files lack {noun} that the encoder then reads as missing: {names}")
    return lines


def describe_inputs(batches: Sequence[Jets], settings: ModelSettings) -> list[str]:
    """Describe features and context of a sample that carry no information or were not expected, a line each."""
    lines: list[str] = []
    for name, definition in settings.features.items():
        values = torch.cat([jets.column(name) for jets in batches if name in jets.columns] or [torch.empty(0)])
        lines += _findings(f"feature {name}", "particles", definition, values)
    for name, definition in settings.context.items():
        values = torch.cat([jets.context[name] for jets in batches if name in jets.context] or [torch.empty(0)])
        lines += _findings(f"context {name}", "jets", definition, values)
    return lines


def unlisted(batch: Jets, *models: ModelSettings) -> dict[str, int]:
    """Count the values of each categorical feature and context that a model does not list."""
    return {name: count for settings in models for name, count in _unlisted(batch, settings).items()}


def _unlisted(batch: Jets, settings: ModelSettings) -> dict[str, int]:
    columns = {name: batch.column(name) for name in settings.features if name in batch.columns}
    values = {**columns, **{name: batch.context[name] for name in settings.context if name in batch.context}}
    definitions = {**settings.features, **settings.context}
    counts = {name: int((values[name] == len(definitions[name].categories)).sum()) for name in values}
    return {name: count for name, count in counts.items() if count and definitions[name].categories}


def _findings(what: str, noun: str, definition: FeatureSettings, values: Tensor) -> Iterator[str]:
    known = values[values.isfinite()]
    if not len(known):
        yield f"{what}: missing for all {noun} of the sample, so the encoder learns nothing from it"
        return
    if definition.categories:
        counts = known.long().bincount(minlength=len(definition.categories) + 1).tolist()
        if counts[-1]:
            share = counts[-1] / len(known)
            yield f"{what}: {counts[-1]:,} of {len(known):,} {noun} ({share:.1%}) have a category that is not listed"
        if never := [str(one) for one, count in zip(definition.categories, counts) if not count]:
            yield f"{what}: no {noun[:-1]} of the sample has the category {', '.join(never)}"
    elif bool((known == known[0]).all()):
        yield f"{what}: {float(known[0]):g} for all {noun} of the sample, so the encoder learns nothing from it"


def _sources(files: Sequence[tuple[JetFile, Mapping[str, FeatureSource]]]) -> dict[str, FeatureSettings]:
    """Return the definitions of all features of the files, which must define each alike."""
    found: dict[str, FeatureSettings] = {}
    for file, sources in files:
        for name, source in sources.items():
            if found.setdefault(name, source.definition) != source.definition:
                _raise_different(name, found[name], source.definition, file)
    return found


def _values_of(definition: FeatureSettings) -> tuple[object, ...]:
    """Return the facts of a definition that fix the meaning of a value in `Jets`."""
    return definition.unit, definition.categories


def _raise_different(name: str, one: FeatureSettings, other: FeatureSettings, file: JetFile) -> None:
    raise UsageError(
        f"the feature {name} is defined in two ways",
        where=f"{file.source}, schema {file.schema.name}",
        found=_text(other),
        allowed=[_text(one)],
    )


def _raise_changed(key: str, before: Mapping[str, object], now: Mapping[str, object]) -> None:
    changed = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    raise UsageError(
        "the schema of the files defines features otherwise than the run",
        where=f"model.{key}",
        found=", ".join(changed),
        hint=_hint(),
    )


def _text(definition: FeatureSettings) -> str:
    return ", ".join(f"{key} {value}" for key, value in definition.model_dump(exclude_defaults=True).items()) or "plain"


def _hint() -> str:
    return f"--set '{_KEY}=[columns, NAME]' chooses a feature that the schema defines"
