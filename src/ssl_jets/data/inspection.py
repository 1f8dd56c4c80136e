"""Contents of files, as text for the terminal or as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ssl_jets.config import DataSettings
from ssl_jets.data.dataset import open_named
from ssl_jets.data.files import JetFile
from ssl_jets.data.inputs import of_elements
from ssl_jets.data.profile import Numbers, Profile, profile
from ssl_jets.data.request import NOT_SELECTED
from ssl_jets.data.schemas.check import like_labels
from ssl_jets.data.schemas.value import COLUMN_UNITS, FeatureSource
from ssl_jets.jets import COLUMNS
from ssl_jets.runtime.terminal import by_reason, stdout_width

SAMPLE = 20_000
"""Entries that are sampled, of all files together."""


_MOST_COLUMNS = 16
"""Jet columns of a file that fit on a screen."""

_MOST_BLOCKS = 2
"""Files with columns that fit on a screen."""

MOST_WHOLE = 10
"""Files whose columns the terminal or a figure shows, at most."""

_MOST_LINES = 20
"""Lines about other files that fit on a screen."""

_MOST_CLASSES = 20
"""Classes that fit on a screen."""

_NAME_WIDTH = 19
"""Smallest width of the names of columns, in characters; the largest is twice as much."""

_BARS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class FileInspection:
    """A file, and the profile of a sample of its jets."""

    file: JetFile
    seen: Profile


def inspect_files(
    sources: Sequence[str],
    skipped: dict[str, str],
    data: DataSettings = DataSettings(),
    jets: int = SAMPLE,
    whole: int | None = None,
) -> list[FileInspection]:
    """Open the files, and profile about `jets` entries of all of them together (at least 100 of each).

    `skipped` receives the files that cannot be opened, with the reason, if `data.bad_files` is "skip". `whole` is the
    number of files whose profiles have the distributions of columns; by default all.
    """
    files = open_named(sources, data, skipped)
    most = max(jets // len(files), 100)
    inspections = []
    for number, file in enumerate(files):
        seen = profile(file, most, data.bad_files, data.where)
        if whole is not None and number >= whole:  # distributions of 300 columns take half a megabyte
            seen = replace(seen, columns={}, context={}, collections={}, jet_columns={})
        inspections.append(FileInspection(file, seen))
    return inspections


def files_as_objects(inspections: Sequence[FileInspection], skipped: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return all facts as an object of JSON for each file; of skipped files the reason."""
    objects = [_facts(one.file) | {"sample": asdict(one.seen)} for one in inspections]
    return objects + [{"file": name, "left_out": reason} for name, reason in skipped.items()]


def files_as_text(inspections: Sequence[FileInspection], *, columns: bool = False) -> str:
    """Format the facts for the terminal, with small histograms of the columns.

    Without `columns` they fit on a screen: some jet columns of the first files, and a line for each other file, files
    with skipped jets or suspicions first.
    """
    shown = len(inspections) if columns else _MOST_BLOCKS
    blocks = [_block(one.file, one.seen, None if columns else _MOST_COLUMNS) for one in inspections[:shown]]
    others = sorted(inspections[shown:], key=lambda one: not (one.seen.left_out or one.seen.suspicions))
    lines = [_one_line(one.file, one.seen) for one in others[:_MOST_LINES]]
    if hidden := len(others) - len(lines):
        lines.append(f"and {hidden:,} more files: --columns or --json shows them")
    return "\n\n".join([*blocks, *(["\n".join(lines)] if lines else [])])


def _one_line(file: JetFile, seen: Profile) -> str:
    wrong = _selected(seen) + ([f"cannot be used: {skipped}"] if (skipped := _skipped(seen)) else [])
    wrong += [f"suspicious: {text}" for text in seen.suspicions]
    return "; ".join([_headline(file), *wrong])


def _headline(file: JetFile) -> str:
    tree = f", {file.reader.NOUN} {file.tree}" if file.tree else ""
    rows = "entries" if file.events is None else "jets"
    return f"{file.source}: {file.schema.title} ({file.schema.name}){tree}, {file.entries:,} {rows}"


def _skipped(seen: Profile) -> str:
    return by_reason({reason: number for reason, number in seen.left_out.items() if reason != NOT_SELECTED})


def _selected(seen: Profile) -> list[str]:
    """Return the share of the jets that `data.where` selects, if it leaves any out."""
    total = seen.jets + sum(seen.left_out.values())
    without = seen.left_out.get(NOT_SELECTED, 0)
    return [f"selected by where: {total - without:,} of {total:,}"] if without else []


