"""CRC-32 of each column of a z file in blocks of rows: detects damaged numbers in any format."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ssl_jets.errors import DataError
from ssl_jets.zfile.columns import Rows

DAMAGED = "the z file is damaged: it is not read as it was written"
CHANGED = "ssl-jets embed writes it anew; of a file changed on purpose, remove our metadata"


class Checksums:
    """Checksums of a file: `crc32[column][i]` is the checksum of rows `i * block` to `(i + 1) * block`.

    It covers the type of the column (such as `<f4[64]`) and its numbers, little-endian and row by row.

    Args:
        block: rows of a block; the last may have fewer.
        rows: rows of the file.
        crc32: the checksums.
    """

    def __init__(self, block: int, rows: int = 0, crc32: Mapping[str, list[int]] | None = None) -> None:
        self.block, self.rows = block, rows
        self.crc32: dict[str, list[int]] = dict(crc32 or {})

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any], path: Path) -> Checksums:
        """Read the checksums from the metadata of a file.

        Raises:
            DataError: the metadata have no valid checksums.
        """
        block, rows, crc32 = (stored.get(name) for name in ("block", "rows", "crc32"))
        if not (isinstance(block, int) and block > 0 and isinstance(rows, int) and isinstance(crc32, dict)):
            raise DataError(DAMAGED, where=path, found="checksums that are none", hint=CHANGED)
        return cls(block, rows, crc32)

    def to_dict(self) -> dict[str, Any]:
        """Return the checksums as they are stored."""
        return {"block": self.block, "rows": self.rows, "crc32": self.crc32}

    def add(self, rows: Rows) -> None:
        """Add the checksums of the next block."""
        for name, values in rows.items():
            self.crc32.setdefault(name, []).append(_crc32(values))
        self.rows += len(next(iter(rows.values())))

    def check_columns(self, names: Iterable[str], rows: int, path: Path) -> None:
        """Check that a file has the rows and columns that were written.

        Raises:
            DataError: a column or rows are missing.
        """
        missing = self.crc32.keys() - set(names)
        if rows != self.rows or missing:
            found = f"no column {min(missing)}" if missing else f"{rows:,} rows, not {self.rows:,}"
            raise DataError(DAMAGED, where=path, found=found, hint=CHANGED)

    def checked(
        self, read: Callable[[int, int], Iterator[dict[str, npt.NDArray[Any]]]], start: int, stop: int, path: Path
    ) -> Iterator[dict[str, npt.NDArray[Any]]]:
        """Yield the rows `start` to `stop`, after the checksums of the blocks with these rows were checked.

        Raises:
            DataError: a block differs from the one that was written.
        """
        first = start // self.block
        low, end = first * self.block, min(-(-stop // self.block) * self.block, self.rows)  # block 20, 25 to 45: 20, 60
        for number, rows in enumerate(in_blocks(read(low, end), self.block), first):
            high = low + len(next(iter(rows.values())))
            for name in self.crc32.keys() & rows.keys():
                if low < high and self.crc32[name][number : number + 1] != [_crc32(rows[name])]:
                    found = f"other numbers in column {name}, rows {low:,} to {high - 1:,}"
                    raise DataError(DAMAGED, where=path, found=found, hint=CHANGED)
            yield {name: values[max(start - low, 0) : max(stop - low, 0)] for name, values in rows.items()}
            low = high
        if low != end:
            raise DataError(DAMAGED, where=path, found=f"{low:,} rows, not {self.rows:,}", hint=CHANGED)


def in_blocks(batches: Iterable[dict[str, npt.NDArray[Any]]], rows: int) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """Regroup batches into blocks of `rows` rows; the last may be shorter. Yields at least one block.

    Example:
        >>> batches = [{"x": np.arange(3)}, {"x": np.arange(3, 5)}]
        >>> [block["x"].tolist() for block in in_blocks(batches, rows=2)]
        [[0, 1], [2, 3], [4]]
    """
    batch: dict[str, npt.NDArray[Any]] = {}
    held: list[dict[str, npt.NDArray[Any]]] = []
    filled = blocks = 0
    for batch in batches:
        start, length = 0, len(next(iter(batch.values())))
        while start < length:
            stop = min(length, start + rows - filled)
            held.append({name: values[start:stop] for name, values in batch.items()})
            filled, start = filled + stop - start, stop
            if filled == rows:
                yield _joined(held)
                held, filled, blocks = [], 0, blocks + 1
    if held or not blocks:
        yield _joined(held or [batch])


def _joined(batches: list[dict[str, npt.NDArray[Any]]]) -> dict[str, npt.NDArray[Any]]:
    if len(batches) == 1:
        return batches[0]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def _crc32(values: npt.NDArray[Any]) -> int:
    dtype = values.dtype.newbyteorder("<")
    numbers = np.ascontiguousarray(values, dtype)
    begin = zlib.crc32(f"{dtype.str}{list(values.shape[1:])}".encode())
    return zlib.crc32(numbers.data.cast("B"), begin) if numbers.size else begin
