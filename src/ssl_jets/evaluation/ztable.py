"""Several z or scores files of one model as one table, and the rows that the model was not trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ssl_jets.arrays import Array
from ssl_jets.errors import DataError, UsageError
from ssl_jets.evaluation.result import InputFile
from ssl_jets.evaluation.roles import FORCE
from ssl_jets.runtime.console import Log
from ssl_jets.zfile import ZFile, count_rows, read_z

SAME = {"model_sha256": "the model", "level": "the level", "label_names": "the classes", "scores": "the scores"}
"""Metadata in which the files of a table must agree."""


_ROWS = 100_000
"""Rows whose z is in memory at once."""


@dataclass(frozen=True, repr=False)
class Table(ZFile):
    """All rows of one or several files without their z, which need not fit into memory: `some` reads z of few rows.

    Attributes:
        z: `[row, 0]`.
        lengths: rows of each file, by its path.
        dim: numbers of z.
        finite: whether z of a row is finite, bool `[row]`.
    """

    lengths: Mapping[Path, int] = field(default_factory=dict)
    dim: int = 0
    finite: Array = field(default_factory=lambda: np.zeros(0, dtype=bool))

    @classmethod
    def read(cls, path: Path, read: Callable[..., ZFile]) -> Table:
        """Read one file, some rows at a time."""
        rows, pieces, finite = count_rows(path), list[ZFile](), list[Array]()
        for start in range(0, max(rows, 1), _ROWS):
            piece = read(path, start=start, stop=start + _ROWS)
            pieces.append(replace(piece, z=piece.z[:, :0].copy()))
            finite.append(np.asarray(np.isfinite(piece.z).all(axis=1)))
        columns = {name: np.concatenate([one.columns[name] for one in pieces]) for name in pieces[0].columns}
        z = np.empty((rows, 0), np.float32)
        return cls(z, columns, pieces[0].metadata, {path: rows}, piece.z.shape[1], np.concatenate(finite))

    def some(self, rows: Array) -> ZFile:
        """Read z of the rows, numbers in rising order, and return it with their columns."""
        z, before = np.empty((len(rows), self.dim), np.float32), 0
        for path, length in self.lengths.items():
            for start in range(before, before + length, _ROWS):
                low, high = np.searchsorted(rows, (start, min(start + _ROWS, before + length)))
                if low < high:
                    first, last = int(rows[low]), int(rows[high - 1]) + 1
                    read = read_z(path, start=first - before, stop=last - before).z
                    z[low:high] = read[rows[low:high] - first]
            before += length
        return ZFile(z, {name: values[rows] for name, values in self.columns.items()}, self.metadata)


def read_table(
    paths: str | Path | Sequence[str | Path], read: Callable[..., ZFile] = read_z
) -> tuple[list[Path], list[int], Table]:
    """Read z files (or others with `read`), one after the other: their paths, their numbers of rows, and all rows.

    `source_file` and `trained` count the input files of all of them; parts of one job count them already.

    Raises:
        UsageError: a file is named twice, or files of different models, classes, or columns.
        DataError: as `read_z`.
    """
    named = [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    if len({path.resolve() for path in named}) < len(named):
        raise UsageError("a z file is named twice", where="--z", found=", ".join(map(str, named)))
    files = [Table.read(path, read) for path in named]
    for path, file in zip(named[1:], files[1:], strict=True):
        _check_same(named[0], files[0], path, file)
    return named, [len(file) for file in files], files[0] if len(files) == 1 else _joined(files)


def _check_same(path: Path, first: Table, other_path: Path, other: Table) -> None:
    facts = {text: (first.metadata.get(key), other.metadata.get(key)) for key, text in SAME.items()}
    facts["the numbers of z"] = (first.dim, other.dim)
    facts["the columns"] = (_shapes(first), _shapes(other))
    for text, (one, another) in facts.items():
        if one != another:
            raise UsageError(
                f"z files of one table agree in {text}",
                where=f"{path}, {other_path}",
                found=f"{one} and {another}",
                hint="evaluate each by itself: --z FILE --out DIR",
            )


def _shapes(file: ZFile) -> list[str]:
    """Return the names of the columns, with their shape if a row has several numbers."""
    return sorted(f"{name}{list(values.shape[1:]) or ''}" for name, values in file.columns.items())


def _joined(files: Sequence[Table]) -> Table:
    columns = {name: np.concatenate([file.columns[name] for file in files]) for name in files[0].columns}
    metadata: dict[str, Any] = dict(files[0].metadata)
    jobs = {(file.metadata.get("part") or {}).get("inputs_sha256") for file in files}
    parts_of_one = len(jobs) == 1 and None not in jobs
    offsets = np.cumsum([0, *(0 if parts_of_one else _inputs(file) for file in files)])
    metadata["files"] = [name for file in files for name in file.metadata.get("files", [])]
    if all("trained" in file.metadata for file in files):
        metadata["trained"] = [
            (int(index + offset), *entries)
            for file, offset in zip(files, offsets)
            for index, *entries in file.metadata["trained"]
        ]
    else:
        metadata.pop("trained", None)
    if "source_file" in columns:
        columns["source_file"] = np.concatenate(
            [file.columns["source_file"].astype(np.int64) + offset for file, offset in zip(files, offsets)]
        )
    else:
        columns["source_file"] = np.repeat(np.arange(len(files)), [len(file) for file in files])
    lengths = {path: rows for file in files for path, rows in file.lengths.items()}
    finite = np.concatenate([file.finite for file in files])
    return Table(np.empty((len(finite), 0), np.float32), columns, metadata, lengths, files[0].dim, finite)


def _inputs(file: ZFile) -> int:
    """Count the input files of a z file."""
    source = file.columns.get("source_file", np.zeros(1, dtype=np.int64))
    return max(len(file.metadata.get("files", [])), int(source.max(initial=0)) + 1)


def input_files(paths: Sequence[Path], rows: Sequence[int], trained: Array, *, labelled: bool) -> list[InputFile]:
    """Return the facts of files of some `rows` each; `trained` marks the rows trained on, bool `[row]` of all."""
    each = np.split(trained, np.cumsum(rows)[:-1])
    return [
        InputFile(path.name, path.stat().st_size, number, bool(seen.any()), labelled)
        for path, number, seen in zip(paths, rows, each, strict=True)
    ]


def trained_rows(file: ZFile) -> Array | None:
    """Return a mask of the rows that the model was trained on, bool `[row]`; None if the file has none."""
    ranges = file.metadata.get("trained")
    if ranges is None or not {"source_file", "source_entry"} <= set(file.columns):
        return None
    entry = file.columns["source_entry"].astype(np.int64)
    # One rising number for the entries of all files, in which a row is sought once, however many ranges there are:
    # entries 0 to 9 of two files, ranges (0, 4, 6) and (1, 0, 3) -> starts 4 and 11, stops 6 and 14.
    entries = int(entry.max(initial=0)) + 2
    index, *edges = np.array(ranges, np.int64).reshape(-1, 3).T
    starts, stops = (np.sort(index * entries + edge.clip(0, entries - 1)) for edge in edges)
    row = file.columns["source_file"].astype(np.int64) * entries + entry
    trained: Array = np.searchsorted(starts, row, "right") > np.searchsorted(stops, row, "right")
    return trained


def unseen_rows(usable: Array, trained: Array, log: Log, *, kind: str, where: str, command: str) -> Array:
    """Return a mask of the usable rows that the model was not trained on, and log how many they are.

    Args:
        usable: rows that can be tested on, bool `[row]`.
        trained: rows that the model was trained on, bool `[row]`.
        log: logger of messages.
        kind: kind of the file in messages, such as "z file".
        where: its path.
        command: command that writes such a file.

    Raises:
        DataError: the model was trained on all usable rows.
    """
    unseen: Array = usable & ~trained
    if not unseen.any():
        raise DataError(
            f"the model was trained on all jets of this {kind}, so none are left to evaluate it on",
            where=where,
            found=f"{len(usable):,} jets",
            hint=f"{command} other jets; or {FORCE}, and the report says that it has seen them",
        )
    seen = int((usable & trained).sum())
    log(f"the model was trained on {seen:,} of the jets, so only the {unseen.sum():,} others are test jets")
    return unseen


def count_leaked(rows: Array, trained: Array, log: Log) -> int:
    """Count, and log, the test rows (their numbers, `[row to test on]`) that the model was trained on."""
    leaked = int(trained[rows].sum())
    if leaked:
        log(
            f"WARNING: as asked for (evaluate.seen), the model was trained on {leaked:,} of the {len(rows):,} jets "
            "tested on"
        )
    return leaked
