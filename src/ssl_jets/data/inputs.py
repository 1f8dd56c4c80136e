"""Inputs of an encoder: names chosen by `model.inputs` among columns, features, context and collections of files."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ssl_jets.config import INPUT_GROUPS, CollectionSettings, FeatureSettings, ModelSettings
from ssl_jets.data.collections.source import CollectionSource
from ssl_jets.data.files import JetFile
from ssl_jets.data.request import CollectionRequest
from ssl_jets.data.schemas.schema import known_schemas
from ssl_jets.data.schemas.value import FeatureSource
from ssl_jets.data.shared import shared_columns
from ssl_jets.errors import UsageError, in_shell, nearest
from ssl_jets.jets import COLUMNS, NEEDED, Jets

_KEY = "model.inputs"

_Collection = CollectionSettings | CollectionSource


def with_definitions(settings: ModelSettings, files: Sequence[JetFile]) -> ModelSettings:
    """Return settings with the definitions of the chosen inputs, from the schemas of the files.

    Definitions that the settings have already, of a run that is resumed or a model to go on from, keep their order: the
    weights of inputs have no names.

    Raises:
        UsageError: an input that no file has, pt, deta or dphi left out, files that define a feature differently,
            or definitions that differ from the settings.
    """
    if settings.inputs is None:
        if settings.features or settings.context or settings.collections:
            raise UsageError("definitions come from the schema of the files", where="model.features", hint=_hint())
        return settings
    columns = [name for name in COLUMNS if any(name in file.columns for file in files)]
    features = _sources([(file, {name: file.schema.features[name] for name in file.features}) for file in files])
    context = _sources([(file, {name: file.schema.context[name] for name in file.context}) for file in files])
    collections = _collections(files)
    groups = dict(zip(INPUT_GROUPS, map(list, (columns, features, context, collections))))
    allowed = [*columns, *features, *context, *collections, *INPUT_GROUPS]
    for name in settings.inputs:
        if name not in allowed:
            hint = "ssl-jets inspect FILE lists columns, features, context and collections"
            raise UsageError(
                "no file has this input", where=_KEY, found=name, allowed=nearest(name, allowed), hint=hint
            )
    chosen = {name for word in settings.inputs for name in groups.get(word, [word])}
    _check_own_schema(files, [*features, *context, *collections], settings.inputs)
    if lacking := [name for name in NEEDED if name not in chosen]:
        raise UsageError(
            "every encoder reads pt, deta and dphi",
            where=_KEY,
            found=f"without {', '.join(lacking)}",
            hint=f"--set '{_KEY}=[columns, ...]' names all columns",
        )
    own = chosen_definitions(settings.inputs, {"features": features, "context": context, "collections": collections})
    for key, definitions in own.items():
        if before := getattr(settings, key):
            if before != definitions:
                _raise_changed(key, before, definitions)
            own[key] = before  # in the order of the trained weights
    return settings.model_copy(update=own)


def chosen_definitions(inputs: Collection[str], groups: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the definitions of each group that `model.inputs` chooses, by their names or by the name of the group."""
    return {
        group: {name: one for name, one in definitions.items() if group in inputs or name in inputs}
        for group, definitions in groups.items()
    }


def _check_own_schema(files: Sequence[JetFile], available: Sequence[str], inputs: Sequence[str]) -> None:
    """Check that some file has each declared input of a user's own schema, if the groups are among the inputs.

    Files of a known format may lack inputs: older ones do.

    Raises:
        UsageError: no file has it, such as with a misspelt branch.
    """
    known = {name for one in known_schemas() for name in (*one.features, *one.context)}
    known_collections = [source for one in known_schemas() for source in one.collections.values()]
    for file in files:
        declared: dict[str, dict[str, tuple[str, ...]]] = {
            "features": {name: one.branches for name, one in file.schema.features.items()},
            "context": {name: one.branches for name, one in file.schema.context.items()},
            "collections": {
                name: one.branches(one.features)
                for name, one in file.schema.collections.items()
                if one not in known_collections
            },
        }
        for group in (group for group in declared if group in inputs):
            for name, sources in declared[group].items():
                if (name not in known or group == "collections") and name not in available:
                    branches = ", ".join(sources)
                    hint = f"ssl-jets inspect {in_shell(file.source.path)} lists the branches"
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


def requests_of(collections: Mapping[str, CollectionSettings]) -> tuple[CollectionRequest, ...]:
    """Return the elements to read of the collections of an encoder."""
    return tuple(CollectionRequest(name, tuple(one.features), one.most) for name, one in collections.items())


def joint_requests(several: Iterable[Mapping[str, CollectionSettings]]) -> tuple[CollectionRequest, ...]:
    """Return the elements to read for several encoders; each encoder then uses its own features and its own `most`."""
    joint: dict[str, CollectionRequest] = {}
    for one in (request for collections in several for request in requests_of(collections)):
        before = joint.setdefault(one.name, one)
        features = tuple(dict.fromkeys((*before.features, *one.features)))
        joint[one.name] = CollectionRequest(one.name, features, max(before.most, one.most))
    return tuple(joint.values())


