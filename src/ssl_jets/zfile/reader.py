"""Reading a z file of this package or of another tool."""

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
"""Bytes of rows that are read from a file of any size."""
MOST_COMPRESSED = 1000
"""Bytes of rows for each byte of a larger file, at most."""


@dataclass(frozen=True, repr=False)
class ZFile(ShortRepr):
    """A z file in memory.

    Attributes:
        z: float32 `[row, D]`; at level "particle" the tokens.
        columns: the other columns by name, each `[row]`: the key, `label` as int64 where there is one, kept columns.
        metadata: what the file says about itself; empty for files of other tools.
    """

    z: npt.NDArray[np.float32]
    columns: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.z)


def read_z(path: Path | str, level: Level = "jet") -> ZFile:
    """A whole z file. Needs a column `z`; every column with one number per row is read, others are left out.

    Args:
        path: the file; its suffix names the format. In ROOT the TTree `jets` is read, or the only TTree.
        level: "particle" reads the column `token` of a file written at that level.

    Raises:
        UsageError: the suffix is none of a z file.
        DataError: no such file, no column `z`, a z that is no matrix of numbers, or labels that are no whole numbers.
    """
    path, vector = Path(path), VECTORS[level]
    with _open(path) as reading:
        metadata, checksums = _metadata(reading, path)
        _check_vector(path, reading, vector)
        names = [vector, *(name for name in reading.names if name not in VECTORS.values())]
        columns: dict[str, npt.NDArray[Any]] = {}
        start = 0
        for block in _blocks(reading, names, checksums, path):
            block[vector] = _matrix(block[vector], path, vector)
            if not columns:
                _check_size(path, reading.rows, block)
                columns = {
                    name: np.empty((reading.rows, *array.shape[1:]), array.dtype) for name, array in block.items()
                }
            stop = start + len(block[vector])
            for name, array in block.items():
                columns[name][start:stop] = array
            start = stop
    if "label" in columns:
        columns["label"] = _labels(columns["label"], path)
    return ZFile(z=columns.pop(vector), columns=columns, metadata=metadata)


def iterate_z(path: Path | str, rows: int = ROWS) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """All columns of a z file, in blocks of at most `rows` rows and in bounded memory; at least one block.

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
    kind = format_of(path)
    if not path.is_file():
        siblings = path.parent.iterdir() if path.parent.is_dir() else []
        names = nearest(path.name, [sibling.name for sibling in siblings if not sibling.name.startswith(".")])
        raise DataError("there is no such z file", where=path, allowed=names or None)
    reading: Reading | None = None
    try:
        with guarded(f"the file cannot be read as {kind.name}", path):
            reading = kind.reading(path.absolute())  # which no library takes for a URL
            yield reading
    finally:
        if reading is not None:
            reading.close()


def _metadata(reading: Reading, path: Path) -> tuple[dict[str, Any], Checksums | None]:
    return ({}, None) if reading.metadata is None else from_json(reading.metadata, path)


def _blocks(
    reading: Reading, names: Sequence[str], checksums: Checksums | None, path: Path
) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """All rows in blocks that were checked, where the file has checksums."""
    if checksums is None:
        return reading.blocks(names, ROWS)
    checksums.check_columns(names, reading.rows, path)
    return checksums.checked(reading.blocks(names, checksums.block), path)


def _check_size(path: Path, rows: int, block: Mapping[str, npt.NDArray[Any]]) -> None:
    """Check that a file does not claim far more rows than its bytes can hold, before memory is taken for them."""
    asked = rows * sum(array[:1].nbytes for array in block.values())
    if asked > max(FREE_BYTES, MOST_COMPRESSED * path.stat().st_size):
        raise DataError(
            "the z file claims more numbers than it can hold", where=path, found=f"{rows:,} rows, {asked:,} bytes"
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
    """`[row, D]` float32, also from one array per row (a vector branch of ROOT)."""
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
