"""Reader of z and scores files of this package, and of z files of other tools."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ssl_jets.errors import DataError, UsageError
from ssl_jets.runtime.short_repr import ShortRepr
from ssl_jets.zfile.columns import VECTORS, Level
from ssl_jets.zfile.opening import ROWS, Opened, open_file

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


def read_scores(path: Path | str, *, start: int = 0, stop: int | None = None) -> ZFile:
    """Read a scores file: every column with one number per row, and z if it has z. Arguments as in `read_z`.

    Raises:
        UsageError, DataError: as `read_z`, or the file has no scores.
    """
    file = _read_file(Path(path), None, start, stop)
    if "scores" not in file.metadata:
        hint = "ssl-jets predict writes scores"
        raise DataError("the file has no scores", where=path, found=", ".join(file.columns), hint=hint)
    return file


def read_metadata(path: Path | str) -> dict[str, Any]:
    """Read the metadata of a z or scores file; empty for files of other tools.

    Raises:
        UsageError, DataError: as `read_z`.
    """
    with open_file(Path(path)) as file:
        return file.metadata


def count_rows(path: Path | str) -> int:
    """Return the number of rows of a z or scores file, without reading them.

    Raises:
        UsageError, DataError: as `read_z`.
    """
    with open_file(Path(path)) as file:
        return file.rows


def read_z(path: Path | str, level: Level = "jet", *, start: int = 0, stop: int | None = None) -> ZFile:
    """Read a z file, or some of its rows: its column `z` and every column with one number per row.

    Of a range of rows only the blocks (baskets, row groups, chunks) and the parts with these rows are read and checked.

        read_z("z.parquet", start=1_000_000, stop=1_010_000)
        read_z("z.json", start=-100)                          # the last 100 rows of the parts of an index

    Args:
        path: the file; its suffix names the format. In ROOT the TTree `jets` is read, or the only TTree. `.json` is an
            index of parts (`merge_parts`).
        level: "particle" reads the column `token` of a file written at that level.
        start: the first row; counted from the end if negative, as in a slice.
        stop: one beyond the last; by default all rows from `start`.

    Raises:
        UsageError: the suffix is none of a z file.
        DataError: no such file, no column `z`, z is no matrix of numbers, or labels are no whole numbers.
    """
    return _read_file(Path(path), VECTORS[level], start, stop)


def _read_file(path: Path, vector: str | None, start: int, stop: int | None) -> ZFile:
    """Read rows of a file; `vector` None takes z if there is z."""
    with open_file(path) as file:
        if vector is None:
            vector = VECTORS["jet"] if VECTORS["jet"] in file.names else ""
        else:
            _check_vector(path, file.names, vector)
        names = [*filter(None, [vector]), *(name for name in file.names if name not in VECTORS.values())]
        low, high, _ = slice(start, stop).indices(file.rows)
        columns: dict[str, npt.NDArray[Any]] = {}
        filled = 0
        for block in file.blocks(names, low, max(low, high)):
            if vector:
                block[vector] = _matrix(block[vector], path, vector)
            if not columns:
                columns = _empty(file, max(high - low, 0), block)
            last = filled + len(block[names[0]])
            for name, array in block.items():
                columns[name][filled:last] = array
            filled = last
    if "label" in columns:
        columns["label"] = _labels(columns["label"], path)
    z = columns.pop(vector) if vector else np.empty((filled, 0), np.float32)
    return ZFile(z=z, columns=columns, metadata=file.metadata)


def iterate_z(
    path: Path | str, rows: int = ROWS, *, start: int = 0, stop: int | None = None
) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """Yield all columns of a z file in blocks of at most `rows` rows, in bounded memory; at least one block.

    Other arguments as in `read_z`.

    Raises:
        UsageError, DataError: as `read_z`, or a number of rows below 1.
    """
    if rows < 1:
        raise UsageError("a block has at least one row", where="rows", found=rows)
    with open_file(Path(path)) as file:
        low, high, _ = slice(start, stop).indices(file.rows)
        for block in file.blocks(file.names, low, max(low, high)):
            length = len(next(iter(block.values()), ()))
            for first in range(0, max(length, 1), rows):
                yield {name: values[first : first + rows] for name, values in block.items()}


def _empty(file: Opened, rows: int, block: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Return arrays for `rows` rows as of a block.

    Raises:
        DataError: the file claims far more rows than its bytes can hold.
    """
    claimed = rows * sum(array[:1].nbytes for array in block.values())
    if claimed > FREE_BYTES and claimed > MOST_COMPRESSED * file.stored_bytes:
        found = f"{rows:,} rows, {claimed:,} bytes"
        raise DataError("the z file claims more numbers than it can hold", where=file.path, found=found)
    return {name: np.empty((rows, *array.shape[1:]), array.dtype.newbyteorder("=")) for name, array in block.items()}


def _check_vector(path: Path, names: Sequence[str], vector: str) -> None:
    if vector in names:
        return
    particle_level = VECTORS["particle"] in names
    raise DataError(
        f"a z file has a column `{vector}`",
        where=path,
        found=", ".join(names) or "no columns of numbers",
        hint='tokens have level="particle"; for z: embed without --level particle' if particle_level else None,
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