def _block(file: JetFile, seen: Profile, most: int | None) -> str:
    """Format all facts of a file, with at most `most` of its jet columns."""
    missing = [name for name in COLUMNS if name not in file.columns]
    skipped = _skipped(seen)
    whole = "all of them" if seen.jets + sum(seen.left_out.values()) == file.entries else "a sample"
    lines = [
        _headline(file),
        *([f"  jets:             {_collections(file)}"] if file.events is not None else []),
        f"  looked at:        {seen.jets:,} jets, {whole}"
        + "".join(f"; {part}" for part in _selected(seen))
        + (f"; cannot be used: {skipped}" if skipped else ""),
        f"  classes:          {_classes(file, seen)}",
        f"  missing:          {', '.join(missing) or 'none'}",
        *_declared(file),
        *(f"  suspicious:       {text}" for text in seen.suspicions),
        *_table(file, seen, list(seen.jet_columns)[:most]),
    ]
    if most is not None and (more := len(seen.jet_columns) - most) > 0:
        lines.append(f"  and {more:,} more jet columns: --columns or --json shows them")
    return "\n".join(lines)


def _declared(file: JetFile) -> list[str]:
    """Format the declared inputs that `model.inputs` can choose, and those that the file lacks."""
    lines = []
    for key, present, sources in (
        ("features", file.features, file.schema.features),
        ("context", file.context, file.schema.context),
        ("collections", tuple(file.collections), file.schema.collections),
    ):
        lacking = [name for name in sources if name not in present]
        text = ", ".join(present) or "none"
        text += " (for model.inputs)" if present else ""
        text += f"; the file lacks {', '.join(lacking)}" if lacking else ""
        lines += [f"  {key + ':':<17} {text}"] if sources else []
    if names := file.particle_labels:
        lines.append(f"  {'particle labels:':<17} {', '.join(names)} (for method.particle_targets)")
    return lines


def _table(file: JetFile, seen: Profile, jet_columns: Sequence[str]) -> list[str]:
    """Format particle columns, features, context, collections, and some jet columns as a table with a header."""
    context = {name: numbers for name, numbers in seen.context.items() if name not in seen.jet_columns}
    inputs = {**seen.columns, **context, **seen.collections}
    declared: dict[str, FeatureSource] = {
        **file.schema.features,
        **file.schema.context,
        **of_elements(file.schema.collections),
    }
    titles = {name: f"{name} a jet" for name in file.collections}
    units = COLUMN_UNITS | {name: source.definition.unit for name, source in declared.items() if source.unit != "1"}
    of_jets = {name: value.canonical_unit for name, value in file.schema.jets.items() if value.unit != "1"}
    width = min(max([_NAME_WIDTH, *(len(name) + 1 for name in (*inputs, *jet_columns))]), 2 * _NAME_WIDTH)
    lines = [
        f"  {'':<{width}}{'unit':<5}{'least':>11}{'median':>11}{'most':>11}{'zeros':>7}{'NaN':>6}",
        _line("particles a jet", width, "", seen.particles),
        *(_line(titles.get(name, name), width, units.get(name, ""), numbers) for name, numbers in inputs.items()),
        *(_line(name, width, of_jets.get(name, ""), seen.jet_columns[name]) for name in jet_columns),
    ]
    room = stdout_width()
    if room is not None and max(map(len, lines)) > room:  # a terminal without room for the histograms
        return [line[: len(lines[0])] for line in lines]
    return lines


def _line(name: str, width: int, unit: str, numbers: Numbers) -> str:
    statistics = (numbers.least, numbers.median, numbers.most)
    values = "".join(f"{'–':>11}" if value is None else f"{value:>11.4g}" for value in statistics)
    zeros = numbers.zeros / max(numbers.count, 1)
    top = max(numbers.histogram, default=0) or 1
    # Rounded up, so that a bin with a single jet shows: counts 0, 1, 50, 100 -> bars 0, 1, 4, 8 of 8.
    bars = "".join(_BARS[-(-count * (len(_BARS) - 1) // top)] for count in numbers.histogram)
    return f"  {name:<{width}}{unit:<5}{values}{zeros:>7.0%}{numbers.not_finite:>6}  {bars}"


def _classes(file: JetFile, seen: Profile) -> str:
    if not file.label_names:
        hint = like_labels(file.jet_columns)
        return "none (unlabelled)" + (f"; {hint}" if hint else "")
    if len(seen.labels) <= _MOST_CLASSES:
        return ", ".join(f"{name} {number:,}" for name, number in seen.labels.items())
    counted = [(name, number) for name, number in Counter(seen.labels).most_common() if number]
    names = ", ".join(f"{name} {number:,}" for name, number in counted[:_MOST_CLASSES])
    return names + f" ({len(counted)} seen of {len(seen.labels)})"


def _collections(file: JetFile) -> str:
    """Format the collection of jets that is read from events, and the others that can be."""
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
        "features": list(file.features),
        "context": list(file.context),
        "particle_labels": list(file.particle_labels),
        "collections": {name: list(one.features) for name, one in file.collections.items()},
        "jet_columns": list(file.jet_columns),
    }
