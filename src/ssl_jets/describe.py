"""Files with their contents, as text for the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ssl_jets.config import DataSettings
from ssl_jets.data.dataset import open_named
from ssl_jets.data.files import JetFile
from ssl_jets.data.survey import UNITS, Numbers, Survey, survey
from ssl_jets.jets import COLUMNS

SAMPLE = 20_000
"""Entries that are looked at, of all files together."""

_DATA = DataSettings()

_MOST_COLUMNS = 30
"""Jet columns that are shown with their numbers."""

_BARS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Looked:
    """A file, and what a sample of its jets looks like."""

    file: JetFile
    seen: Survey


def look_at(
    sources: Sequence[str], left_out: dict[str, str], data: DataSettings = _DATA, jets: int = SAMPLE
) -> list[Looked]:
    """Open the files, and look at about `jets` entries of all of them together (at least 100 of each).

    Files that cannot be opened go to `left_out`, with the reason, where `data.bad_files` is "skip".
    """
    files = open_named(sources, data, left_out)
    return [Looked(file, survey(file, max(jets // len(files), 100), data.bad_files)) for file in files]


def files_as_json(looked: Sequence[Looked], left_out: Mapping[str, str]) -> str:
    """All that was found, as a JSON list with an object for each file; of those left out with the reason."""
    found = [_facts(one.file) | {"sample": asdict(one.seen)} for one in looked]
    return json.dumps([*found, *({"file": name, "left_out": why} for name, why in left_out.items())], indent=1)


def files_as_text(looked: Sequence[Looked]) -> str:
    """All that was found, for people; of the columns with small histograms."""
    return "\n\n".join(_block(one.file, one.seen) for one in looked)


def _block(file: JetFile, seen: Survey) -> str:
    missing = [name for name in COLUMNS if name not in file.columns]
    left_out = ", ".join(f"{number:,} ({reason})" for reason, number in seen.left_out.items())
    whole = "all of them" if seen.jets + sum(seen.left_out.values()) == file.entries else "a sample"
    tree = f", {file.reader.NOUN} {file.tree}" if file.tree else ""
    rows = "entries" if file.events is None else "jets"
    lines = [
        f"{file.source}: {file.schema.title} ({file.schema.name}){tree}, {file.entries:,} {rows}",
        *([f"  jets:             {_collections(file)}"] if file.events is not None else []),
        f"  looked at:        {seen.jets:,} jets, {whole}" + (f"; cannot be used: {left_out}" if left_out else ""),
        f"  classes:          {_classes(file, seen)}",
        f"  missing:          {', '.join(missing) or 'none'}",
        *(f"  suspicious:       {text}" for text in seen.suspicions),
        f"  {'':<19}{'unit':<5}{'least':>11}{'median':>11}{'most':>11}{'zeros':>7}{'NaN':>6}",
        _line("particles a jet", "", seen.particles),
        *(_line(name, UNITS.get(name, ""), numbers) for name, numbers in seen.columns.items()),
        *(_line(name, "", numbers) for name, numbers in list(seen.jet_columns.items())[:_MOST_COLUMNS]),
    ]
    if more := list(seen.jet_columns)[_MOST_COLUMNS:]:
        lines.append(f"  and {len(more)} more jet columns: {', '.join(more)}")
    return "\n".join(lines)


def _line(name: str, unit: str, numbers: Numbers) -> str:
    found = (numbers.least, numbers.median, numbers.most)
    values = "".join(f"{'–':>11}" if value is None else f"{value:>11.4g}" for value in found)
    zeros = numbers.zeros / max(numbers.count, 1)
    top = max(numbers.histogram, default=0) or 1
    bars = "".join(_BARS[-(-count * (len(_BARS) - 1) // top)] for count in numbers.histogram)
    return f"  {name:<19}{unit:<5}{values}{zeros:>7.0%}{numbers.not_finite:>6}  {bars}"


def _classes(file: JetFile, seen: Survey) -> str:
    if not file.label_names:
        return "none (unlabelled)"
    counted = [f"{name} {number:,}" for name, number in seen.labels.items() if number or len(seen.labels) <= 20]
    more = "" if len(seen.labels) <= 20 else f" (the {len(counted)} seen of {len(seen.labels)})"
    return ", ".join(counted) + more


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
