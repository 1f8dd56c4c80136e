"""Merge of the parts of an array job into the file that one run would have written, or into an index of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ssl_jets.errors import DataError, UsageError
from ssl_jets.runtime.atomic import check_output, whole_file
from ssl_jets.runtime.overwriting import check_apart
from ssl_jets.zfile.columns import KEY, TRUE, Column, convert, key_columns
from ssl_jets.zfile.index import index_text, is_index
from ssl_jets.zfile.metadata import PartMetadata
from ssl_jets.zfile.opening import open_file
from ssl_jets.zfile.reader import iterate_z
from ssl_jets.zfile.writer import ZWriter

SAME = {
    "format": "the kind of file",
    "package_version": "the version of ssl-jets",
    "model_sha256": "the model",
    "level": "the level",
    "kept": "the kept columns",
    "scores": "the scores",
    "where": "the selection",
}
"""Metadata in which all parts must agree."""
OF_INPUTS = ("files", "collections", "digests", "schemas")
"""Metadata with a value for each input file; the first is its name."""
_MOST_NAMED = 8


@dataclass(frozen=True)
class Merged:
    """Outcome of `merge_parts`.

    Attributes:
        path: the merged file.
        parts: number of parts in it.
        missing: numbers of the parts that are missing.
        rows: number of rows.
    """

    path: Path
    parts: int
    missing: tuple[int, ...]
    rows: int


@dataclass(frozen=True)
class _Part:
    path: Path
    metadata: Mapping[str, Any]
    place: PartMetadata
    rows: int
    crc32: int

    @classmethod
    def read(cls, path: Path) -> _Part:
        with open_file(path) as file:
            metadata, rows, crc32 = file.metadata, file.rows, file.crc32
        if "part" not in metadata:
            hint = "embed and predict write parts with --part I/N or --per-file"
            raise DataError("the file is not a part of several", where=path, hint=hint)
        stored = metadata["part"]
        columns = tuple((name, dtype, width) for name, dtype, width in stored["columns"])
        ranges = tuple((file, start, stop) for file, start, stop in stored["ranges"])
        place = PartMetadata(**{**stored, "columns": columns, "ranges": ranges})
        return cls(path, metadata, place, rows, crc32)

    @property
    def labels(self) -> list[str]:
        names: list[str] = self.metadata["label_names"]
        return names


def merge_parts(paths: Sequence[str | Path], out: str | Path, *, partial: bool = False, force: bool = False) -> Merged:
    """Join the parts of one output, in order, into the file that one run would have written, or an index (`.json`).

    Of an index the parts stay, and are read as one file. Arguments as in `ssl_jets.merge`.

    Raises:
        UsageError: no parts, a part named twice, a part missing without `partial`, an output that exists, or is a part.
        DataError: files that are no parts, or parts of different models, inputs, or columns.
        SslJetsError: the output cannot be written.
    """
    named = [Path(path) for path in paths]
    check_apart([Path(out)], named)
    check_output(Path(out), force=force)
    if len({path.resolve() for path in named}) < len(named):
        raise UsageError("a part is named twice", found=", ".join(map(str, named[:_MOST_NAMED])))
    if not named:
        raise UsageError("no parts are named", hint="ssl-jets merge part-*.parquet --out FILE")
    parts = sorted((_Part.read(path) for path in named), key=lambda part: part.place.number)
    _check_same(parts)
    inputs = _inputs(parts)
    _check_entries(parts)
    missing = _missing(parts, partial=partial)
    numbers = _file_numbers(parts[0].place.inputs, inputs)
    columns, metadata = _columns(parts), _metadata(parts, inputs, numbers, missing)
    merged = Merged(Path(out), len(parts), missing, sum(part.rows for part in parts))
    if is_index(merged.path):
        listed = [(part.path, part.rows, part.crc32) for part in parts]
        with whole_file(merged.path, force=force) as fresh:
            fresh.write_text(index_text(merged.path, listed, columns, numbers, metadata), encoding="utf-8")
        return merged
    with ZWriter(out, columns, metadata, force=force) as writer:
        for part in parts:
            for rows in iterate_z(part.path):
                writer.write(convert(rows, columns, numbers, part.path))
    return merged


def _check_same(parts: Sequence[_Part]) -> None:
    """Check that the parts, in order, are of one output, and each is there once."""
    first = parts[0]
    for other in parts[1:]:
        facts = {text: (first.metadata.get(key), other.metadata.get(key)) for key, text in SAME.items()}
        facts["the list of inputs"] = (first.place.inputs_sha256, other.place.inputs_sha256)
        facts["the number of parts"] = (first.place.of, other.place.of)
        facts["the classes of the labels"] = (first.labels or other.labels, other.labels or first.labels)
        for text, (one, another) in facts.items():
            if one != another:
                where = f"{first.path}, {other.path}"
                found = " and ".join("none" if value is None else str(value) for value in (one, another))
                raise UsageError(f"the parts differ in {text}", where=where, found=found)
    for one, other in pairwise(parts):
        if one.place.number == other.place.number:
            found = f"part {one.place.number} of {one.place.of}"
            raise UsageError("two files are the same part", where=f"{one.path}, {other.path}", found=found)


def _missing(parts: Sequence[_Part], *, partial: bool) -> tuple[int, ...]:
    """Return the numbers of the missing parts; without `partial` there may be none."""
    of = parts[0].place.of
    missing = tuple(sorted(set(range(1, of + 1)) - {part.place.number for part in parts}))
    if missing and not partial:
        shown = ", ".join(map(str, missing[:_MOST_NAMED])) + (" ..." if len(missing) > _MOST_NAMED else "")
        found = f"{len(parts)} of {of} parts; missing: {shown}"
        raise UsageError("parts are missing", found=found, hint="name all parts, or --partial to do without them")
    return missing


def _check_entries(parts: Sequence[_Part]) -> None:
    """Check that parts in order have each entry once. Where a part is missing, entries may be missing."""
    given = {part.place.number for part in parts}
    before, file, entry = 0, 0, 0  # the last part with rows, and where they end
    for part in parts:
        for own, start, stop in part.place.ranges:
            expected = entry if own == file else 0
            repeated = own < file or start < expected
            if repeated or (start > expected and given.issuperset(range(before + 1, part.place.number))):
                raise DataError(
                    "two parts have rows of the same entries" if repeated else "no part has the rows of some entries",
                    where=part.path,
                    found=f"part {part.place.number} begins with entry {start:,} of input {own}, not {expected:,}",
                    hint="write all parts with one --batch-size: large files are cut at its multiples",
                )
            before, file, entry = part.place.number, own, stop


def _columns(parts: Sequence[_Part]) -> tuple[Column, ...]:
    """Return the columns of the merged file, each with the type that holds the numbers of all parts.

    A part without labels, of jets or of particles, lacks their columns.
    """
    types: dict[str, np.dtype[Any]] = {}
    widths: dict[str, int | None] = {}
    for part in parts:
        for name, dtype, width in part.place.columns:
            types[name] = np.promote_types(types.get(name, np.dtype(dtype)), dtype)
            widths.setdefault(name, width)
    targets = (parts[0].metadata.get("scores") or {}).get("particle_targets", {})
    true = [f"{TRUE}{name}" for name in targets if f"{TRUE}{name}" in widths]
    for part in parts:
        own = {name: width for name, _, width in part.place.columns}
        if {**widths, **own} != widths or not widths.keys() - own.keys() <= {"label", *true}:
            where = f"{parts[0].path}, {part.path}"
            raise UsageError("the parts differ in their columns", where=where, found=", ".join(own))
    names = [name for name, _, _ in parts[0].place.columns if name not in ("label", *true)]
    first = names.index(KEY[0])
    last = first + len(key_columns(parts[0].metadata["level"], labelled=False))
    label = ["label"] if "label" in widths else []
    order = [*names[:first], *true, *names[first:last], *label, *names[last:]]
    return tuple(Column(name, types[name].str, widths[name]) for name in order)


def _inputs(parts: Sequence[_Part]) -> dict[int, tuple[str, ...]]:
    """Return the metadata `OF_INPUTS` of each input that was opened, by its number in the whole list.

    Raises:
        UsageError: parts differ in the metadata of an input, or an input was opened for some of them only.
    """
    inputs: dict[int, tuple[str, ...] | None] = {}
    for part in parts:
        lists = (part.metadata[name] for name in OF_INPUTS)
        for number, row in enumerate(zip(*lists, strict=True), part.place.first_file):
            opened = None if row[0] in part.metadata["files_left_out"] else row
            before = inputs.setdefault(number, opened)
            if before != opened:
                what = "an input had other contents, or was read by another schema, when other parts were written"
                if None in (before, opened):
                    what = "an input was opened for some parts and not for others, so their entries do not fit together"
                raise UsageError(what, where=part.path, found=row[0])
    return {number: row for number, row in sorted(inputs.items()) if row is not None}


def _file_numbers(count: int, inputs: Mapping[int, tuple[str, ...]]) -> npt.NDArray[np.int32]:
    """Return the number in the merged list of inputs of each input of the whole list, -1 for one without rows."""
    numbers = np.full(count, -1, np.int32)
    numbers[list(inputs)] = np.arange(len(inputs))
    return numbers


def _metadata(
    parts: Sequence[_Part],
    inputs: Mapping[int, tuple[str, ...]],
    numbers: npt.NDArray[np.int32],
    missing: tuple[int, ...],
) -> dict[str, Any]:
    """Return the metadata that one run over the inputs of the parts would have written."""
    trained = sorted({(int(numbers[file]), *entries) for part in parts for file, *entries in part.metadata["trained"]})
    skipped = sum((Counter(part.metadata["left_out"]) for part in parts), Counter[str]())
    left_out = {name: reason for part in parts for name, reason in part.metadata["files_left_out"].items()}
    metadata = {
        **parts[0].metadata,
        **{name: [row[place] for row in inputs.values()] for place, name in enumerate(OF_INPUTS)},
        "label_names": next((part.labels for part in parts if part.labels), []),
        "trained": trained,
        "left_out": {reason: skipped[reason] for reason in sorted(skipped)},
        "files_left_out": left_out,
    }
    del metadata["part"]
    return json.loads(json.dumps(metadata | ({"missing_parts": missing} if missing else {})))  # type: ignore[no-any-return]
