"""Reader of z and scores files of this package, and of z files of other tools."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ssl_jets.errors import DataError, nearest
from ssl_jets.runtime.reading import guarded
from ssl_jets.runtime.short_repr import ShortRepr
from ssl_jets.zfile.checksums import Checksums
from ssl_jets.zfile.columns import VECTORS, Level
from ssl_jets.zfile.formats import Reading, format_of
from ssl_jets.zfile.metadata import from_json

ROWS = 16_384
FREE_BYTES = 2**28
"""Bytes of rows that a file of any size may claim."""
MOST_COMPRESSED = 1000
"""Most bytes of rows per byte of a larger file."""


@dataclass(frozen=True, repr=False)
class ZFile(ShortRepr):
    """Contents of a z file in memory.

    Attributes:
        z: float32 `[row, D]`; at level "particle" the tokens; `[row, 0]` of a scores file without z.
        columns: the other columns by name, each `[row]`: the key, `label` as int64 if the file has it, kept columns.
        metadata: metadata of the file; empty for files of other tools.
    """

    z: npt.NDArray[np.float32]
    columns: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.z)


def read_scores(path: Path | str) -> ZFile:
    """Read a whole scores file: every column with one number per row, and z if it has z.

    Raises:
        UsageError, DataError: as `read_z`, or the file has no scores.
    """
    file = _read_file(Path(path), None)
    if "scores" not in file.metadata:
        hint = "ssl-jets predict writes scores"
        raise DataError("the file has no scores", where=path, found=", ".join(file.columns), hint=hint)
    return file


def read_metadata(path: Path | str) -> dict[str, Any]:
    """Read the metadata of a z or scores file; empty for files of other tools.

    Raises:
        UsageError, DataError: as `read_z`.
    """
    with _open(Path(path)) as reading:
        return _metadata(reading, Path(path))[0]


def read_z(path: Path | str, level: Level = "jet") -> ZFile:
    """Read a whole z file: its column `z` and every column with one number per row.

    Args:
        path: the file; its suffix names the format. In ROOT the TTree `jets` is read, or the only TTree.
        level: "particle" reads the column `token` of a file written at that level.

    Raises:
        UsageError: the suffix is none of a z file.
        DataError: no such file, no column `z`, z is no matrix of numbers, or labels are no whole numbers.
    """
    return _read_file(Path(path), VECTORS[level])


def _read_file(path: Path, vector: str | None) -> ZFile:
    """Read a whole file; `vector` None takes z if there is z."""
    with _open(path) as reading:
        metadata, checksums = _metadata(reading, path)
        if vector is None:
            vector = VECTORS["jet"] if VECTORS["jet"] in reading.names else ""
        else:
            _check_vector(path, reading, vector)
        names = [*filter(None, [vector]), *(name for name in reading.names if name not in VECTORS.values())]
        columns: dict[str, npt.NDArray[Any]] = {}
        start = 0
        for block in _blocks(reading, names, checksums, path):
            if vector:
                block[vector] = _matrix(block[vector], path, vector)
            if not columns:
                _check_size(path, reading.rows, block)
                columns = {
                    name: np.empty((reading.rows, *array.shape[1:]), array.dtype) for name, array in block.items()
                }
            stop = start + len(block[names[0]])
            for name, array in block.items():
                columns[name][start:stop] = array
            start = stop
    if "label" in columns:
        columns["label"] = _labels(columns["label"], path)
    z = columns.pop(vector) if vector else np.empty((start, 0), np.float32)
    return ZFile(z=z, columns=columns, metadata=metadata)


def iterate_z(path: Path | str, rows: int = ROWS) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """Yield all columns of a z file in blocks of at most `rows` rows, in bounded memory; at least one block.

    Raises:
        UsageError, DataError: as `read_z`.
    """
    path = Path(path)
    with _open(path) as reading:
        for block in _blocks(reading, reading.names, _metadata(reading, path)[1], path):
            length = len(next(iter(block.values()), ()))
            for start in range(0, max(length, 1), rows):
                yield {name: values[start : start + rows] for name, values in block.items()}


@contextmanager
def _open(path: Path) -> Iterator[Reading]:
    file_format = format_of(path)
    if not path.is_file():
        siblings = path.parent.iterdir() if path.parent.is_dir() else []
        names = nearest(path.name, [sibling.name for sibling in siblings if not sibling.name.startswith(".")])
        raise DataError("there is no such z file", where=path, allowed=names or None)
    reading: Reading | None = None
    try:
        with guarded(f"the file cannot be read as {file_format.name}", path):
            reading = file_format.reading(path.absolute())  # no library takes an absolute path for a URL
            yield reading
    finally:
        if reading is not None:
            reading.close()


def _metadata(reading: Reading, path: Path) -> tuple[dict[str, Any], Checksums | None]:
    return ({}, None) if reading.metadata is None else from_json(reading.metadata, path)


def _blocks(
    reading: Reading, names: Sequence[str], checksums: Checksums | None, path: Path
) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """Return all rows in blocks, checked against the checksums if the file has them."""
    if checksums is None:
        return reading.blocks(names, ROWS)
    checksums.check_columns(names, reading.rows, path)
    return checksums.checked(reading.blocks(names, checksums.block), path)


def _check_size(path: Path, rows: int, block: Mapping[str, npt.NDArray[Any]]) -> None:
    """Check that a file does not claim far more rows than its bytes can hold, before memory is allocated for them."""
    claimed = rows * sum(array[:1].nbytes for array in block.values())
    if claimed > max(FREE_BYTES, MOST_COMPRESSED * path.stat().st_size):
        raise DataError(
            "the z file claims more numbers than it can hold", where=path, found=f"{rows:,} rows, {claimed:,} bytes"
        )


def _check_vector(path: Path, reading: Reading, vector: str) -> None:
    if vector in reading.names:
        return
    particle_level = VECTORS["particle"] in reading.names
    raise DataError(
        f"a z file has a column `{vector}`",
        where=path,
        found=", ".join(reading.names) or "no columns of numbers",
        hint="ssl-jets embed without --level particle" if particle_level else None,
    )


def _matrix(values: npt.NDArray[Any], path: Path, name: str) -> npt.NDArray[np.float32]:
    """Convert z to float32 `[row, D]`, also from one array per row (a vector branch of ROOT)."""
    if values.dtype == object and len({len(row) for row in values}) == 1:
        values = np.stack([np.asarray(row) for row in values])
    if values.ndim != 2 or values.dtype.kind not in "iuf":
        found = f"shape {values.shape} of {values.dtype}"
        raise DataError(
            f"column `{name}` is not a vector of numbers, the same length in every row", where=path, found=found
        )
    return values.astype(np.float32, copy=False)


def _labels(values: npt.NDArray[Any], path: Path) -> npt.NDArray[np.int64]:
    with np.errstate(invalid="ignore"):  # NaN is caught below
        labels = values.astype(np.int64)
    if not np.array_equal(labels, values):
        wrong = values[labels != values][0]
        raise DataError("column `label` holds something else than whole numbers", where=path, found=wrong)
    return labels
