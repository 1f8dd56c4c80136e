"""What there is: methods with their settings, and files with their contents, as text for the terminal."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ssl_jets import methods
from ssl_jets.config import Settings, recipe
from ssl_jets.data.files import JetFile, open_files
from ssl_jets.data.sources import resolve_sources
from ssl_jets.jets import COLUMNS


def list_methods() -> str:
    """One line for each method: its name and the first line of its file."""
    found = [(name, _text(name).splitlines()[0].rstrip(".")) for name in methods.names()]
    width = max(len(name) for name, _ in found)
    return "\n".join(f"{name:<{width}}  {line}" for name, line in found)


def describe_method(name: str) -> str:
    """The docstring of a method's file, its settings with their defaults, and its recipe."""
    config = methods.find(name).Config
    lines = [_text(name), "", "Settings (--set KEY=VALUE):"]
    lines += _settings(config, {key: field.default for key, field in config.model_fields.items()}, "method")
    settings = [f"{tree}.{key} = {value}" for tree, values in recipe(name).items() for key, value in values.items()]
    if settings:
        lines += ["", "Recipe: " + ", ".join(settings)]
    return "\n".join(lines)


def _settings(settings: type[Settings], values: Mapping[str, Any], path: str) -> list[str]:
    """Each setting with its default and its description; those of nested settings under their full key."""
    lines = []
    for key, field in settings.model_fields.items():
        value = values[key]
        if isinstance(value, Settings):
            lines += [f"  {path}.{key}.*", f"      {field.description}"]
            lines += _settings(type(value), dict(value), f"{path}.{key}")
        elif key != "name":
            lines += [f"  {path}.{key} = {value!r}", f"      {field.description}"]
    return lines


def describe_files(sources: Sequence[str], *, as_json: bool = False) -> str:
    """Format, jets, classes, columns, and canonical columns that are missing, of each file."""
    files = open_files(resolve_sources(sources))
    if as_json:
        return json.dumps([_facts(file) for file in files], indent=1)
    blocks = []
    for file in files:
        facts = _facts(file)
        blocks.append(
            "\n".join(
                [
                    f"{facts['file']}: {facts['format']}, tree {facts['tree']}, {facts['entries']:,} entries",
                    *([f"  jets:             {_collections(file)}"] if file.events is not None else []),
                    f"  classes:          {', '.join(facts['classes']) or 'none (unlabelled)'}",
                    f"  particle columns: {', '.join(facts['columns'])}",
                    f"  missing:          {', '.join(facts['missing']) or 'none'}",
                    f"  jet columns:      {', '.join(facts['jet_columns'])}",
                ]
            )
        )
    return "\n".join(blocks)


def _collections(file: JetFile) -> str:
    """Which jets of the events are read, and which could be."""
    assert file.events is not None
    layout = file.events.layout
    others = ", ".join(name for name in layout.others if name != layout.collection)
    events = len(file.events.first) - 1
    more = f"; --set data.jets=NAME reads {others}" if others else ""
    return f"{layout.collection}, {file.entries:,} in {events:,} events{more}"


def _facts(file: JetFile) -> dict[str, Any]:
    return {
        "file": str(file.source),
        "format": file.schema.name,
        "tree": file.tree,
        "jets": file.collection,
        "entries": file.entries,
        "bytes": file.bytes,
        "classes": list(file.label_names),
        "columns": list(file.columns),
        "missing": [name for name in COLUMNS if name not in file.columns],
        "jet_columns": list(file.jet_columns),
    }


def _text(name: str) -> str:
    return inspect.cleandoc(inspect.getmodule(methods.find(name)).__doc__ or "")