def all_inputs(
    files: Sequence[JetFile],
) -> tuple[tuple[str, ...] | None, tuple[str, ...], tuple[CollectionRequest, ...]]:
    """Return particle columns, context and collections to read for encoders of any inputs: each reads its own."""
    features = dict.fromkeys(name for file in files for name in file.features)
    context = dict.fromkeys(name for file in files for name in file.context)
    columns = (*shared_columns(files), *features) if features else None
    return columns, tuple(context), requests_of(_collections(files))


def check_definitions(
    features: Mapping[str, FeatureSettings],
    context: Mapping[str, FeatureSettings],
    files: Sequence[JetFile],
    collections: Mapping[str, CollectionSettings] = {},
) -> list[str]:
    """Check that the schemas of files define the inputs of an encoder alike; return lines about missing ones.

    Raises:
        UsageError: another dimension, or other categories.
    """
    lines = []
    for noun, known in (("features", features), ("context", context), ("collections", of_elements(collections))):
        lacking: dict[str, set[JetFile]] = {}
        for file in files:
            present, sources = _declared(file, noun)
            for name, definition in known.items():
                if name not in present:
                    whole = noun == "collections" and name.partition(".")[0] not in file.collections
                    lacking.setdefault(name.partition(".")[0] if whole else name, set()).add(file)
                elif _values_of(sources[name].definition) != _values_of(definition):
                    _raise_different(name, definition, sources[name].definition, file)
        if lacking:
            names = ", ".join(f"{name} ({len(without)} of {len(files)} files)" for name, without in lacking.items())
            lines.append(f"files lack {noun} that the encoder then reads as missing: {names}")
    return lines


def describe_inputs(batches: Sequence[Jets], settings: ModelSettings) -> list[str]:
    """Describe declared inputs of a sample that carry no information or were not expected, a line each."""
    lines: list[str] = []
    for name, definition in settings.features.items():
        values = torch.cat([jets.column(name) for jets in batches if name in jets.columns] or [torch.empty(0)])
        lines += _findings(f"feature {name}", "particles", definition, values)
    for name, definition in settings.context.items():
        values = torch.cat([jets.context[name] for jets in batches if name in jets.context] or [torch.empty(0)])
        lines += _findings(f"context {name}", "jets", definition, values)
    for collection, own in settings.collections.items():
        elements = [jets.collections[collection] for jets in batches if collection in jets.collections]
        if not any(bool(one.particles.isfinite().any()) for one in elements):
            lines.append(f"collection {collection}: empty for all jets, so the encoder learns nothing from it")
            continue
        for name, definition in own.features.items():
            values = torch.cat([one.column(name) for one in elements])
            lines += _findings(f"collection {collection}, {name}", "elements", definition, values)
    return lines


def unlisted(batch: Jets, *models: ModelSettings) -> dict[str, int]:
    """Count the values of each categorical feature, context and element that a model does not list."""
    values = {name: batch.column(name) for name in batch.columns} | dict(batch.context)
    for collection, elements in batch.collections.items():
        values |= {f"{collection}.{name}": elements.column(name) for name in elements.columns}
    counts = {}
    for settings in models:
        for name, one in {**settings.features, **settings.context, **of_elements(settings.collections)}.items():
            if one.categories and name in values:
                counts[name] = int((values[name] == len(one.categories)).sum())
    return {name: count for name, count in counts.items() if count}


def of_elements(collections: Mapping[str, _Collection]) -> dict[str, Any]:
    """Return the features of the elements of all collections, by the names COLLECTION.FEATURE."""
    return {f"{name}.{one}": feature for name, own in collections.items() for one, feature in own.features.items()}


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


def _collections(files: Sequence[JetFile]) -> dict[str, CollectionSettings]:
    """Return the definitions of all collections of the files, which must define each alike."""
    found: dict[str, CollectionSettings] = {}
    for name in dict.fromkeys(name for file in files for name in file.collections):
        having = [
            (file, file.schema.collections[name], file.collections[name].features)
            for file in files
            if name in file.collections
        ]
        features = _sources([(file, {one: source.features[one] for one in own}) for file, source, own in having])
        most = [source.most for _, source, _ in having]
        if len(set(most)) > 1:
            where = f"{having[-1][0].source}, collections.{name}.most"
            message = "the files read different numbers of elements"
            raise UsageError(message, where=where, found=most[-1], allowed=most[:1])
        found[name] = CollectionSettings(features=features, most=most[0])
    return found


def _declared(file: JetFile, noun: str) -> tuple[Collection[str], Mapping[str, FeatureSource]]:
    """Return the names that a file has of a group of declared inputs, and the sources of all; SV.mass of elements."""
    if noun == "features":
        return file.features, file.schema.features
    if noun == "context":
        return file.context, file.schema.context
    present = [f"{name}.{one}" for name, own in file.collections.items() for one in own.features]
    return present, of_elements(file.schema.collections)


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
